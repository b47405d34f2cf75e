"""`geores verify`: whether a data set on disk is whole."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli.common import progress_bar
from geores.cli.convert import KINDS, ONLY_PRESENT, cores, faults_shown, left_out_shown
from geores.errors import GeoresError

if TYPE_CHECKING:
    from geores.pipelines.converting.verify import Verification

__all__ = ['verify']

Option = typer.Option


def verify(
    path: Annotated[Path, typer.Argument(metavar='PATH', help='What `geores convert` wrote, or reads.')],
    metadata: Annotated[
        Path | None, Option(help='metadata.parquet or its folder [beside the patches or above them].')
    ] = None,
    only_present: Annotated[bool, Option('--only-present', help=ONLY_PRESENT)] = False,
    jobs: Annotated[int | None, Option(help='Processes [the cores].')] = None,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Read every patch of a reBEN store, compare checksums and counts, and name what is broken."""
    from geores.pipelines.converting.verify import verify_reben

    with progress_bar(path.name, shown=not as_json, unit='patches') as progress:
        found = verify_reben(
            path,
            metadata=metadata,
            only_present=only_present,
            jobs=cores() if jobs is None else jobs,
            progress=progress,
        )
    _show(found, as_json=as_json)
    if found.faults:
        broken = len({fault.patch for fault in found.faults})
        raise GeoresError(f'{path}: {broken:,} patches are missing or broken')


def _show(found: 'Verification', *, as_json: bool) -> None:
    if as_json:
        record = {
            'path': str(found.path),
            'format': found.form,
            'patches': found.counts,
            'compared_with_checksums': found.summed,
            'metadata': None if found.table is None else str(found.table),
            'rows_left_out': found.left_out,
            'faults': [asdict(fault) for fault in found.faults],
            'seconds': round(found.seconds, 3),
        }
        print(json.dumps(record), flush=True)
        return
    counts = ', '.join(
        f'{found.counts[kind]:,} {name}' for kind, name in KINDS.items() if kind in found.counts
    )
    print(f'{found.path} ({found.form}): {counts}')
    print(f'{found.summed:,} compared with checksums, {sum(found.counts.values()):,} decoded')
    print(
        'not counted against metadata: none found'
        if found.table is None
        else f'counted against {found.table}'
    )
    left_out_shown(found.left_out)
    faults_shown(found.faults)
    if not found.faults:
        print('all is well')

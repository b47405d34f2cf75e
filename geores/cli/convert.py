"""`geores convert`: data sets from one layout on disk to another."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.cli import common
from geores.cli.common import progress_bar
from geores.errors import GeoresError

if TYPE_CHECKING:
    from geores.converting.convert import Conversion

__all__ = ['app']

KINDS = {'s2': 'Sentinel-2 patches', 's1': 'Sentinel-1 patches', 'map': 'reference maps'}
ONLY_PRESENT = 'For a part of the data set: leave out rows of the metadata of which nothing is there.'
SHOWN = 5
"""Faults that are named."""

app = typer.Typer(help='Convert a data set from one layout on disk to another.', no_args_is_help=True)
Option = typer.Option


@app.callback()
def convert() -> None:
    """Convert a data set from one layout on disk to another."""


@app.command(name='reben')
def reben(
    source: Annotated[
        Path,
        typer.Argument(metavar='SRC', help='Released folders, .tar archives, or an LMDB.'),
    ],
    folder: Annotated[Path, typer.Argument(metavar='DST', help='Folder to write.')],
    form: Annotated[str, Option('--format', help='lmdb (as rico-hdl) or tiff (as released).')],
    metadata: Annotated[
        Path | None, Option(help='metadata.parquet or its folder [beside the patches or above them].')
    ] = None,
    only_present: Annotated[bool, Option('--only-present', help=ONLY_PRESENT)] = False,
    jobs: Annotated[int | None, Option(help='Processes [the cores].')] = None,
    resume: common.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace DST.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Convert BigEarthNet v2.0 (reBEN); a run that was stopped continues when the command is given again."""
    from geores.converting.convert import convert_reben

    with progress_bar(folder.name, shown=not as_json, quiet=quiet, unit='patches') as progress:
        done = convert_reben(
            source,
            folder,
            form,
            metadata=metadata,
            only_present=only_present,
            jobs=common.cores() if jobs is None else jobs,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    _show(done, as_json=as_json)
    if done.faults:
        patches = len({fault.patch for fault in done.faults})
        raise GeoresError(
            f'{patches:,} patches are missing or could not be read; {done.faults_file} lists them'
        )


def print_left_out(rows: int) -> None:
    """Print how many rows of the metadata were left out, if any."""
    if rows:
        print(f'{rows:,} rows of the metadata left out, for nothing of them is there')


def print_faults(faults: 'list[Any]') -> None:
    """Name the first faults, each with its patch and reason, on standard error."""
    for fault in faults[:SHOWN]:
        print(f'{fault.patch}: {fault.reason}', file=sys.stderr)
    if len(faults) > SHOWN:
        print(f'and {len(faults) - SHOWN:,} more', file=sys.stderr)


def _show(done: 'Conversion', *, as_json: bool) -> None:
    rate = sum(done.counts.values()) / done.seconds if done.seconds else 0.0
    if as_json:
        record = {
            'folder': str(done.folder),
            'format': done.form,
            'patches': done.counts,
            'rows_left_out': done.left_out,
            'faults': len(done.faults),
            'faults_file': str(done.faults_file) if done.faults else None,
            'seconds': round(done.seconds, 3),
        }
        print(json.dumps(record), flush=True)
        return
    counts = ', '.join(f'{done.counts[kind]:,} {name}' for kind, name in KINDS.items() if kind in done.counts)
    print(
        f'{done.folder} ({done.form}): {counts}; written and read again in {done.seconds:.1f} s '
        f'({rate:,.0f}/s)'
    )
    print_left_out(done.left_out)
    print_faults(done.faults)

"""`geores convert`: data sets to another layout. `geores verify`, `verify-model`: are files whole."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.cli import common
from geores.cli.common import plain_console, progress_bar
from geores.errors import GeoresError, UsageError

if TYPE_CHECKING:
    from geores.bigearthnet.convert import Conversion, Verification
    from geores.hub.verify_model import ModelVerification

__all__ = ['app', 'verify', 'verify_model']

KINDS = {'s2': 'Sentinel-2 patches', 's1': 'Sentinel-1 patches', 'map': 'reference maps'}
SHOWN = 5
"""Faults that are named."""

app = typer.Typer(help='Convert a data set from one layout on disk to another.', no_args_is_help=True)
Option = typer.Option

Metadata = Annotated[
    Path | None, Option(help='metadata.parquet or its folder [beside the patches or above them].')
]
OnlyPresent = Annotated[
    bool,
    Option(
        '--only-present',
        help='For a part of the data set: leave out rows of the metadata of which nothing is there.',
    ),
]
Jobs = Annotated[int | None, Option(help='Processes [the cores].')]


@app.callback()
def convert() -> None:
    """Convert a data set from one layout on disk to another."""


@app.command(name='reben')
def reben(
    source: Annotated[
        Path, typer.Argument(metavar='SRC', help='Released folders, .tar archives, or an LMDB.')
    ],
    folder: Annotated[Path, typer.Argument(metavar='DST', help='Folder to write.')],
    form: Annotated[str, Option('--format', help='lmdb (as rico-hdl) or tiff (as released).')],
    metadata: Metadata = None,
    only_present: OnlyPresent = False,
    jobs: Jobs = None,
    resume: common.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace DST.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Convert BigEarthNet v2.0 (reBEN); a run that was stopped continues when the command is given again."""
    from geores.bigearthnet.convert import convert_reben

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
    _show_converted(done, as_json=as_json)
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


def _show_converted(done: 'Conversion', *, as_json: bool) -> None:
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


FAILED = 1
"""Exit code where a model's file is not what its card says."""


def verify(
    path: Annotated[Path, typer.Argument(metavar='PATH', help='What `geores convert` wrote, or reads.')],
    metadata: Metadata = None,
    only_present: OnlyPresent = False,
    jobs: Jobs = None,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Read every patch of a reBEN store, compare checksums and counts, and name what is broken."""
    from geores.bigearthnet.convert import verify_reben

    with progress_bar(path.name, shown=not as_json, quiet=quiet, unit='patches') as progress:
        found = verify_reben(
            path,
            metadata=metadata,
            only_present=only_present,
            jobs=common.cores() if jobs is None else jobs,
            progress=progress,
        )
    _show_verified(found, as_json=as_json)
    if found.faults:
        broken = len({fault.patch for fault in found.faults})
        raise GeoresError(f'{path}: {broken:,} patches are missing or broken')


def _show_verified(found: 'Verification', *, as_json: bool) -> None:
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
    print_left_out(found.left_out)
    print_faults(found.faults)
    if not found.faults:
        print('all is well')


def verify_model(
    model: Annotated[
        str, typer.Argument(metavar='MODEL', help='hf:owner/name[@revision], a snapshot folder, or a bundle.')
    ],
    data: Annotated[Path | None, Option(help='Root of reBEN, to measure on.')] = None,
    split: Annotated[str, Option(help='train, val or test; published figures are of test.')] = 'test',
    metadata: Annotated[Path | None, Option(help="reBEN's metadata.parquet, if elsewhere.")] = None,
    batch_size: Annotated[int, Option(help='Patches in one forward pass.')] = 64,
    workers: Annotated[int, Option(help='Processes that read patches.')] = 0,
    device: Annotated[str, Option(help='auto, cpu, cuda or cuda:N.')] = 'auto',
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Say whether a model's file is what its card says: hash, tensors, order of bands, and figures on reBEN.

    Ends with exit code 1 where tensors do not match or figures are not the published ones.
    """
    from geores.hub.verify_model import verify_model as check_model

    if split not in {'train', 'val', 'test'}:
        raise UsageError(f"--split has to be 'train', 'val' or 'test', not {split!r}")
    with progress_bar(Path(model).name, shown=not as_json, quiet=quiet) as progress:
        found = check_model(
            model,
            data,
            split=split,  # type: ignore[arg-type]
            metadata=metadata,
            batch_size=batch_size,
            num_workers=workers,
            device=device,
            progress=progress,
        )
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        _print_model(found)
    if not found.passed:
        raise typer.Exit(FAILED)


def _print_model(found: 'ModelVerification') -> None:

    console = plain_console()
    match = 'all match' if found.keys_match else 'NOT a match'
    wrapped = f', in the file under {found.prefix!r}' if found.prefix else ''
    lines = {
        'model': found.name,
        'sha256': found.sha256,
        'tensors': f'{found.matched} of {found.architecture}: {match}{wrapped}',
        'missing': ', '.join(found.missing),
        'unexpected': ', '.join(found.unexpected),
        'bands': ', '.join(found.bands),
        'labels': f'{len(found.labels)}, from {found.labels[0]!r} to {found.labels[-1]!r}',
    }
    for name, text in lines.items():
        if text:
            console.print(f'{name}: {text}', soft_wrap=True)
    if found.patches:
        console.print(_figures(found))
        for name, value in found.orders.items():
            console.print(f'macro AP with the order of bands of {name}: {value:.4f}', soft_wrap=True)
    console.print(_verdict(found), soft_wrap=True)


def _figures(found: 'ModelVerification') -> object:
    from rich.table import Table

    table = Table(
        'figure', 'measured', 'published', title=f'{found.patches:,} patches of split {found.split}'
    )
    for name, value in found.measured.items():
        known = found.published.get(name)
        table.add_row(name, f'{value:.4f}', '' if known is None else f'{known:.4f}')
    return table


def _verdict(found: 'ModelVerification') -> str:
    from geores.hub.verify_model import TEST_PATCHES, TOLERANCE

    if not found.keys_match:
        return 'failed: the file is of another network than its configuration says'
    if found.agrees is not None:
        return (
            f'passed: figures within {TOLERANCE:g} of the published ones'
            if found.agrees
            else f'failed: figures differ from the published ones by more than {TOLERANCE:g}'
        )
    if not found.patches:
        return 'passed: tensors match; give --data to measure'
    why = (
        'no figures are published'
        if not found.published
        else f'published figures are of {TEST_PATCHES:,} test patches'
    )
    return f'passed: tensors match; figures cannot be compared ({why})'

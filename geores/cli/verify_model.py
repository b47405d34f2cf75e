"""`geores verify-model`: a known answer for whoever has the file of a published model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli.common import progress_bar

if TYPE_CHECKING:
    from geores.pipelines.verify_model import ModelVerification

__all__ = ['verify_model']

FAILED = 1


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
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Say whether a model's file is what its card says: hash, tensors, order of bands, and figures on reBEN.

    Ends with exit code 1 where tensors do not match or figures are not the published ones.
    """
    from geores.errors import UsageError
    from geores.pipelines import verify_model as pipeline

    if split not in {'train', 'val', 'test'}:
        raise UsageError(f"--split has to be 'train', 'val' or 'test', not {split!r}")
    with progress_bar(Path(model).name, shown=not as_json) as progress:
        found = pipeline.verify_model(
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
    from rich.console import Console

    console = Console(highlight=False, markup=False)
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
    from geores.pipelines.verify_model import TEST_PATCHES, TOLERANCE

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

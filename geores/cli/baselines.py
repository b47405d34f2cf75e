"""`geores baselines`: what simple methods reach on a labelled set."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.cli import common
from geores.cli.common import figures_table, listed, plain_console, print_outputs
from geores.cli.option_sets import with_options
from geores.errors import UsageError
from geores.protocol.options import BaselineOptions

if TYPE_CHECKING:
    from geores.protocol.table import BaselineRun, BaselineTable

__all__ = ['baselines']

Option = typer.Option


@with_options(BaselineOptions)
def baselines(
    folder: Annotated[str, typer.Argument(metavar='FOLDER', help='Images in one folder per class.')],
    dataset: Annotated[
        str, Option(help='folder, or resisc45: NWPU-RESISC45 by its own protocol (ten repeats).')
    ] = 'folder',
    encoder: Annotated[
        str, Option(help='Architecture, or name or path of a bundle, for deep and finetune.')
    ] = 'tf_efficientnet_lite0',
    weights: Annotated[
        Path | None, Option(help="File of the architecture's weights, such as ImageNet's.")
    ] = None,
    mean: Annotated[
        str | None, Option(metavar='R,G,B', help="Mean that the weights want, 0 to 1 [ImageNet's].")
    ] = None,
    std: Annotated[
        str | None, Option(metavar='R,G,B', help="Deviation that the weights want, 0 to 1 [ImageNet's].")
    ] = None,
    *,
    options: BaselineOptions,
    out: Annotated[
        Path | None, Option('--out', '-o', help='Folder for table and plots; finished runs are kept in it.')
    ] = None,
    resume: common.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace results in --out.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[
        bool, Option('--json', help='One JSON object per line, one per method and ratio.')
    ] = False,
) -> None:
    """Measure baselines on a labelled set: colour histogram and deep features with a linear SVM, fine-tuning.

    On request a Gaussian kernel on features of several encoders, and the last stages alone fine-tuned.

    By the protocol of NWPU-RESISC45: at each training ratio several random draws, overall accuracy as
    mean and standard deviation.
    """
    from geores.protocol.compare import plan_baselines

    plan = plan_baselines(
        folder,
        options,
        dataset=dataset,
        encoder=encoder,
        weights=weights,
        mean=_floats(mean, '--mean'),
        std=_floats(std, '--std'),
    )
    table = plan.run(
        out,
        resume=resume,
        overwrite=overwrite,
        notice=lambda note: print(f'note: {note}', file=sys.stderr, flush=True),
        progress=None if as_json or quiet else _progress,
    )
    if as_json:
        for record in table.records():
            print(json.dumps(record | {'outputs': _outputs(out)}), flush=True)
    else:
        _print(table, out)


def _floats(text: str | None, option: str) -> tuple[float, ...] | None:
    names = listed(text)
    try:
        return None if names is None else tuple(float(name) for name in names)
    except ValueError as error:
        raise UsageError(f'{option} takes numbers separated by commas, not {text!r}') from error


def _progress(run: 'BaselineRun', done: int, total: int) -> None:
    print(
        f'[{done}/{total}] {run.method}, ratio {run.ratio:g}, repeat {run.repeat + 1}: '
        f'accuracy {run.accuracy:.2%} ({run.setting}, {run.seconds:.1f} s)',
        file=sys.stderr,
        flush=True,
    )


def _outputs(out: Path | None) -> dict[str, str]:
    from geores.protocol.table import baseline_files

    return {} if out is None else {kind: str(path) for kind, path in baseline_files(out).items()}


def _print(result: 'BaselineTable', out: Path | None) -> None:
    """The table, and where the files lie."""
    console = plain_console()
    rows = result.records()
    ratios = sorted({row['ratio'] for row in rows})
    title = f'{result.info["data"]["name"]}: overall accuracy in %, mean ± standard deviation'
    table = figures_table(
        'method', *(f'{100 * ratio:g} % for training' for ratio in ratios), 'repeats', title=title
    )
    for method, name in result.rows.items():
        cells = {row['ratio']: row for row in rows if row['method'] == method}
        repeats = str(min(row['repeats'] for row in cells.values()))
        table.add_row(name, *(_cell(cells[ratio]) for ratio in ratios), repeats)
    console.print(table)
    print_outputs(console, _outputs(out))


def _cell(row: dict[str, Any]) -> str:
    spread = '' if row['accuracy_std'] is None else f' ± {100 * row["accuracy_std"]:.2f}'
    return f'{100 * row["accuracy_mean"]:.2f}{spread}'

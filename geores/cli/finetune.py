"""`geores finetune`: a model of the user's own classes, from scenes and labelled polygons or points."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.cli import common
from geores.cli.common import listed, print_messages, progress_bar
from geores.cli.option_sets import with_options
from geores.errors import OutputError, UsageError
from geores.training.finetune_options import FinetuneOptions

if TYPE_CHECKING:
    from rich.table import Table

    from geores.training.finetune import FinetunePlan
    from geores.training.finetune_result import Finetuned, SplitScore

__all__ = ['finetune']

Option = typer.Option
STOPPED = 130
_NAMES = {'blocks': 'geographic split', 'random': 'random split (optimistic)'}


@with_options(FinetuneOptions)
def finetune(
    scenes: Annotated[
        list[str],
        typer.Argument(metavar='SCENE...', help='GeoTIFF, folder of bands or Sentinel-2 product.'),
    ],
    labels: Annotated[Path, Option(help='Vector file of polygons or points, in any CRS.')],
    column: Annotated[str, Option(help='Column of the file that holds the class.')],
    out: Annotated[Path, Option('--out', '-o', help='Folder for the bundle, its report and figure.')],
    base: Annotated[
        str, Option(help='Name or path of the bundle to start from; auto picks by bands and pixel size.')
    ] = 'auto',
    bands: common.Bands = None,
    sensor: common.Sensor = None,
    offset: common.Offset = 'auto',
    *,
    options: FinetuneOptions,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace a bundle at --out.')] = False,
    resume: common.Resume = True,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='The report as one JSON object.')] = False,
) -> None:
    """Train a model of your own classes on SCENE and labelled polygons or points, and say how good it is.

    A tile has the class that covers the largest area of it, if that is at least --min-share of the whole
    tile; with points, the class of the points inside. Whole blocks of ground are kept for validation.
    """
    from geores.training.finetune_result import check_bundle_path

    check_bundle_path(out, overwrite=overwrite)
    try:
        said = {'bands': listed(bands), 'sensor': sensor, 'offset': offset}
        plan = _planned(scenes, labels, column, base, options, said)
        _run(plan, out, overwrite=overwrite, resume=resume, quiet=quiet, as_json=as_json)
    except KeyboardInterrupt:
        print('geores: stopped; nothing was written', file=sys.stderr)
        sys.exit(STOPPED)


def _planned(
    scenes: list[str],
    labels: Path,
    column: str,
    base: str,
    options: FinetuneOptions,
    said: dict[str, Any],
) -> 'FinetunePlan':
    """Check and read everything, and say what will be trained on."""
    from geores.training.finetune import plan_finetune

    plan = plan_finetune(scenes, labels, column, base, options, **said)
    for note in plan.notes:
        print(f'note: {note}', file=sys.stderr, flush=True)
    for kind, split in plan.splits.items():
        print(
            f'training on {len(split.train):,} tiles for {plan.epochs(split)} epochs, {len(split.val):,} '
            f'for validation ({_NAMES[kind]})',
            file=sys.stderr,
            flush=True,
        )
    return plan


def _run(
    plan: 'FinetunePlan', out: Path, *, overwrite: bool, resume: bool, quiet: bool, as_json: bool
) -> None:
    from geores.training.finetune_work import FinetuneWork

    with print_messages():
        work = FinetuneWork(out, plan.fingerprint(), resume=resume, overwrite=overwrite)
    try:
        with print_messages(), progress_bar('training', shown=not as_json, quiet=quiet) as progress:
            result = plan.run(progress, work)
        result.save(out, overwrite=overwrite)
        work.remove()
    except OutputError:  # a disk that fails takes nothing of what was learnt
        raise
    except UsageError:  # such as a divergence, to which the same way would lead again
        work.remove()
        raise
    except (KeyboardInterrupt, SystemExit) as stop:
        work.release()
        if not work.keeps and not isinstance(stop, SystemExit):
            raise
        print('geores: stopped; the same command goes on', file=sys.stderr)
        sys.exit(stop.code if isinstance(stop, SystemExit) else STOPPED)
    finally:
        work.release()
    (_print_json if as_json else _print)(result, out)


def _outputs(out: Path) -> dict[str, str]:
    from geores.training.finetune_result import FIGURE_FILE, REPORT_FILE

    return {'bundle': str(out), 'report': str(out / REPORT_FILE), 'figure': str(out / FIGURE_FILE)}


def _print_json(result: 'Finetuned', out: Path) -> None:
    print(json.dumps(result.report | {'outputs': _outputs(out)}), flush=True)


def _print(result: 'Finetuned', out: Path) -> None:
    """A table of classes for each split, the error matrices side by side, and where the files lie."""
    from rich.columns import Columns
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for score in result.scores:
        console.print(_classes(score))
        accuracy, f1 = score.metrics['accuracy'], score.metrics['f1_macro']
        console.print(
            f'{accuracy:.1%} of {score.matrix.sum():,} validation tiles right, mean F1 of classes {f1:.3f}',
            soft_wrap=True,
        )
        console.print(f'kept: {score.choice.said}', soft_wrap=True)
    console.print(Columns([_matrix(score) for score in result.scores], padding=(0, 2)))
    if len(result.scores) > 1:
        console.print('The bundle is that of the geographic split.')
    for kind, path in _outputs(out).items():
        console.print(f'{kind}: {path}', soft_wrap=True)


def _title(score: 'SplitScore') -> str:
    return _NAMES[score.kind]


def _classes(score: 'SplitScore') -> 'Table':
    from rich.table import Table

    names = ('training', 'validation', "user's", "producer's", 'F1')
    table = Table('class', *names, title=f'{_title(score)}: tiles and accuracies')
    for column in table.columns[1:]:
        column.justify = 'right'
    for label, row in score.to_dict()['per_class'].items():
        shares = (row['users_accuracy'], row['producers_accuracy'], row['f1'])
        cells = ('-' if share is None else f'{share:.1%}' for share in shares)
        table.add_row(label, str(row['train_tiles']), str(row['validation_tiles']), *cells)
    return table


def _matrix(score: 'SplitScore') -> 'Table':
    """Rows are classes of the labels, columns those that the model gave, by their numbers."""
    from rich.box import SIMPLE
    from rich.table import Table

    numbers = map(str, range(1, len(score.labels) + 1))
    table = Table('', 'reference', *numbers, title=f'{_title(score)}\n(columns: classified)', box=SIMPLE)
    for column in table.columns[2:]:
        column.justify = 'right'
    for index, label in enumerate(score.labels):
        table.add_row(str(index + 1), label, *(str(tiles) if tiles else '·' for tiles in score.matrix[index]))
    return table

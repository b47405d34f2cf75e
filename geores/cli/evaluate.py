"""`geores evaluate`: a model on labelled data, or on questions whose answers are known."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli import common
from geores.cli.common import plain_console, progress_bar
from geores.cli.option_sets import with_options
from geores.errors import UsageError
from geores.options import EvaluateOptions

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from geores.evaluation.answer_report import AnswerReport
    from geores.evaluation.files import Report
    from geores.evaluation.report import Evaluation

__all__ = ['evaluate']

Option = typer.Option
FIGURES = {
    'accuracy': 'accuracy',
    'accuracy_exact': 'all labels of an image right',
    'ap_macro': 'average precision, macro',
    'ap_micro': 'average precision, micro',
    'f1_macro': 'F1, macro',
    'f1_micro': 'F1, micro',
    'f1_samples': 'F1, mean of images',
    'precision_macro': 'precision, macro',
    'precision_micro': 'precision, micro',
    'recall_macro': 'recall, macro',
    'recall_micro': 'recall, micro',
    'ece': 'expected calibration error',
}
CONVENTIONS = {
    'accuracy': 'all (OA)',
    'accuracy_mean': 'all, mean of kinds (AA)',
    'accuracy_without_count': 'without counts (OA)',
    'accuracy_mean_without_count': 'without counts (AA)',
    'accuracy_closed': 'yes or no, rural or urban (OA)',
    'accuracy_mean_closed': 'yes or no, rural or urban (AA)',
}
"""Accuracies by which questions count, on which published figures differ."""
SHARES = {
    'ece': 'expected calibration error',
    'answered': 'share of questions that are answered',
    'paraphrase_agreement': 'share of reworded questions whose wordings all get one answer',
    'paraphrase_accuracy': 'share of reworded questions whose wordings are all answered right',
}
_WIDEST = 32
HEADS = {
    'support': 'support',
    'predicted': 'pred.',
    'threshold': 'thr.',
    'ap': 'AP',
    'f1': 'F1',
    'precision': 'prec.',
    'ece': 'ECE',
    'accuracy': 'acc.',
    'f1_macro': 'F1 macro',
    'f1_micro': 'F1 micro',
    'ap_macro': 'AP macro',
    'ap_micro': 'AP micro',
}


@with_options(EvaluateOptions)
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar='MODEL', help='Name or path of a bundle; left out with --predictions.')
    ],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar='DATA...',
            help='Folder with one folder per class; folder of GeoTIFF patches with labels.csv; BigEarthNet '
            'v2.0 (reBEN); or scenes, with --labels. For a model that answers questions: folder in the '
            'layout of RSVQA.',
        ),
    ] = None,
    *,
    options: EvaluateOptions,
    predictions: Annotated[
        Path | None,
        Option(
            metavar='FILE',
            help='Of questions: answers of any system, in place of MODEL: JSON lines with question_id and '
            'answer.',
        ),
    ] = None,
    variant: Annotated[
        str | None,
        Option(help='Of --predictions: lr, hr or xben, by which answers are binned [as DATA says].'),
    ] = None,
    out: Annotated[Path | None, Option('--out', '-o', help='Folder for tables and plots.')] = None,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace results in --out.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='Print one JSON object.')] = False,
) -> None:
    """Measure how well MODEL, or any system's --predictions, answer on labelled DATA."""
    if predictions is None and not data:
        raise UsageError(
            'DATA is missing: geores evaluate MODEL DATA, or geores evaluate DATA --predictions FILE'
        )
    if predictions is None and variant is not None:
        raise UsageError(
            '--variant goes with --predictions: a bundle says on its card how answers are binned'
        )
    folders = data or []
    from geores.evaluation.evaluate import prepare
    from geores.evaluation.report import Evaluation

    if predictions is not None:
        _score(predictions, [model, *folders], options, variant, out, overwrite=overwrite, as_json=as_json)
        return
    evaluator = prepare(model, folders, options)
    if out is not None:
        evaluator.check_output(out, overwrite=overwrite)
    with progress_bar(evaluator.name, shown=not as_json, quiet=quiet, unit='images') as progress:
        found = evaluator.run(progress)
    paths = {} if out is None else found.save(out, overwrite=overwrite)
    _print_notes(found)
    if as_json:
        _print_json(found, paths)
    elif isinstance(found, Evaluation):
        _print_labels(found, paths)
    else:
        _print_answers(found, paths)


def _score(
    predictions: Path,
    folders: list[str],
    options: EvaluateOptions,
    variant: str | None,
    out: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score the answers of any system."""
    from geores.evaluation.predictions import evaluate_predictions

    if options.of_answers:
        name = options.of_answers[0].replace('_', '-')
        raise UsageError(f'--{name} goes with a bundle that gives labels, and --predictions are answers')
    found = evaluate_predictions(
        predictions,
        folders,
        out=out,
        overwrite=overwrite,
        split=options.split or 'all',
        train=options.train,
        variant=variant,
        bootstrap=options.bootstrap,
        seed=options.seed,
    )
    paths = {} if out is None else found.paths(out, found.name)
    _print_notes(found)
    if as_json:
        _print_json(found, paths)
    else:
        _print_answers(found, paths)


def _print_notes(found: 'Report') -> None:
    """Print notes and warnings on standard error."""
    for kind, lines in (('note', found.notes), ('warning', found.warnings)):
        for line in lines:
            print(f'geores: {kind}: {line}', file=sys.stderr)


def _print_json(found: 'Report', paths: dict[str, Path]) -> None:
    from geores.evaluation.files import plain

    outputs = {kind: str(path) for kind, path in paths.items()}
    print(json.dumps(plain(found.record() | {'outputs': outputs}), ensure_ascii=False))


def _print_answers(found: 'AnswerReport', paths: dict[str, Path]) -> None:
    """Print the model beside the baselines, per question type and by each convention of the literature."""
    console = plain_console()
    told = found.provenance
    if 'split_sha256' in told:
        counts = ', '.join(f'{kind} {count:,}' for kind, count in told['questions_per_type'].items())
        console.print(f'split {told["split"]}: {counts}; sha256 {told["split_sha256"]}', soft_wrap=True)
    few = len(found.COLUMNS) <= 3  # with more columns the intervals stand in the second table alone
    console.print(found.comparison.table(found.title, found.intervals if few else None))
    console.print(_right_aligned(_conventions(found)))
    gain = f'model above question-only, all questions: {found.metrics["gain"]:+.3f}'
    if 'gain' in found.intervals:
        gain += ' ({:+.3f} to {:+.3f})'.format(*found.intervals['gain'])
    console.print(gain)
    for name, text in SHARES.items():
        if name in found.metrics:
            console.print(f'{text}: {_number(found.metrics[name])}')
    if len(found.per_source) > 1:
        console.print(_right_aligned(_frame_table('source', found.per_source)))
    _print_paths(console, paths)


def _conventions(found: 'AnswerReport') -> 'Table':
    """Accuracies of the question-only model and of the model, by which question types count."""
    from rich import box
    from rich.table import Table

    from geores.evaluation.answer_report import conventions
    from geores.vqa.comparison import MODEL

    table = Table('questions that count', 'question-only', 'model', '95 % interval', box=box.SIMPLE_HEAD)
    kinds = conventions(list(found.comparison.scores[MODEL].counts))
    same = '_closed' if kinds.get('closed') == kinds.get('without_count') else ' '
    for name, text in CONVENTIONS.items():
        if name in found.metrics and not name.endswith(same):
            limits = found.intervals.get(name)
            span = '' if limits is None else f'{_number(limits[0])} to {_number(limits[1])}'
            blind = _number(found.metrics[f'question_only_{name}'])
            table.add_row(text, blind, _number(found.metrics[name]), span)
    return table


def _print_labels(found: 'Evaluation', paths: dict[str, Path]) -> None:
    """Print tables of figures, of labels and, where there are several, of sources."""
    from rich import box
    from rich.table import Table

    console = plain_console()
    title = f'{found.card.name} on {len(found):,} images'
    table = Table('figure', 'value', '95 % interval', title=title, box=box.SIMPLE_HEAD)
    for name, text in FIGURES.items():
        if name in found.metrics:
            limits = found.intervals.get(name)
            span = '' if limits is None else f'{_number(limits[0])} to {_number(limits[1])}'
            table.add_row(text, _number(found.metrics[name]), span)
    console.print(_right_aligned(table))
    console.print(_right_aligned(_frame_table('label', found.per_class)))
    if len(found.per_source) > 1:
        console.print(
            _right_aligned(_frame_table('source', found.per_source[_brief_columns(found.per_source)]))
        )
    _print_paths(console, paths)


def _print_paths(console: 'Console', paths: dict[str, Path]) -> None:
    for kind, path in paths.items():
        console.print(f'{kind.replace("_", " ")}: {path}', soft_wrap=True)


def _brief_columns(frame: 'pd.DataFrame') -> list[str]:
    wanted = ('images', 'accuracy', 'f1_micro', 'f1_macro', 'ap_micro', 'ap_macro', 'ece')
    return [name for name in wanted if name in frame]


def _frame_table(first: str, frame: 'pd.DataFrame') -> 'Table':
    from rich import box
    from rich.table import Table

    table = Table(first, *(HEADS.get(name, name) for name in frame.columns), box=box.SIMPLE_HEAD)
    table.columns[0].max_width = _WIDEST  # a name of 80 letters would leave no room for figures
    for name, row in zip(frame.index, frame.itertuples(index=False), strict=True):
        table.add_row(str(name), *(_number(value) for value in row))
    return table


def _right_aligned(table: 'Table') -> 'Table':
    for column in table.columns[1:]:
        column.justify = 'right'
    return table


def _number(value: float) -> str:
    """A count, or a figure to three places; a dash where there is none."""
    if isinstance(value, int):
        return f'{value:,}'
    return '-' if math.isnan(value) else f'{value:.3f}'

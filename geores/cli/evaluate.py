"""`geores evaluate`: a model on labelled data, or on questions whose answers are known."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.cli import common
from geores.cli.common import listed, progress_bar
from geores.errors import UsageError

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


def evaluate(
    model: Annotated[
        str,
        typer.Argument(metavar='MODEL', help='Name or path of a bundle; left out with --predictions.'),
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
    labels: Annotated[str | None, Option(help='Vector file of polygons or points over the scenes.')] = None,
    column: Annotated[str | None, Option(help='Its column of classes.')] = None,
    resolution: Annotated[
        float | None, Option(help='Metres per pixel of scenes [what the model takes].')
    ] = None,
    stride: Annotated[int | None, Option(help='Pixels from tile to tile of scenes [the tile].')] = None,
    min_share: Annotated[
        float | None,
        Option(help='Least part of a tile that its class covers [0.5; of a multi-label model 0.01].'),
    ] = None,
    min_cover: Annotated[
        float | None,
        Option(
            help='Of a multi-label model: least part of a tile that is under labels [0.9]; 0 where they are '
            'complete.'
        ),
    ] = None,
    placement: Annotated[
        str | None, Option(help='Tiles of scenes: grid, or centred on each polygon or point; or auto.')
    ] = None,
    bands: Annotated[
        str | None, Option(help='Names of the bands in file order, by commas, where GeoTIFFs do not say.')
    ] = None,
    sensor: common.Sensor = None,
    offset: common.Offset = 'auto',
    mode: Annotated[
        str | None, Option(help="scene (one label per image) or multi-label [the model's].")
    ] = None,
    split: Annotated[
        str | None,
        Option(
            help="all, or val or train: that part of the model's own split of this data; or test of reBEN, "
            'test or test_phili of RSVQA [val of a fine-tuned bundle on its own scenes, else all].'
        ),
    ] = None,
    train: Annotated[
        list[str] | None,
        Option(
            metavar='DIR',
            help='Of questions: folder that majority and question-only model learn from; may be given again '
            '[the training part, else the other images of DATA].',
        ),
    ] = None,
    label_map: Annotated[
        str | None, Option(metavar='OLD=NEW,...', help="Labels of the data by the model's names.")
    ] = None,
    ignore_unknown: Annotated[
        bool,
        Option(
            '--ignore-unknown', help='Leave out labels, or kinds of questions, that the model does not know.'
        ),
    ] = False,
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
    metadata: Annotated[
        Path | None, Option(help='metadata.parquet of reBEN, if it is not beside the patches.')
    ] = None,
    snow_and_clouds: Annotated[
        bool, Option('--snow-and-clouds', help='Take patches of reBEN with snow, clouds or shadows too.')
    ] = False,
    batch_size: Annotated[int, Option(help='Images in one forward pass.')] = 32,
    device: Annotated[str, Option(help='auto, cpu, cuda or cuda:N.')] = 'auto',
    precision: Annotated[str, Option(help='fp32, bf16, fp16 or auto.')] = 'fp32',
    workers: Annotated[int, Option(help='Processes that read images beside this one.')] = 0,
    bootstrap: Annotated[int, Option(help='Drawings of images for 95 % intervals; 0 for none.')] = 1000,
    seed: Annotated[int, Option(help='Of the drawings and the question-only model.')] = 0,
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
    tiles = {
        'resolution': resolution,
        'stride': stride,
        'min_share': min_share,
        'min_cover': min_cover,
        'placement': placement,
    }
    reben = {'metadata': metadata, 'snow_and_clouds': snow_and_clouds}
    renamed = _pairs(label_map)
    from geores.evaluation.evaluate import prepare
    from geores.evaluation.report import Evaluation

    if predictions is not None:
        given: dict[str, object] = {'labels': labels, 'column': column, 'bands': bands, 'mode': mode}
        given |= {**reben, **tiles, 'label_map': label_map, 'ignore_unknown': ignore_unknown}
        _score(
            predictions,
            [model, *folders],
            {name: value for name, value in given.items() if value},
            {
                'split': split or 'all',
                'train': train or None,
                'variant': variant,
                'bootstrap': bootstrap,
                'seed': seed,
            },
            out,
            overwrite=overwrite,
            as_json=as_json,
        )
        return
    # What is said of scenes goes on only where it is said: other data take no such options.
    said = {name: v for name, v in (('sensor', sensor), ('offset', offset)) if v not in {None, 'auto'}}
    evaluator = prepare(
        model,
        folders,
        labels=labels,
        column=column,
        bands=listed(bands),
        mode=mode,
        split=split,
        train=train or None,
        label_map=renamed,
        ignore_unknown=ignore_unknown,
        batch_size=batch_size,
        device=device,
        precision=precision,
        workers=workers,
        bootstrap=bootstrap,
        seed=seed,
        reben={name: value for name, value in reben.items() if value},
        **said,
        **{name: value for name, value in tiles.items() if value is not None},
    )
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
    given: dict[str, object],
    options: dict[str, Any],
    out: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score the answers of any system."""
    from geores.evaluation.predictions import evaluate_predictions

    if given:
        name = next(iter(given)).replace('_', '-')
        raise UsageError(f'--{name} goes with a bundle that gives labels, and --predictions are answers')
    found = evaluate_predictions(predictions, folders, out=out, overwrite=overwrite, **options)
    paths = {} if out is None else found.paths(out, found.name)
    _print_notes(found)
    if as_json:
        _print_json(found, paths)
    else:
        _print_answers(found, paths)


def _pairs(text: str | None) -> dict[str, str]:
    """Pairs of names such as ``lake=water,wood=forest``."""
    pairs = {}
    for pair in listed(text) or []:
        old, _, new = (part.strip() for part in pair.partition('='))
        if not old or not new or '=' in new:
            raise UsageError(f'--label-map takes OLD=NEW separated by commas, not {text!r}')
        pairs[old] = new
    return pairs


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
    from rich.console import Console

    console = Console(highlight=False, markup=False)
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
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)  # paths may hold brackets
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

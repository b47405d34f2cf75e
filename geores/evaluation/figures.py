"""Plots of an evaluation, of labels or of answers to questions."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from geores.evaluation.question_report import COLUMNS, VQAEvaluation
from geores.evaluation.report import ALL, Evaluation
from geores.vqa.comparison import MAJORITY, MODEL, QUESTION_ONLY

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    'draw_reliability',
    'new_figure',
    'write',
    'write_answer_accuracy',
    'write_answer_reliability',
    'write_confusion',
    'write_precision_recall',
    'write_reliability',
    'write_thresholds',
]

PANELS = 41
"""Most labels that get a panel of their own: those with the largest support."""
PLATE = {'facecolor': 'white', 'alpha': 0.8, 'pad': 1, 'linewidth': 0}
RARE = 10
"""Bins with fewer scores are drawn as uncertain: their share of positives is mostly chance."""
NUMBERS = 30
"""Most classes whose matrix has its counts written in."""
_LINE = 34
BLUE, ORANGE, GREEN, GREY = '#2b6cb0', '#dd6b20', '#2f855a', '#718096'
COLOURS = {MAJORITY: GREY, QUESTION_ONLY: ORANGE, MODEL: BLUE}


def write_confusion(found: Evaluation, path: Path) -> None:
    """Draw the confusion matrix, or per label the true positives, misses and false positives.

    Args:
        found: the evaluation to show.
        path: PNG to write.
    """
    (_draw_decisions if found.is_multi_label else _draw_matrix)(found, path)


def write_reliability(found: Evaluation, path: Path) -> None:
    """Draw the reliability curve over a histogram of scores, beside the calibration error of each label.

    Args:
        found: the evaluation to show.
        path: PNG to write.
    """
    what = 'labels' if found.is_multi_label else 'best labels'
    title = _title(found, f'reliability, ECE {found.metrics["ece"]:.3f}')
    draw_reliability(
        found.reliability, found.per_class['ece'].loc[_shown(found)], title, (what, 'label'), path
    )


def draw_reliability(
    table: 'pd.DataFrame', errors: 'pd.Series[float]', title: str, words: tuple[str, str], path: Path
) -> None:
    """Draw a reliability curve over a histogram of scores, beside calibration errors.

    Args:
        table: as `Evaluation.reliability`.
        errors: calibration error of each label.
        title: title of the curve.
        words: what the scores belong to, and what the errors are per.
        path: PNG to write.
    """
    what, each = words
    labels = [str(label) for label in errors.index]
    figure = new_figure(10, max(5.0, 2.0 + 0.24 * len(labels)))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(3, 2))[0]
    curve, histogram = left.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    rows = table[table['label'] == ALL]
    filled = rows[rows['count'] > 0]
    curve.plot([0, 1], [0, 1], color=GREY, linestyle='--', linewidth=1, label='as the score says')
    curve.plot(
        filled['score'], filled['share'], color=BLUE, marker='o', markersize=4, clip_on=False, label='found'
    )
    rare = rows[rows['count'].between(1, RARE - 1)]
    if len(rare):  # nothing drawn would count as drawn in the corner, and the layout leave room for it
        curve.plot(rare['score'], rare['share'], 'o', color=BLUE, markerfacecolor='white', markersize=4,
                   clip_on=False, zorder=5, label=f'fewer than {RARE}')  # fmt: skip
    curve.set(ylabel=f'share of {what} that are true', xlim=(0, 1), ylim=(0, 1))
    figure.suptitle(title, fontsize=9)
    curve.legend(fontsize=8, frameon=False, loc='upper left')
    histogram.bar(rows['low'], rows['count'], width=0.1, align='edge', color=BLUE, edgecolor='white')
    histogram.set(xlabel='score', ylabel=what)
    bars = right.subplots()
    bars.barh(range(len(labels)), errors.fillna(0), color=BLUE)
    bars.set_yticks(range(len(labels)), _wrapped(labels), fontsize=8)
    bars.set(ylim=(len(labels) - 0.5, -0.5), xlabel='expected calibration error')
    bars.set_title(f'by {each}', fontsize=9)
    for axes in (curve, histogram, bars):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    write(figure, path)


def write_thresholds(found: Evaluation, path: Path) -> None:
    """Draw precision, recall and F1 against the threshold, for all labels together and per label.

    Args:
        found: the evaluation to show.
        path: PNG to write.
    """
    table = found.threshold_curve
    styles = {'precision': (BLUE, 'precision'), 'recall': (ORANGE, 'recall'), 'f1': (GREEN, 'F1')}
    figure = new_figure(*_grid_size(found))
    for label, axes in _panels(figure, found):
        rows = table[table['label'] == label]
        for column, (colour, name) in styles.items():
            axes.plot(rows['threshold'], rows[column], color=colour, linewidth=1.2, label=name)
        if label != ALL and found.is_multi_label:
            axes.axvline(_figure_of(found, label, 'threshold'), color='black', linestyle=':', linewidth=1)
    cards = " (dotted: the card's)" if found.is_multi_label else ''
    _finish(figure, found, 'threshold', '', f'precision, recall and F1 by threshold{cards}')
    write(figure, path)


def write_precision_recall(found: Evaluation, path: Path) -> None:
    """Draw precision against recall with the operating point, for all labels together and per label.

    Args:
        found: the evaluation to show.
        path: PNG to write.
    """
    figure = new_figure(*_grid_size(found))
    scores, truth, decided = found.measured.numpy(), found.truth.numpy(), found.decided.numpy()
    for label, axes in _panels(figure, found):
        columns = slice(None) if label == ALL else [found.labels.index(label)]
        true, score, said = (part[:, columns].ravel() for part in (truth, scores, decided))
        if not true.any():
            continue
        precise, recalled, _ = precision_recall_curve(true, score, drop_intermediate=True)
        axes.step(recalled, precise, where='post', color=BLUE, linewidth=1.2)
        hits = (true * said).sum()
        if said.any():
            place = hits / true.sum(), hits / said.sum()
            axes.plot(*place, 'o', color=ORANGE, markersize=4, clip_on=False, zorder=5)
        area = found.metrics['ap_micro'] if label == ALL else _figure_of(found, label, 'ap')
        axes.text(0.05, 0.06, f'AP {area:.2f}', fontsize=8, bbox=PLATE, zorder=4)
    _finish(figure, found, 'recall', 'precision', 'precision and recall (dot: as the model decides)')
    write(figure, path)


def _draw_matrix(found: Evaluation, path: Path) -> None:
    table = found.confusion
    truth, said = table.any(axis=1), table.any(axis=0)
    table = table.loc[truth, truth | said]
    counts = table.to_numpy()
    share = counts / counts.sum(1, keepdims=True)
    height, width = (max(3.2, 2.4 + 0.42 * count) for count in counts.shape)
    figure = new_figure(width + 1.6, height)
    axes = figure.subplots()
    image = axes.imshow(share, cmap='Blues', vmin=0, vmax=1, aspect='auto')
    axes.set_xticks(
        range(counts.shape[1]), table.columns, rotation=45, ha='right', rotation_mode='anchor', fontsize=8
    )
    axes.set_yticks(range(len(counts)), table.index, fontsize=8)
    axes.set(xlabel='predicted', ylabel='truth')
    axes.set_title(_title(found, f'accuracy {found.metrics["accuracy"]:.3f}'), fontsize=9)
    if max(counts.shape) <= NUMBERS:
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = 'white' if share[row, column] > 0.5 else 'black'
            text = str(counts[row, column])
            axes.text(column, row, text, ha='center', va='center', color=colour, fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.8, label='share of the images of a class')
    write(figure, path)


def _draw_decisions(found: Evaluation, path: Path) -> None:
    labels = _shown(found)
    rows = found.confusion.loc[labels]
    whole = rows[['tp', 'fn', 'fp']].sum(axis=1).clip(lower=1)
    figure = new_figure(9, 1.8 + 0.3 * len(labels))
    axes = figure.subplots()
    start = np.zeros(len(labels))
    for column, name, colour in (
        ('tp', 'true and said', GREEN),
        ('fn', 'true, not said', ORANGE),
        ('fp', 'said, not true', GREY),
    ):
        width = (rows[column] / whole).to_numpy()
        bars = axes.barh(range(len(labels)), width, left=start, color=colour, label=name)
        texts = [str(count) if part > 0.02 else '' for count, part in zip(rows[column], width, strict=True)]
        axes.bar_label(bars, texts, label_type='center', fontsize=7, color='white')
        start += width
    axes.set_yticks(range(len(labels)), _wrapped(labels), fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5), xticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(_title(found, f'decisions, F1 micro {found.metrics["f1_micro"]:.3f}'), fontsize=9)
    figure.legend(loc='outside lower center', ncols=3, fontsize=8, frameon=False)
    write(figure, path)


def _wrapped(labels: Sequence[str]) -> list[str]:
    """Wrap names over several lines."""
    return [textwrap.fill(label, _LINE) for label in labels]


def _shown(found: Evaluation) -> list[str]:
    """Labels that get a panel, in the card's order."""
    support = found.per_class['support']
    most = support[support > 0].nlargest(PANELS).index
    return [label for label in found.labels if label in most]


def _figure_of(found: Evaluation, label: str, column: str) -> float:
    return float(found.per_class[column].to_numpy()[found.labels.index(label)])


def _grid(found: Evaluation) -> tuple[int, int]:
    count = len(_shown(found)) + 1
    columns = min(6, int(np.ceil(np.sqrt(count * 1.4))))
    return -(-count // columns), columns


def _grid_size(found: Evaluation) -> tuple[float, float]:
    rows, columns = _grid(found)
    return max(2.1 * columns, 5.0), 2.0 * rows + 0.9


def _panels(figure: Figure, found: Evaluation) -> 'Iterator[tuple[str, Axes]]':
    """Create one panel for all labels together and one per label."""
    panels: NDArray[Any] = figure.subplots(*_grid(found), sharex=True, sharey=True, squeeze=False)
    labels = [ALL, *_shown(found)]
    for label, axes in zip(labels, panels.flat, strict=False):
        support = '' if label == ALL else f' ({_figure_of(found, label, "support"):,.0f})'
        (title,) = _wrapped(['all together' if label == ALL else f'{label}{support}'])
        axes.set_title(title, fontsize=8)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        yield label, axes
    for axes in panels.flat[len(labels) :]:
        axes.set_visible(False)


def _finish(figure: Figure, found: Evaluation, x: str, y: str, title: str) -> None:
    figure.suptitle(_title(found, title), fontsize=9)
    figure.supxlabel(x, fontsize=8)
    figure.supylabel(y, fontsize=8)
    handles, names = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc='outside lower right', ncols=3, fontsize=8, frameon=False)


def _title(found: Evaluation, text: str) -> str:
    return f'{found.card.name} on {len(found):,} images: {text}'


def new_figure(width: float, height: float) -> Figure:
    """An empty figure.

    Args:
        width: width in inches.
        height: height in inches.
    """
    figure = Figure(figsize=(width, height), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def write(figure: Figure, path: Path) -> None:
    """Write a figure.

    Args:
        figure: the complete figure.
        path: PNG to write.
    """
    figure.savefig(path, format='png', metadata={'Software': 'geores'})


def write_answer_accuracy(found: VQAEvaluation, path: Path) -> None:
    """Draw accuracy per question type and overall for majority, question-only model and model.

    Args:
        found: the evaluation to show.
        path: PNG to write.
    """
    names = {'accuracy': 'all (OA)', 'accuracy_mean': 'mean of kinds (AA)'}
    names = {f'accuracy_{kind}': kind for kind in found.per_type.index} | names
    figure = new_figure(3 + 1.3 * len(names), 4.2)
    axes = figure.subplots()
    width = 0.8 / len(COLUMNS)
    for place, who in enumerate(COLUMNS):
        before = '' if who == MODEL else f'{COLUMNS[who]}_'
        keys = [f'{before}{name}' for name in names]
        at = np.arange(len(names)) + (place - 1) * width
        values = np.array([found.metrics[key] for key in keys])
        axes.bar(at, values, width, color=COLOURS[who], label=who)
        if found.intervals:
            limits = np.array([found.intervals[key] for key in keys]).T
            # A percentile interval need not hold the figure itself.
            spans = np.maximum([values - limits[0], limits[1] - values], 0)
            axes.errorbar(at, values, spans, fmt='none', ecolor='black', elinewidth=0.8, capsize=2)
    axes.set_xticks(range(len(names)), list(names.values()), fontsize=8)
    axes.set(ylabel='accuracy', ylim=(0, 1.02))
    axes.grid(axis='y', alpha=0.3)
    axes.set_axisbelow(True)
    bars = '; lines: 95 % intervals over images' if found.intervals else ''
    axes.set_title(f'{_answers_title(found)}{bars}', fontsize=9)
    figure.legend(loc='outside lower center', ncols=len(COLUMNS), fontsize=8, frameon=False)
    write(figure, path)


def write_answer_reliability(found: VQAEvaluation, path: Path) -> None:
    """Draw the reliability of answer probabilities beside the calibration error per question type.

    Args:
        found: the evaluation to show.
        path: PNG to write.
    """
    title = f'{_answers_title(found)}: reliability, ECE {found.metrics["ece"]:.3f}'
    draw_reliability(found.reliability, found.per_type['ece'], title, ('answers', 'kind of question'), path)


def _answers_title(found: VQAEvaluation) -> str:
    images = found.comparison.images
    return f'{found.card.name} on {len(found):,} questions about {images:,} images'

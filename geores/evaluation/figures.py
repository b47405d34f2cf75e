"""Plots of an evaluation, drawn from plain tables."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from geores.evaluation.files import ALL

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    'best_supported',
    'new_figure',
    'write',
    'write_answer_accuracy',
    'write_confusion',
    'write_decisions',
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
COLOURS = (BLUE, ORANGE, GREY, '#cbd5e0')
"""Of the bars of an evaluated model, and of baselines before it."""


def write_reliability(
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


def write_thresholds(table: 'pd.DataFrame', labels: 'pd.DataFrame', title: str, path: Path) -> None:
    """Draw precision, recall and F1 against the threshold, for all labels together and per label.

    Args:
        table: as `Evaluation.threshold_curve`.
        labels: one row per label that gets a panel: `support`, and `threshold` where it has one.
        title: title of the plot.
        path: PNG to write.
    """
    styles = {'precision': (BLUE, 'precision'), 'recall': (ORANGE, 'recall'), 'f1': (GREEN, 'F1')}
    figure = new_figure(*_grid_size(len(labels)))
    for label, axes in _panels(figure, labels['support']):
        rows = table[table['label'] == label]
        for column, (colour, name) in styles.items():
            axes.plot(rows['threshold'], rows[column], color=colour, linewidth=1.2, label=name)
        if label != ALL and 'threshold' in labels:
            axes.axvline(float(labels['threshold'].loc[label]), color='black', linestyle=':', linewidth=1)
    cards = " (dotted: the card's)" if 'threshold' in labels else ''
    _finish(figure, 'threshold', '', f'{title}{cards}')
    write(figure, path)


def write_precision_recall(
    decisions: Mapping[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]],
    areas: Mapping[str, float],
    support: 'pd.Series[int]',
    title: str,
    path: Path,
) -> None:
    """Draw precision against recall with the operating point, for all labels together and per label.

    Args:
        decisions: ground truth (0 or 1), scores and predictions (0 or 1) of all labels and of each that
            gets a panel.
        areas: average precision of each.
        support: number of positives of each label.
        title: title of the plot.
        path: PNG to write.
    """
    labels = support.loc[[label for label in decisions if label != ALL]]
    figure = new_figure(*_grid_size(len(labels)))
    for label, axes in _panels(figure, labels):
        true, score, said = (part.ravel() for part in decisions[label])
        if not true.any():
            continue
        precise, recalled, _ = precision_recall_curve(true, score, drop_intermediate=True)
        axes.step(recalled, precise, where='post', color=BLUE, linewidth=1.2)
        hits = (true * said).sum()
        if said.any():
            place = hits / true.sum(), hits / said.sum()
            axes.plot(*place, 'o', color=ORANGE, markersize=4, clip_on=False, zorder=5)
        axes.text(0.05, 0.06, f'AP {areas[label]:.2f}', fontsize=8, bbox=PLATE, zorder=4)
    _finish(figure, 'recall', 'precision', title)
    write(figure, path)


def write_confusion(table: 'pd.DataFrame', title: str, path: Path) -> None:
    """Draw a confusion matrix; classes that are neither true nor predicted are left out."""
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
    axes.set_title(title, fontsize=9)
    if max(counts.shape) <= NUMBERS:
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = 'white' if share[row, column] > 0.5 else 'black'
            text = str(counts[row, column])
            axes.text(column, row, text, ha='center', va='center', color=colour, fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.8, label='share of the images of a class')
    write(figure, path)


def write_decisions(rows: 'pd.DataFrame', title: str, path: Path) -> None:
    """Draw the true positives, misses and false positives of each label."""
    labels = [str(label) for label in rows.index]
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
    axes.set_title(title, fontsize=9)
    figure.legend(loc='outside lower center', ncols=3, fontsize=8, frameon=False)
    write(figure, path)


def _wrapped(labels: Sequence[str]) -> list[str]:
    """Wrap names over several lines."""
    return [textwrap.fill(label, _LINE) for label in labels]


def best_supported(support: 'pd.Series[int]') -> list[str]:
    """Labels that get a panel, in order: the ones with the largest support."""
    most = support[support > 0].nlargest(PANELS).index
    return [str(label) for label in support.index if label in most]


def _grid(labels: int) -> tuple[int, int]:
    count = labels + 1
    columns = min(6, int(np.ceil(np.sqrt(count * 1.4))))
    return -(-count // columns), columns


def _grid_size(labels: int) -> tuple[float, float]:
    rows, columns = _grid(labels)
    return max(2.1 * columns, 5.0), 2.0 * rows + 0.9


def _panels(figure: Figure, support: 'pd.Series[int]') -> 'Iterator[tuple[str, Axes]]':
    """Create one panel for all labels together and one per label."""
    panels: NDArray[Any] = figure.subplots(*_grid(len(support)), sharex=True, sharey=True, squeeze=False)
    labels = [ALL, *(str(label) for label in support.index)]
    for label, axes in zip(labels, panels.flat, strict=False):
        count = '' if label == ALL else f' ({support.loc[label]:,.0f})'
        (title,) = _wrapped(['all together' if label == ALL else f'{label}{count}'])
        axes.set_title(title, fontsize=8)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        yield label, axes
    for axes in panels.flat[len(labels) :]:
        axes.set_visible(False)


def _finish(figure: Figure, x: str, y: str, title: str) -> None:
    figure.suptitle(title, fontsize=9)
    figure.supxlabel(x, fontsize=8)
    figure.supylabel(y, fontsize=8)
    handles, names = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc='outside lower right', ncols=3, fontsize=8, frameon=False)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure."""
    figure = Figure(figsize=(width, height), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def write(figure: Figure, path: Path) -> None:
    """Write a figure."""
    figure.savefig(path, format='png', metadata={'Software': 'geores'})


def write_answer_accuracy(
    accuracy: 'pd.DataFrame', limits: Mapping[str, 'pd.DataFrame'] | None, title: str, path: Path
) -> None:
    """Draw the accuracy of several models, the last of which is the one evaluated.

    Args:
        accuracy: one row per kind of question or mean, one column per model.
        limits: 'low' and 'high' ends of the intervals, in the same form; None draws none.
        title: title of the plot.
        path: PNG to write.
    """
    count = len(accuracy.columns)
    figure = new_figure(3 + 0.43 * count * len(accuracy), 4.2)
    axes = figure.subplots()
    width = 0.8 / count
    for place, who in enumerate(accuracy.columns):
        at = np.arange(len(accuracy)) + (place - (count - 1) / 2) * width
        values = accuracy[who].to_numpy()
        axes.bar(at, values, width, color=COLOURS[count - 1 - place], label=who)
        if limits is not None:
            # A percentile interval need not hold the figure itself.
            low, high = (limits[end][who].to_numpy() for end in ('low', 'high'))
            spans = np.maximum([values - low, high - values], 0)
            axes.errorbar(at, values, spans, fmt='none', ecolor='black', elinewidth=0.8, capsize=2)
    axes.set_xticks(range(len(accuracy)), [str(name) for name in accuracy.index], fontsize=8)
    axes.set(ylabel='accuracy', ylim=(0, 1.02))
    axes.grid(axis='y', alpha=0.3)
    axes.set_axisbelow(True)
    bars = '' if limits is None else '; lines: 95 % intervals over images'
    axes.set_title(f'{title}{bars}', fontsize=9)
    figure.legend(loc='outside lower center', ncols=count, fontsize=8, frameon=False)
    write(figure, path)

"""Pictures of a table of baselines."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

if TYPE_CHECKING:
    from geores.pipelines.baselines.table import BaselineTable

__all__ = ['write_accuracy', 'write_confusion']

_MARKERS = 'osD^v'
_MOST_NUMBERED = 30
_META = {'Software': 'geores'}


def write_accuracy(summary: pd.DataFrame, name: str, path: Path) -> None:
    """Draw overall accuracy against the training ratio, with one standard deviation to each side.

    Args:
        summary: Of a `BaselineTable`.
        name: Of the data.
        path: Of the PNG.
    """
    figure = Figure(figsize=(6.5, 4.5), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for index, (row_name, rows) in enumerate(summary.groupby('name', sort=False)):
        axes.errorbar(
            100 * rows['ratio'],
            100 * rows['accuracy_mean'],
            yerr=100 * rows['accuracy_std'].fillna(0),
            marker=_MARKERS[index % len(_MARKERS)],
            capsize=4,
            label=f'{row_name} (n = {rows["repeats"].min()})',
        )
    axes.set(xlabel='training ratio', ylabel='overall accuracy', title=f'{name}: mean ± standard deviation')
    axes.set_xticks(sorted(100 * summary['ratio'].unique()))
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=None))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.grid(alpha=0.3)
    axes.margins(x=0.1)
    figure.legend(loc='outside lower center', fontsize=8, frameon=False)
    figure.savefig(path, format='png', metadata=_META)


def write_confusion(table: 'BaselineTable', path: Path) -> None:
    """Draw the confusion matrix of the best method and ratio, in percent of each true class.

    Args:
        table: Whose best to draw.
        path: Of the PNG.
    """
    method, ratio = table.best
    counts = table.confusion(method, ratio).to_numpy()
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(0.32 * len(counts) + 2.2, 4.5, 18))
    figure = Figure(figsize=(side + 0.6, side), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    ticks = range(len(counts))
    axes.set_xticks(ticks, table.labels, rotation=90, fontsize=7)
    axes.set_yticks(ticks, table.labels, fontsize=7)
    axes.set(xlabel='answer', ylabel='true class')
    axes.set_title(f'{table.rows[method]}, {100 * ratio:g} % for training, % of each class', fontsize=9)
    if len(counts) <= _MOST_NUMBERED:
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            share = shares[row, column]
            colour = 'white' if share > 50 else 'black'
            axes.text(column, row, f'{share:.0f}', ha='center', va='center', fontsize=6, color=colour)
    figure.colorbar(picture, ax=axes, shrink=0.7, format=PercentFormatter(decimals=0))
    figure.savefig(path, format='png', metadata=_META)

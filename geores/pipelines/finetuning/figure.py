"""The picture of error matrices, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geores.pipelines.finetuning.result import SplitScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['write_error_matrix']

NUMBERS = 30
"""Most classes whose matrix has its counts written in."""
TITLES = {'blocks': 'geographic split', 'random': 'random split (optimistic: neighbours on both sides)'}


def write_error_matrix(scores: Sequence[SplitScore], path: Path) -> None:
    """Draw the error matrix of each split: colours are shares of the reference, numbers are tiles.

    Args:
        scores: one panel each.
        path: PNG to write.
    """
    side = 2.6 + 0.45 * len(scores[0].labels)
    figure = Figure(figsize=(side * len(scores) + 0.8, side + 0.6), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    for axes, score in zip(figure.subplots(1, len(scores), squeeze=False)[0], scores, strict=True):
        _draw(axes, score)
    figure.savefig(path, format='png', metadata={'Software': 'geores'})


def _draw(axes: 'Axes', score: SplitScore) -> None:
    count = len(score.labels)
    totals = score.matrix.sum(axis=1, keepdims=True)
    shares = np.divide(score.matrix, totals, out=np.zeros(score.matrix.shape), where=totals > 0)
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    if count <= NUMBERS:
        for row, col in zip(*np.nonzero(score.matrix), strict=True):
            colour = 'white' if shares[row, col] > 0.5 else 'black'
            axes.text(
                col, row, str(score.matrix[row, col]), ha='center', va='center', color=colour, fontsize=8
            )
    axes.set_xticks(range(count), score.labels, rotation=60, ha='right', rotation_mode='anchor', fontsize=8)
    axes.set_yticks(range(count), score.labels, fontsize=8)
    axes.set(xlabel='classified', ylabel='reference')
    accuracy = score.metrics['accuracy']
    axes.set_title(f'{TITLES[score.kind]}\n{accuracy:.1%} of {score.matrix.sum():,} tiles', fontsize=9)

"""Class maps of models that answer once per tile: a cell has the label that its tiles give it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.cartography.class_raster import ABSENT, PRESENT
from geores.inference.pixels import class_dtype
from geores.pipelines.labels import dominant
from geores.pipelines.scored import Scored

__all__ = ['cell_blocks', 'class_cells', 'confidence_cells', 'label_cells']

BLOCK = 256

Part = tuple[slice, slice]


def cell_blocks(result: Scored) -> Iterator[Part]:
    """Blocks of cells that partition the grid of cells."""
    rows, cols = result.plan.tiling.cell_shape
    for row in range(0, rows, BLOCK):
        for col in range(0, cols, BLOCK):
            yield slice(row, min(row + BLOCK, rows)), slice(col, min(col + BLOCK, cols))


def class_cells(result: Scored, rows: slice, cols: slice) -> NDArray[Any]:
    """Classes of a block of cells: 0 for no data or no label, i for the i-th label of the card."""
    means, _ = result.table.cells(rows, cols)
    return (dominant(means, result.limits) + 1).astype(class_dtype(len(result.card.labels)))


def confidence_cells(result: Scored, rows: slice, cols: slice) -> NDArray[np.float32]:
    """Mean probability of the strongest label of each cell, NaN where there is no data."""
    means, _ = result.table.cells(rows, cols)
    best: NDArray[np.float32] = means.max(axis=0)
    return best


def label_cells(result: Scored, rows: slice, cols: slice) -> NDArray[np.uint8]:
    """Whether each label is present in a block of cells, (K, rows, cols): 0 no data, 1 absent, 2 present."""
    means, _ = result.table.cells(rows, cols)
    present = means >= result.limits[:, None, None]
    values = np.where(present, PRESENT, ABSENT)
    return np.where(np.isnan(means), 0, values).astype(np.uint8)

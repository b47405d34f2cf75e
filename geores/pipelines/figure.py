"""The picture of a result: image beside the map of labels or values, with legend and scale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.cartography.legend import Legend
from geores.cartography.map_parts import Frame, stretched_picture
from geores.cartography.picture import write_class_picture, write_value_picture
from geores.pipelines.labels import dominant
from geores.pipelines.scored import Scored

__all__ = ['write_map']

MAP_CELLS = 1024


def write_map(result: Scored, path: Path) -> None:
    """Draw the scene beside the strongest label, or the first value, of each cell."""
    picture = stretched_picture(result.look.assemble(result.plan, result.store))
    frame = Frame.of(result.grid, result.gsd)
    rows, cols = result.plan.tiling.cell_shape
    covers = (rows * result.plan.tiling.stride, cols * result.plan.tiling.stride)
    name = result.card.name
    if result.card.task == 'regression':
        quantity = result.card.labels[0]  # the others are in the table and the raster of scores
        write_value_picture(
            path,
            picture,
            _cell_map(result, lambda means: means[0]),
            frame,
            title=result.name,
            name=f'{name}: {quantity}, mean {result.means[quantity]:.4g}',
            quantity=quantity,
            covers=covers,
        )
        return
    labels = _cell_map(result, lambda means: dominant(means, result.limits))
    write_class_picture(
        path,
        picture,
        labels + 1,
        Legend.of(result.card.labels, result.card.colours),
        frame,
        title=result.name,
        name=f'{name}: strongest label of each cell',
        shares=result.shares,
        covers=covers,
    )


def _cell_map(result: Scored, choose: Callable[[NDArray[np.float32]], NDArray[Any]]) -> NDArray[Any]:
    """What to draw of each cell's means (K, rows, cols); of every n-th cell where there are very many."""
    rows, cols = result.plan.tiling.cell_shape
    step = -(-max(rows, cols) // MAP_CELLS)
    block = 256 * step
    return np.concatenate([
        np.concatenate([
            choose(result.table.cells(_part(row, block, rows), _part(col, block, cols))[0])[::step, ::step]
            for col in range(0, cols, block)
        ], axis=1)
        for row in range(0, rows, block)
    ])  # fmt: skip


def _part(start: int, size: int, end: int) -> slice:
    return slice(start, min(start + size, end))

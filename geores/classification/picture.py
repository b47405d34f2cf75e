"""The picture of a result: the scene beside its map, with legend, areas, scale and how sure it is."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geores.cartography.map_parts import Frame, stretched_picture
from geores.cartography.picture import (
    MOST,
    write_class_picture,
    write_label_pictures,
    write_value_picture,
)
from geores.classification.pixel_map import PixelClassification
from geores.classification.tile_maps import class_cells, label_cells

if TYPE_CHECKING:
    from geores.pipelines.result import Classification

    Result = Classification | PixelClassification

__all__ = ['write_map']


def write_map(result: 'Result', path: Path) -> None:
    """Draw a result: its classes, a small map for each label, or a regression's first value.

    Args:
        result: what to draw.
        path: a PNG.
    """
    picture = stretched_picture(result.look.assemble(result.plan, result.store))
    frame = Frame.of(result.grid, result.gsd)
    name, note = result.card.name, str(result.sureness or '')
    if isinstance(result, PixelClassification):
        areas = dict(zip(result.areas['label'], result.areas.iloc[:, 3], strict=True))
        write_class_picture(
            path, picture, _pixels(result), result.legend, frame,
            title=result.name, name=name, shares=result.shares, areas=areas, note=note,
        )  # fmt: skip
        return
    rows, cols = result.plan.tiling.cell_shape
    stride = result.plan.tiling.stride
    drawn: dict[str, Any] = {'title': result.name, 'covers': (rows * stride, cols * stride)}
    cells, step = (slice(0, rows), slice(0, cols)), -(-max(rows, cols) // MOST)
    tile = f'tiles of {result.plan.tiling.tile} pixels'
    if result.card.task == 'multi-label':
        present = label_cells(result, *cells)[:, ::step, ::step]
        write_label_pictures(
            path, picture, present, result.legend, frame,
            shares=result.shares, what=f'of {tile}', note=note, **drawn,
        )  # fmt: skip
    elif result.card.task == 'single-label':
        classes = class_cells(result, *cells)[::step, ::step]
        write_class_picture(
            path, picture, classes, result.legend, frame,
            name=f'{name}: {tile}', shares=result.shares, note=note, **drawn,
        )  # fmt: skip
    else:
        values = result.table.cells(*cells)[0][0, ::step, ::step]
        label = result.card.labels[0]
        write_value_picture(
            path, picture, values, frame,
            name=f'{name}: mean {result.means[label]:.4g}', quantity=label, note=note, **drawn,
        )  # fmt: skip


def _pixels(result: PixelClassification) -> NDArray[np.integer[Any]]:
    """The class map as large as a picture of it, every n-th pixel."""
    height, width = result.grid.shape.yx
    step = -(-max(height, width) // MOST)
    values: NDArray[np.integer[Any]] = result.table.read('classes', slice(0, height), slice(0, width), step)
    return values

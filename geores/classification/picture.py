"""The picture of a result: the scene beside its map, with legend, areas, scale and how sure it is."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geores.cartography.map_parts import Frame, stretched_picture
from geores.cartography.picture import MOST, draw_classes, draw_labels, draw_values
from geores.cartography.sheet import Sheet
from geores.classification.pixel_map import PixelClassification
from geores.classification.tile_maps import class_cells, label_cells

if TYPE_CHECKING:
    from geores.pipelines.result import Classification

__all__ = ['draw_map']


def draw_map(result: 'Classification | PixelClassification') -> Sheet:
    """Draw a result: its classes, a small map for each label, or a regression's first value.

    Args:
        result: what to draw.
    """
    picture = stretched_picture(result.look.assemble(result.plan, result.store))
    frame = Frame.of(result.grid, result.gsd)
    name, note = result.card.name, str(result.sureness or '')
    if isinstance(result, PixelClassification):
        areas = dict(zip(result.areas['label'], result.areas.iloc[:, 3], strict=True))
        return draw_classes(
            picture, _pixels(result), result.legend, frame,
            title=result.name, name=name, shares=result.shares, areas=areas, note=note,
        )  # fmt: skip
    rows, cols = result.plan.tiling.cell_shape
    stride = result.plan.tiling.stride
    drawn: dict[str, Any] = {'title': result.name, 'note': note, 'covers': (rows * stride, cols * stride)}
    cells, step = (slice(0, rows), slice(0, cols)), -(-max(rows, cols) // MOST)
    tile = f'tiles of {result.plan.tiling.tile} pixels'
    if result.card.task == 'multi-label':
        present = label_cells(result, *cells)[:, ::step, ::step]
        shares, what = result.shares, f'of {tile}'
        return draw_labels(picture, present, result.legend, frame, shares=shares, what=what, **drawn)
    if result.card.task == 'single-label':
        classes = class_cells(result, *cells)[::step, ::step]
        drawn |= {'name': f'{name}: {tile}', 'shares': result.shares}
        return draw_classes(picture, classes, result.legend, frame, **drawn)
    values = result.table.cells(*cells)[0][0, ::step, ::step]
    label = result.card.labels[0]
    drawn |= {'name': f'{name}: {label}, mean {result.means[label]:.4g}', 'quantity': label}
    return draw_values(picture, values, frame, **drawn)


def _pixels(result: PixelClassification) -> NDArray[np.integer[Any]]:
    """The class map as large as a picture of it, every n-th pixel."""
    height, width = result.grid.shape.yx
    step = -(-max(height, width) // MOST)
    values: NDArray[np.integer[Any]] = result.table.read('classes', slice(0, height), slice(0, width), step)
    return values

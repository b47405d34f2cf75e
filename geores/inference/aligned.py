"""Rasters whose pixels line up with the target's: equal, or whole numbers of one to one of the other.

Values are repeated, interpolated or averaged with weights that do not depend on the window.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.inference.blocks import Block, BlockCache
from geores.inference.layer import BLOCK_PIXELS, Layer, Pixels
from geores.scenes import Raster

__all__ = ['AlignedLayer', 'line_up']

ALIGNED = 1e-3  # pixels: how far two grids may be off and still count as aligned


def line_up(source: GeoBox, target: GeoBox) -> tuple[float, int, int] | None:
    """How the two line up; None where they do not.

    Returns:
        Target pixels to a source pixel along an axis, and the row and column at which the target
        starts, counted in target pixels from the source's corner.
    """
    if source.crs != target.crs:
        return None
    shift = ~source.affine @ target.affine
    if abs(shift.b) > 1e-9 or abs(shift.d) > 1e-9 or shift.a <= 0 or shift.e <= 0:
        return None
    zoom = 1 / shift.a
    steps = zoom if zoom >= 1 else shift.a
    row, col = shift.f / shift.e, shift.c / shift.a
    span = max(*source.shape, *target.shape)
    off = (abs(steps - round(steps)) * span, abs(row - round(row)), abs(col - round(col)))
    if max(off) > ALIGNED or abs(shift.a - shift.e) * span > ALIGNED:
        return None
    return (float(round(steps)) if zoom >= 1 else 1 / round(steps)), round(row), round(col)


class AlignedLayer(Layer):
    """A raster whose pixels line up with the target's."""

    def __init__(
        self,
        raster: Raster,
        indexes: Sequence[int],
        resampling: str,
        cache: BlockCache,
        zoom: tuple[float, int, int],
    ) -> None:
        super().__init__(raster, indexes, cache)
        self.shape = (raster.geobox.shape.y, raster.geobox.shape.x)
        self.block_shape = _grouped(raster.block_shape, self.shape)
        self._zoom, *self._start = zoom
        self._margin = 1 if self._zoom > 1 and resampling == 'bilinear' else 0

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Values and validity in a window of the target grid."""
        values, valid = self._window(self._span(rows, 0), self._span(cols, 1))
        if self._zoom < 1:
            return _average(values, valid, round(1 / self._zoom))
        if self._zoom > 1:
            return self._grown(values, valid, (rows, cols), round(self._zoom))
        return values, valid

    def _load(self, rows: slice, cols: slice) -> Block:
        return Block(*self.raster.read(self.indexes, rows, cols))

    def _span(self, window: slice, axis: int) -> slice:
        start, stop = window.start + self._start[axis], window.stop + self._start[axis]
        if self._zoom <= 1:
            steps = round(1 / self._zoom)
            return slice(start * steps, stop * steps)
        steps = round(self._zoom)
        return slice(start // steps - self._margin, -(-stop // steps) + self._margin)

    def _grown(
        self,
        values: NDArray[np.float32],
        valid: NDArray[np.bool_] | None,
        window: tuple[slice, slice],
        steps: int,
    ) -> Pixels:
        """Grow native pixels and cut the window out of them."""
        cut = []
        for axis, fine in enumerate(window):
            skip = (fine.start + self._start[axis]) % steps
            cut.append(slice(skip, skip + fine.stop - fine.start))
        if self._margin:
            values = _interpolate(values, valid, steps)
        else:
            values = values.repeat(steps, 1).repeat(steps, 2)
        if valid is not None:
            core = valid[1:-1, 1:-1] if self._margin else valid
            valid = core.repeat(steps, 0).repeat(steps, 1)[*cut]
        return values[:, *cut], valid


def _grouped(block: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """Whole native blocks grouped to about 512 x 512 pixels, so that a read is worth its call."""
    height, width = (min(b, s) for b, s in zip(block, shape, strict=True))
    width *= max(1, BLOCK_PIXELS // width)
    height *= max(1, BLOCK_PIXELS**2 // (height * width))
    return height, width


def _interpolate(
    values: NDArray[np.float32], valid: NDArray[np.bool_] | None, steps: int
) -> NDArray[np.float32]:
    """Bilinear growth by ``steps`` of a window with one pixel of margin, which is cut off.

    Invalid neighbours, those outside the raster among them, take no part.
    """
    if valid is None:
        return _linear(_linear(values, steps, 1), steps, 2)
    weights = valid.astype(np.float32)[None]
    total = _linear(_linear(values * weights, steps, 1), steps, 2)
    share = _linear(_linear(weights, steps, 1), steps, 2)
    return np.divide(total, share, out=total, where=(share > 0) & (share < 1 - 1e-6))


def _linear(values: NDArray[np.float32], steps: int, axis: int) -> NDArray[np.float32]:
    """Linear growth along one axis; the first and the last pixel are margin."""
    values = np.moveaxis(values, axis, 1)
    before, core, after = values[:, :-2], values[:, 1:-1], values[:, 2:]
    grown = np.empty((values.shape[0], core.shape[1] * steps, *values.shape[2:]), np.float32)
    for phase in range(steps):
        shift = (phase + 0.5) / steps - 0.5
        neighbour = before if shift < 0 else after
        weight = np.float32(abs(shift))
        grown[:, phase::steps] = core * (1 - weight) + neighbour * weight
    return np.moveaxis(grown, 1, axis)


def _average(values: NDArray[np.float32], valid: NDArray[np.bool_] | None, steps: int) -> Pixels:
    """Mean of each ``steps`` x ``steps`` pixels, of the valid ones alone."""
    # Added pixel by pixel: a reduction may add in an order that depends on the window's shape.
    cells = [np.s_[row::steps, col::steps] for row in range(steps) for col in range(steps)]
    if valid is None:
        total = sum(values[:, *cell] for cell in cells)
        return np.asarray(total / np.float32(len(cells)), np.float32), None
    count = np.asarray(sum(valid[cell].astype(np.float32) for cell in cells), np.float32)
    total = sum(values[:, *cell] * valid[cell] for cell in cells)
    mean = np.divide(total, count, out=np.zeros_like(values[:, ::steps, ::steps]), where=count > 0)
    return mean, count > 0

"""The two ways of bringing a raster onto a target grid.

`open_layer` chooses. Where the pixels of both line up, being equal or whole numbers of one to one of the
other, `AlignedLayer` repeats, interpolates or averages them. Rasters of another CRS, rotation or pixel size
are warped by GDAL, in blocks fixed on the target grid (`WarpedLayer`). Either way a pixel has the same bits
whatever window it is read in.
"""

from collections.abc import Sequence

import numpy as np
import rasterio.warp
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geores.inference.layer import BLOCK_PIXELS, Block, BlockCache, Layer, Pixels, Stored
from geores.scenes import FileRaster, Raster
from geores.scenes.blocks import rectangles

__all__ = ['ENOUGH', 'AlignedLayer', 'WarpedLayer', 'line_up', 'open_layer']

ALIGNED = 1e-3
"""How far two grids may be off, in pixels, and still count as aligned."""

WARP_PIXELS = 2048
"""Source pixels along each side of what is warped at once, at most."""

SHRINKS = 1.1
"""Source pixels to a target pixel, along an axis, from which on they are averaged."""

ENOUGH = 1 - 1e-6
"""Share of valid neighbours from which on an interpolated value is that of all of them."""


def open_layer(
    raster: Raster,
    indexes: Sequence[int],
    target: GeoBox,
    resampling: str,
    cache: BlockCache,
) -> Layer:
    """Open the layer that brings bands of a raster onto a target grid.

    Args:
        raster: the source.
        indexes: its bands, counted from 1.
        target: the grid to read on.
        resampling: ``nearest`` or ``bilinear`` where pixels grow; where they shrink they are averaged,
            except with ``nearest-always``, which is for classes such as masks.
        cache: keeps decoded blocks.
    """
    zoom = line_up(raster.geobox, target)
    if zoom is None or (zoom[0] < 1 and resampling == 'nearest-always'):
        return WarpedLayer(raster, indexes, target, resampling, cache)
    return AlignedLayer(raster, indexes, resampling, cache, zoom)


def line_up(source: GeoBox, target: GeoBox) -> tuple[float, int, int] | None:
    """Tell how two grids line up; None where they do not.

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
        """Read values and validity in a window of the target grid."""
        stored = self.stored(rows, cols)
        values = np.asarray(stored.values, np.float32)
        if self._zoom < 1:
            return _average(values, stored.valid, round(1 / self._zoom))
        if self._zoom > 1:
            return _grown(values, stored)
        return values, stored.valid

    def stored(self, rows: slice, cols: slice, dtype: DTypeLike = np.float32) -> Stored:
        """Read the stored pixels that a window of the target grid is made of."""
        window = self._window(self._span(rows, 0), self._span(cols, 1), dtype)
        if self._zoom <= 1:
            return Stored(*window, zoom=self._zoom)
        steps, cut = round(self._zoom), []
        for axis, fine in enumerate((rows, cols)):
            skip = (fine.start + self._start[axis]) % steps
            cut.append(slice(skip, skip + fine.stop - fine.start))
        return Stored(*window, self._zoom, self._margin, (cut[0], cut[1]))

    def _load(self, rows: slice, cols: slice) -> Block:
        return Block(*self.raster.read(self.indexes, rows, cols))

    def _prepare(self, blocks: Sequence[tuple[slice, slice]]) -> None:
        """Decode blocks of a remote file together: neighbours are asked for by one request.

        Those of a window that the cache cannot hold are not: the first would be let go before they are used,
        and fetched again.
        """
        remote = isinstance(self.raster, FileRaster) and self.raster.is_remote
        pixels = sum((rows.stop - rows.start) * (cols.stop - cols.start) for rows, cols in blocks)
        size = pixels * len(self.indexes) * self.raster.dtype.itemsize
        if remote and len(blocks) > 1 and size <= self._cache.max_bytes:
            spans = {self._key(*block): block for block in blocks}
            self._cache.fill(spans, lambda keys: self._load_several([spans[key] for key in keys]))

    def _load_several(self, blocks: Sequence[tuple[slice, slice]]) -> list[Block]:
        """Decode blocks, those that fill a rectangle at once."""
        height, width = self.block_shape
        at = {(rows.start // height, cols.start // width): (rows, cols) for rows, cols in blocks}
        found: dict[tuple[int, int], Block] = {}
        for places in rectangles(dict.fromkeys(at)):
            (first_rows, first_cols), (last_rows, last_cols) = at[places[0]], at[places[-1]]
            top, left = first_rows.start, first_cols.start
            whole = self._load(slice(top, last_rows.stop), slice(left, last_cols.stop))
            for place in places:
                rows, cols = at[place]
                part = slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)
                # Copied, for a part of a larger array would hold all of it.
                valid = None if whole.valid is None else whole.valid[part].copy()
                found[place] = Block(whole.values[:, *part].copy(), valid)
        return [found[place] for place in at]

    def _span(self, window: slice, axis: int) -> slice:
        start, stop = window.start + self._start[axis], window.stop + self._start[axis]
        if self._zoom <= 1:
            steps = round(1 / self._zoom)
            return slice(start * steps, stop * steps)
        steps = round(self._zoom)
        return slice(start // steps - self._margin, -(-stop // steps) + self._margin)


def _grown(values: NDArray[np.float32], stored: Stored) -> Pixels:
    """Grow native pixels and cut the window out of them."""
    steps = round(stored.zoom)
    if stored.margin:
        values = _interpolate(values, stored.valid, steps)
    else:
        values = values.repeat(steps, 1).repeat(steps, 2)
    return values[:, *stored.cut], stored.valid_on_target()


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
    return np.divide(total, share, out=total, where=(share > 0) & (share < ENOUGH))


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
    """Average each ``steps`` x ``steps`` pixels, of the valid ones alone."""
    # Added pixel by pixel: a reduction may add in an order that depends on the window's shape.
    cells = [np.s_[row::steps, col::steps] for row in range(steps) for col in range(steps)]
    if valid is None:
        total = sum(values[:, *cell] for cell in cells)
        return np.asarray(total / np.float32(len(cells)), np.float32), None
    count = np.asarray(sum(valid[cell].astype(np.float32) for cell in cells), np.float32)
    total = sum(values[:, *cell] * valid[cell] for cell in cells)
    mean = np.divide(total, count, out=np.zeros_like(values[:, ::steps, ::steps]), where=count > 0)
    return mean, count > 0


class WarpedLayer(Layer):
    """A raster of another CRS, rotation or pixel size, warped in blocks fixed on the target grid."""

    def __init__(
        self,
        raster: Raster,
        indexes: Sequence[int],
        target: GeoBox,
        resampling: str,
        cache: BlockCache,
    ) -> None:
        super().__init__(raster, indexes, cache)
        self.shape = (target.shape.y, target.shape.x)
        self._target = target
        shrink = self._shrink()
        side = max(32, min(BLOCK_PIXELS, round(WARP_PIXELS / max(shrink, 1))))
        self.block_shape = (side, side)
        self._method = Resampling.nearest if resampling.startswith('nearest') else Resampling.bilinear
        # Else GDAL makes it wider where the source is rotated, which blurs.
        self._kernel = {'XSCALE': 1, 'YSCALE': 1}
        if shrink > SHRINKS and resampling != 'nearest-always':
            self._method, self._kernel = Resampling.average, {}
        self._margin = 2 + round(2 * max(shrink, 1))

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read values and validity in a window of the target grid."""
        return self._window(rows, cols, np.float32)

    def stored(self, rows: slice, cols: slice, dtype: DTypeLike = np.float32) -> Stored:
        """Read a window of the target grid, on which the blocks lie already."""
        return Stored(*self._window(rows, cols, dtype))

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type that holds what the blocks hold."""
        return np.dtype(np.float32)

    def _span(self, window: slice, axis: int) -> slice:
        return window

    def _load(self, rows: slice, cols: slice) -> Block:
        target = self._target[rows, cols]
        window = self._source_window(target)
        shape = (len(self.indexes), *target.shape.yx)
        if window is None:
            return Block(np.zeros(shape, np.float32), np.zeros(shape[1:], bool))
        native, valid = self.raster.read(self.indexes, *window)
        values = native.astype(np.float32)
        # GDAL leaves NaN out of averages and interpolation, so that invalid pixels take no part.
        if valid is not None:
            values[:, ~valid] = np.nan
        warped = np.full(shape, np.nan, np.float32)
        source = self.raster.geobox[window]
        rasterio.warp.reproject(
            values,
            warped,
            src_transform=source.affine,
            src_crs=_crs(source),
            src_nodata=np.nan,
            dst_transform=target.affine,
            dst_crs=_crs(target),
            dst_nodata=np.nan,
            resampling=self._method,
            tolerance=0,  # an approximated transformer would depend on the block
            **self._kernel,
        )
        # A pixel is valid where every band is: bands of one raster share their validity.
        covered = ~np.isnan(warped).any(0)
        valid = None if covered.all() else np.asarray(covered, bool)
        return Block(np.nan_to_num(warped, nan=0), valid)

    def _shrink(self) -> float:
        """Source pixels along one target pixel, at the target's middle."""
        row, col = (size / 2 for size in self.shape)
        corners = [
            self._target.affine @ (col + right, row + down) for right, down in ((0, 0), (1, 0), (0, 1))
        ]
        cols, rows = self._source_pixels(*np.array(corners).T)
        area = (cols[1] - cols[0]) * (rows[2] - rows[0]) - (cols[2] - cols[0]) * (rows[1] - rows[0])
        return float(np.sqrt(abs(area))) if np.isfinite(area) else 1.0

    def _source_pixels(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns and rows in the source of map coordinates of the target."""
        source = self.raster.geobox
        if self._target.crs != source.crs:
            xs, ys = rasterio.warp.transform(_crs(self._target), _crs(source), x, y)
            x, y = np.asarray(xs), np.asarray(ys)
            if source.crs is not None and source.crs.geographic:
                box = source.extent.boundingbox
                x = wrap_longitude(x, (box.left + box.right) / 2)
        affine = ~source.affine
        return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f

    def _source_window(self, target: GeoBox) -> tuple[slice, slice] | None:
        """Find the pixels of the source that a piece of the target is made of; None where there are none."""
        edge = target.extent.exterior.segmented(max(target.resolution.map(abs).xy) * 16)
        window = []
        for place, size in zip(
            reversed(self._source_pixels(*np.array(edge.coords).T)), self.raster.geobox.shape.yx, strict=True
        ):
            known = place[np.isfinite(place)]
            if not len(known):
                return None
            low = max(0, int(np.floor(known.min())) - self._margin)
            high = min(size, int(np.ceil(known.max())) + self._margin)
            if low >= high:
                return None
            window.append(slice(low, high))
        return window[0], window[1]


def wrap_longitude(longitude: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    """Bring longitudes to how they are counted about a middle, at most half a turn from it."""
    return middle + (longitude - middle + 180) % 360 - 180


def _crs(geobox: GeoBox) -> str | None:
    # Grids without CRS are warped within the plane they share: any CRS says that to GDAL.
    return geobox.crs.to_wkt() if geobox.crs is not None else 'EPSG:3857'

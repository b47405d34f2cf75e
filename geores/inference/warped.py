"""Rasters of another CRS, rotation or pixel size, warped in blocks fixed on the target grid."""

from collections.abc import Sequence

import numpy as np
import rasterio.warp
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geores.inference.blocks import Block, BlockCache
from geores.inference.layer import BLOCK_PIXELS, Layer, Pixels
from geores.scenes import Raster

__all__ = ['WarpedLayer']

WARP_PIXELS = 2048
SHRINKS = 1.1  # source pixels to a target pixel from which on they are averaged


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
        """Values and validity in a window of the target grid."""
        return self._window(rows, cols)

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
                x = wrapped(x, (box.left + box.right) / 2)
        affine = ~source.affine
        return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f

    def _source_window(self, target: GeoBox) -> tuple[slice, slice] | None:
        """Pixels of the source that a piece of the target is made of; None where there are none."""
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


def wrapped(longitude: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    """Longitudes as they are counted about a middle, at most half a turn from it."""
    return middle + (longitude - middle + 180) % 360 - 180


def _crs(geobox: GeoBox) -> str | None:
    # Grids without CRS are warped within the plane they share: any CRS says that to GDAL.
    return geobox.crs.to_wkt() if geobox.crs is not None else 'EPSG:3857'

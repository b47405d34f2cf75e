"""Read GeoTIFFs by the names of their bands, with what is invalid told and filled as inference does."""

import os
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray

from geores.datasets._module import ImageStore, Pixels
from geores.errors import DatasetError, SceneError
from geores.scenes import FileRaster, gdal_env
from geores.scenes.borders import mirror_invalid
from geores.scenes.gdal import open_dataset

__all__ = ['FilledPatches', 'band_indexes', 'band_names', 'open_geotiff', 'read_geotiff']


def band_indexes(
    path: Path | str,
    descriptions: Sequence[str | None],
    bands: Sequence[str],
    *,
    in_order: bool = False,
    names: Sequence[str] | None = None,
) -> list[int]:
    """Find the index of each band of a file, from 1, by their descriptions.

    Args:
        path: of the file, for messages.
        descriptions: of all of its bands, in its order.
        bands: names of the bands, in channel order.
        in_order: whether the names are those of all bands of a file that describes none, in its order.
        names: names of all of its bands in its order, which count instead of the descriptions.

    Raises:
        DatasetError: if the file lacks a band, or has another number of bands than names.
    """
    count = len(descriptions)
    if names is not None:
        if len(names) != count:
            raise DatasetError(f'{path}: has {count} bands, and {len(names)} are named')
        descriptions = names
    elif in_order and not any(descriptions):
        if len(bands) != count:
            raise DatasetError(
                f'{path}: its {count} bands have no descriptions, and {len(bands)} are named: '
                'name all of them, in the order of the file'
            )
        return list(range(1, count + 1))
    missing = [band for band in bands if band not in descriptions]
    if missing:
        there = ', '.join(name or 'one without a name' for name in descriptions)
        raise DatasetError(f'{path}: has no band described as {missing[0]!r}; it has {there}')
    return [descriptions.index(band) + 1 for band in bands]


def band_names(path: Path) -> tuple[str, ...]:
    """Names of the bands of a GeoTIFF: its descriptions.

    Raises:
        DatasetError: if a band has none.
    """
    with open_geotiff(path) as source:
        names = source.descriptions
    if not all(names):
        raise DatasetError(
            f'{path}: a band has no description; name the bands: all {len(names)}, by `bands`, in the '
            'order of the file'
        )
    return tuple(names)


def read_geotiff(
    path: Path,
    bands: Sequence[str],
    size: int | None = None,
    *,
    in_order: bool = False,
    names: Sequence[str] | None = None,
) -> Pixels:
    """Read bands of a GeoTIFF by their descriptions, (C, H, W), in the data type of the file.

    `size` is the height and width of the result, by average for shrinking and bilinear otherwise; all else is
    as in `band_indexes`.

    Raises:
        DatasetError: if it cannot be read or lacks a band.
    """
    with open_geotiff(path) as source:
        indexes = band_indexes(path, source.descriptions, bands, in_order=in_order, names=names)
        shape = None if size is None else (len(bands), size, size)
        shrinks = size is not None and size < min(source.shape)
        method = rasterio.enums.Resampling['average' if shrinks else 'bilinear']
        try:
            pixels: Pixels = source.read(indexes, out_shape=shape, resampling=method)
        except rasterio.errors.RasterioError as error:
            raise DatasetError(f'{path}: the image cannot be read: {error}') from error
    return pixels


def open_geotiff(path: Path) -> rasterio.DatasetReader:
    """Open a GeoTIFF, georeferenced or not; other formats are refused.

    Raises:
        DatasetError: if it is not there or not a GeoTIFF.
    """
    try:
        return open_dataset(os.path.abspath(path), 'GTiff', quiet=True)
    except SceneError as error:
        raise DatasetError(f'{path}: the image cannot be read: {error}') from error


class FilledPatches(ImageStore):
    """Images of which invalid pixels get the value of `fill`.

    A pixel is invalid as in `geores.scenes.raster.valid_values`, or by the mask or alpha of its file.

    Args:
        paths: paths of GeoTIFFs.
        bands: names of the bands, in channel order.
        size: height and width of the images; None leaves them.
        fill: value of invalid pixels in each band; 'mean' takes the mean over the images of the means of
            their valid pixels, and None mirrors the valid pixels of the image.
        budget: maximum number of bytes to hold in memory.
        in_order: as in `geores.datasets._geotiff.band_indexes`.
        names: as there.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        bands: Sequence[str],
        size: int | None,
        fill: Sequence[float] | Literal['mean'] | None = None,
        budget: int = 2**31,
        *,
        in_order: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(paths, self._filled, budget)
        self._bands, self._size, self._given = tuple(bands), size, fill
        # Partial functions, unlike closures, can be sent to the processes that read.
        self._indexes = partial(band_indexes, bands=self._bands, in_order=in_order, names=names)
        self._whole = partial(read_geotiff, bands=self._bands, size=size, in_order=in_order, names=names)

    @cached_property
    def _fill(self) -> NDArray[np.float64] | None:
        """Value of invalid pixels in each band, (C,); None where they are mirrored."""
        if self._given != 'mean':
            return None if self._given is None else np.asarray(self._given, np.float64)
        total = np.zeros(len(self._bands))
        for path in self.paths:
            found = self._incomplete(path)
            pixels = self._whole(path) if found is None else found[0][:, found[1]]
            total += pixels.reshape(len(self._bands), -1).mean(axis=1, dtype=np.float64)
        total /= len(self.paths)
        return total

    def valid(self, index: int) -> NDArray[np.bool_] | None:
        """Which pixels (H, W) of an image are valid; None where all are."""
        found = self._incomplete(self.paths[index])
        return None if found is None else found[1]

    def _filled(self, path: Path) -> Pixels:
        if (found := self._incomplete(path)) is None:
            return self._whole(path)
        pixels, valid = found
        if self._fill is None:
            return mirror_invalid(pixels, valid)
        values = self._fill if pixels.dtype.kind == 'f' else np.rint(self._fill)
        return np.where(valid, pixels, values[:, None, None]).astype(pixels.dtype)

    def _incomplete(self, path: Path) -> tuple[Pixels, NDArray[np.bool_]] | None:
        """Read pixels (C, H, W) and validity (H, W) of a file; None where all pixels are valid."""
        try:
            with gdal_env():
                raster = FileRaster(str(path.absolute()))
                header = raster.header
                masked = header.has_mask or header.alpha is not None
                unmarked = not masked and header.nodata == (None,) * header.count
                if unmarked and header.dtype.kind != 'f':
                    return None
                rows, cols = raster.geobox.shape
                indexes = self._indexes(path, header.descriptions)
                pixels, valid = raster.read(indexes, slice(0, rows), slice(0, cols))
                raster.close()
        except SceneError as error:
            raise DatasetError(f'{path}: the image cannot be read: {error}') from error
        if valid is None:
            return None
        if not valid.any():
            raise DatasetError(f'{path}: has no valid pixel (all are nodata, masked or NaN): leave it out')
        whole = self._size in {None, rows == cols and rows}
        return (pixels, valid) if whole else self._resized(pixels, valid)

    def _resized(self, pixels: Pixels, valid: NDArray[np.bool_]) -> tuple[Pixels, NDArray[np.bool_]]:
        """Bring an image to the size wanted by its valid pixels alone: by average where it shrinks."""
        size, (rows, cols) = self._size or 1, valid.shape
        method = rasterio.enums.Resampling['average' if size < min(rows, cols) else 'bilinear']
        resized = np.full((len(pixels), size, size), np.nan, np.float32)
        rasterio.warp.reproject(
            np.where(valid, pixels, np.nan).astype(np.float32),
            resized,
            src_transform=Affine(size / cols, 0, 0, 0, -size / rows, size),
            dst_transform=Affine(1, 0, 0, 0, -1, size),
            src_crs='EPSG:3857',
            dst_crs='EPSG:3857',
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=method,
        )
        known = np.asarray(~np.isnan(resized).any(0), bool)
        values = np.nan_to_num(resized)
        return (values if pixels.dtype.kind == 'f' else np.rint(values)).astype(pixels.dtype), known

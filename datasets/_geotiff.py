"""Read GeoTIFFs by the names of their bands."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray

from geores.errors import DatasetError, SceneError
from geores.scenes.gdal import open_dataset

__all__ = ['band_indexes', 'band_names', 'open_geotiff', 'read_geotiff']

Pixels = NDArray[Any]


def band_indexes(
    path: Path | str,
    descriptions: Sequence[str | None],
    bands: Sequence[str],
    *,
    in_order: bool = False,
    names: Sequence[str] | None = None,
) -> list[int]:
    """Find bands of a file by their descriptions.

    Args:
        path: of the file, for messages.
        descriptions: of all of its bands, in its order.
        bands: names of the bands, in channel order.
        in_order: whether the names are those of all bands of a file that describes none, in its order.
        names: names of all of its bands in its order, which count instead of the descriptions.

    Returns:
        Index of each band, from 1.

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

    Args:
        path: the file.

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
    """Read bands of a GeoTIFF by their descriptions.

    Args:
        path: the file.
        bands: descriptions of the bands, in channel order.
        size: height and width of the result, by average for shrinking and bilinear otherwise.
        in_order: as in `band_indexes`.
        names: as in `band_indexes`.

    Returns:
        (C, H, W) in the data type of the file.

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

    Args:
        path: the file.

    Raises:
        DatasetError: if it is not there or not a GeoTIFF.
    """
    try:
        return open_dataset(os.path.abspath(path), 'GTiff', quiet=True)
    except SceneError as error:
        raise DatasetError(f'{path}: the image cannot be read: {error}') from error

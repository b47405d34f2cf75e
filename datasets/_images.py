"""Read images, and hold them decoded in memory if they fit.

This is the only module that imports torchgeo, whose module names move between releases.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from torchgeo.datasets import RESISC45 as TorchgeoRESISC45  # noqa: N811
from torchgeo.datasets import NonGeoDataset

from geores.errors import DatasetError

__all__ = [
    'ImageStore',
    'NonGeoDataset',
    'Pixels',
    'TorchgeoRESISC45',
    'open_geotiff',
    'read_geotiff',
    'read_rgb',
]

Pixels = NDArray[Any]
"""An image as an array (C, H, W)."""


class ImageStore:
    """Images of one shape, decoded once if all of them fit in a memory budget.

    Args:
        paths: paths of the image files.
        read: function that reads a file as pixels (C, H, W).
        budget: maximum number of bytes to hold in memory.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], Pixels], budget: int = 2**31) -> None:
        self.paths = list(paths)
        self._read = read
        self._budget = budget
        self._pixels: Pixels | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        return self._read(self.paths[index]) if self._pixels is None else self._pixels[index]

    def load(self) -> None:
        """Decode all images if they fit in the budget.

        Raises:
            DatasetError: if an image cannot be read, or is of another shape than the first.
        """
        if self._pixels is not None or not self.paths:
            return
        first = self._read(self.paths[0])
        if first.nbytes * len(self) > self._budget:
            return
        pixels = np.empty((len(self), *first.shape), dtype=first.dtype)
        for index, path in enumerate(self.paths):
            image = self._read(path)
            if image.shape != first.shape or image.dtype != first.dtype:
                raise DatasetError(
                    f'{path}: {image.dtype} of shape {image.shape}, and {self.paths[0].name} has '
                    f'{first.dtype} of shape {first.shape}'
                )
            pixels[index] = image
        self._pixels = pixels


def read_rgb(path: Path, size: int | None = None) -> Pixels:
    """Read an 8-bit colour image.

    Args:
        path: JPEG, PNG or TIFF.
        size: height and width of the result, by area average for shrinking and bilinear otherwise.

    Returns:
        (3, H, W), uint8, red, green, blue.

    Raises:
        DatasetError: if it cannot be read, or is not 8-bit.
    """
    try:
        with Image.open(path, formats=('JPEG', 'PNG', 'TIFF')) as image:
            if image.mode not in {'RGB', 'RGBA', 'L', 'P'}:
                raise DatasetError(f'{path}: mode {image.mode}, and 8-bit colour is needed')
            picture = image.convert('RGB')
    except DatasetError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f'{path}: the image cannot be read: {error}') from error
    if size is not None and picture.size != (size, size):
        shrinks = min(picture.size) >= size
        method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        picture = picture.resize((size, size), method)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def read_geotiff(path: Path, bands: Sequence[str], size: int | None = None) -> Pixels:
    """Read bands of a GeoTIFF by their descriptions.

    Args:
        path: the file.
        bands: descriptions of the bands, in channel order.
        size: height and width of the result, by average for shrinking and bilinear otherwise.

    Returns:
        (C, H, W) in the data type of the file.

    Raises:
        DatasetError: if it cannot be read or lacks a band.
    """
    with open_geotiff(path) as source:
        missing = [band for band in bands if band not in source.descriptions]
        if missing:
            raise DatasetError(f'{path}: has no band described as {missing[0]!r}')
        indexes = [source.descriptions.index(band) + 1 for band in bands]
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
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', rasterio.errors.NotGeoreferencedWarning)
            return rasterio.open(path, driver='GTiff')
    except rasterio.errors.RasterioError as error:
        raise DatasetError(f'{path}: the image cannot be read: {error}') from error

"""Pictures of RSVQA: 8-bit colour, or patches of Sentinel-2 shown as such."""

from pathlib import Path

import numpy as np

from geores.datasets._images import Pixels, open_geotiff, read_geotiff, read_rgb
from geores.errors import DatasetError

__all__ = ['BRIGHTEST', 'read_picture']

COLOURS = ('B04', 'B03', 'B02')
BRIGHTEST = 4096.0
"""Reflectance times 10,000 that is shown as 255, as the bundle `vqa-sentinel2` takes it."""


def read_picture(path: Path, size: int | None = None) -> Pixels:
    """Read an image in 8-bit colour.

    Args:
        path: JPEG, PNG or TIFF in 8-bit colour; or a GeoTIFF of Sentinel-2 with bands described as B04, B03
            and B02, whose reflectances times 10,000 from 0 to `BRIGHTEST` become 0 to 255.
        size: Height and width to bring it to.

    Returns:
        (3, H, W), uint8, red, green, blue.

    Raises:
        DatasetError: It cannot be read, or is of another kind.
    """
    if path.suffix.lower() not in {'.tif', '.tiff'} or not _holds_reflectance(path):
        return read_rgb(path, size)
    values = read_geotiff(path, COLOURS, size).astype(np.float32)
    return np.asarray((values * (255 / BRIGHTEST)).round().clip(0, 255), np.uint8)


def _holds_reflectance(path: Path) -> bool:
    try:
        with open_geotiff(path) as file:
            return file.dtypes[0] == 'uint16' and set(COLOURS) <= set(file.descriptions)
    except DatasetError:
        return False  # `read_rgb` says what is wrong

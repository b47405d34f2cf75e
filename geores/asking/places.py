"""Places on a map in words: parts of the scene, and coordinates."""

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from geores.asking.class_map import ClassMap

__all__ = ['part_of', 'place_of', 'shares_of_parts']

_COMPASS = (
    ('north-west', 'north', 'north-east'),
    ('west', 'centre', 'east'),
    ('south-west', 'south', 'south-east'),
)
_IMAGE = (
    ('top left', 'top', 'top right'),
    ('left', 'centre', 'right'),
    ('bottom left', 'bottom', 'bottom right'),
)


def _names(class_map: ClassMap) -> tuple[tuple[str, ...], ...]:
    """Names of the nine parts; those of the compass where north is at the top."""
    affine = class_map.grid.affine
    north_up = class_map.grid.crs is not None and affine.b == affine.d == 0 and affine.e < 0 < affine.a
    return _COMPASS if north_up else _IMAGE


def shares_of_parts(mask: NDArray[np.bool_], class_map: ClassMap) -> list[tuple[str, float]]:
    """Shares of a mask's area in the nine parts of the scene (thirds of its height and width), largest first.

    Args:
        mask: some of whose pixels are set, (rows, cols).
        class_map: the map.
    """
    names, (height, width) = _names(class_map), mask.shape
    whole, found = class_map.total(mask), []
    for row in range(3):
        rows = slice(row * height // 3, (row + 1) * height // 3)
        for col in range(3):
            cols = slice(col * width // 3, (col + 1) * width // 3)
            part = float(mask[rows, cols].sum(1) @ class_map.by_row[rows])
            found.append((names[row][col], part / max(whole, 1e-12)))
    return sorted((one for one in found if one[1] > 0), key=lambda one: -one[1])


def _centre(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Row and column of the pixel of a mask that lies nearest to its middle."""
    rows, cols = np.nonzero(mask)
    nearest = int(((rows - rows.mean()) ** 2 + (cols - cols.mean()) ** 2).argmin())
    return int(rows[nearest]), int(cols[nearest])


def part_of(mask: NDArray[np.bool_], class_map: ClassMap) -> str:
    """The part of the scene in which the middle of a mask lies."""
    (row, col), (height, width) = _centre(mask), mask.shape
    name: str = _names(class_map)[min(3 * row // height, 2)][min(3 * col // width, 2)]
    return name


def place_of(mask: NDArray[np.bool_], class_map: ClassMap) -> str:
    """' at 52.9123° N 13.4012° E' of the middle of a mask; nothing where the scene has no CRS."""
    if class_map.grid.crs is None:
        return ''
    row, col = _centre(mask)
    x, y = class_map.grid.affine @ (col + 0.5, row + 0.5)
    crs = CRS.from_user_input(class_map.grid.crs.proj)
    lon, lat = Transformer.from_crs(crs, 'EPSG:4326', always_xy=True).transform(x, y)
    return f' at {abs(lat):.4f}° {"N" if lat >= 0 else "S"} {abs(lon):.4f}° {"E" if lon >= 0 else "W"}'

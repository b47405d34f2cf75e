"""Areas of a map's pixels on the ground."""

from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from geores.errors import UsageError

__all__ = ['SLACK', 'row_areas']

SLACK = 0.01
"""How far, as a share, areas in a projected CRS may be from those on the ground without a word."""


def row_areas(
    affine: Affine, shape: tuple[int, int], crs: CRS | None
) -> tuple[NDArray[np.float64], str, list[str]]:
    """Area of a pixel of each row.

    In a projected CRS the square of the pixel's size. In geographic coordinates, and in a CRS that
    distorts areas by more than 1 % (Mercator), the area on the ellipsoid of the row's middle pixel.
    Without a CRS 1.

    Args:
        affine: from columns and rows to coordinates.
        shape: rows and columns.
        crs: None where the map states none.

    Returns:
        Areas (rows,), their unit (``m2`` or ``pixel``), and what to tell about them.

    Raises:
        UsageError: the map does not lie where its CRS is defined.
    """
    height, width = shape
    if crs is None:
        return np.ones(height), 'pixel', ['the map has no CRS: areas are counted in pixels']
    ground = _ground_areas(affine, np.arange(height), width // 2, crs)
    if not crs.is_geographic:
        nominal = abs(affine.determinant) * crs.axis_info[0].unit_conversion_factor ** 2
        if (abs(nominal / ground - 1) < SLACK).all():
            return np.full(height, nominal), 'm2', []
    note = (
        f'areas on the ellipsoid are used, since {crs.name} distorts them: '
        f'{ground.min():.5g} to {ground.max():.5g} m² a pixel'
    )
    return ground, 'm2', [note]


def _ground_areas(affine: Affine, rows: NDArray[np.int64], col: int, crs: CRS) -> NDArray[np.float64]:
    """Areas on the ellipsoid of the pixels of one column, square metres.

    Their corners are brought to a cylindrical equal-area projection around that column.
    """
    geod = crs.get_geod() or Geod(ellps='WGS84')
    try:
        to_degrees = Transformer.from_crs(crs, crs.geodetic_crs or crs, always_xy=True)
        lon = to_degrees.transform(*(affine @ (col, rows.mean())))[0]
        flat = {'proj': 'cea', 'lon_0': (lon + 180) % 360 - 180, 'a': geod.a, 'b': geod.b}
        moved = Transformer.from_crs(crs, CRS.from_dict(flat), always_xy=True)
        corners = [
            moved.transform(*_places(affine, rows + down, col + right))
            for right, down in ((0, 0), (1, 0), (1, 1), (0, 1))
        ]
    except (ProjError, ValueError) as error:
        raise UsageError(
            f'the map cannot be placed by its CRS {crs.name} ({error}): give it one that is known'
        ) from error
    x, y = np.moveaxis(np.array(corners), 1, 0)
    with np.errstate(invalid='ignore'):
        areas = abs((x * np.roll(y, -1, 0) - np.roll(x, -1, 0) * y).sum(0)) / 2
    if not (np.isfinite(areas) & (areas > 0)).all():
        raise UsageError(f'the map reaches beyond where its CRS {crs.name} is defined')
    return np.asarray(areas)


def _places(affine: Affine, rows: NDArray[np.int64], col: int) -> tuple[Any, Any]:
    return affine.a * col + affine.b * rows + affine.c, affine.d * col + affine.e * rows + affine.f

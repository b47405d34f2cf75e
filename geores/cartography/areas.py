"""Areas of classes on the ground: of a map's pixels, counted while it is written, and in words.

A pixel of a projected CRS has the same area everywhere, unless the CRS distorts areas; then, and in
geographic coordinates, areas are those on the ellipsoid, row by row.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from geores.cartography.legend import Legend
from geores.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ['SLACK', 'Tally', 'area_table', 'row_areas', 'say_area', 'say_length', 'say_share']

SLACK = 0.01
"""Largest relative error of areas in a projected CRS that is accepted without a note."""

PART = 2**20
"""Pixels that are counted at once; counting takes eight times the memory of a map of bytes."""


def row_areas(
    affine: Affine, shape: tuple[int, int], crs: CRS | None
) -> tuple[NDArray[np.float64], str, list[str]]:
    """Area of a pixel in each row.

    In a projected CRS this is the square of the pixel size. In geographic coordinates, and in a CRS that
    distorts areas by more than 1 % (such as Mercator), it is the area on the ellipsoid of the row's middle
    pixel. Without a CRS it is 1.

    Args:
        affine: from columns and rows to coordinates.
        shape: rows and columns.
        crs: None where the map states none.

    Returns:
        Areas (rows,), their unit ('m2' or 'pixel'), and notes for the user.

    Raises:
        UsageError: if the map does not lie where its CRS is defined.
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

    Their corners are projected to a cylindrical equal-area projection centred on that column, where
    the shoelace formula gives areas on the ground.
    """
    geod = crs.get_geod() or Geod(ellps='WGS84')
    try:
        to_degrees = Transformer.from_crs(crs, crs.geodetic_crs or crs, always_xy=True)
        lon = to_degrees.transform(*(affine @ (col, rows.mean())))[0]
        flat = {'proj': 'cea', 'lon_0': (lon + 180) % 360 - 180, 'a': geod.a, 'b': geod.b}
        moved = Transformer.from_crs(crs, CRS.from_dict(flat), always_xy=True)
        corners = [
            moved.transform(*_coordinates(affine, rows + down, col + right))
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


def _coordinates(affine: Affine, rows: NDArray[np.int64], col: int) -> tuple[Any, Any]:
    return affine.a * col + affine.b * rows + affine.c, affine.d * col + affine.e * rows + affine.f


@dataclass(frozen=True)
class Tally:
    """Pixels and areas of each value of a class map, added up window by window.

    Attributes:
        row_areas: area of a pixel in each row, (rows,).
        unit: of areas: 'm2', or 'pixel' where the map has no CRS.
        notes: what the user should know about the areas, one sentence each.
        pixels: number of pixels of each value, no data first, (K + 1,).
        areas: area of each value, likewise.
    """

    row_areas: NDArray[np.float64]
    unit: str
    notes: tuple[str, ...]
    pixels: NDArray[np.int64]
    areas: NDArray[np.float64]

    @classmethod
    def of(cls, grid: GeoBox, legend: Legend) -> 'Tally':
        """A tally in which nothing is counted yet.

        Args:
            grid: of the map.
            legend: of its values.

        Raises:
            UsageError: if the map does not lie where its CRS is defined.
        """
        crs = None if grid.crs is None else CRS.from_user_input(grid.crs.proj)
        by_row, unit, notes = row_areas(grid.affine, (grid.shape.y, grid.shape.x), crs)
        count = len(legend) + 1
        return cls(by_row, unit, tuple(notes), np.zeros(count, np.int64), np.zeros(count))

    def add(self, rows: slice, values: NDArray[np.integer]) -> None:
        """Count the pixels of a window.

        Args:
            rows: of the grid.
            values: of the map, 0 to K, (rows, cols).
        """
        count = len(self.pixels)
        areas = self.row_areas[rows]
        equal = bool((areas == areas[0]).all())
        tall = max(1, PART // values.shape[1]) if equal else 1
        for row in range(0, len(values), tall):
            found = np.bincount(values[row : row + tall].ravel(), minlength=count)
            self.pixels[:] += found
            self.areas[:] += found * areas[row]


def area_table(legend: Legend, tally: Tally) -> 'pd.DataFrame':
    """One row per class that occurs, the largest area first.

    Args:
        legend: of the map.
        tally: of all its windows.

    Returns:
        Columns `label`, `value`, `pixels`, `area_m2` (`area_px` where the map has no CRS) and `share` of
        all pixels that have a class.
    """
    import pandas as pd

    areas = tally.areas[1:]
    table = pd.DataFrame({
        'label': legend.labels,
        'value': list(legend.values),
        'pixels': tally.pixels[1:],
        'area_m2' if tally.unit == 'm2' else 'area_px': areas,
        'share': areas / max(areas.sum(), 1e-300),
    })  # fmt: skip
    found = table[table['pixels'] > 0]
    return found.sort_values('share', ascending=False, kind='stable', ignore_index=True)


def say_area(area: float, unit: str = 'm2') -> str:
    """An area in words, with three significant figures: in km² from 1 km², in ha from 0.1 ha, else in m².

    Args:
        area: in ``unit``.
        unit: 'm2', or 'pixel' where there is no CRS.

    Examples:
        >>> say_area(117_964_800), say_area(51_200), say_area(90)
        ('118 km²', '5.12 ha', '90 m²')
        >>> say_area(1_234_567, 'pixel')
        '1,234,567 px'
    """
    if unit != 'm2':
        return f'{area:,.0f} px'
    if area >= 1e6:
        return f'{_figures(area / 1e6)} km²'
    return f'{_figures(area / 1e4)} ha' if area >= 1e3 else f'{_figures(area)} m²'


def say_length(metres: float) -> str:
    """A length in words: in m, or in km from 1 km.

    Examples:
        >>> say_length(2000), say_length(500)
        ('2 km', '500 m')
    """
    return f'{metres / 1000:g} km' if metres >= 1000 else f'{metres:g} m'


def say_share(share: float) -> str:
    """A share in percent; a share above 0 that would round to 0 is '< 0.1 %'.

    Examples:
        >>> say_share(0.0721), say_share(0.0002), say_share(0.0)
        ('7.2 %', '< 0.1 %', '0 %')
    """
    if 0 < share < 0.0005:
        return '< 0.1 %'
    return f'{100 * share:.1f} %' if share else '0 %'


def _figures(value: float) -> str:
    """A number with three significant figures, and all digits before the decimal point."""
    if value == 0:
        return '0'
    places = max(0, 3 - len(str(int(value)))) if value >= 1 else 2
    text = f'{value:,.{places}f}'
    return text.rstrip('0').rstrip('.') if '.' in text else text

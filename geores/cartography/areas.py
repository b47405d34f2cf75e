"""How much of each class there is: counted while a map is written, and as a table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.cartography.legend import Legend
from geores.cartography.pixel_areas import row_areas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ['Tally', 'area_table']

PART = 2**20
"""Pixels that are counted at once, in eight times their memory."""


@dataclass(frozen=True)
class Tally:
    """Pixels and areas of each value of a class map, added up window by window.

    Attributes:
        row_areas: of a pixel of each row, (rows,).
        unit: of areas: 'm2', or 'pixel' where the map has no CRS.
        notes: what to tell about areas, one sentence each.
        pixels: of each value, those of no data first, (K + 1,).
        areas: likewise.
    """

    row_areas: NDArray[np.float64]
    unit: str
    notes: tuple[str, ...]
    pixels: NDArray[np.int64]
    areas: NDArray[np.float64]

    @classmethod
    def of(cls, grid: GeoBox, legend: Legend) -> 'Tally':
        """Nothing counted yet.

        Args:
            grid: of the map.
            legend: of its values.

        Raises:
            UsageError: the map does not lie where its CRS is defined.
        """
        from pyproj import CRS

        crs = None if grid.crs is None else CRS.from_user_input(grid.crs.proj)
        by_row, unit, notes = row_areas(grid.affine, (grid.shape.y, grid.shape.x), crs)
        count = len(legend) + 1
        return cls(by_row, unit, tuple(notes), np.zeros(count, np.int64), np.zeros(count))

    def add(self, rows: slice, values: NDArray[np.integer]) -> None:
        """Count a window.

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
    """Areas of the classes, largest first; those that do not occur are left out.

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

"""What the values of a map stand for, and the areas that its classes cover on the ground.

A legend gives each value its label and colour. Areas are counted while a map is written, and put into
words. A pixel of a projected CRS has the same area everywhere, unless the CRS distorts areas; then, and in
geographic coordinates, areas are those on the ellipsoid, row by row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from geores.cartography.colours import choose_colours, parse_colour, rgb
from geores.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    'NODATA',
    'NODATA_NAME',
    'SLACK',
    'Legend',
    'Tally',
    'area_table',
    'row_areas',
    'say_area',
    'say_length',
    'say_share',
]

NODATA = 0
NODATA_NAME = 'no data'
MOST_BYTE = 254
"""Most labels of a map of bytes; 255 is left free, since other tools take it for no data."""
MOST = 65_534
"""Most labels of any map."""


@dataclass(frozen=True)
class Legend:
    """Labels of a class map and their colours: value i of the map is the i-th label, 0 is no data.

    Attributes:
        labels: in the order of values, all different.
        colours: one for each, '#rrggbb'.

    Examples:
        >>> legend = Legend.of(['water', 'trees', 'crops'])
        >>> legend.names
        {1: 'water', 2: 'trees', 3: 'crops'}
    """

    labels: tuple[str, ...]
    colours: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'labels', tuple(self.labels))
        object.__setattr__(self, 'colours', tuple(parse_colour(colour) for colour in self.colours))
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise UsageError('a legend needs labels, and each only once')
        if len(self.labels) > MOST:
            raise UsageError(f'a legend has at most {MOST:,} labels, not {len(self.labels):,}')
        if len(self.colours) != len(self.labels):
            raise UsageError(f'{len(self.colours)} colours for {len(self.labels)} labels: give one for each')

    @classmethod
    def of(cls, labels: Sequence[str], colours: Sequence[str] | None = None) -> 'Legend':
        """A legend of labels.

        Args:
            labels: in the order of values.
            colours: one per label; None to choose them by known legends and by meaning.

        Raises:
            UsageError: if a label occurs twice, or there is not one valid colour for each.
        """
        return cls(tuple(labels), tuple(choose_colours(labels) if colours is None else colours))

    def recoloured(self, colours: Mapping[str, str], source: str = 'colours') -> 'Legend':
        """The legend with other colours for some labels.

        Args:
            colours: label -> '#rrggbb'.
            source: where they come from, for errors.

        Raises:
            UsageError: if a label is not in the legend, or a colour is not '#rrggbb'.
        """
        if unknown := [label for label in colours if label not in self.labels]:
            known = ', '.join(self.labels[:20]) + (' ...' if len(self.labels) > 20 else '')
            raise UsageError(f'{source}: {unknown[0]!r} is no label of this map; these are: {known}')
        pairs = zip(self.labels, self.colours, strict=True)
        return replace(self, colours=tuple(colours.get(label, colour) for label, colour in pairs))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def values(self) -> range:
        """Values of the map that stand for labels: 1 to K."""
        return range(1, len(self.labels) + 1)

    @property
    def names(self) -> dict[int, str]:
        """Value -> label."""
        return dict(zip(self.values, self.labels, strict=True))

    @property
    def dtype(self) -> Literal['uint8', 'uint16']:
        """The smallest type that holds all values: uint16 above 254 labels."""
        return 'uint8' if len(self.labels) <= MOST_BYTE else 'uint16'

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """Red, green and blue by label, (K, 3)."""
        return rgb(self.colours)

    @property
    def colour_of(self) -> dict[str, str]:
        """Label -> '#rrggbb'."""
        return dict(zip(self.labels, self.colours, strict=True))


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

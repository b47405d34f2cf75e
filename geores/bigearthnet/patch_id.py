"""Names of reBEN patches, and where their Sentinel-2 tiles lie.

A name holds product, acquisition time, tile and position. A tile is the name of a 100 km square (MGRS), and
starts at that square's upper left corner, moved outwards to the next multiple of 60 m, so that pixels of
10, 20 and 60 m all fit: 500000 becomes 499980, 4400000 becomes 4400040.

Compute where patches lie from their ids, for many patches at once.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from geores.errors import UsageError

if TYPE_CHECKING:
    import geopandas
    from affine import Affine

__all__ = [
    'LAST',
    'MAP_SUFFIX',
    'PATCH_SIDE',
    'PatchId',
    'S1Name',
    'Tile',
    'footprints',
    'modality',
    'parse_tile',
    'patch_table',
]

_TILE = re.compile(r'T?(0[1-9]|[1-5][0-9]|60)([C-HJ-NP-X])([A-HJ-NP-Z])([A-HJ-NP-V])')
_COLUMNS = ('ABCDEFGH', 'JKLMNPQR', 'STUVWXYZ')
_ROWS = 'ABCDEFGHJKLMNPQRSTUV'
_SQUARE = 100_000
_CYCLE = len(_ROWS) * _SQUARE
_SNAP = 60
_BANDS = 'CDEFGHJKLMNPQRSTUVWX'

# At the edge of a zone a parallel lies up to about 30 km north of where it crosses the central meridian.
_CURVE = 40_000


@dataclass(frozen=True)
class Tile:
    """A Sentinel-2 tile.

    Attributes:
        name: name of the tile, such as '33UUP'.
        zone: number of the UTM zone, 1 to 60.
        north: whether the tile lies north of the equator.
        left: easting of the upper left corner, in m.
        top: northing of the upper left corner, in m.
    """

    name: str
    zone: int
    north: bool
    left: int
    top: int

    @property
    def epsg(self) -> int:
        """EPSG code of the UTM zone."""
        return (32600 if self.north else 32700) + self.zone


@lru_cache(maxsize=1024)
def parse_tile(name: str) -> Tile:
    """Locate a tile by its name.

    Column letters repeat every three zones. Row letters repeat every 2000 km and start five letters later in
    even zones; the latitude band says which repetition is meant (NGA.STND.0037, MGRS, section 3).

    Raises:
        UsageError: if it is no name of a tile.
    """
    match = _TILE.fullmatch(name)
    if match is None:
        raise UsageError(f'{name!r} is no Sentinel-2 tile, as T33UUP')
    zone, band, column, row = int(match[1]), match[2], match[3], match[4]
    columns = _COLUMNS[(zone - 1) % 3]
    if column not in columns:
        raise UsageError(f'{name!r} is no Sentinel-2 tile: zone {zone} has no column {column}')
    easting = (columns.index(column) + 1) * _SQUARE
    row_number = (_ROWS.index(row) - (0 if zone % 2 else 5)) % len(_ROWS)
    northing = _in_band(row_number * _SQUARE, band)
    if northing is None:
        raise UsageError(f'{name!r} is no Sentinel-2 tile: row {row} does not reach latitude band {band}')
    left = easting // _SNAP * _SNAP
    top = -(-(northing + _SQUARE) // _SNAP) * _SNAP
    return Tile(name.removeprefix('T'), zone, band >= 'N', left, top)


def _in_band(northing: int, band: str) -> int | None:
    """Northing of the repetition of a row that touches a latitude band of 8 degrees (12 for band X)."""
    south = -80.0 + 8 * _BANDS.index(band)
    low, high = (_northing(latitude) for latitude in (south, south + (12 if band == 'X' else 8)))
    offset = 0 if band >= 'N' else 10_000_000
    low, high = low + offset - _CURVE, high + offset + _CURVE
    first = math.floor((low - northing - _SQUARE) / _CYCLE) + 1
    found = northing + first * _CYCLE
    return found if found <= high else None


def _northing(latitude: float) -> float:
    """Northing of a latitude on the central meridian, accurate to 100 m."""
    phi = math.radians(latitude)
    arc = 6_367_449.1458 * phi - 16_038.5087 * math.sin(2 * phi) + 16.8326 * math.sin(4 * phi)
    return 0.9996 * arc


PATCH_SIDE = 1200
"""Side of a patch in metres."""
MAP_SUFFIX = '_reference_map'

LAST = 90
_PATCH = re.compile(r'(S2[AB]_MSIL2A_(\d{8}T\d{6})_N9999_R(\d{3})_T(\w{5}))_(\d{2})_(\d{2})', re.ASCII)
_S1 = re.compile(r'(S1[AB]_IW_GRDH_1SDV_(\d{8}T\d{6}))_(\w{5})_(\d{1,2})_(\d{1,2})', re.ASCII)


@dataclass(frozen=True, order=True)
class _Name:
    """Common parts of the names of both satellites."""

    product: str
    tile_name: str
    column: int
    row: int

    @classmethod
    def _of(cls, name: str, product: str, instant: str, tile: str, place: tuple[str, str]) -> Self:
        column, row = (int(one) for one in place)
        if column > LAST or row > LAST:
            raise UsageError(f'{name!r}: columns and rows of reBEN patches go from 0 to {LAST}')
        _instant(name, instant)
        parse_tile(tile)
        return cls(product, tile, column, row)


@dataclass(frozen=True, order=True)
class PatchId(_Name):
    """A parsed Sentinel-2 patch id, such as S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57.

    Attributes:
        product: Sentinel-2 product that the patch was cut from, and its folder in the release.
        tile_name: name of the tile, such as '33UUP'.
        column: column in the tile from west to east, 0 to 90.
        row: row in the tile from north to south, 0 to 90.
    """

    @classmethod
    def parse(cls, name: str) -> Self:
        """Parse a patch id.

        Raises:
            UsageError: if it is no patch id.
        """
        match = _PATCH.fullmatch(name.removesuffix(MAP_SUFFIX))
        if match is None:
            raise UsageError(
                f'{name!r} is no reBEN patch id, as S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57'
            )
        return cls._of(name, match[1], match[2], match[4], (match[5], match[6]))

    def __str__(self) -> str:
        return f'{self.product}_{self.column:02d}_{self.row:02d}'

    @property
    def map_name(self) -> str:
        """Name of the reference map."""
        return f'{self}{MAP_SUFFIX}'

    @cached_property
    def tile(self) -> Tile:
        """Sentinel-2 tile of the patch."""
        return parse_tile(self.tile_name)

    @property
    def acquired(self) -> datetime:
        """Acquisition time of the product (UTC)."""
        return _instant(str(self), self.product.split('_')[2])

    @property
    def epsg(self) -> int:
        """EPSG code of the UTM zone of the pixels."""
        return self.tile.epsg

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in m of the UTM zone."""
        left = float(self.tile.left + PATCH_SIDE * self.column)
        top = float(self.tile.top - PATCH_SIDE * self.row)
        return left, top - PATCH_SIDE, left + PATCH_SIDE, top

    def transform(self, resolution: float = 10.0) -> 'Affine':
        """Affine transform from pixels to UTM coordinates.

        Args:
            resolution: pixel size in m: 10, 20 or 60.
        """
        from affine import Affine

        west, _, _, north = self.bounds
        return Affine(resolution, 0, west, 0, -resolution, north)


@dataclass(frozen=True, order=True)
class S1Name(_Name):
    """A parsed Sentinel-1 name, such as S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48.

    Attributes:
        product: Sentinel-1 product that the patch was cut from, and its folder in the release.
        tile_name: tile of the Sentinel-2 partner, such as '33UUP'.
        column: column of the partner.
        row: row of the partner.
    """

    @classmethod
    def parse(cls, name: str) -> Self:
        """Parse a Sentinel-1 name.

        Args:
            name: the name; its column and row are not padded with zeros.

        Raises:
            UsageError: if it is no such name.
        """
        match = _S1.fullmatch(name)
        if match is None or any(one.startswith('0') and one != '0' for one in match.group(4, 5)):
            raise UsageError(
                f'{name!r} is no Sentinel-1 name of reBEN, as S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48'
            )
        return cls._of(name, match[1], match[2], match[3], (match[4], match[5]))

    def __str__(self) -> str:
        return f'{self.product}_{self.tile_name}_{self.column}_{self.row}'

    @property
    def acquired(self) -> datetime:
        """Acquisition time of the product (UTC)."""
        return _instant(str(self), self.product.split('_')[4])

    def is_partner(self, patch: PatchId) -> bool:
        """Whether this patch covers the same ground as a Sentinel-2 patch."""
        return (self.tile_name, self.column, self.row) == (patch.tile_name, patch.column, patch.row)


def modality(name: str) -> str:
    """Kind of patch that a name stands for: 's1', 's2' or 'map'."""
    if name.startswith('S1'):
        return 's1'
    return 'map' if name.endswith(MAP_SUFFIX) else 's2'


def _instant(name: str, text: str) -> datetime:
    try:
        return datetime.strptime(text, '%Y%m%dT%H%M%S').replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(f'{name!r}: {text} is no date and time') from None


_PATTERN = r'^(S2[AB]_MSIL2A_[0-9]{8}T[0-9]{6}_N9999_R[0-9]{3}_T([0-9A-Z]{5}))_([0-9]{2})_([0-9]{2})$'
_LENGTH = 50


def patch_table(ids: Sequence[str] | pd.Series) -> pd.DataFrame:
    """Parse patch ids and compute the squares of the patches in UTM.

    Returns:
        One row per id, in order: `patch_id`, `product`, `tile`, `column`, `row`, `epsg`, and `left`,
        `bottom`, `right`, `top` in m of that UTM zone.

    Raises:
        UsageError: if one is no patch id; says which.
    """
    names = pd.Series(ids, dtype='string').reset_index(drop=True)
    parts = names.str.extract(_PATTERN)
    wrong = parts[0].isna() | (names.str.len() != _LENGTH)
    if wrong.any():
        PatchId.parse(str(names[wrong].iloc[0]))  # says what is wrong
        raise UsageError(f'{names[wrong].iloc[0]!r} is no reBEN patch id')
    product, tile = parts[0].astype('category'), parts[1].astype('category')
    column, row = parts[2].astype('int64'), parts[3].astype('int64')
    beyond = (column > LAST) | (row > LAST)
    for name in [*(f'{one}_00_00' for one in product.cat.categories), *names[beyond].iloc[:1]]:
        PatchId.parse(str(name))
    corners = [parse_tile(name) for name in tile.cat.categories]
    codes = tile.cat.codes.to_numpy()
    left = np.array([corner.left for corner in corners], dtype='int64')[codes] + PATCH_SIDE * column
    top = np.array([corner.top for corner in corners], dtype='int64')[codes] - PATCH_SIDE * row
    return pd.DataFrame(
        {
            'patch_id': names,
            'product': product,
            'tile': tile,
            'column': column,
            'row': row,
            'epsg': np.array([corner.epsg for corner in corners], dtype='int64')[codes],
            'left': left.astype('float64'),
            'bottom': (top - PATCH_SIDE).astype('float64'),
            'right': (left + PATCH_SIDE).astype('float64'),
            'top': top.astype('float64'),
        }
    )


def footprints(ids: Sequence[str] | pd.Series, crs: str = 'EPSG:4326') -> 'geopandas.GeoDataFrame':
    """Compute the outlines of patches in one CRS.

    Args:
        ids: patch ids.
        crs: CRS of the outlines. Only the four corners of a patch are transformed.

    Returns:
        The columns of `patch_table` and `geometry`, in the order of the ids.

    Raises:
        UsageError: if one is no patch id; says which.
    """
    import geopandas
    import pyproj
    import shapely

    table = patch_table(ids)
    geometry = np.empty(len(table), dtype=object)
    for epsg in table['epsg'].unique():
        part = np.flatnonzero(table['epsg'] == epsg)
        left, bottom, right, top = (
            table[name].to_numpy()[part] for name in ('left', 'bottom', 'right', 'top')
        )
        x = np.stack([left, right, right, left, left], axis=1)
        y = np.stack([bottom, bottom, top, top, bottom], axis=1)
        x, y = pyproj.Transformer.from_crs(int(epsg), crs, always_xy=True).transform(x, y)
        geometry[part] = shapely.polygons(np.stack([x, y], axis=-1))
    return geopandas.GeoDataFrame(table, geometry=geometry, crs=crs)

"""Locate Sentinel-2 tiles: from the name of a 100 km square (MGRS) to a UTM zone and a corner.

A tile starts at the upper left corner of its 100 km square, moved outwards to the next multiple of 60 m, so
that pixels of 10, 20 and 60 m all fit: 500000 becomes 499980, 4400000 becomes 4400040.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from geores.errors import UsageError

__all__ = ['Tile', 'parse_tile']

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

    Args:
        name: name of the tile, such as '33UUP' or 'T33UUP'.

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

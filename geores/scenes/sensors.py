"""Sensors that geores knows: what they call their bands, how their products store values, and their pixels.

Sources: ESA, Sentinel-2 Products Specification Document (2021) and User Handbook (2015); USGS, Landsat 8-9
Collection 2 Level 1 and Level 2 Data Format Control Books (2021); NASA LP DAAC, HLS Product User Guide v2.0
(2022); Planet, PlanetScope Product Specifications (2023); USDA, NAIP metadata. Common names of bands are
those of STAC's extension `eo`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from geores.errors import UsageError

__all__ = [
    'HLS_L30',
    'HLS_S30',
    'NAIP',
    'OPTICAL',
    'PLAIN_RGB',
    'PLANETSCOPE',
    'SENSORS',
    'SENTINEL1',
    'SENTINEL2',
    'SENTINEL2_LIKE',
    'SURFACE',
    'Sensor',
    'landsat',
    'parse_sensor',
    'sensor_named',
]

SENTINEL1: Final = 'Sentinel-1'
SENTINEL2: Final = 'Sentinel-2'
HLS_S30: Final = 'HLS S30'
HLS_L30: Final = 'HLS L30'
PLANETSCOPE: Final = 'PlanetScope'
NAIP: Final = 'NAIP'
PLAIN_RGB: Final = 'RGB'

SENTINEL2_LIKE: Final = frozenset({SENTINEL2, HLS_S30})
"""Sensors whose bands are called as Sentinel-2's: 'B04' is their red."""

SURFACE: Final = 'surface reflectance'
"""Processing level of products that have no number for it: HLS and PlanetScope's `_SR`."""

Scaling = tuple[float, float]


@dataclass(frozen=True)
class Sensor:
    """A sensor, or a family of products with bands and scales of their own.

    Attributes:
        name: as scenes state it.
        numbers: geores' name of each numbered band ('4', '8A'); common names but for Sentinel-2's.
        orders: names of the bands of files that do not name them, by how many there are.
        pixels: sizes of the products' pixels in metres.
        scalings: scale and offset that turn whole numbers into reflectance, by processing level; None stands
            for the levels that are not listed.
        thermal: scale, offset and units of the bands whose names start with 'lwir', by processing level.
        nodata: value of pixels without data that whole numbers have without saying so.
    """

    name: str
    numbers: Mapping[str, str] = field(default_factory=dict)
    orders: Mapping[int, Sequence[str]] = field(default_factory=dict)
    pixels: tuple[float, ...] = ()
    scalings: Mapping[str | None, Scaling] = field(default_factory=dict)
    thermal: Mapping[str | None, tuple[float, float, str]] = field(default_factory=dict)
    nodata: float | None = None


_MSI = {
    number: f'B{number.zfill(2)}'
    for number in ['1', '2', '3', '4', '5', '6', '7', '8', '8A', '9', '10', '11', '12']
}
_TM = {'1': 'blue', '2': 'green', '3': 'red', '4': 'nir08', '5': 'swir16', '6': 'lwir', '7': 'swir22'}
_ETM = _TM | {'8': 'pan', '6_VCID_1': 'lwir', '6_VCID_2': 'lwir_high'}
_OLI = {
    '1': 'coastal',
    '2': 'blue',
    '3': 'green',
    '4': 'red',
    '5': 'nir08',
    '6': 'swir16',
    '7': 'swir22',
    '8': 'pan',
    '9': 'cirrus',
    '10': 'lwir11',
    '11': 'lwir12',
}
_L30 = {number: name for number, name in _OLI.items() if number != '8'}
_PS4 = ('blue', 'green', 'red', 'nir')
_PS8 = ('coastal', 'blue', 'green_i', 'green', 'yellow', 'red', 'rededge', 'nir')
_RGBN = {1: ('pan',), 3: ('red', 'green', 'blue'), 4: ('red', 'green', 'blue', 'nir')}

_LEVEL2: Final = (2.75e-5, -0.2)
_KELVIN: Final = (0.00341802, 149.0, 'K')


def _landsat(number: int) -> Sensor:
    numbers = _OLI if number >= 8 else _ETM if number == 7 else _TM
    # Level 1 of the older instruments has scales of its own in each product's metadata.
    scalings: dict[str | None, Scaling] = {'L2': _LEVEL2}
    if number >= 8:
        scalings['L1'] = (2e-5, -0.1)
    return Sensor(
        f'Landsat {number}',
        numbers,
        pixels=(30.0, 15.0, 60.0, 100.0),
        scalings=scalings,
        thermal={'L2': _KELVIN},
        nodata=0.0,
    )


SENSORS: Final[Mapping[str, Sensor]] = {
    sensor.name: sensor
    for sensor in (
        Sensor(SENTINEL1, pixels=(10.0, 20.0, 40.0)),
        Sensor(SENTINEL2, _MSI, pixels=(10.0, 20.0, 60.0), scalings={None: (1e-4, 0.0)}, nodata=0.0),
        Sensor(HLS_S30, _MSI, pixels=(30.0,), scalings={None: (1e-4, 0.0)}, nodata=-9999.0),
        Sensor(
            HLS_L30,
            _L30,
            pixels=(30.0,),
            scalings={None: (1e-4, 0.0)},
            thermal={None: (0.01, 0.0, 'degC')},
            nodata=-9999.0,
        ),
        *(_landsat(number) for number in range(4, 10)),
        Sensor(
            PLANETSCOPE,
            orders={3: _RGBN[3], 4: _PS4, 8: _PS8},
            pixels=(3.0,),
            scalings={SURFACE: (1e-4, 0.0)},
            nodata=0.0,
        ),
        Sensor(NAIP, orders={3: _RGBN[3], 4: _RGBN[4]}, pixels=(0.3, 0.6, 1.0, 2.0)),
        Sensor(PLAIN_RGB, orders=_RGBN),
    )
}
"""Every sensor by name."""

_THERMAL: Final = frozenset({'lwir', 'lwir_high', 'lwir11', 'lwir12'})

OPTICAL: Final = (
    frozenset(name for sensor in SENSORS.values() for name in sensor.numbers.values())
    | frozenset(name for sensor in SENSORS.values() for order in sensor.orders.values() for name in order)
    | {'rededge1', 'rededge2', 'rededge3', 'nir09'}
) - _THERMAL
"""Names of bands that hold reflectance, of any sensor."""

_LEVELS: Final = {
    'l1c': ('L1C', {SENTINEL2}),
    'l2a': ('L2A', {SENTINEL2}),
    'l1': ('L1', {f'Landsat {number}' for number in range(4, 10)}),
    'l2': ('L2', {f'Landsat {number}' for number in range(4, 10)}),
    'sr': (SURFACE, {PLANETSCOPE}),
}


def sensor_named(name: str | None) -> Sensor:
    """The sensor of a name; one without bands, scales and pixels where it is None or unknown."""
    return SENSORS.get(name or '') or Sensor('')


def landsat(number: int) -> str:
    """Name a Landsat satellite as the table does.

    Args:
        number: 4 to 9.
    """
    return f'Landsat {number}'


def parse_sensor(text: str) -> tuple[str, str | None]:
    """Read what a user says of the sensor: its name, and after a hyphen the processing level.

    Args:
        text: such as 'sentinel-2', 'Sentinel-2-L2A', 'landsat-8-l2', 'hls-s30', 'planetscope-sr' or 'rgb'.

    Returns:
        Name in the table, and level or None.

    Raises:
        UsageError: if there is no such sensor, or it has no such level.

    Example:
        >>> parse_sensor('sentinel-2-l2a'), parse_sensor('Landsat 8')
        (('Sentinel-2', 'L2A'), ('Landsat 8', None))
    """
    names = {re.sub(r'[^a-z0-9]', '', name.lower()): name for name in SENSORS}
    words = re.sub(r'[^a-z0-9]+', '-', text.strip().lower()).strip('-')
    before, _, last = words.rpartition('-')
    level = None
    if last in _LEVELS and before:
        level, of = _LEVELS[last]
        words = before
        if names.get(words.replace('-', '')) not in of:
            raise UsageError(f'--sensor {text}: {level} is a level of {", ".join(sorted(of))}')
    name = names.get(words.replace('-', ''))
    if name is None:
        known = ', '.join(name.lower().replace(' ', '-') for name in SENSORS)
        raise UsageError(
            f'--sensor {text}: geores knows {known}, each with its level where there are several '
            '(sentinel-2-l1c, -l2a, landsat-8-l1, -l2, planetscope-sr)'
        )
    return name, level

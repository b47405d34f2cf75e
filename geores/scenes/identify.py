"""Which sensor a source is of, at which level, and what its bands are called: decided here from all evidence.

Evidence is what a user says, product metadata, names of files and products, attributes (STAC, xarray, tags
of files), spellings and wavelengths of bands, colour interpretation, nodata and pixel size. Where it
disagrees or does not suffice nothing is assumed: bands keep their own names, and what is to be said is a
question.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from geores.scenes.bands import SENTINEL2_BANDS, Naming, Spelling, canonical_name, spell
from geores.scenes.product import Product
from geores.scenes.sensors import (
    HLS_L30,
    HLS_S30,
    PLANETSCOPE,
    SENTINEL2,
    SENTINEL2_LIKE,
    SURFACE,
    parse_sensor,
    sensor_named,
)
from geores.scenes.signs import ASK, DISPLAY, Clues, Sign, names_by_wavelength, stated_signs, told_product

__all__ = ['Identity', 'identify', 'name_bands']


@dataclass(frozen=True)
class Identity:
    """What a source is.

    Attributes:
        sensor: a name of `SENSORS`, or None.
        level: processing level, or None.
        evidence: what tells, one phrase each.
        question: what has to be asked, or None.
        product: the product that names or attributes tell, or None.
    """

    sensor: str | None = None
    level: str | None = None
    evidence: tuple[str, ...] = ()
    question: str | None = None
    product: Product | None = None


def identify(clues: Clues, product: Product | None = None, *, asked: str | None = None) -> Identity:
    """Decide the sensor and the processing level of a source.

    Raises:
        UsageError: if the user names no sensor that geores knows.
    """
    told = told_product(clues)
    product = product or told
    if asked is not None:
        sensor, level = parse_sensor(asked)
        mine = product if product and product.sensor == sensor else None
        return Identity(sensor, level or _level(sensor, clues, mine), ('--sensor says so',), None, mine)
    signs = stated_signs(clues, product, told)
    found = _settle([sign for sign in signs if sign.firm])
    if isinstance(found, str):
        return Identity(question=found, evidence=tuple(sign.why for sign in signs), product=product)
    if found is None:
        loose = [sign for sign in signs if not sign.firm]
        found = loose[0] if loose else None
    if found is None:
        return Identity(question=_question(clues), product=product)
    if product is not None and product.sensor != found.sensor:
        product = None
    why = tuple(dict.fromkeys(sign.why for sign in signs if sign.sensor == found.sensor))
    return Identity(found.sensor, _level(found.sensor, clues, product), why, None, product)


def _settle(signs: Sequence[Sign]) -> Sign | str | None:
    """Find the one sensor that all signs are of, or the question that remains."""
    if not signs:
        return None
    sensors = dict.fromkeys(sign.sensor for sign in signs)
    for hls, of in ((HLS_S30, SENTINEL2), (HLS_L30, 'Landsat')):
        if hls in sensors:  # which is made of the other
            sensors = dict.fromkeys(name for name in sensors if not name.startswith(of))
    # Numbers of Landsat's bands tell the instrument, not the satellite.
    named = [name for name in sensors if name.startswith('Landsat')]
    if len(named) > 1 and len({sensor_named(name).numbers.get('5') for name in named}) == 1:
        for name in named[1:]:
            del sensors[name]
    if len(sensors) > 1:
        said = ', but '.join(dict.fromkeys(next(s.why for s in signs if s.sensor == one) for one in sensors))
        return f'evidence of the sensor disagrees: {said}; {ASK}'
    return next(sign for sign in signs if sign.sensor in sensors)


def _question(clues: Clues) -> str | None:
    """What to ask where nothing tells the sensor, and the bands' names mean nothing without it."""
    if 'palette' in clues.colors:
        return 'its colours come from a palette: expand it first with `gdal_translate -expand rgb`'
    said = clues.spellings
    numbers = [text for text, one in zip(clues.described, said, strict=True) if one.number and text]
    numbers = [
        text for text, one in zip(numbers, map(spell, numbers), strict=True) if one.word != 'placeholder'
    ]
    if numbers and not set(clues.colors) >= DISPLAY and not names_by_wavelength(clues):
        return f'bands {", ".join(numbers)} are of several sensors, and nothing tells of which: {ASK}'
    common = {one.common for one in said}
    if common & {'swir16', 'swir22', 'nir08'} and clues.dtype.kind in 'iu' and clues.dtype.itemsize > 1:
        return f'several sensors have such bands, of other scales, and nothing tells which this is: {ASK}'
    return None


_SAID_LEVELS: Final = (
    (r'(?<![A-Z0-9])(?:MSI)?L1C(?![A-Z0-9])|Level-1C', SENTINEL2, 'L1C'),
    (r'(?<![A-Z0-9])(?:MSI)?L2A(?![A-Z0-9])|Level-2A|S2_SR|S2MSI2A', SENTINEL2, 'L2A'),
    (r'S2MSI1C', SENTINEL2, 'L1C'),
    (r'L2SP|L2SR', 'Landsat', 'L2'),
    (r'L1TP|L1GT|L1GS', 'Landsat', 'L1'),
    (r'_SR(?![A-Z])|surface.reflectance', PLANETSCOPE, SURFACE),
)


def _level(sensor: str, clues: Clues, product: Product | None) -> str | None:
    """Decide the processing level."""
    if sensor in {HLS_S30, HLS_L30}:
        return SURFACE
    if product is not None and product.level:
        return product.level
    stated = [
        v for k, v in clues.attributes.items() if 'level' in k or 'product_type' in k or 'product_uri' in k
    ]
    for text in (*stated, *clues.texts, *clues.attributes.values()):
        for pattern, of, level in _SAID_LEVELS:
            if sensor.startswith(of) and re.search(pattern, text, re.IGNORECASE):
                return level
    said = clues.spellings
    if sensor.startswith('Landsat') and {one.prefix for one in said} & {'SR', 'ST'}:
        return 'L2'
    if sensor == SENTINEL2:
        if any((text or '').upper() == 'SCL' for text in clues.described):
            return 'L2A'
        # Only L1C carries the cirrus band.
        return 'L1C' if any(one.number == '10' or one.common == 'cirrus' for one in said) else None
    return None


def name_bands(clues: Clues, indexes: Sequence[int], identity: Identity) -> Naming:
    """Name bands by description and sensor, by colour interpretation, or by number."""
    sensor, count = identity.sensor, len(indexes)
    placeholders = [f'band{index}' for index in indexes]
    colours = _colours(clues, placeholders)
    names = [
        _name(one, text, sensor) or place
        for one, text, place in zip(clues.spellings, clues.described, placeholders, strict=True)
    ]
    if sensor is None and (found := names_by_wavelength(clues)):
        names = [str(name) for name in found]
    elif (
        sensor is None
        and colours
        and all(one.number or not text for one, text in zip(clues.spellings, clues.described, strict=True))
    ):
        return Naming(dict(zip(colours, indexes, strict=True)))  # numbers alone say less than colours
    if names != placeholders and len(set(names)) == count:
        return Naming(dict(zip(names, indexes, strict=True)), is_stated=True, sensor=sensor)
    order = sensor_named(sensor).orders.get(count)
    if identity.product is not None and identity.product.is_picture:
        order = None
    if colours and (
        order is None or any(c in DISPLAY and c != o for c, o in zip(colours, order, strict=True))
    ):
        # What a file states of itself counts for more than what its kind has by custom.
        rest = 'nir' if order is not None and 'nir' in order and count == 4 else None
        names = [color if color in clues.colors else rest or color for color in colours]
        return Naming(dict(zip(names, indexes, strict=True)), sensor=sensor)
    if order is not None:
        return Naming(dict(zip(order, indexes, strict=True)), is_stated=True, sensor=sensor)
    if clues.dtype == np.uint8 and count in {3, 4}:
        names = ['red', 'green', 'blue', *placeholders[3:]]
        note = 'bands are taken to be red, green, blue: nothing says so; --bands (bands=) names them'
        return Naming(dict(zip(names, indexes, strict=True)), notes=(note,), sensor=sensor)
    note = f'bands have no names: called {", ".join(placeholders)}; --bands (bands=) names them'
    return Naming(dict(zip(placeholders, indexes, strict=True)), notes=(note,), sensor=sensor)


def _colours(clues: Clues, placeholders: Sequence[str]) -> list[str] | None:
    """Names by colour interpretation, where that has red, green and blue once each."""
    once = {color for color in clues.colors if canonical_name(color) and clues.colors.count(color) == 1}
    if not once >= DISPLAY:
        return None
    return [
        color if color in once else place for color, place in zip(clues.colors, placeholders, strict=True)
    ]


def _name(said: Spelling, text: str | None, sensor: str | None) -> str | None:
    """Name one band; None where its description is as good as none."""
    numbers, placeholder, own = sensor_named(sensor).numbers, said.word == 'placeholder', (text or '').strip()
    small = placeholder and own.startswith('b') and sensor not in SENTINEL2_LIKE
    if said.number in numbers and (not placeholder or small):
        return numbers[said.number or '']
    if said.common and not (said.number and not placeholder and sensor in SENTINEL2_LIKE):
        return said.common
    if said.number and (placeholder or sensor_named(sensor).orders):
        return None
    # A number of an unknown sensor must not be found as Sentinel-2's.
    return own.lower() if said.number and own in SENTINEL2_BANDS else own or None

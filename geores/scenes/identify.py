"""Which sensor a source is of, at which level, and what its bands are called: decided here from all evidence.

Evidence is what a user says, product metadata, names of files and products, attributes (STAC, xarray, tags of
files), spellings and wavelengths of bands, colour interpretation, nodata and pixel size. Where it disagrees or
does not suffice nothing is assumed: bands keep the names that they have, and what is to be said is a question.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from geores.scenes.bands import SENTINEL1_BANDS, WAVELENGTHS, Naming, Spelling, canonical_name, spell
from geores.scenes.product import Product, product_of_text
from geores.scenes.sensors import (
    HLS_L30,
    HLS_S30,
    NAIP,
    PLANETSCOPE,
    SENSORS,
    SENTINEL1,
    SENTINEL2,
    SENTINEL2_LIKE,
    SURFACE,
    landsat,
    parse_sensor,
)

__all__ = ['Clues', 'Identity', 'identify', 'name_bands']

NEAR: Final = 0.15
"""How far a pixel's size may lie from a sensor's, as a share: latitude changes that of Web Mercator."""

FINEST: Final = 5.0
"""Pixels in metres below which bands called B02 and so on are not taken to be Sentinel-2's without another sign."""

CLOSE_NM: Final = 12.0
"""How far a stated wavelength may lie from a sensor's, in nm: satellites of a series differ by this much."""

ASK: Final = 'say which with --sensor (sensor=), or name them with --bands (bands=)'


@dataclass(frozen=True)
class Clues:
    """What a source says of itself.

    Attributes:
        described: what it says of each band, or None.
        dtype: type of the values.
        texts: names of the file, folder or array.
        colors: colour interpretation of each band.
        nodata: value of pixels without data, or None.
        pixel: size of a pixel in metres, or None.
        attributes: tags or attributes of the whole, keys in small letters.
        wavelengths: of each band in nm, or None.
    """

    described: Sequence[str | None]
    dtype: np.dtype
    texts: Sequence[str] = ()
    colors: Sequence[str] = ()
    nodata: float | None = None
    pixel: float | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    wavelengths: Sequence[float | None] = ()

    @property
    def spellings(self) -> list[Spelling]:
        """What the description of each band says.

        Small letters that count from b1 on are what exports call bands without names.
        """
        said = [spell(text) for text in self.described]
        small = [(text or '').strip().startswith('b') for text in self.described]
        numbers = [one.number for one, is_small in zip(said, small, strict=True) if is_small]
        if not any(small) or numbers == [str(number + 1) for number in range(len(said))]:
            return said
        return [
            replace(one, word='plain') if is_small and one.word == 'placeholder' else one
            for one, is_small in zip(said, small, strict=True)
        ]

    def near(self, *sizes: float) -> bool:
        """Whether a pixel has one of these sizes."""
        return self.pixel is not None and any(abs(self.pixel / size - 1) < NEAR for size in sizes)


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


@dataclass(frozen=True)
class _Sign:
    """One piece of evidence for a sensor; `firm` where it suffices alone and nothing else may differ."""

    sensor: str
    why: str
    firm: bool = True


_PLATFORMS: Final = (
    (re.compile(r'hls[._ -]?([sl])30', re.IGNORECASE), None),
    (re.compile(r'sentinel[-_ ]?2|\bS2[ABCD]\b|S2_(?:SR|TOA)|S2MSI[12]', re.IGNORECASE), SENTINEL2),
    (re.compile(r'sentinel[-_ ]?1|\bS1[ABCD]\b', re.IGNORECASE), SENTINEL1),
    (re.compile(r'landsat[-_ ]?([4-9])|\bL[COTE]0([4-9])\b', re.IGNORECASE), None),
    (re.compile(r'planetscope|psscene|superdove', re.IGNORECASE), PLANETSCOPE),
    (re.compile(r'\bnaip\b', re.IGNORECASE), NAIP),
)
_PLATFORM_KEYS: Final = re.compile(
    r'(?:.*[:.])?(platform|constellation|mission|satellite|spacecraft(?:_name|_id)?|collection|item_type|'
    r'instruments?|sensor|product_type|system_id|system_index)'
)
_ID_KEYS: Final = re.compile(
    r'(?:.*[:.])?(id|product_uri|product_id|granule_id|landsat_product_id|system_index|title)'
)
_LOOSE: Final = (
    (re.compile(r'(?<![a-z0-9])(?:sentinel[-_ ]?2[a-d]?|s2[a-d]?)(?![0-9])', re.IGNORECASE), SENTINEL2),
    (re.compile(r'planet|psscene|superdove', re.IGNORECASE), PLANETSCOPE),
    (re.compile(r'(?<![a-z])naip(?![a-z])', re.IGNORECASE), NAIP),
)
_TABLES: Final = {
    SENTINEL2: {name.removeprefix('B').lstrip('0'): nm for name, nm in WAVELENGTHS.items()},
    landsat(8): {'1': 443, '2': 482, '3': 561, '4': 655, '5': 865, '6': 1609, '7': 2201},
    landsat(5): {'1': 485, '2': 560, '3': 660, '4': 830, '5': 1650, '7': 2215},
}
_COLOURS_NM: Final = (
    ('coastal', 400, 454),
    ('blue', 454, 520),
    ('green', 520, 600),
    ('red', 625, 690),
    ('rededge', 690, 765),
    ('nir', 765, 900),
    ('swir16', 1550, 1760),
    ('swir22', 2050, 2400),
)
_DISPLAY: Final = frozenset({'red', 'green', 'blue'})


def identify(clues: Clues, product: Product | None = None, *, asked: str | None = None) -> Identity:
    """Decide the sensor and the processing level of a source.

    Args:
        clues: what the source says of itself.
        product: what its name or metadata beside it say.
        asked: what the user says: see `parse_sensor`.

    Raises:
        UsageError: if the user names no sensor that geores knows.
    """
    told = _told_product(clues)
    product = product or told
    if asked is not None:
        sensor, level = parse_sensor(asked)
        mine = product if product and product.sensor == sensor else None
        return Identity(sensor, level or _level(sensor, clues, mine), ('--sensor says so',), None, mine)
    signs = _stated(clues, product, told)
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


def _told_product(clues: Clues) -> Product | None:
    """The product that attributes name."""
    values = [value for key, value in clues.attributes.items() if _ID_KEYS.fullmatch(key)]
    found = product_of_text(*values)
    if found is None or any(key.startswith('hls') for key in clues.attributes):
        return None  # HLS names the product that it was made of
    return replace(found, evidence=found.evidence.replace('the name', 'the attributes name', 1))


def _stated(clues: Clues, product: Product | None, told: Product | None) -> list[_Sign]:
    signs = [_Sign(one.sensor, one.evidence) for one in (product, told) if one is not None]
    for key, value in clues.attributes.items():
        if key.startswith('hls_'):
            kind = HLS_S30 if 'S2' in clues.attributes.get('product_uri', 'S2') else HLS_L30
            signs.append(_Sign(kind, f'the attribute {key} is of HLS'))
        if not _PLATFORM_KEYS.fullmatch(key) and key != 'tifftag_imagedescription':
            continue
        for pattern, sensor in _PLATFORMS:
            if match := pattern.search(value):
                name = sensor or _numbered(match)
                signs.append(_Sign(name, f'{key} is {value[:40]}'))
                break
    described = clues.attributes.get('tifftag_imagedescription', '')
    if 'atmospheric_correction' in described and len(clues.described) in {4, 8}:
        signs.append(_Sign(PLANETSCOPE, 'the description of the TIFF is that of PlanetScope'))
    return [*signs, *_of_bands(clues), *_loose(clues)]


def _numbered(match: re.Match[str]) -> str:
    kind = next(group for group in match.groups() if group)
    return landsat(int(kind)) if kind.isdigit() else f'HLS {kind.upper()}30'


def _settle(signs: Sequence[_Sign]) -> _Sign | str | None:
    """Find the one sensor that all signs are of, or the question that remains."""
    if not signs:
        return None
    sensors = dict.fromkeys(sign.sensor for sign in signs)
    for hls, of in ((HLS_S30, SENTINEL2), (HLS_L30, 'Landsat')):
        if hls in sensors:  # which is made of the other
            sensors = dict.fromkeys(name for name in sensors if not name.startswith(of))
    # Numbers of Landsat's bands tell the instrument, not the satellite.
    named = [name for name in sensors if name.startswith('Landsat')]
    if len(named) > 1 and len({id(SENSORS[name].numbers) for name in named}) == 1:
        for name in named[1:]:
            del sensors[name]
    if len(sensors) > 1:
        said = ', but '.join(dict.fromkeys(next(s.why for s in signs if s.sensor == one) for one in sensors))
        return f'evidence of the sensor disagrees: {said}; {ASK}'
    return next(sign for sign in signs if sign.sensor in sensors)


def _of_bands(clues: Clues) -> list[_Sign]:
    """What spellings and wavelengths of the bands tell, with pixel size and nodata where several sensors share them."""
    said = clues.spellings
    common = {one.common for one in said} - {None}
    numbered = [one for one in said if one.number and one.word != 'placeholder']
    numbers = {one.number or '' for one in numbered}
    if sign := _of_wavelengths(clues):
        return [sign]
    if {one.prefix for one in numbered} & {'SR', 'ST'}:
        return _of_landsat(numbered)
    msi = _like_sentinel2(clues)
    listed = sorted(numbers & {'8A', '12'}) or sorted(
        str(name) for name in common & {'rededge1', 'rededge2', 'rededge3', 'nir09'}
    )
    if numbers & {'8A', '12'} or common & {'rededge1', 'rededge2', 'rededge3', 'nir09'}:
        names = ', '.join(f'B{name}' if name in numbers else name for name in listed)
        return [_Sign(msi, f'bands such as {names} are of {msi} only')]
    if {'green_i', 'yellow'} <= common:
        return [_Sign(PLANETSCOPE, 'bands such as green i and yellow are of PlanetScope only')]
    if numbers and (sign := _of_numbers(clues, numbered, numbers)):
        return [sign]
    if {'nir', 'nir08'} & common and common & {'swir16', 'swir22'} and clues.near(10, 20):
        return [
            _Sign(
                SENTINEL2, f'short-wave infrared with pixels of {clues.pixel:.3g} m is of Sentinel-2', False
            )
        ]
    if common & set(SENTINEL1_BANDS) and not numbers:
        return [_Sign(SENTINEL1, 'bands are polarisations of radar')]
    return []


def _like_sentinel2(clues: Clues) -> str:
    """Sentinel-2, or HLS of its bands, which keeps -9999 for pixels without data."""
    return HLS_S30 if clues.near(30) and clues.nodata == SENSORS[HLS_S30].nodata else SENTINEL2


def _of_numbers(clues: Clues, numbered: Sequence[Spelling], numbers: set[str]) -> _Sign | None:
    """What numbers tell that several sensors have: only with pixels of a size of Sentinel-2's."""
    if not numbers <= SENSORS[SENTINEL2].numbers.keys() or (
        set(clues.colors) >= _DISPLAY and '8' not in numbers
    ):
        return None
    sizes = SENSORS[SENTINEL2].pixels
    counted = numbers == {str(number + 1) for number in range(len(numbers))} and len(numbers) > 1
    if any(one.word == 'padded' for one in numbered):
        if clues.near(30):
            return _Sign(SENTINEL2, 'B08 is of Sentinel-2', False) if '8' in numbers else None
        if clues.pixel is None or clues.pixel >= FINEST:
            return _Sign(SENTINEL2, 'bands are written as Sentinel-2 does (B02)', False)
        return None
    if counted:
        return None
    if clues.near(*sizes):
        why = f'bands B{min(numbers)} to B{max(numbers)} with pixels of {clues.pixel:.3g} m are of Sentinel-2'
        return _Sign(SENTINEL2, why, False)
    if clues.pixel is None and {'2', '3', '4', '8'} <= numbers:
        return _Sign(SENTINEL2, 'bands B2, B3, B4 and B8 without B1 are those of 10 m of Sentinel-2', False)
    return None


def _of_landsat(numbered: Sequence[Spelling]) -> list[_Sign]:
    """Tell the instrument by which bands are reflective (SR) and which thermal (ST)."""
    surface = {one.number for one in numbered if one.prefix == 'SR'}
    thermal = {one.number for one in numbered if one.prefix == 'ST'}
    if '6' in surface or '10' in thermal:
        return [_Sign(landsat(8), 'SR_B6 or ST_B10 is of Landsat 8 or 9')]
    if '6' in thermal or ('7' in surface and '5' in surface):
        return [_Sign(landsat(7), 'SR_B5 and SR_B7 without SR_B6 are of Landsat 4 to 7')]
    return []


def _of_wavelengths(clues: Clues) -> _Sign | None:
    stated = clues.wavelengths or [None] * len(clues.described)
    pairs = [
        (one.number, one.wavelength or nm)
        for one, nm in zip(clues.spellings, stated, strict=True)
        if one.number and one.word != 'placeholder' and (one.wavelength or nm)
    ]
    if len(pairs) < 2:
        return None
    for sensor, table in _TABLES.items():
        if all(abs(table.get(number or '', 0) - (nm or 0)) <= CLOSE_NM for number, nm in pairs):
            name = _like_sentinel2(clues) if sensor == SENTINEL2 else sensor
            return _Sign(name, f'wavelengths are those of {name}')
    return None


def _loose(clues: Clues) -> list[_Sign]:
    """Words in names, which say something only beside bands and pixels that fit."""
    count, said = len(clues.described), clues.spellings
    for text in clues.texts:
        for pattern, sensor in _LOOSE:
            match = pattern.search(text)
            if match is None:
                continue
            numbers = [one.number for one in said if one.number and one.word != 'placeholder']
            if sensor == SENTINEL2:
                fits = bool(numbers or any(one.common for one in said)) and set(numbers) != set('1234')
            else:
                near = clues.pixel is None or 0.7 * min(SENSORS[sensor].pixels) <= clues.pixel <= 5
                fits = near and count in SENSORS[sensor].orders
            if fits:
                return [_Sign(sensor, f'the name has {match[0]!r}, and bands and pixels fit', False)]
    return []


def _question(clues: Clues) -> str | None:
    """What to ask where nothing tells the sensor, and the bands' names mean nothing without it."""
    said = clues.spellings
    numbers = [text for text, one in zip(clues.described, said, strict=True) if one.number and text]
    numbers = [
        text for text, one in zip(numbers, map(spell, numbers), strict=True) if one.word != 'placeholder'
    ]
    if numbers and not set(clues.colors) >= _DISPLAY and not _by_wavelength(clues):
        return f'bands {", ".join(numbers)} are of several sensors, and nothing tells of which: {ASK}'
    common = {one.common for one in said}
    if common & {'swir16', 'swir22', 'nir08'} and clues.dtype.kind in 'iu' and clues.dtype.itemsize > 1:
        return f'several sensors have such bands and scale them differently, and nothing tells which this is: {ASK}'
    return None


def _by_wavelength(clues: Clues) -> list[str | None] | None:
    """Common names by wavelength, where every band has one."""
    stated = clues.wavelengths or [None] * len(clues.described)
    known = [one.wavelength or nm for one, nm in zip(clues.spellings, stated, strict=True)]
    if not known or None in known:
        return None
    names = [next((c for c, low, high in _COLOURS_NM if low <= (nm or 0) < high), None) for nm in known]
    return names if None not in names and len(set(names)) == len(names) else None


_SAID_LEVELS: Final = (
    (re.compile(r'(?<![A-Z0-9])(?:MSI)?L1C(?![A-Z0-9])|Level-1C', re.IGNORECASE), SENTINEL2, 'L1C'),
    (
        re.compile(r'(?<![A-Z0-9])(?:MSI)?L2A(?![A-Z0-9])|Level-2A|S2_SR|S2MSI2A', re.IGNORECASE),
        SENTINEL2,
        'L2A',
    ),
    (re.compile(r'S2MSI1C', re.IGNORECASE), SENTINEL2, 'L1C'),
    (re.compile(r'L2SP|L2SR', re.IGNORECASE), 'Landsat', 'L2'),
    (re.compile(r'L1TP|L1GT|L1GS', re.IGNORECASE), 'Landsat', 'L1'),
    (re.compile(r'_SR(?![A-Z])|surface.reflectance', re.IGNORECASE), PLANETSCOPE, SURFACE),
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
            if sensor.startswith(of) and pattern.search(text):
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
    """Name bands by description and sensor, by colour interpretation, or by number.

    Args:
        clues: what the source says of the bands.
        indexes: 1-based index of each band, alpha left out.
        identity: what the source is.
    """
    sensor, count = identity.sensor, len(indexes)
    placeholders = [f'band{index}' for index in indexes]
    colours = _colours(clues, placeholders)
    names = [
        _name(one, text, sensor) or place
        for one, text, place in zip(clues.spellings, clues.described, placeholders, strict=True)
    ]
    if sensor is None and (found := _by_wavelength(clues)):
        names = [str(name) for name in found]
    elif (
        sensor is None
        and colours
        and all(one.number or not text for one, text in zip(clues.spellings, clues.described, strict=True))
    ):
        names = colours  # numbers alone say less than colours
        return Naming(dict(zip(names, indexes, strict=True)))
    if names != placeholders and len(set(names)) == count:
        return Naming(dict(zip(names, indexes, strict=True)), is_stated=True, sensor=sensor)
    order = SENSORS[sensor].orders.get(count) if sensor in SENSORS else None
    if identity.product is not None and identity.product.is_picture:
        order = None
    if colours and (order is None or set(order) != _DISPLAY | {'nir'} or count == 3):
        return Naming(dict(zip(colours, indexes, strict=True)), sensor=sensor)
    if order is not None:
        return Naming(dict(zip(order, indexes, strict=True)), is_stated=True, sensor=sensor)
    if clues.dtype == np.uint8 and count in {3, 4}:
        names = ['red', 'green', 'blue', *placeholders[3:]]
        note = 'bands are taken to be red, green, blue: nothing says so; --bands (bands=) names them'
        return Naming(dict(zip(names, indexes, strict=True)), notes=(note,), sensor=sensor)
    note = f'bands have no names: called {", ".join(placeholders)}; --bands (bands=) names them'
    if 'palette' in clues.colors:
        note += '; colours come from a palette: expand it first with `gdal_translate -expand rgb`'
    return Naming(dict(zip(placeholders, indexes, strict=True)), notes=(note,), sensor=sensor)


def _colours(clues: Clues, placeholders: Sequence[str]) -> list[str] | None:
    """Names by colour interpretation, where that has red, green and blue once each."""
    if not set(clues.colors) >= _DISPLAY:
        return None
    once = {color for color in clues.colors if canonical_name(color) and clues.colors.count(color) == 1}
    if not once >= _DISPLAY:
        return None
    return [
        color if color in once else place for color, place in zip(clues.colors, placeholders, strict=True)
    ]


def _name(said: Spelling, text: str | None, sensor: str | None) -> str | None:
    """Name one band; None where its description is as good as none."""
    numbers = SENSORS[sensor].numbers if sensor in SENSORS else {}
    small = (
        said.word == 'placeholder' and (text or '').strip().startswith('b') and sensor not in SENTINEL2_LIKE
    )
    if said.number in numbers and (said.word != 'placeholder' or small):
        return numbers[said.number or '']
    if said.common and not (said.number and said.word != 'placeholder' and sensor in SENTINEL2_LIKE):
        return said.common
    if said.number and (said.word == 'placeholder' or (sensor in SENSORS and SENSORS[sensor].orders)):
        return None
    return (text or '').strip() or None

"""What a source says of itself, and the signs of a sensor in it.

Signs are found in names of files and products, attributes (STAC, xarray, tags of files), spellings and
wavelengths of bands, nodata and pixel size; `geores.scenes.identify` weighs them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from geores.scenes.bands import SENTINEL1_BANDS, WAVELENGTHS, Spelling, spell
from geores.scenes.product import Product, product_of_text
from geores.scenes.sensors import HLS_L30, HLS_S30, NAIP, PLANETSCOPE, SENSORS, SENTINEL1, SENTINEL2, landsat

__all__ = ['ASK', 'DISPLAY', 'Clues', 'Sign', 'names_by_wavelength', 'stated_signs', 'told_product']

NEAR: Final = 0.15
"""How far a pixel's size may lie from a sensor's, as a share: latitude changes that of Web Mercator."""

FINEST: Final = 5.0
"""Pixels in metres below which bands called B02 are not taken to be Sentinel-2's without another sign."""

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
class Sign:
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
_TABLES: Final[Mapping[str, Mapping[str, float]]] = {
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
DISPLAY: Final = frozenset({'red', 'green', 'blue'})


def told_product(clues: Clues) -> Product | None:
    """The product that attributes name."""
    values = [value for key, value in clues.attributes.items() if _ID_KEYS.fullmatch(key)]
    found = product_of_text(*values)
    if found is None or any(key.startswith('hls') for key in clues.attributes):
        return None  # HLS names the product that it was made of
    return replace(found, evidence=found.evidence.replace('the name', 'the attributes name', 1))


def stated_signs(clues: Clues, product: Product | None, told: Product | None) -> list[Sign]:
    """Collect every sign of a sensor."""
    signs = [Sign(one.sensor, one.evidence) for one in (product, told) if one is not None]
    for key, value in clues.attributes.items():
        if key.startswith('hls_'):
            kind = HLS_S30 if 'S2' in clues.attributes.get('product_uri', 'S2') else HLS_L30
            signs.append(Sign(kind, f'the attribute {key} is of HLS'))
        if not _PLATFORM_KEYS.fullmatch(key) and key != 'tifftag_imagedescription':
            continue
        for pattern, sensor in _PLATFORMS:
            if match := pattern.search(value):
                name = sensor or _numbered(match)
                signs.append(Sign(name, f'{key} is {value[:40]}'))
                break
    described = clues.attributes.get('tifftag_imagedescription', '')
    if 'atmospheric_correction' in described and len(clues.described) in {4, 8}:
        signs.append(Sign(PLANETSCOPE, 'the description of the TIFF is that of PlanetScope'))
    return [*signs, *_of_bands(clues), *_loose(clues)]


def _numbered(match: re.Match[str]) -> str:
    kind = next(group for group in match.groups() if group)
    return landsat(int(kind)) if kind.isdigit() else f'HLS {kind.upper()}30'


def _of_bands(clues: Clues) -> list[Sign]:
    """What spellings and wavelengths of bands tell, with pixel size and nodata where sensors share them."""
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
        return [Sign(msi, f'bands such as {names} are of {msi} only')]
    if {'green_i', 'yellow'} <= common:
        return [Sign(PLANETSCOPE, 'bands such as green i and yellow are of PlanetScope only')]
    if numbers and (sign := _of_numbers(clues, numbered, numbers)):
        return [sign]
    if {'nir', 'nir08'} & common and common & {'swir16', 'swir22'} and clues.near(10, 20):
        return [
            Sign(SENTINEL2, f'short-wave infrared with pixels of {clues.pixel:.3g} m is of Sentinel-2', False)
        ]
    if common & set(SENTINEL1_BANDS) and not numbers:
        return [Sign(SENTINEL1, 'bands are polarisations of radar')]
    return []


def _like_sentinel2(clues: Clues) -> str:
    """Sentinel-2, or HLS of its bands, which keeps -9999 for pixels without data."""
    return HLS_S30 if clues.near(30) and clues.nodata == SENSORS[HLS_S30].nodata else SENTINEL2


def _of_numbers(clues: Clues, numbered: Sequence[Spelling], numbers: set[str]) -> Sign | None:
    """What numbers tell that several sensors have: only with pixels of a size of Sentinel-2's."""
    if not numbers <= SENSORS[SENTINEL2].numbers.keys() or (
        set(clues.colors) >= DISPLAY and '8' not in numbers
    ):
        return None
    sizes = SENSORS[SENTINEL2].pixels
    counted = numbers == {str(number + 1) for number in range(len(numbers))} and len(numbers) > 1
    if any(one.word == 'padded' for one in numbered):
        if clues.near(30):
            return Sign(SENTINEL2, 'B08 is of Sentinel-2', False) if '8' in numbers else None
        if clues.pixel is None or clues.pixel >= FINEST:
            return Sign(SENTINEL2, 'bands are written as Sentinel-2 does (B02)', False)
        return None
    if counted:
        return None
    if clues.near(*sizes):
        why = f'bands B{min(numbers)} to B{max(numbers)} with pixels of {clues.pixel:.3g} m are of Sentinel-2'
        return Sign(SENTINEL2, why, False)
    if clues.pixel is None and {'2', '3', '4', '8'} <= numbers:
        return Sign(SENTINEL2, 'bands B2, B3, B4 and B8 without B1 are those of 10 m of Sentinel-2', False)
    return None


def _of_landsat(numbered: Sequence[Spelling]) -> list[Sign]:
    """Tell the instrument by which bands are reflective (SR) and which thermal (ST)."""
    surface = {one.number for one in numbered if one.prefix == 'SR'}
    thermal = {one.number for one in numbered if one.prefix == 'ST'}
    if '6' in surface or '10' in thermal:
        return [Sign(landsat(8), 'SR_B6 or ST_B10 is of Landsat 8 or 9')]
    if '6' in thermal or ('7' in surface and '5' in surface):
        return [Sign(landsat(7), 'SR_B5 and SR_B7 without SR_B6 are of Landsat 4 to 7')]
    return []


def _of_wavelengths(clues: Clues) -> Sign | None:
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
            return Sign(name, f'wavelengths are those of {name}')
    return None


def _loose(clues: Clues) -> list[Sign]:
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
                return [Sign(sensor, f'the name has {match[0]!r}, and bands and pixels fit', False)]
    return []


def names_by_wavelength(clues: Clues) -> list[str | None] | None:
    """Common names by wavelength, where every band has one."""
    stated = clues.wavelengths or [None] * len(clues.described)
    known = [one.wavelength or nm for one, nm in zip(clues.spellings, stated, strict=True)]
    if not known or None in known:
        return None
    names = [next((c for c, low, high in _COLOURS_NM if low <= (nm or 0) < high), None) for nm in known]
    return names if None not in names and len(set(names)) == len(names) else None

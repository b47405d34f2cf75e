"""Names of bands: how files spell them, which of them mean the same, and which a raster's bands get.

`name_bands` names the bands of one raster by what it says of itself or looks like, `choose_bands` by what
its user says.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from geores.errors import UsageError

__all__ = [
    'SENTINEL1_BANDS',
    'SENTINEL2_BANDS',
    'WAVELENGTHS',
    'Naming',
    'band_of_stem',
    'canonical_name',
    'choose_bands',
    'find_name',
    'name_bands',
    'sensor_of',
]

SENTINEL2_BANDS: Final = {
    'B01': 'coastal',
    'B02': 'blue',
    'B03': 'green',
    'B04': 'red',
    'B05': 'rededge1',
    'B06': 'rededge2',
    'B07': 'rededge3',
    'B08': 'nir',
    'B8A': 'nir08',
    'B09': 'nir09',
    'B10': 'cirrus',
    'B11': 'swir16',
    'B12': 'swir22',
}
"""Sentinel-2's bands in the order of wavelength, and the common name of each in STAC."""

WAVELENGTHS: Final = {
    'B01': 443.0,
    'B02': 490.0,
    'B03': 560.0,
    'B04': 665.0,
    'B05': 705.0,
    'B06': 740.0,
    'B07': 783.0,
    'B08': 842.0,
    'B8A': 865.0,
    'B09': 945.0,
    'B10': 1375.0,
    'B11': 1610.0,
    'B12': 2190.0,
}
"""Central wavelengths of Sentinel-2A in nm (ESA, Sentinel-2 User Handbook, 2015)."""

SENTINEL1_BANDS: Final = ('VV', 'VH', 'HH', 'HV')

_COMMON: Final = {common: band for band, common in SENTINEL2_BANDS.items()}

_OTHER_SPELLINGS: Final = {
    'rededge071': 'rededge1',
    'rededge075': 'rededge2',
    'rededge074': 'rededge2',
    'rededge078': 'rededge3',
    'rededge4': 'nir08',
    'nir8a': 'nir08',
    'nir_narrow': 'nir08',
    'swir1': 'swir16',
    'swir2': 'swir22',
}

_S2 = r'B(0?[1-9]|1[0-2]|8A)'
_RESOLUTION = r'(?:[_ ]?(?P<metres>10|20|60)m)?'
_S2_NAME: Final = re.compile(rf'{_S2}{_RESOLUTION}(?:[\s,;:(].*)?', re.IGNORECASE | re.DOTALL)
_S1_NAME: Final = re.compile(r'(?:.*[_ ])?(VV|VH|HH|HV)(?:[_ ]db)?', re.IGNORECASE)
_STEM: Final = re.compile(rf'(?P<before>.*[_.-])?(?P<band>{_S2}|VV|VH|HH|HV){_RESOLUTION}')
_LANDSAT_STEM: Final = re.compile(r'L[COTEM]0[4-9]_')


def canonical_name(text: str) -> str | None:
    """Give the name that geores uses for a band, or None for one that it does not know.

    Args:
        text: a description, a coordinate or a user's word, such as 'b2', 'B02_10m',
            'B2 (490 nm)', 'Red' or 'rededge071'.

    Example:
        >>> canonical_name('B2 (490 nm)'), canonical_name('Sigma0_VV_db'), canonical_name('NDVI')
        ('B02', 'VV', None)
    """
    text = text.strip()
    if match := _S2_NAME.fullmatch(text):
        return f'B{match[1].upper().zfill(2)}'
    if match := _S1_NAME.fullmatch(text):
        return match[1].upper()
    word = text.lower()
    word = _OTHER_SPELLINGS.get(word, word)
    return word if word in _COMMON or word == 'alpha' else None


def band_of_stem(stem: str) -> tuple[str, str, int | None] | None:
    """Split the stem of a band file's name, or return None when it names no band.

    Args:
        stem: such as 'T33UUU_20170216T102101_B02_10m' or 'B02'.

    Returns:
        What precedes the band, the band's canonical name, and the resolution in m that the name
        states. Landsat's files give None: its B04 is another band than Sentinel-2's.
    """
    match = _STEM.fullmatch(stem)
    if match is None or _LANDSAT_STEM.match(stem):
        return None
    name = canonical_name(match['band'])
    metres = match['metres']
    return (match['before'] or '', name or '', int(metres) if metres else None)


def _is_sentinel2_like(names: Collection[str]) -> bool:
    """Whether bands under common names are Sentinel-2's rather than those of a plain image.

    Several satellites and every aerial camera have a 'red'; the red edge, or a wide near-infrared
    beside a short-wave infrared, tell Sentinel-2.
    """
    present = set(names)
    red_edge = {'rededge1', 'rededge2', 'rededge3', 'nir09'}
    return bool(present & red_edge) or ('nir' in present and bool(present & {'swir16', 'swir22'}))


def find_name(name: str, names: Collection[str], *, sensor: str | None = None) -> str | None:
    """Find a band among others by its name or an alias.

    Args:
        name: as a user or a model's card has it.
        names: names of the bands that there are.
        sensor: where they come from, if known otherwise than by their names; 'B04' is sought as
            'red' in Sentinel-2 only.

    Returns:
        The one of `names` that is meant, or None.
    """
    known = canonical_name(name) or name
    wanted = [name, known, _COMMON.get(known)]
    if known in SENTINEL2_BANDS and 'Sentinel-2' in {sensor, sensor_of(names)}:
        wanted.append(SENTINEL2_BANDS[known])
    return next((other for other in wanted if other in names), None)


def sensor_of(names: Collection[str]) -> str | None:
    """Name the sensor that bands of these canonical names come from, where they tell."""
    if any(name in SENTINEL2_BANDS for name in names) or _is_sentinel2_like(names):
        return 'Sentinel-2'
    if any(name in SENTINEL1_BANDS for name in names):
        return 'Sentinel-1'
    return None


@dataclass(frozen=True)
class Naming:
    """Names of a raster's bands.

    Attributes:
        indexes: 1-based index of each band by its name, in order.
        is_stated: whether the raster itself gives the names.
        notes: what the user should know about them.
    """

    indexes: Mapping[str, int]
    is_stated: bool = False
    notes: tuple[str, ...] = ()


def name_bands(
    indexes: Sequence[int],
    described: Sequence[str | None],
    *,
    colors: Sequence[str],
    dtype: np.dtype,
    file_band: str | None = None,
) -> Naming:
    """Name bands by description, by the file's name, by colour interpretation, or by number.

    Args:
        indexes: 1-based indexes of the bands, alpha left out.
        described: description of each of these, or None.
        colors: colour interpretation of each of these.
        dtype: type of the values: three or four unnamed bands of 8 bits are taken to be colours.
        file_band: band that the file's name gives.
    """
    numbers = [f'band{index}' for index in indexes]
    names = [
        canonical_name(text) or text.strip() or number if text else number
        for text, number in zip(described, numbers, strict=True)
    ]
    if names != numbers and len(set(names)) == len(names):
        return Naming(dict(zip(names, indexes, strict=True)), is_stated=True)
    if file_band and len(indexes) == 1:
        return Naming({file_band: indexes[0]}, is_stated=True)
    if {'red', 'green', 'blue'} <= set(colors):
        known = {color for color in colors if canonical_name(color) and colors.count(color) == 1}
        names = [color if color in known else number for color, number in zip(colors, numbers, strict=True)]
        return Naming(dict(zip(names, indexes, strict=True)))
    if dtype == np.uint8 and len(indexes) in {3, 4}:
        names = ['red', 'green', 'blue', *numbers[3:]]
        note = 'bands are taken to be red, green, blue: nothing says so; --bands (bands=) names them'
        return Naming(dict(zip(names, indexes, strict=True)), notes=(note,))
    note = f'bands have no names: called {", ".join(numbers)}; --bands (bands=) names them'
    if 'palette' in colors:
        note += '; colours come from a palette: expand it first with `gdal_translate -expand rgb`'
    return Naming(dict(zip(numbers, indexes, strict=True)), notes=(note,))


def choose_bands(path: str, naming: Naming, bands: Sequence[str], *, alpha: int | None = None) -> Naming:
    """Apply what the user says about bands: names for all, or some of those that are stated.

    Args:
        path: path of the raster, for messages.
        naming: names as they are without the user's.
        bands: the user's names. Where the raster states its names and has all of these, they
            choose; otherwise they name its bands one by one, with or without alpha.
        alpha: 1-based index of the alpha band, if there is one.

    Raises:
        UsageError: if their number is not that of the bands, or one comes twice.
    """
    wanted = [canonical_name(band) or band for band in bands]
    if len(set(wanted)) < len(wanted) or not wanted:
        raise UsageError(f'--bands {",".join(bands)}: name at least one band and each once')
    own = [find_name(name, naming.indexes) for name in wanted]
    if naming.is_stated and None not in own:
        return Naming({name: naming.indexes[name] for name in own if name}, is_stated=True)
    indexes = list(naming.indexes.values())
    if alpha is not None and 'alpha' in wanted:
        indexes = sorted([*indexes, alpha])
    if len(wanted) != len(indexes):
        names = f' ({", ".join(naming.indexes)})' if naming.is_stated else ''
        raise UsageError(
            f'{path}: --bands names {len(wanted)} bands but there are {len(indexes)}{names}; '
            'give one name for each'
        )
    named = zip(wanted, indexes, strict=True)
    return Naming({name: index for name, index in named if index != alpha}, is_stated=True)

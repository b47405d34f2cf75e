"""Names of bands: how files spell them, and which of them mean the same."""

import re
from collections.abc import Collection
from typing import Final

__all__ = [
    'SENTINEL1_BANDS',
    'SENTINEL2_BANDS',
    'WAVELENGTHS',
    'band_of_stem',
    'canonical_name',
    'find_name',
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
        text: A description, a coordinate or a user's word, such as 'b2', 'B02_10m',
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
        stem: Such as 'T33UUU_20170216T102101_B02_10m' or 'B02'.

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
        name: As a user or a model's card has it.
        names: Those that there are.
        sensor: Where they come from, if known otherwise than by their names; 'B04' is sought as
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

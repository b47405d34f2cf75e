"""Names of bands: how files spell them, which of them mean the same, and what their user calls them.

Which sensor's bands they are, and so which names a raster's bands get, `geores.scenes.identify` decides.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from geores.errors import UsageError
from geores.scenes.sensors import SENTINEL2_LIKE, sensor_named

__all__ = [
    'SENTINEL1_BANDS',
    'SENTINEL2_BANDS',
    'SENTINEL2_NUMBERS',
    'WAVELENGTHS',
    'Naming',
    'Spelling',
    'band_of_stem',
    'canonical_name',
    'choose_bands',
    'find_name',
    'spell',
    'translated',
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
SENTINEL2_NUMBERS: Final[Mapping[str, str]] = _COMMON
"""Sentinel-2's own name of each band by its common name."""

_WORDS: Final = {
    'red': 'red',
    'green': 'green',
    'blue': 'blue',
    'alpha': 'alpha',
    'coastal': 'coastal',
    'coastal aerosol': 'coastal',
    'coastal blue': 'coastal',
    'ultra blue': 'coastal',
    'green i': 'green_i',
    'greeni': 'green_i',
    'yellow': 'yellow',
    'rededge': 'rededge',
    'red edge': 'rededge',
    'nir': 'nir',
    'near infrared': 'nir',
    'near infra red': 'nir',
    'nir08': 'nir08',
    'nir8a': 'nir08',
    'nir narrow': 'nir08',
    'narrow nir': 'nir08',
    'nir09': 'nir09',
    'water vapour': 'nir09',
    'cirrus': 'cirrus',
    'pan': 'pan',
    'panchromatic': 'pan',
    'swir16': 'swir16',
    'swir22': 'swir22',
    'lwir': 'lwir',
    'lwir11': 'lwir11',
    'lwir12': 'lwir12',
    **{f'swir{gap}{number}': name for gap in ('', ' ') for number, name in ((1, 'swir16'), (2, 'swir22'))},
    **{
        f'{word}{number}': name
        for word in ('rededge', 'red edge ', 'vegetation red edge ')
        for number, name in ((1, 'rededge1'), (2, 'rededge2'), (3, 'rededge3'), (4, 'nir08'))
    },
    'rededge071': 'rededge1',
    'rededge075': 'rededge2',
    'rededge074': 'rededge2',
    'rededge078': 'rededge3',
}
"""Common names by how files spell them, in small letters and with blanks between the words."""

_NOISE: Final = frozenset(
    ['band', 'vis', 'sr', 'toa', 'boa', 'surface', 'reflectance', 'channel', 'nm', 'um', 'the', 'of', 'in']
)

_S2 = r'B(0?[1-9]|1[0-2]|8A)'
_RESOLUTION = r'(?:[_ ]?(?P<metres>10|15|20|30|60)m)?'
_S2_NAME: Final = re.compile(rf'{_S2}{_RESOLUTION}(?:[\s,;:(].*)?', re.IGNORECASE | re.DOTALL)
_S1_NAME: Final = re.compile(r'(?:.*[_ ])?(VV|VH|HH|HV)(?:[_ ]db)?', re.IGNORECASE)
_NUMBERED: Final = re.compile(
    r'(?:(?P<prefix>SR|ST|TOA|BOA|OLI|TIRS|ETM|TM|MSI)[_ -]?)?(?P<word>band|channel|b)[_ -]?'
    rf'(?P<number>\d{{1,2}}(?:A|_VCID_[12])?){_RESOLUTION}(?P<rest>$|[\s,;:_(-].*)',
    re.IGNORECASE | re.DOTALL,
)
_NANOMETRES: Final = re.compile(
    r'(?<![\d.])(\d{3,4}(?:\.\d+)?|\d?\.\d+)\s*(nm|nanometers|um|µm|μm|micrometers)', re.I
)
_BAND = r'(?:(?:SR|ST)_)?B(?:0?[1-9]|1[0-2]|8A)(?:_VCID_[12])?'
_COLOUR = r'red|green|blue|nir|nir08|nir09|coastal|rededge[1-3]?|swir16|swir22'
_STEM: Final = re.compile(rf'(?P<before>(?:.*?[_.-])??)(?P<band>{_BAND}|VV|VH|HH|HV){_RESOLUTION}')
_OTHER_STEM: Final = re.compile(
    rf'(?P<before>.*[_.-])?(?P<band>vv|vh|hh|hv|{_COLOUR})(?:\.rtc)?(?:-\d{{8}}t\w+-\d{{8}}t\w+(?:-\w+)*)?'
)


@dataclass(frozen=True)
class Spelling:
    """What a text says of a band.

    Attributes:
        number: its number without leading zeros ('4', '8A', '6_VCID_1'), or None.
        word: how the number is written: 'padded' (B04), 'plain' (B4), or 'placeholder' (b4, Band 4, Band_4).
        prefix: what stands before it, such as 'SR' or 'ST', or None.
        common: common name, such as 'red', or polarisation, or None.
        wavelength: in nm, or None.
    """

    number: str | None = None
    word: str | None = None
    prefix: str | None = None
    common: str | None = None
    wavelength: float | None = None


def spell(text: str | None) -> Spelling:
    """Read what a description, a coordinate or a file's name says of a band.

    Example:
        >>> spell('SR_B4').number, spell('Band 1 (Red)').common, spell('vis-red').common, spell('NDVI')
        ('4', 'red', 'red', Spelling(number=None, word=None, prefix=None, common=None, wavelength=None))
    """
    text = (text or '').strip()
    wavelength = _wavelength(text)
    if match := _NUMBERED.fullmatch(text):
        number = match['number'].upper()
        letter = match['word'] in {'b', 'B'}
        plain = match['word'] == 'B' or match['prefix'] or number.endswith('A')
        word = 'padded' if letter and number.startswith('0') else 'plain' if plain else 'placeholder'
        prefix = match['prefix'].upper() if match['prefix'] else None
        return Spelling(number.lstrip('0') or None, word, prefix, _common(match['rest']), wavelength)
    if match := _S1_NAME.fullmatch(text):
        return Spelling(common=match[1].upper())
    return Spelling(common=_common(text), wavelength=wavelength)


def _common(text: str) -> str | None:
    """Find the common name that a text consists of, but for words that say nothing about it."""
    text = _NANOMETRES.sub(' ', text.lower())
    words = [word for word in re.split(r'[^a-z0-9]+', text) if word]
    whole = ' '.join(words)
    short = ' '.join(word for word in words if word not in _NOISE)
    return _WORDS.get(whole) or _WORDS.get(short) or _WORDS.get(re.sub(r' \d$', '', short))


def _wavelength(text: str) -> float | None:
    match = _NANOMETRES.search(text)
    if match is None:
        return None
    return float(match[1]) * (1.0 if match[2].lower().startswith('n') else 1000.0)


def canonical_name(text: str) -> str | None:
    """Give the name that geores uses for a band of Sentinel-2, Sentinel-1 or a colour; None for others.

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
    return _common(text)


def band_of_stem(stem: str) -> tuple[str, str, int | None] | None:
    """Split the stem of a band file's name, or return None when it names no band.

    Args:
        stem: such as 'T33UUU_20170216T102101_B02_10m', 'LC08_L2SP_193023_20210310_20210317_02_T1_SR_B4' or
            'B02'.

    Returns:
        What precedes the band, the band as the name spells it, and the resolution in m that the name states.
    """
    match = _STEM.fullmatch(stem) or _OTHER_STEM.fullmatch(stem)
    if match is None:
        return None
    metres = match.groupdict().get('metres')
    return match['before'] or '', match['band'], int(metres) if metres else None


def translated(name: str, sensor: str | None) -> str:
    """Give the name that a band has in scenes of a sensor.

    Args:
        name: as a user or a file has it, such as 'B4'.
        sensor: a name of `SENSORS`, or None, for which numbers are Sentinel-2's.
    """
    numbers = sensor_named(sensor).numbers
    if numbers and sensor not in SENTINEL2_LIKE:
        said = spell(name)
        return numbers.get(said.number or '') or said.common or name
    return canonical_name(name) or name


def find_name(name: str, names: Collection[str], *, sentinel2: Collection[str] = ()) -> str | None:
    """Find a band among others by its name or an alias.

    Args:
        name: as a user or a model's card has it.
        names: names of the bands that there are.
        sentinel2: those of them that come from Sentinel-2, or are made like its bands: 'B04' is sought as
            'red' among these only.

    Returns:
        The one of `names` that is meant, or None.
    """
    if name in names:
        return name
    known = canonical_name(name) or name
    for wanted in (known, _COMMON.get(known)):
        if wanted in names:
            return wanted
    common = SENTINEL2_BANDS.get(known)
    if common in sentinel2:
        return common
    # Sensors of one near infrared call it either way; Sentinel-2 has both.
    other = {'nir': 'nir08', 'nir08': 'nir'}.get(known)
    return other if other in names and other not in sentinel2 else None


@dataclass(frozen=True)
class Naming:
    """Names of a raster's bands.

    Attributes:
        indexes: 1-based index of each band by its name, in order.
        is_stated: whether the raster itself gives the names.
        notes: what the user should know about them.
        sensor: the sensor whose bands they are, where known.
    """

    indexes: Mapping[str, int]
    is_stated: bool = False
    notes: tuple[str, ...] = ()
    sensor: str | None = None


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
    wanted = [translated(band, naming.sensor) for band in bands]
    if len(set(wanted)) < len(wanted) or not wanted:
        raise UsageError(f'--bands {",".join(bands)}: name at least one band and each once')
    sentinel2 = naming.indexes if naming.sensor in SENTINEL2_LIKE else ()
    own = [
        given if given in naming.indexes else find_name(name, naming.indexes, sentinel2=sentinel2)
        for given, name in zip(bands, wanted, strict=True)
    ]
    if naming.is_stated and None not in own:
        return replace(naming, indexes={name: naming.indexes[name] for name in own if name})
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
    return Naming(
        {name: index for name, index in named if index != alpha}, is_stated=True, sensor=naming.sensor
    )

"""What a product says about its digital numbers (metadata, name, convention), and its masks.

Masks are Sentinel-2's scene classification, or a raster named as a cloud mask.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from geores.errors import SceneError
from geores.scenes.bands import SENTINEL2_BANDS
from geores.scenes.scene import SceneMask
from geores.scenes.sensors import NAIP, PLANETSCOPE, SENTINEL1, SENTINEL2, SURFACE, landsat

__all__ = [
    'CLOUD_MASK',
    'SCL',
    'Product',
    'find_mask',
    'find_product',
    'mask_kind',
    'product_of_text',
    'product_root',
    'stac_attributes',
]

SCL: Final = 'SCL'
"""Sentinel-2's scene classification (L2A): a class from 0 to 11 for each pixel."""

CLOUD_MASK: Final = 'cloud mask'
"""0 is clear, any other number is cloud."""

_WORDS: Final = re.compile(r'[^A-Za-z0-9]+')
_CLOUD_MASK: Final = re.compile(r'cloud[^a-z0-9]?mask', re.IGNORECASE)
_METRES: Final = re.compile(r'(\d+)m')


def mask_kind(stem: str) -> str | None:
    """Say what a name promises of a raster's numbers, or None where it is no mask's.

    Args:
        stem: stem of a file's name, or the name of a band.

    Example:
        >>> mask_kind('T33UUU_20230601T102021_SCL_20m'), mask_kind('cloud_mask'), mask_kind('B02')
        ('SCL', 'cloud mask', None)
    """
    words = {word.upper() for word in _WORDS.split(stem)}
    if 'SCL' in words:
        return SCL
    return CLOUD_MASK if 'CLM' in words or _CLOUD_MASK.search(stem) else None


def find_mask(files: Sequence[Path], prefix: str) -> SceneMask | None:
    """Find the mask among files beside those of the bands.

    Of several, the one that shares the bands' prefix is taken before others, a scene classification before
    a cloud mask, and the finest.

    Args:
        files: rasters of the folder, by their suffix.
        prefix: what precedes the band in the names of the bands' files; empty where they share none.
    """
    found = [(file, kind) for file in files if (kind := mask_kind(file.stem))]
    if not found:
        return None
    file, kind = min(found, key=lambda one: (_rank(one[0], one[1], prefix), one[0].name))
    return SceneMask(kind, str(file))


def _rank(file: Path, kind: str, prefix: str) -> tuple[bool, bool, int]:
    metres = [int(match[1]) for word in _WORDS.split(file.stem) if (match := _METRES.fullmatch(word))]
    return not file.stem.startswith(prefix), kind != SCL, metres[0] if metres else 0


_DAY = r'(?P<date>\d{4}[01]\d[0-3]\d)'
_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (
            rf'S2[A-D]_MSI(?P<level>L1C|L2A)_{_DAY}T\d{{6}}(?:_N(?P<baseline>\d{{4}}))?_R\d{{3}}_T\w{{5}}',
            SENTINEL2,
        ),
        # Earth Search; the number counts products of the day.
        (rf'S2[A-D]_\d{{1,2}}[A-Z]{{3}}_{_DAY}_\d+_(?P<level>L1C|L2A)', SENTINEL2),
        (rf'S2[A-D]_T\d{{2}}[A-Z]{{3}}_{_DAY}T\d{{6}}_(?P<level>L1C|L2A)', SENTINEL2),
        (
            rf'HLS[._-]?(?P<kind>[SL])30(?:[._-]T\d{{2}}[A-Z]{{3}}[._-](?:(?P<ordinal>\d{{7}})|{_DAY})T\d{{6}})?',
            'HLS',
        ),
        # Earth Engine; the second time is that of processing.
        (rf'(?<![A-Z0-9]){_DAY}T\d{{6}}_\d{{8}}T\d{{6}}_T\d{{2}}[A-Z]{{3}}(?![A-Z0-9])', SENTINEL2),
        (rf'(?<![A-Z0-9])T\d{{2}}[A-Z]{{3}}_{_DAY}T\d{{6}}', SENTINEL2),
        (rf'S1[A-D]_[A-Z0-9]{{2}}_[A-Z0-9_]{{4}}_[A-Z0-9]{{4}}_{_DAY}T\d{{6}}', SENTINEL1),
        (rf'S1[A-D]_(?:IW|EW|S\d)_{_DAY}T\d{{6}}_[DS][VH][PRO]_RTC\d\d', SENTINEL1),
        (r's1[a-d]-(?:iw|ew|s\d)-\w+-(?:vv|vh|hh|hv)-(?P<date>\d{8})t\d{6}', SENTINEL1),
        (
            rf'(?<![A-Z0-9])L[COTE]0(?P<number>[4-9])_(?:(?P<level>L[12])(?:TP|GT|GS|SP|SR)_)?\d{{6}}_{_DAY}',
            'Landsat',
        ),
        (r'(?<![A-Z0-9])L[COTE]0?(?P<number>[4-9])(?![0-9])', 'Landsat'),
        (r'(?<![A-Z0-9])L[CTEO](?P<number>[4-9])\d{13}[A-Z]{3}\d\d', 'Landsat'),
        (r'(?<![A-Z])landsat[ _-]?(?P<number>[4-9])(?![0-9])', 'Landsat'),
        (
            rf'(?<!\d){_DAY}_\d{{6}}_(?:\d{{2}}_)?[0-9a-f]{{4}}_[13][AB](?![A-Z0-9])(?:_(?P<asset>Analytic|Visual)'
            r'(?:MS)?(?P<surface>_SR)?)?',
            PLANETSCOPE,
        ),
        (r'(?<![A-Z0-9])[13][AB]_(?P<asset>Analytic|Visual)(?:MS)?(?P<surface>_SR)?', PLANETSCOPE),
        (r'(?<![A-Z0-9])m_\d{7}_[ns][ew]_\d{1,2}_[\dh.]{1,3}_(?P<date>\d{8})', NAIP),
    )
)
"""Names of products, and the sensor that each tells; earlier ones count for more."""
_INSIDE_PRODUCT: Final = re.compile(r'R[126]0m|IMG_DATA|GRANULE|L(?:1C|2A)_T\w+|measurement')

_MAX_TEXT_BYTES: Final = 16 * 2**20
_MAX_ITEM_BYTES: Final = 2**20
_MOST_ITEMS: Final = 8


@dataclass(frozen=True)
class Product:
    """What is known about the product that a file belongs to.

    Attributes:
        name: product id, or tile and date.
        sensor: a name of `geores.scenes.sensors.SENSORS`.
        evidence: what tells the sensor.
        level: processing level, or None.
        date: day of acquisition (YYYY-MM-DD), or None.
        baseline: Sentinel-2's processing baseline, 509 for 05.09, where it is stated.
        quantification: digital numbers per unit of Sentinel-2's reflectance.
        offsets: what metadata state is to be added to a Sentinel-2 band's digital numbers first, by name of
            the band; None where no metadata were found.
        scalings: scale and offset of reflectance that metadata state, by the number or common name of a band.
        is_picture: whether it is a picture for display.
    """

    name: str
    sensor: str
    evidence: str = ''
    level: str | None = None
    date: str | None = None
    baseline: int | None = None
    quantification: float = 10000.0
    offsets: Mapping[str, float] | None = None
    scalings: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    is_picture: bool = False


def product_root(path: Path) -> Path:
    """Climb from a band file, or any folder inside a product, to the product's own folder."""
    path = Path(os.path.abspath(path))
    folder = path if path.is_dir() else path.parent
    while _INSIDE_PRODUCT.fullmatch(folder.name):
        folder = folder.parent
    return folder


def find_product(path: Path, prefix: str) -> Product | None:
    """Find out which product a file or folder belongs to.

    Args:
        path: a raster file or a folder.
        prefix: what precedes the band in the names of the files, where they share it.

    Raises:
        SceneError: if the product's metadata file cannot be made sense of.
    """
    root = product_root(path)
    named = product_of_text(prefix, root.name)
    for level in ('L1C', 'L2A'):
        metadata = root / f'MTD_MSI{level}.xml'
        if metadata.is_file():
            return _from_metadata(metadata, level, named)
    if named is not None and named.sensor.startswith('Landsat'):
        return _with_landsat_metadata(root, named)
    if named is not None and named.sensor == PLANETSCOPE:
        return _with_planet_metadata(root, named)
    return named


def product_of_text(*texts: str) -> Product | None:
    """Read a product's identity from names of files or folders, or return None.

    A product id in any of them counts for more than a tile and date in another.
    """
    for pattern, what in _PATTERNS:
        for text in texts:
            if match := pattern.search(text):
                return _identified(text.removesuffix('.SAFE').strip('_.-'), match, what)
    return None


def _identified(name: str, match: re.Match[str], what: str) -> Product:
    found = match.groupdict()
    level = (found.get('level') or '').upper() or None
    if what == 'HLS':
        sensor, level = f'HLS {found["kind"].upper()}30', SURFACE
    elif what == 'Landsat':
        sensor = landsat(int(found['number']))
    else:
        sensor = what
        level = SURFACE if found.get('surface') else level
    baseline = found.get('baseline')
    return Product(
        name,
        sensor,
        f'the name {match[0]} is of {sensor}',
        level,
        _day(found.get('date'), found.get('ordinal')),
        int(baseline) if baseline else None,
        is_picture=(found.get('asset') or '').lower() == 'visual',
    )


def _day(date: str | None, ordinal: str | None) -> str | None:
    """Bring a date, or a year and day of the year, to YYYY-MM-DD; None for what is no date."""
    try:
        if ordinal:
            return datetime.strptime(f'{ordinal}+0000', '%Y%j%z').date().isoformat()
        return datetime.strptime(f'{date}+0000', '%Y%m%d%z').date().isoformat() if date else None
    except ValueError:
        return None


def _from_metadata(path: Path, level: str, named: Product | None) -> Product:
    root = _parse(path)
    values = {element.tag.rpartition('}')[2]: (element.text or '').strip() for element in root.iter()}
    prefix, quantity = ('RADIO', '') if level == 'L1C' else ('BOA', 'BOA_')
    try:
        quantification = float(values.get(f'{quantity}QUANTIFICATION_VALUE') or 10000)
        offsets = {
            list(SENTINEL2_BANDS)[int(element.get('band_id', ''))]: float(element.text or '')
            for element in root.iter()
            if element.tag.rpartition('}')[2] == f'{prefix}_ADD_OFFSET'
        }
        if not (quantification > 0 and all(map(math.isfinite, (quantification, *offsets.values())))):
            raise ValueError(f'quantification value {quantification}, offsets {offsets or "none"}')
    except (ValueError, IndexError) as error:
        raise SceneError(f'{path}: holds no usable scale and offsets ({error}); restore it') from error
    uri = values.get('PRODUCT_URI', '').removesuffix('.SAFE')
    date = values.get('DATATAKE_SENSING_START') or values.get('PRODUCT_START_TIME') or ''
    return Product(
        name=uri or (named.name if named else path.parent.name.removesuffix('.SAFE')),
        sensor=SENTINEL2,
        evidence=f'{path.name} describes a product of Sentinel-2',
        level=level,
        date=date[:10] or (named.date if named else None),
        quantification=quantification,
        offsets=offsets,
    )


_ENTRY: Final = re.compile(r'^\s*(\w+)\s*=\s*"?([^"\n]*?)"?\s*$', re.MULTILINE)
_REFLECTANCE: Final = re.compile(r'REFLECTANCE_(MULT|ADD)_BAND_(\w+)')


def _with_landsat_metadata(root: Path, named: Product) -> Product:
    """Read a product's MTL.txt, which has the scales of bands, and at level 1 the sun's height."""
    files = sorted(file for file in root.glob('*_MTL.txt') if named.name.startswith(file.name[:-8]))
    if not files:
        return named
    text = _read(files[0]).decode('utf-8', 'replace')
    if named.level == 'L2':
        # Level 2 repeats the entries of level 1, of which its reflectance was made.
        start = text.find('GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS')
        text = text[start : text.find('END_GROUP', start)] if start >= 0 else ''
    entries = dict(_ENTRY.findall(text))
    scales: dict[str, dict[str, float]] = {}
    try:
        # Level 1 is to be divided by the sine of the sun's height besides.
        height = (
            1.0 if named.level == 'L2' else math.sin(math.radians(float(entries.get('SUN_ELEVATION', 90))))
        )
        for key, value in entries.items():
            if match := _REFLECTANCE.fullmatch(key):
                scales.setdefault(match[2], {})[match[1]] = float(value) / height
    except (ValueError, ZeroDivisionError) as error:
        raise SceneError(f'{files[0]}: holds no usable scales ({error}); restore or remove it') from error
    scalings = {number: (of['MULT'], of['ADD']) for number, of in scales.items() if len(of) == 2}
    return replace(named, scalings=scalings, evidence=f'{named.evidence}, and {files[0].name} has its scales')


def _with_planet_metadata(root: Path, named: Product) -> Product:
    """Read what brings PlanetScope's radiances to reflectance from the XML file beside them."""
    if named.level == SURFACE or named.is_picture:
        return named
    files = [file for file in sorted(root.glob('*_metadata*.xml')) if file.name[:20] == named.name[:20]]
    if not files:
        return named
    scalings: dict[str, tuple[float, float]] = {}
    for element in _parse(files[0]).iter():
        values = {child.tag.rpartition('}')[2]: (child.text or '').strip() for child in element}
        if {'bandNumber', 'reflectanceCoefficient'} <= values.keys():
            try:
                scalings[values['bandNumber']] = (float(values['reflectanceCoefficient']), 0.0)
            except ValueError as error:
                raise SceneError(f'{files[0]}: holds no usable scales ({error}); restore it') from error
    return replace(named, scalings=scalings, level='top of atmosphere' if scalings else None)


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds trees from documents without entities of their own."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse: entities could expand without bound or name other files."""
        raise SceneError(f'declares a document type ({name})')


def _parse(path: Path) -> ElementTree.Element:
    try:
        parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314
        return ElementTree.fromstring(_read(path), parser)  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise SceneError(
            f'{path}: is not a readable product metadata file ({error}); restore or remove it'
        ) from error


def _read(path: Path) -> bytes:
    """Read a file of metadata, which is never large."""
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise SceneError(f'{path}: is larger than {_MAX_TEXT_BYTES} bytes; restore or remove it')
        return path.read_bytes()
    except OSError as error:
        raise SceneError(f'{path}: cannot be read ({error.strerror}); restore or remove it') from error


def stac_attributes(folder: Path) -> dict[str, str]:
    """Read the properties of the STAC item that lies in a folder beside its rasters, if one does.

    Returns:
        Properties with keys in small letters, and `id`; empty where there are several items or none.
    """
    items = []
    for file in sorted(folder.glob('*.json'))[:_MOST_ITEMS]:
        try:
            item = json.loads(_read(file)) if file.stat().st_size <= _MAX_ITEM_BYTES else None
        except (ValueError, OSError, RecursionError):
            continue  # some other file of JSON
        if (
            isinstance(item, dict)
            and item.get('type') == 'Feature'
            and isinstance(item.get('properties'), dict)
        ):
            items.append(item)
    if len(items) != 1:
        return {}
    properties = items[0]['properties'] | {key: items[0].get(key) for key in ('id', 'collection')}
    return {str(k).lower(): str(v) for k, v in properties.items() if isinstance(v, str | int | float | bool)}

"""What a product says about its digital numbers (metadata, name, convention), and its masks.

Masks are Sentinel-2's scene classification, or a raster named as a cloud mask.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from geores.errors import SceneError
from geores.scenes.bands import SENTINEL2_BANDS
from geores.scenes.scene import SceneMask

__all__ = [
    'CLOUD_MASK',
    'SCL',
    'Product',
    'find_mask',
    'find_product',
    'mask_kind',
    'product_of_text',
    'product_root',
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


_PRODUCT: Final = re.compile(
    r'S2[A-D]_MSI(?P<level>L1C|L2A)_(?P<date>\d{8})T\d{6}_N(?P<baseline>\d{4})_R\d{3}_T\w{5}'
)
_TILE: Final = re.compile(r'(?<![A-Z0-9])T\d{2}[A-Z]{3}_(?P<date>\d{8})T\d{6}')
_SENTINEL1: Final = re.compile(r'S1[A-D]_[A-Z0-9]{2}_[A-Z0-9_]{4}_[A-Z0-9]{4}_(?P<date>\d{8})T\d{6}')
_INSIDE_PRODUCT: Final = re.compile(r'R[126]0m|IMG_DATA|GRANULE|L(?:1C|2A)_T\w+')

_FIRST_OFFSET_BASELINE: Final = 400
_FIRST_OFFSET_DAY: Final = '2022-01-25'
_OFFSET: Final = -1000.0
_USER_BASELINE: Final = 9999
_MAX_XML_BYTES: Final = 16 * 2**20


@dataclass(frozen=True)
class Product:
    """What is known about the product that a file belongs to.

    Attributes:
        name: product id, or tile and date.
        sensor: 'Sentinel-2' or 'Sentinel-1'.
        level: 'L1C', 'L2A' or None.
        date: day of acquisition (YYYY-MM-DD), or None.
        quantification: digital numbers per unit of reflectance.
        offsets: what to add to a band's digital numbers first, by name of the band.
        note: how the offset is known.
    """

    name: str
    sensor: str
    level: str | None = None
    date: str | None = None
    quantification: float = 10000.0
    offsets: Mapping[str, float] | None = None
    note: str | None = None

    def scale_and_offset(self, band: str) -> tuple[float, float]:
        """Return what turns digital numbers of a Sentinel-2 band into reflectance."""
        added = (self.offsets or {}).get(band, 0.0)
        return 1 / self.quantification, added / self.quantification


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
        path: a band file or a folder.
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
    return named


def product_of_text(*texts: str) -> Product | None:
    """Read a product's identity from names of files or folders, or return None.

    A product id in any of them counts for more than a tile and date in another.
    """
    for pattern in (_PRODUCT, _TILE, _SENTINEL1):
        for text in texts:
            if match := pattern.search(text):
                name = text.removesuffix('.SAFE').strip('_.-')
                return _identified(name, match)
    return None


def _identified(name: str, match: re.Match[str]) -> Product:
    date = match['date']
    day = f'{date[:4]}-{date[4:6]}-{date[6:8]}'
    if match.re is _PRODUCT:
        product = Product(name, 'Sentinel-2', match['level'], day)
        return _with_baseline(product, int(match['baseline']))
    if match.re is _TILE:
        return _without_baseline(Product(name, 'Sentinel-2', None, day))
    return Product(name, 'Sentinel-1', None, day)


def _with_baseline(product: Product, baseline: int) -> Product:
    if baseline == _USER_BASELINE:
        note = 'processing baseline not stated (N9999): reflectance = DN / 10000 without offset'
        return replace(product, note=note)
    if baseline < _FIRST_OFFSET_BASELINE:
        return product
    note = f'offset of {_OFFSET:.0f} applied: processing baseline {baseline / 100:05.2f}'
    return replace(product, offsets=dict.fromkeys(SENTINEL2_BANDS, _OFFSET), note=note)


def _without_baseline(product: Product) -> Product:
    if (product.date or '') < _FIRST_OFFSET_DAY:
        note = 'processing baseline not stated: reflectance = DN / 10000 without offset'
        return replace(product, note=note)
    note = f'offset of {_OFFSET:.0f} applied: sensed after processing baseline 04.00 began'
    return replace(product, offsets=dict.fromkeys(SENTINEL2_BANDS, _OFFSET), note=note)


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
    note = f'offset of {min(offsets.values(), default=0):.0f} applied, as the product states'
    return Product(
        name=uri or (named.name if named else path.parent.name.removesuffix('.SAFE')),
        sensor='Sentinel-2',
        level=level,
        date=date[:10] or (named.date if named else None),
        quantification=quantification,
        offsets=offsets or None,
        note=note if any(offsets.values()) else None,
    )


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds trees from documents without entities of their own."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse: entities could expand without bound or name other files."""
        raise SceneError(f'declares a document type ({name})')


def _parse(path: Path) -> ElementTree.Element:
    try:
        if path.stat().st_size > _MAX_XML_BYTES:
            raise SceneError(f'is larger than {_MAX_XML_BYTES} bytes')
        parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314
        return ElementTree.fromstring(path.read_bytes(), parser)  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise SceneError(
            f'{path}: is not a readable product metadata file ({error}); restore or remove it'
        ) from error

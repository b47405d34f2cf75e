"""Names of a raster's values: what its side file says, or itself, and what users write."""

import json
from pathlib import Path
from xml.etree import ElementTree

from geores.cartography.class_raster import LEGEND_TAG
from geores.errors import UsageError
from geores.scenes.gdal import find_driver, open_dataset

__all__ = ['category_names', 'parse_classes', 'parse_values']

MOST_BYTES = 2**22
VALUE, NAME = '5', '2'
"""GDAL's codes for the use of a column of a raster attribute table."""


def category_names(path: str) -> dict[int, str]:
    """Names that GDAL or QGIS keep in ``<path>.aux.xml``: categories, or an attribute table.

    Where there is no such file, the legend that geores writes into its class maps.

    Returns:
        Names by value; none where nothing names values.
    """
    return _side_names(path) or _own_names(path)


def _own_names(path: str) -> dict[int, str]:
    with open_dataset(path, find_driver(path), quiet=True) as file:
        text = file.tags().get(LEGEND_TAG, '{}')
    try:
        return {int(value): str(name) for value, name in json.loads(text).items()}
    except (ValueError, AttributeError):
        return {}


def _side_names(path: str) -> dict[int, str]:
    file = Path(f'{path}.aux.xml')
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            return {}
        text = file.read_bytes()
        if b'<!' in text.replace(b'<!--', b''):  # entities could expand without bound
            return {}
        band = ElementTree.fromstring(text).find('PAMRasterBand')  # noqa: S314
    except (OSError, ElementTree.ParseError):
        return {}
    if band is None:
        return {}
    names = {
        n: item.text.strip() for n, item in enumerate(band.iterfind('CategoryNames/Category')) if item.text
    }
    return names or _attribute_table(band)


def _attribute_table(band: ElementTree.Element) -> dict[int, str]:
    uses = [field.findtext('Usage') for field in band.iterfind('GDALRasterAttributeTable/FieldDefn')]
    if VALUE not in uses or NAME not in uses:
        return {}
    names = {}
    for row in band.iterfind('GDALRasterAttributeTable/Row'):
        cells = [cell.text or '' for cell in row.iterfind('F')]
        try:
            names[int(float(cells[uses.index(VALUE)]))] = cells[uses.index(NAME)].strip()
        except (ValueError, IndexError, OverflowError):
            return {}
    return names


def parse_pairs(text: str, option: str) -> dict[str, str]:
    """Read ``Water=0.9,Forest=0.8``.

    Raises:
        UsageError: it is not written so, or something is named twice.
    """
    pairs: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(','))):
        left, equals, right = (piece.strip() for piece in part.partition('='))
        if not (left and equals and right):
            raise UsageError(f'{option} is written as a=b,c=d: {part!r} cannot be read')
        if left in pairs:
            raise UsageError(f'{option} names {left!r} twice')
        pairs[left] = right
    return pairs


def parse_values(text: str, option: str) -> dict[str, float]:
    """Read ``Water=0.9,Forest=0.8`` as numbers.

    Raises:
        UsageError: it is not written so.
    """
    pairs = parse_pairs(text, option)
    try:
        return {name: float(value) for name, value in pairs.items()}
    except ValueError as error:
        raise UsageError(f'{option} takes a number for each class, not {text!r}') from error


def parse_classes(text: str, option: str) -> dict[int, str]:
    """Read ``1=Water,2=Forest``.

    Raises:
        UsageError: it is not written so.
    """
    pairs = parse_pairs(text, option)
    try:
        return {int(value): name for value, name in pairs.items()}
    except ValueError as error:
        raise UsageError(f'{option} takes whole numbers, such as 1=Water,2=Forest, not {text!r}') from error

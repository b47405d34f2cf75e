"""Files beside a raster or polygons that tell GIS programs how to show them.

A `.aux.xml` holds names and attribute tables, which GDAL, QGIS and ArcGIS look for; a `.qml` is a style that
QGIS applies when it opens the file of the same name.
"""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from geores.cartography.areas import NODATA_NAME, Legend, Tally

__all__ = [
    'class_side_file',
    'label_side_file',
    'side_path',
    'write_polygon_style',
    'write_qgis_style',
    'write_side_file',
]

QGIS_VERSION = '3.22'
"""Version of QGIS whose format the styles have; later ones read it."""

# GDAL's codes (GDALRATFieldType, GDALRATFieldUsage) of columns of an attribute table.
_INTEGER, _REAL, _STRING = 0, 1, 2
_GENERIC, _COUNT, _NAME, _VALUE, _RED, _GREEN, _BLUE, _ALPHA = 0, 1, 2, 5, 6, 7, 8, 9

_Column = tuple[str, int, int, list[Any]]
"""Name, type, usage and cells of a column."""


def side_path(path: Path) -> Path:
    """Path of the `.aux.xml` beside a raster, where GDAL looks for what the raster's format cannot hold."""
    return path.with_name(f'{path.name}.aux.xml')


def class_side_file(legend: Legend, tally: Tally) -> ET.Element:
    """The side file of a class map: category names and an attribute table.

    Args:
        legend: of its values.
        tally: of its pixels.
    """
    root, band = _band(1)
    _categories(band, [NODATA_NAME, *legend.labels])
    columns: list[_Column] = [
        ('Value', _INTEGER, _VALUE, list(legend.values)),
        ('Class', _STRING, _NAME, list(legend.labels)),
        ('Count', _REAL, _COUNT, tally.pixels[1:].tolist()),  # integers of GDAL end at 2,147,483,647
        *_colour_columns(legend.rgb),
    ]
    if tally.unit == 'm2':
        columns.append(('Area_m2', _REAL, _GENERIC, tally.areas[1:].tolist()))
    _table(band, columns)
    return root


def label_side_file(labels: Sequence[str], names: Sequence[str], colours: NDArray[np.uint8]) -> ET.Element:
    """The side file of a raster with one band per label: category names and an attribute table per band.

    Args:
        labels: of the bands.
        names: of the values from 0.
        colours: of the values from 1, (n, 3).
    """
    root = ET.Element('PAMDataset')
    for number, label in enumerate(labels, start=1):
        _, band = _band(number, root)
        ET.SubElement(band, 'Description').text = label
        _categories(band, names)
        values = range(1, len(names))
        _table(band, [
            ('Value', _INTEGER, _VALUE, list(values)),
            ('Class', _STRING, _NAME, list(names[1:])),
            *_colour_columns(colours),
        ])  # fmt: skip
    return root


def write_side_file(root: ET.Element, path: Path) -> None:
    """Write a side file."""
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding='utf-8')


def _band(number: int, root: ET.Element | None = None) -> tuple[ET.Element, ET.Element]:
    root = ET.Element('PAMDataset') if root is None else root
    return root, ET.SubElement(root, 'PAMRasterBand', band=str(number))


def _categories(band: ET.Element, names: Sequence[str]) -> None:
    categories = ET.SubElement(band, 'CategoryNames')
    for name in names:
        ET.SubElement(categories, 'Category').text = name


def _colour_columns(colours: NDArray[np.uint8]) -> list[_Column]:
    named = (('Red', _RED), ('Green', _GREEN), ('Blue', _BLUE))
    columns: list[_Column] = [
        (name, _INTEGER, use, colours[:, index].tolist()) for index, (name, use) in enumerate(named)
    ]
    return [*columns, ('Alpha', _INTEGER, _ALPHA, [255] * len(colours))]


def _table(band: ET.Element, columns: Sequence[_Column]) -> None:
    table = ET.SubElement(band, 'GDALRasterAttributeTable', tableType='thematic')
    for index, (name, kind, use, _) in enumerate(columns):
        field = ET.SubElement(table, 'FieldDefn', index=str(index))
        for tag, text in (('Name', name), ('Type', kind), ('Usage', use)):
            ET.SubElement(field, tag).text = str(text)
    for index, cells in enumerate(zip(*(column[3] for column in columns), strict=True)):
        row = ET.SubElement(table, 'Row', index=str(index))
        for cell in cells:
            ET.SubElement(row, 'F').text = repr(cell) if isinstance(cell, float) else str(cell)


def write_qgis_style(path: Path, legend: Legend, clear: Container[int] = ()) -> None:
    """Write a style that shows the values of a raster by name and colour.

    Args:
        path: `<name>.qml` for the raster `<name>.tif`.
        legend: of the values.
        clear: values that are listed but not drawn.
    """
    root = ET.Element(
        'qgis', version=QGIS_VERSION, styleCategories='Symbology', hasScaleBasedVisibilityFlag='0'
    )
    pipe = ET.SubElement(root, 'pipe')
    provider = ET.SubElement(pipe, 'provider')
    ET.SubElement(
        provider,
        'resampling',
        enabled='false',
        maxOversampling='2',
        zoomedInResamplingMethod='nearestNeighbour',
        zoomedOutResamplingMethod='nearestNeighbour',
    )
    renderer = ET.SubElement(
        pipe, 'rasterrenderer', type='paletted', band='1', opacity='1', alphaBand='-1', nodataColor=''
    )
    ET.SubElement(renderer, 'rasterTransparency')
    palette = ET.SubElement(renderer, 'colorPalette')
    for value, label, colour in zip(legend.values, legend.labels, legend.colours, strict=True):
        alpha = '0' if value in clear else '255'
        ET.SubElement(palette, 'paletteEntry', value=str(value), color=colour, label=label, alpha=alpha)
    ET.SubElement(pipe, 'brightnesscontrast', brightness='0', contrast='0', gamma='1')
    ET.SubElement(
        pipe,
        'huesaturation',
        saturation='0',
        grayscaleMode='0',
        colorizeOn='0',
        colorizeRed='255',
        colorizeGreen='128',
        colorizeBlue='128',
        colorizeStrength='100',
    )
    ET.SubElement(pipe, 'rasterresampler', maxOversampling='2')
    ET.SubElement(pipe, 'resamplingStage').text = 'resamplingFilter'
    ET.SubElement(root, 'blendMode').text = '0'
    _write_qml(root, path)


def write_polygon_style(path: Path, legend: Legend) -> None:
    """Write a style that shows polygons by their column `label`.

    Args:
        path: `<name>.qml` for the polygons `<name>.gpkg` or `<name>.parquet`.
        legend: labels and colours.
    """
    root = ET.Element('qgis', version=QGIS_VERSION, styleCategories='Symbology')
    renderer = ET.SubElement(root, 'renderer-v2', type='categorizedSymbol', attr='label')
    categories = ET.SubElement(renderer, 'categories')
    symbols = ET.SubElement(renderer, 'symbols')
    for number, (label, colour) in enumerate(zip(legend.labels, legend.rgb.tolist(), strict=True)):
        ET.SubElement(
            categories, 'category', value=label, label=label, symbol=str(number), render='true', type='string'
        )
        symbol = ET.SubElement(symbols, 'symbol', type='fill', name=str(number), alpha='1')
        layer = ET.SubElement(symbol, 'layer', {'class': 'SimpleFill', 'enabled': '1', 'pass': '0'})
        options = ET.SubElement(layer, 'Option', type='Map')
        red, green, blue = colour
        for name, value in (
            ('color', f'{red},{green},{blue},255'),
            ('style', 'solid'),
            ('outline_style', 'no'),
        ):
            ET.SubElement(options, 'Option', type='QString', name=name, value=value)
    _write_qml(root, path)


def _write_qml(root: ET.Element, path: Path) -> None:
    ET.indent(root)
    with path.open('wb') as file:
        file.write(b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n")
        ET.ElementTree(root).write(file, encoding='utf-8', xml_declaration=False)

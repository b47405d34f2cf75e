"""Styles that QGIS opens a raster or polygons with: a `.qml` of their name beside them."""

from collections.abc import Container
from pathlib import Path
from xml.etree import ElementTree as ET

from geores.cartography.legend import Legend

__all__ = ['write_polygon_style', 'write_qgis_style']

VERSION = '3.22'
"""Of QGIS, whose form the file has; later ones read it."""


def write_qgis_style(path: Path, legend: Legend, clear: Container[int] = ()) -> None:
    """Write a style that shows the values of a raster's band by name and colour.

    Args:
        path: `<name>.qml` for the raster `<name>.tif`.
        legend: of the values.
        clear: values that are not drawn, though listed.
    """
    root = ET.Element('qgis', version=VERSION, styleCategories='Symbology', hasScaleBasedVisibilityFlag='0')
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
        pipe,
        'rasterrenderer',
        type='paletted',
        band='1',
        opacity='1',
        alphaBand='-1',
        nodataColor='',
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
    _write(root, path)


def write_polygon_style(path: Path, legend: Legend) -> None:
    """Write a style that shows polygons by their column `label`.

    Args:
        path: `<name>.qml` for the polygons `<name>.gpkg` or `<name>.parquet`.
        legend: labels and colours.
    """
    root = ET.Element('qgis', version=VERSION, styleCategories='Symbology')
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
    _write(root, path)


def _write(root: ET.Element, path: Path) -> None:
    ET.indent(root)
    with path.open('wb') as file:
        file.write(b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n")
        ET.ElementTree(root).write(file, encoding='utf-8', xml_declaration=False)

"""Class maps and grids to draw and to write."""

from xml.etree import ElementTree as ET

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geores.cartography.areas import Legend

LEGEND = Legend.of(['water', 'trees', 'crops', 'built'])
GRIDS = {
    'utm': (Affine(10, 0, 300_000, 0, -10, 5_800_000), 'EPSG:32633'),
    'turned': (Affine(8, 3, 300_000, 3, -8, 5_800_000), 'EPSG:32633'),
    'geographic': (Affine(1e-3, 0, 13, 0, -1e-3, 52), 'EPSG:4326'),
    'nowhere': (Affine.identity(), None),
}


def grid(shape, kind='utm'):
    """A grid of rows and columns somewhere on Earth, or nowhere."""
    return GeoBox(shape, *GRIDS[kind])


def class_array(height=300, width=280, labels=4, seed=0, side=10, dtype='uint8'):
    """Squares of classes with some single pixels, and a corner without data."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(1, labels + 1, (-(-height // side), -(-width // side)))
    values = coarse.repeat(side, 0).repeat(side, 1)[:height, :width]
    odd = draw.random(values.shape) < 0.02
    values[odd] = draw.integers(1, labels + 1, int(odd.sum()))
    values[: height // 4, : width // 4] = 0
    return values.astype(dtype)


def blocks(values, side=128):
    """The windows of an array."""
    for row in range(0, values.shape[-2], side):
        for col in range(0, values.shape[-1], side):
            part = values[..., row : row + side, col : col + side]
            yield slice(row, row + part.shape[-2]), slice(col, col + part.shape[-1]), part


def xml_of(path):
    """The root of a file that the test has written itself."""
    return ET.parse(path).getroot()  # noqa: S314

"""A map of classes, and its sample filled in."""

import warnings

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

NAMES = {1: 'Water', 2: 'Forest', 3: 'Field'}


def class_values(height=60, width=80, seed=0, shares=(0.02, 0.08, 0.3, 0.6)):
    """Values 0 (nodata) to 3, the first rare, in patches."""
    draw = np.random.default_rng(seed)
    coarse = draw.choice(len(shares), p=shares, size=(-(-height // 4), -(-width // 4)))
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width].astype('uint8')


def label(path, truth=lambda frame: frame['map_class']):
    """Fill in the reference column of a sample."""
    frame = gpd.read_file(path)
    frame['reference'] = truth(frame)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', "'crs' was not provided")
        frame.to_file(path, layer='sample')


def value_at(path, frame):
    """Rows, columns and values of a raster at the points of a sample."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            places = [file.index(x, y) for x, y in zip(frame['x'], frame['y'], strict=True)]
            band = file.read(1)
    return places, [int(band[place]) for place in places]

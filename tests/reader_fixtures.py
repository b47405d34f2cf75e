"""GeoTIFFs of one corner, and what is in them."""

import numpy as np
import rasterio
from affine import Affine

UTM = 'EPSG:32633'
CORNER = (300_000.0, 5_800_000.0)


def write(path, values, pixel=10.0, crs=UTM, nodata=None, names=None, **profile):
    values = np.atleast_3d(values) if values.ndim == 2 else values
    values = values if values.shape[0] < 20 else np.moveaxis(values, -1, 0)
    count, height, width = values.shape
    transform = Affine(pixel, 0, CORNER[0], 0, -pixel, CORNER[1])
    with rasterio.open(
        path, 'w', driver='GTiff', count=count, height=height, width=width, dtype=values.dtype,
        crs=crs, transform=transform, nodata=nodata, **profile,
    ) as file:  # fmt: skip
        file.write(values)
        file.descriptions = names or [f'band{i + 1}' for i in range(count)]
    return path


def noise(shape, seed=0, dtype='uint16'):
    return np.random.default_rng(seed).integers(1, 4000, shape).astype(dtype)


def everywhere(grid):
    return slice(0, grid.shape.y), slice(0, grid.shape.x)

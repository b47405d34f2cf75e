"""Clouds in Sentinel-2 L1C by s2cloudless, whose weights lie in its package (extra ``geores[clouds]``)."""

from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geores.errors import UsageError
from geores.inference.coarse import coarser_by
from geores.inference.reader import Conversion, GridReader
from geores.inference.target import Target
from geores.scenes import ArrayRaster, Raster, Scene, gdal_env

__all__ = ['check_detector', 'detect_clouds', 'detector_version']

BANDS = ('B01', 'B02', 'B04', 'B05', 'B08', 'B8A', 'B09', 'B10', 'B11', 'B12')
"""What the detector takes, in this order, as reflectance at the top of the atmosphere."""

METRES = 60.0
"""Pixel size at which clouds are looked for: that of B10, which shows cirrus."""

THRESHOLD, AVERAGE_OVER, DILATION = 0.4, 4, 2
"""Least probability of cloud; radii in pixels of averaging and of widening. Those that the authors of
s2cloudless use at 60 m."""

BLOCK = 256


def detector_version() -> str:
    """The version of s2cloudless.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return version('s2cloudless')
    except PackageNotFoundError as error:
        raise UsageError(
            "--clouds (clouds=) needs the package s2cloudless: pip install 'geores[clouds]'"
        ) from error


def check_detector(scene: Scene) -> None:
    """Raise `UsageError` where clouds cannot be looked for in a scene, from its headers.

    Args:
        scene: the scene.
    """
    detector_version()
    needs = f'--clouds (clouds=) needs Sentinel-2 L1C with {", ".join(BANDS)}'
    if scene.sensor != 'Sentinel-2' or scene.processing_level == 'L2A':
        what = scene.processing_level or scene.sensor or 'of an unknown sensor'
        raise UsageError(f'{needs}; {scene.name} is {what}: give --mask a raster, such as the SCL of L2A')
    if missing := scene.missing(BANDS):
        raise UsageError(f'{needs}; {scene.name} lacks {", ".join(missing)}: give --mask a raster instead')
    if bare := [name for name in BANDS if scene.band(name).scale is None]:
        raise UsageError(f'{needs} as reflectance; {scene.name} states no scale of {", ".join(bare)}')
    if scene.is_lazy:
        raise UsageError(
            f'{needs} from files; {scene.name} is computed by dask: compute it first (.compute())'
        )


def detect_clouds(scene: Scene, target: Target, *, workers: int = 1) -> Raster:
    """Look for clouds at about 60 m.

    Args:
        scene: that `check_detector` lets pass.
        target: the grid over which clouds are wanted.
        workers: threads.

    Returns:
        A raster of the whole grid that is 1 in clouds and 0 elsewhere.

    Raises:
        ReadError: the bands cannot be read.
    """
    finest = abs(scene.geobox.affine.a) if target.gsd is None else target.gsd
    grid = coarser_by(target.grid, max(1, round(METRES / finest)))
    probability = np.zeros(grid.shape.yx, np.float32)
    reflectance = {
        name: Conversion(band.scale or 1.0, band.offset or 0.0)
        for name, band in ((name, scene.band(name)) for name in BANDS)
    }
    reader = GridReader(scene, BANDS, grid, conversions=reflectance, cache_bytes=2**26)
    detector = _detector()
    with gdal_env():
        for row, col in product(*(range(0, size, BLOCK) for size in grid.shape.yx)):
            rows = slice(row, min(row + BLOCK, grid.shape.y))
            cols = slice(col, min(col + BLOCK, grid.shape.x))
            values, valid = reader.read(rows, cols)
            pixels = np.moveaxis(values, 0, -1)[valid][None, None]
            if pixels.size:
                found = detector.get_cloud_probability_maps(pixels, num_threads=workers)
                probability[rows, cols][valid] = found[0, 0]
    clouds: NDArray[np.uint8] = detector.get_mask_from_prob(probability[None])[0].astype(np.uint8)
    array = xr.DataArray(clouds[None], dims=('band', 'y', 'x'), name='clouds')
    return ArrayRaster(array, grid, '<clouds>')


def _detector() -> Any:  # noqa: ANN401 - the package states no types
    from s2cloudless.cloud_detector import S2PixelCloudDetector

    return S2PixelCloudDetector(threshold=THRESHOLD, average_over=AVERAGE_OVER, dilation_size=DILATION)

"""Clouds in a Sentinel-2 scene: a note on how many there may be, and a detector.

`cloud_note` applies a rule of brightness to a coarse look at the scene and costs little. `detect_clouds`
runs s2cloudless on L1C; its weights lie in its package (extra ``geores[clouds]``).
"""

from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import Any

import numpy as np
import rasterio.warp
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geores.errors import UsageError
from geores.inference.reader import GridReader, UnitTransform
from geores.inference.target import Target, coarser, coarser_by
from geores.scenes import ArrayRaster, Band, FileRaster, Raster, Scene, gdal_env
from geores.scenes.blocks import holding_blocks

__all__ = ['check_detector', 'cloud_note', 'detect_clouds', 'detector_version', 'is_bright']

BLUE, GREEN, SWIR = 'B02', 'B03', 'B11'

BRIGHT, BRIGHTEST, NO_SNOW = 0.175, 0.39, 0.2
"""Reflectances of Braaten, Cohen and Yang (2015), and of the short-wave infrared below which it is snow."""

NOTABLE = 0.01
"""Least share of cloud that a note mentions."""

LOOK_PIXELS = 512
"""Longest side of the coarse look at a scene."""

FEW_PIXELS = 256
"""The same of a scene on a server, whose overview of that size is looked at for its borders already."""

WINDOW = 64
WINDOWS = 6
"""Windows along each axis that are read of rasters without overviews that are larger than `SMALL`."""
SMALL = 2**22
"""Number of pixels up to which a raster without overviews is read whole."""

DETECTOR_BANDS = ('B01', 'B02', 'B04', 'B05', 'B08', 'B8A', 'B09', 'B10', 'B11', 'B12')
"""What the detector takes, in this order, as reflectance at the top of the atmosphere."""

METRES = 60.0
"""Pixel size at which clouds are looked for: that of B10, which shows cirrus."""

THRESHOLD, AVERAGE_OVER, DILATION = 0.4, 4, 2
"""Least probability of cloud; radii in pixels of averaging and of widening. Those that the authors of
s2cloudless use at 60 m."""

BLOCK = 256
"""Pixels along each side of what is read at once for the detector."""

Look = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Reflectances (bands, ...) and validity (...)."""


def is_bright(
    blue: NDArray[np.float32], green: NDArray[np.float32], swir: NDArray[np.float32] | None = None
) -> NDArray[np.bool_]:
    """Tell which pixels are as bright as clouds.

    The rule of Braaten, Cohen and Yang (2015, Remote Sensing of Environment 169): bright in the shortest
    band and darker in the next, or very bright. They had green and red; blue and green find thin cloud over
    soil too, and mistake fewer roofs. With a short-wave infrared above 0.2, which snow has not, as is
    usual where the rule is used for Sentinel-2.

    Args:
        blue: reflectance of B02.
        green: reflectance of B03.
        swir: reflectance of B11; without it, snow counts too.
    """
    bright = ((blue > BRIGHT) & (blue > green)) | (blue > BRIGHTEST)
    return bright if swir is None else bright & (swir > NO_SNOW)


def cloud_note(scene: Scene, target: Target) -> tuple[str, ...]:
    """Note which share of a scene without a mask may be cloud, where it is above 1 %.

    Nothing where that is not known: other sensors, pictures of 8 bits, values of unknown scale, and what
    dask would have to compute.

    Args:
        scene: the scene.
        target: the part of it that is read.

    Raises:
        ReadError: if the scene cannot be read.
    """
    bands = _bands(scene)
    if bands is None:
        return ()
    with gdal_env(), holding_blocks():
        values, valid = _look(scene, bands, target.grid)
    seen = values[:, valid]
    if not seen.size:
        return ()
    share = float(is_bright(*seen).mean())
    if share < NOTABLE:
        return ()
    what = 'cloud' if SWIR in bands else 'cloud or snow'
    level = scene.processing_level != 'L2A' and not scene.missing(DETECTOR_BANDS)
    give = '--mask (mask=), or --clouds (clouds=)' if level else '--mask (mask=), such as the SCL of L2A'
    return (
        f'about {share * 100:.0f} % of the scene may be {what} (by its brightness: Braaten, Cohen and Yang '
        f'2015), and is classified as land: give {give}',
    )


def _bands(scene: Scene) -> dict[str, Band] | None:
    """Find the bands that the rule takes, by name."""
    if scene.sensor != 'Sentinel-2' or scene.is_lazy or scene.missing((BLUE, GREEN)):
        return None
    names = [BLUE, GREEN] if scene.missing([SWIR]) else [BLUE, GREEN, SWIR]
    bands = {name: scene.band(name) for name in names}
    known = all(band.scale is not None and band.units == 'reflectance' for band in bands.values())
    return bands if known else None


def _look(scene: Scene, bands: dict[str, Band], grid: GeoBox) -> Look:
    """Read reflectances (bands, ...) and validity (...) of a sample of the grid."""
    if all(_is_quick(band.raster) for band in bands.values()):
        return _glance(bands, coarser(grid, LOOK_PIXELS))
    reader = GridReader(scene, list(bands), grid, transforms=_reflectance(bands), cache_bytes=2**26)
    rows, cols = (_windows(size) for size in grid.shape.yx)
    # From the last one on, for GDAL does not fetch ahead then.
    parts = [reader.read(*window) for window in reversed([*product(rows, cols)])]
    values = np.concatenate([values.reshape(len(bands), -1) for values, _ in parts], axis=1)
    return values, np.concatenate([valid.ravel() for _, valid in parts])


def _is_quick(raster: Raster) -> bool:
    """Whether a coarse look at the whole of it costs little; JPEG 2000 is decoded coarsely by itself."""
    if raster.geobox.shape.y * raster.geobox.shape.x <= SMALL or not isinstance(raster, FileRaster):
        return True
    return raster.header.has_overviews or raster.header.driver == 'JP2OpenJPEG'


def _windows(size: int) -> list[slice]:
    starts = [int((part + 0.5) / WINDOWS * size) // WINDOW * WINDOW for part in range(WINDOWS)]
    return [slice(start, min(start + WINDOW, size)) for start in dict.fromkeys(starts)]


def _glance(bands: dict[str, Band], grid: GeoBox) -> Look:
    """Look at overviews, brought onto a coarse grid."""
    shape = (grid.shape.y, grid.shape.x)
    values = np.full((len(bands), *shape), np.nan, np.float32)
    crs = 'EPSG:3857' if grid.crs is None else grid.crs.to_wkt()
    for (name, transform), into in zip(_reflectance(bands).items(), values, strict=True):
        raster = bands[name].raster
        remote = isinstance(raster, FileRaster) and raster.is_remote
        seen, valid = raster.read_coarse(bands[name].index, FEW_PIXELS if remote else LOOK_PIXELS)
        stored = seen.astype(np.float32)
        transform.apply(stored)
        if valid is not None:
            stored[~valid] = np.nan
        native, (rows, cols) = raster.geobox, stored.shape
        scale = native.affine.scale(native.shape.x / cols, native.shape.y / rows)
        rasterio.warp.reproject(
            stored,
            into,
            src_transform=native.affine @ scale,
            src_crs=crs if native.crs is None else native.crs.to_wkt(),
            src_nodata=np.nan,
            dst_transform=grid.affine,
            dst_crs=crs,
            dst_nodata=np.nan,
            resampling=Resampling.nearest,
        )
    return values, np.asarray(~np.isnan(values).any(0), bool)


def _reflectance(bands: dict[str, Band]) -> dict[str, UnitTransform]:
    return {name: UnitTransform(band.scale or 1.0, band.offset or 0.0) for name, band in bands.items()}


def detector_version() -> str:
    """Tell the version of s2cloudless.

    Raises:
        UsageError: if it is not installed.
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
    needs = f'--clouds (clouds=) needs Sentinel-2 L1C with {", ".join(DETECTOR_BANDS)}'
    if scene.sensor != 'Sentinel-2' or scene.processing_level == 'L2A':
        what = scene.processing_level or scene.sensor or 'of an unknown sensor'
        raise UsageError(f'{needs}; {scene.name} is {what}: give --mask a raster, such as the SCL of L2A')
    if missing := scene.missing(DETECTOR_BANDS):
        raise UsageError(f'{needs}; {scene.name} lacks {", ".join(missing)}: give --mask a raster instead')
    if bare := [name for name in DETECTOR_BANDS if scene.band(name).scale is None]:
        raise UsageError(f'{needs} as reflectance; {scene.name} states no scale of {", ".join(bare)}')
    if scene.is_lazy:
        raise UsageError(
            f'{needs} from files; {scene.name} is computed by dask: compute it first (.compute())'
        )


def detect_clouds(scene: Scene, target: Target, *, workers: int = 1) -> Raster:
    """Look for clouds at about 60 m.

    Args:
        scene: a scene that `check_detector` lets pass.
        target: the grid over which clouds are wanted.
        workers: threads.

    Returns:
        A raster of the whole grid that is 1 in clouds and 0 elsewhere.

    Raises:
        ReadError: if the bands cannot be read.
    """
    finest = abs(scene.geobox.affine.a) if target.gsd is None else target.gsd
    grid = coarser_by(target.grid, max(1, round(METRES / finest)))
    probability = np.zeros(grid.shape.yx, np.float32)
    reflectance = _reflectance({name: scene.band(name) for name in DETECTOR_BANDS})
    reader = GridReader(scene, DETECTOR_BANDS, grid, transforms=reflectance, cache_bytes=2**26)
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
    import xarray as xr

    array = xr.DataArray(clouds[None], dims=('band', 'y', 'x'), name='clouds')
    return ArrayRaster(array, grid, '<clouds>')


def _detector() -> Any:  # noqa: ANN401 - the package states no types
    from s2cloudless.cloud_detector import S2PixelCloudDetector

    return S2PixelCloudDetector(threshold=THRESHOLD, average_over=AVERAGE_OVER, dilation_size=DILATION)

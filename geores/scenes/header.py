"""What a raster file says about itself, read once and without any pixels.

From stored values to physical ones: what a file, its product or its sensor states.

Blocks that a GeoTIFF declares but does not hold, as where its writer was stopped.
"""

import os
import re
from dataclasses import dataclass

import numpy as np
import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio import DatasetReader
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from geores.errors import SceneError
from geores.scenes.bands import SENTINEL1_BANDS, SENTINEL2_BANDS
from geores.scenes.gdal import find_driver, open_dataset
from geores.scenes.product import Product

__all__ = ['Header', 'Meaning', 'held_pixels', 'known_crs', 'meaning_of', 'read_header']


@dataclass(frozen=True)
class Header:
    """Header of a raster file.

    Attributes:
        path: As given.
        driver: GDAL's short name.
        geobox: Grid of the file; `crs` is None when the file states none.
        count: Number of bands, alpha included.
        dtype: Type of the values.
        block_shape: Rows and columns of a native block, as GDAL has it.
        nodata: A band's nodata value each, or None.
        alpha: 1-based index of the alpha band, or None.
        has_mask: Whether a mask band (internal or `.msk`) marks invalid pixels.
        descriptions: A band's description each, or None.
        colors: A band's colour interpretation each, such as 'red' or 'undefined'.
        scales: A band's scale each (1.0 when not stated).
        offsets: A band's offset each (0.0 when not stated).
        units: A band's unit each, or None.
        compression: Such as 'DEFLATE', or None.
        shares_blocks: Whether a block holds all the bands (interleaved by pixel).
        has_overviews: Whether coarser copies of its pixels can be read for little.
    """

    path: str
    driver: str
    geobox: GeoBox
    count: int
    dtype: np.dtype
    block_shape: tuple[int, int]
    nodata: tuple[float | None, ...]
    alpha: int | None
    has_mask: bool
    descriptions: tuple[str | None, ...]
    colors: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str | None, ...]
    compression: str | None
    shares_blocks: bool
    has_overviews: bool = False

    @property
    def is_georeferenced(self) -> bool:
        """Whether the file states where its pixels lie, if only without a CRS."""
        return not self.geobox.affine.is_identity

    @property
    def data_indexes(self) -> tuple[int, ...]:
        """1-based indexes of the bands other than alpha."""
        return tuple(index for index in range(1, self.count + 1) if index != self.alpha)


def read_header(path: str, *, allow_vrt: bool = False) -> Header:
    """Read the header of a raster file.

    Raises:
        SceneError: If it cannot be opened, or has no grid of its own.
    """
    driver = find_driver(path, allow_vrt=allow_vrt)
    if os.path.isfile(f'{path}.msk'):
        # GDAL opens this one by itself, with any driver.
        find_driver(f'{path}.msk', allow_vrt=allow_vrt)
    with open_dataset(path, driver, quiet=True) as dataset:
        _check(dataset, path)
        structure = dataset.tags(ns='IMAGE_STRUCTURE')
        colors = tuple(color.name for color in dataset.colorinterp)
        return Header(
            path=path,
            driver=driver,
            geobox=GeoBox((dataset.height, dataset.width), dataset.transform, known_crs(dataset.crs)),
            count=dataset.count,
            dtype=np.result_type(*dataset.dtypes),
            block_shape=dataset.block_shapes[0],
            nodata=dataset.nodatavals,
            alpha=colors.index(ColorInterp.alpha.name) + 1 if 'alpha' in colors else None,
            has_mask=any(
                MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
                for flags in dataset.mask_flag_enums
            ),
            descriptions=dataset.descriptions,
            colors=colors,
            scales=dataset.scales,
            offsets=dataset.offsets,
            units=dataset.units,
            compression=structure.get('COMPRESSION'),
            shares_blocks=structure.get('INTERLEAVE') == 'PIXEL',
            has_overviews=bool(dataset.overviews(1)),
        )


def known_crs(crs: rasterio.CRS | None) -> CRS | None:
    """Name a CRS by its EPSG code where it is exactly that one."""
    if not crs:
        return None
    code = crs.to_epsg(confidence_threshold=100)
    return CRS(crs if code is None else f'EPSG:{code}')


def _check(dataset: DatasetReader, path: str) -> None:
    if dataset.count == 0:
        raise SceneError(f'{path}: holds no bands of its own; give one of its subdatasets as a file')
    odd = [name for name in dataset.dtypes if not re.fullmatch(r'u?int\d+|float\d+', name)]
    if odd:
        raise SceneError(f'{path}: holds {odd[0]} values; convert it to real numbers first')
    if dataset.transform.is_identity and dataset.gcps[0]:
        raise SceneError(
            f'{path}: is placed by ground control points only; warp it to a grid first, '
            'as with `gdalwarp -tps`'
        )


@dataclass(frozen=True)
class Meaning:
    """How to read the values of a band: see `Band` for scale, offset and units."""

    scale: float | None = None
    offset: float | None = None
    units: str | None = None
    note: str | None = None


def meaning_of(
    band: str,
    dtype: np.dtype,
    *,
    sensor: str | None,
    product: Product | None = None,
    stated: tuple[float, float] | None = None,
    stated_units: str | None = None,
) -> Meaning:
    """Decide what the values of a band mean.

    Args:
        band: Canonical name.
        dtype: Of the stored values.
        sensor: Of the scene, where known.
        product: Which the file belongs to, where known.
        stated: Scale and offset that the file itself states.
        stated_units: Units that the file itself states.
    """
    if sensor == 'Sentinel-2' and (band in SENTINEL2_BANDS or band in SENTINEL2_BANDS.values()):
        return _reflectance(band, dtype, product, stated)
    scale, offset = stated if stated else (None, None)
    units = stated_units or None
    if band in SENTINEL1_BANDS:
        return _backscatter(dtype, scale, offset, units)
    if dtype == np.uint8 and stated is None:
        units = '8-bit'
    return Meaning(scale, offset, units)


def _reflectance(
    band: str, dtype: np.dtype, product: Product | None, stated: tuple[float, float] | None
) -> Meaning:
    if stated is not None:
        return Meaning(*stated, 'reflectance')
    if dtype == np.uint8:
        return Meaning(units='8-bit', note='8-bit values are taken as a display image')
    if dtype.kind == 'f':
        note = 'floating-point values without a stated scale: whether they are reflectance is unknown'
        return Meaning(note=note)
    if product is not None and product.sensor == 'Sentinel-2':
        return Meaning(*product.scale_and_offset(band), 'reflectance', product.note)
    note = 'no scale stated: reflectance = DN / 10000 without offset, as Sentinel-2 had before 2022'
    return Meaning(1e-4, 0.0, 'reflectance', note)


def _backscatter(dtype: np.dtype, scale: float | None, offset: float | None, units: str | None) -> Meaning:
    if units and units.lower() in {'db', 'decibel', 'decibels'}:
        return Meaning(scale, offset, 'dB')
    if units is None and dtype.kind == 'f':
        return Meaning(scale, offset, 'dB', 'backscatter is taken to be in dB: no unit is stated')
    return Meaning(scale, offset, units)


def held_pixels(dataset: DatasetReader, index: int, window: Window, values: np.ndarray) -> np.ndarray | None:
    """Find the pixels of a GeoTIFF's band that are in the file; GDAL reads zeros for all others.

    Args:
        dataset: The file.
        index: 1-based index of a band without nodata.
        window: Which was read.
        values: What was read (rows, cols).

    Returns:
        True where the file holds a pixel (rows, cols), or None when it holds all.
    """
    height, width = dataset.block_shapes[index - 1]
    tops, bottoms = _blocks(int(window.row_off), values.shape[0], height)
    lefts, rights = _blocks(int(window.col_off), values.shape[1], width)
    held = None
    # Only a block of nothing but zeros is asked for: asking costs more than looking.
    for row, col in np.argwhere(values[np.ix_(tops, lefts)] == 0):
        top, left = tops[row], lefts[col]
        bottom, right = bottoms[row], rights[col]
        if values[top:bottom, left:right].any():
            continue
        block = f'{(window.col_off + left) // width}_{(window.row_off + top) // height}'
        if dataset.get_tag_item(f'BLOCK_OFFSET_{block}', 'TIFF', bidx=index) is None:
            held = np.ones(values.shape, bool) if held is None else held
            held[top:bottom, left:right] = False
    return held


def _blocks(offset: int, length: int, step: int) -> tuple[list[int], list[int]]:
    """Where blocks start and end within a window, the first and last of them cut by its edges."""
    edges = [0, *range(step - offset % step, length, step), length]
    return (edges[:-1], edges[1:]) if length else ([], [])

"""What a raster file says about itself, read once and without any pixels."""

import os
import re
from dataclasses import dataclass

import numpy as np
import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio import DatasetReader
from rasterio.enums import ColorInterp, MaskFlags

from geores.errors import SceneError
from geores.scenes.gdal import find_driver, open_dataset

__all__ = ['Header', 'known_crs', 'read_header']


@dataclass(frozen=True)
class Header:
    """Header of a raster file.

    Attributes:
        path: as given.
        driver: GDAL's short name.
        geobox: grid of the file; `crs` is None when the file states none.
        count: number of bands, alpha included.
        dtype: type of the values.
        block_shape: rows and columns of a native block, as GDAL has it.
        nodata: nodata value of each band, or None.
        alpha: 1-based index of the alpha band, or None.
        has_mask: whether a mask band (internal or `.msk`) marks invalid pixels.
        descriptions: description of each band, or None.
        colors: colour interpretation of each band, such as 'red' or 'undefined'.
        scales: scale of each band (1.0 when not stated).
        offsets: offset of each band (0.0 when not stated).
        units: unit of each band, or None.
        compression: such as 'DEFLATE', or None.
        shares_blocks: whether a block holds all the bands (interleaved by pixel).
        has_overviews: whether coarser copies of its pixels can be read for little.
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
        SceneError: if it cannot be opened, or has no grid of its own.
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

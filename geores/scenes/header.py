"""What a raster file or an xarray object says about itself: read once, without any pixels."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyproj
import rasterio
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError, ProjError
from rasterio import DatasetReader
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags

from geores.errors import SceneError, UsageError, printable, without_secrets
from geores.scenes.gdal import find_driver, open_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    'Header',
    'crs_fault',
    'geobox_of',
    'header_fingerprint',
    'known_crs',
    'read_header',
    'spatial_dims',
]

_Y_NAMES: Final = ('y', 'latitude', 'lat', 'northing')
_X_NAMES: Final = ('x', 'longitude', 'lon', 'easting')
_END_BYTES: Final = 64 * 1024
"""How much of either end of a local file goes into its fingerprint."""

_TOLERANCE: Final = 0.05
"""How far, in pixels, a coordinate may lie from a regular grid."""


def spatial_dims(array: 'xr.DataArray', path: str) -> tuple[str, str]:
    """Find the names of the vertical and the horizontal dimension.

    Raises:
        UsageError: if it lacks one.
    """
    y = next((name for name in _Y_NAMES if name in array.dims), None)
    x = next((name for name in _X_NAMES if name in array.dims), None)
    if y is None or x is None:
        raise UsageError(
            f"{path}: has dimensions {', '.join(map(str, array.dims))}; rename those in space to 'y' and 'x'"
        )
    return y, x


def geobox_of(array: 'xr.DataArray', path: str) -> GeoBox:
    """Find the grid of an array (band, y, x).

    Raises:
        SceneError: if its coordinates are not evenly spaced.
    """
    import rioxarray  # noqa: F401 - gives arrays their `.rio`; with dask it takes a second

    y, x = str(array.dims[1]), str(array.dims[2])
    shape = (array.sizes[y], array.sizes[x])
    return GeoBox(shape, _affine(array, y, x, path), _crs(array))


def _crs(array: 'xr.DataArray') -> CRS | None:
    crs = array.rio.crs
    if crs is not None:
        return known_crs(crs)
    epsg = array.coords.get('epsg')
    if epsg is not None and epsg.ndim == 0:
        return CRS(f'EPSG:{int(epsg)}')
    return None


def _affine(array: 'xr.DataArray', y: str, x: str, path: str) -> Affine:
    stated = _stated_affine(array)
    if not all(dim in array.coords and array[dim].dtype.kind in 'iuf' for dim in (y, x)):
        return stated or Affine.identity()
    res_x, res_y = _stated_resolution(array, stated)
    x0, dx = _axis(array[x].values, res_x, f'{path}: coordinate {x!r}')
    y0, dy = _axis(array[y].values, res_y, f'{path}: coordinate {y!r}')
    if _names_corners(array, stated, x0, y0):
        return Affine(dx, 0, x0, 0, dy, y0)
    return Affine(dx, 0, x0 - dx / 2, 0, dy, y0 - dy / 2)


def _axis(values: np.ndarray, step: float | None, where: str) -> tuple[float, float]:
    """Return the first coordinate of an evenly spaced axis and its step."""
    # Coordinates in single precision are off by their own rounding.
    rounding = 2 * float(np.abs(np.spacing(values)).max()) if values.dtype.kind == 'f' else 0.0
    values = values.astype(float)
    if len(values) > 1:
        step = float(values[-1] - values[0]) / (len(values) - 1)
    if not step:
        raise SceneError(f'{where} does not tell the size of a pixel; state it with rio.write_transform')
    even = values[0] + step * np.arange(len(values))
    if not bool(np.all(np.abs(values - even) <= _TOLERANCE * abs(step) + rounding)):
        raise SceneError(f'{where} is not evenly spaced; reproject the array to a regular grid first')
    return float(values[0]), step


def _stated_affine(array: 'xr.DataArray') -> Affine | None:
    """Read the transform in the grid mapping or, from stackstac, in the attributes."""
    mapping = array.coords.get(array.rio.grid_mapping)
    text = mapping.attrs.get('GeoTransform') if mapping is not None else None
    if text:
        return Affine.from_gdal(*map(float, str(text).split()))
    stated: Any = array.attrs.get('transform')
    return Affine(*list(stated)[:6]) if isinstance(stated, Affine | list | tuple) else None


def _stated_resolution(array: 'xr.DataArray', stated: Affine | None) -> tuple[float | None, float | None]:
    if stated is not None:
        return stated.a, stated.e
    size: Any = array.attrs.get('resolution')
    return (float(size), -float(size)) if isinstance(size, int | float) else (None, None)


def _names_corners(array: 'xr.DataArray', stated: Affine | None, x0: float, y0: float) -> bool:
    """Whether coordinates are those of upper left corners, as stackstac's are by default."""
    if stated is None or 'transform' not in array.attrs or 'epsg' not in array.coords:
        return False
    col, row = (x0 - stated.c) / stated.a, (y0 - stated.f) / stated.e
    return max(abs(col - round(col)), abs(row - round(row))) < 0.25


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
        notes: what the user should be told about where it lies.
        tags: what the file states of the whole in its tags, keys in small letters.
        wavelengths: of each band in nm where its tags state one, or None.
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
    notes: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    wavelengths: tuple[float | None, ...] = ()

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
    try:
        return _read_header(path, driver)
    except CPLE_BaseError as error:
        reason = ' '.join(str(error).split())
        raise SceneError(f'{path}: it, or a world file beside it, is damaged: {reason}') from error


def _read_header(path: str, driver: str) -> Header:
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
            descriptions=tuple(text and printable(text) for text in dataset.descriptions),
            colors=colors,
            scales=dataset.scales,
            offsets=dataset.offsets,
            units=tuple(text and printable(text) for text in dataset.units),
            compression=structure.get('COMPRESSION'),
            shares_blocks=structure.get('INTERLEAVE') == 'PIXEL',
            has_overviews=bool(dataset.overviews(1)),
            notes=_notes(dataset),
            tags={key.lower(): value for key, value in dataset.tags().items()},
            wavelengths=tuple(_wavelength(dataset, index) for index in dataset.indexes),
        )


def _wavelength(dataset: DatasetReader, index: int) -> float | None:
    """Central wavelength of a band in nm, as its tags state it in one of the usual ways."""
    tags = {key.lower(): value for key, value in dataset.tags(index).items()}
    tags |= {key.lower(): value for key, value in dataset.tags(index, ns='IMAGERY').items()}
    for key in ('central_wavelength_um', 'center_wavelength', 'central_wavelength', 'wavelength'):
        try:
            value = float(tags[key].split()[0])
        except (KeyError, ValueError, IndexError):
            continue
        return value * 1000 if value < 100 else value  # micrometres, as STAC has it
    return None


def known_crs(crs: rasterio.CRS | None) -> CRS | None:
    """Name a CRS by its EPSG code where it is exactly that one; None for one of no use on the Earth."""
    if not crs or crs_fault(crs.to_wkt()):
        return None
    code = crs.to_epsg(confidence_threshold=100)
    return CRS(crs if code is None else f'EPSG:{code}')


@lru_cache(maxsize=64)
def crs_fault(wkt: str) -> str | None:
    """Say why places in a CRS cannot be found on the Earth; None where they can.

    Example:
        >>> crs_fault('LOCAL_CS["site",UNIT["metre",1]]')
        "CRS 'site' is a local one"
    """
    try:
        crs = pyproj.CRS.from_wkt(wkt)
    except CRSError as error:
        return f'the CRS cannot be understood ({" ".join(str(error).split())[:100]})'
    if not (crs.is_geographic or crs.is_projected):
        kind = 'a local one' if crs.is_engineering else f'a {crs.type_name}'
        return f'CRS {crs.name!r} is {kind}'
    try:
        pyproj.Transformer.from_crs(crs, 'EPSG:4326', always_xy=True)
    except ProjError:
        return f'CRS {crs.name!r} cannot be brought to longitude and latitude on the Earth'
    return None


def _notes(dataset: DatasetReader) -> tuple[str, ...]:
    if dataset.crs and (fault := crs_fault(dataset.crs.to_wkt())):
        return (f'{fault}: the file is taken as one without CRS; `gdal_edit -a_srs` states another',)
    if dataset.transform.is_identity and dataset.rpcs is not None:
        return (
            'placed by rational polynomial coefficients (RPCs) only, and taken as one without place: '
            'orthorectify it first, as with `gdalwarp -rpc`',
        )
    return ()


def _check(dataset: DatasetReader, path: str) -> None:
    if dataset.count == 0:
        raise SceneError(f'{path}: holds no bands of its own; give one of its subdatasets as a file')
    odd = [name for name in dataset.dtypes if not re.fullmatch(r'u?int\d+|float\d+', name)]
    if odd:
        raise SceneError(f'{path}: holds {odd[0]} values; convert it to real numbers first')
    place = dataset.transform[:6]
    if not np.isfinite(place).all() or dataset.transform.is_degenerate:
        raise SceneError(
            f'{path}: places its pixels by {place}, which is no grid; correct it or its world file'
        )
    if dataset.transform.is_identity and dataset.gcps[0]:
        raise SceneError(
            f'{path}: is placed by ground control points only; warp it to a grid first, '
            'as with `gdalwarp -tps`'
        )


def header_fingerprint(path: str, driver: str) -> str:
    """Digest what the header of a remote file says, with the place of its last block.

    Raises:
        SceneError: if it cannot be opened.
    """
    with open_dataset(path, driver, quiet=True) as dataset:
        rows, cols = dataset.block_shapes[0]
        last = f'{(dataset.width - 1) // cols}_{(dataset.height - 1) // rows}'
        place = [
            dataset.get_tag_item(f'BLOCK_{item}_{last}', 'TIFF', bidx=dataset.count)
            for item in ('OFFSET', 'SIZE')
        ]
        # A token that is renewed does not make it another file.
        stated = (without_secrets(path), dataset.profile, dataset.descriptions, dataset.tags(), place)
    return hashlib.sha256(repr(stated).encode()).hexdigest()


def file_fingerprint(path: str) -> str:
    """Digest the size, the time of change and both ends of a local file.

    Raises:
        SceneError: if the file cannot be read any more.
    """
    try:
        status = Path(path).stat()
        with Path(path).open('rb') as file:
            digest = hashlib.sha256(file.read(_END_BYTES))
            file.seek(max(0, status.st_size - _END_BYTES))
            digest.update(file.read(_END_BYTES))
    except OSError as error:
        raise SceneError(f'{path}: cannot be read any more ({error.strerror})') from error
    digest.update(f'{status.st_size} {status.st_mtime_ns}'.encode())
    return digest.hexdigest()

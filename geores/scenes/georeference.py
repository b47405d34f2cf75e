"""Where an xarray object's pixels lie: its grid from coordinates, grid mapping or attributes."""

from typing import Any, Final

import numpy as np
import rioxarray  # noqa: F401 - gives arrays their `.rio`
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geores.errors import SceneError, UsageError
from geores.scenes.header import known_crs

__all__ = ['geobox_of', 'spatial_dims']

_Y_NAMES: Final = ('y', 'latitude', 'lat', 'northing')
_X_NAMES: Final = ('x', 'longitude', 'lon', 'easting')
_TOLERANCE: Final = 0.05
"""How far, in pixels, a coordinate may lie from a regular grid."""


def spatial_dims(array: xr.DataArray, path: str) -> tuple[str, str]:
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


def geobox_of(array: xr.DataArray, path: str) -> GeoBox:
    """Find the grid of an array (band, y, x).

    Raises:
        SceneError: if its coordinates are not evenly spaced.
    """
    y, x = str(array.dims[1]), str(array.dims[2])
    shape = (array.sizes[y], array.sizes[x])
    return GeoBox(shape, _affine(array, y, x, path), _crs(array))


def _crs(array: xr.DataArray) -> CRS | None:
    crs = array.rio.crs
    if crs is not None:
        return known_crs(crs)
    epsg = array.coords.get('epsg')
    if epsg is not None and epsg.ndim == 0:
        return CRS(f'EPSG:{int(epsg)}')
    return None


def _affine(array: xr.DataArray, y: str, x: str, path: str) -> Affine:
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
    values = values.astype(float)
    if len(values) > 1:
        step = float(values[-1] - values[0]) / (len(values) - 1)
    if not step:
        raise SceneError(f'{where} does not tell the size of a pixel; state it with rio.write_transform')
    even = values[0] + step * np.arange(len(values))
    if not bool(np.all(np.abs(values - even) <= _TOLERANCE * abs(step))):
        raise SceneError(f'{where} is not evenly spaced; reproject the array to a regular grid first')
    return float(values[0]), step


def _stated_affine(array: xr.DataArray) -> Affine | None:
    """Read the transform in the grid mapping or, from stackstac, in the attributes."""
    mapping = array.coords.get(array.rio.grid_mapping)
    text = mapping.attrs.get('GeoTransform') if mapping is not None else None
    if text:
        return Affine.from_gdal(*map(float, str(text).split()))
    stated: Any = array.attrs.get('transform')
    return Affine(*list(stated)[:6]) if isinstance(stated, Affine | list | tuple) else None


def _stated_resolution(array: xr.DataArray, stated: Affine | None) -> tuple[float | None, float | None]:
    if stated is not None:
        return stated.a, stated.e
    size: Any = array.attrs.get('resolution')
    return (float(size), -float(size)) if isinstance(size, int | float) else (None, None)


def _names_corners(array: xr.DataArray, stated: Affine | None, x0: float, y0: float) -> bool:
    """Whether coordinates are those of upper left corners, as stackstac's are by default."""
    if stated is None or 'transform' not in array.attrs or 'epsg' not in array.coords:
        return False
    col, row = (x0 - stated.c) / stated.a, (y0 - stated.f) / stated.e
    return max(abs(col - round(col)), abs(row - round(row))) < 0.25

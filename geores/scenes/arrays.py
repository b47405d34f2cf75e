"""Scenes from xarray, as rioxarray, odc-stac and stackstac give them; dask stays lazy."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from geores.errors import ReadError, SceneError, UsageError, without_secrets
from geores.scenes.assembly import BandSource, assemble
from geores.scenes.bands import Naming, band_of_stem, canonical_name, choose_bands, name_bands
from geores.scenes.header import geobox_of, spatial_dims
from geores.scenes.product import product_of_text
from geores.scenes.raster import valid_values
from geores.scenes.scene import Scene

__all__ = ['ArrayRaster', 'scene_from_array']

_BLOCK: Final = 1024
_SAMPLE_BYTES: Final = 64 * 2**20
_MADE_UP: Final = re.compile(r'-[0-9a-f]{32}$')


class ArrayRaster:
    """A DataArray as a raster; reading computes no more than the window.

    Args:
        array: values (band, y, x), under any names of these dimensions.
        geobox: its grid.
        path: stands for a path in messages: `<name>`.
        nodata: value of invalid pixels, or None. NaN is always invalid.
    """

    def __init__(self, array: xr.DataArray, geobox: GeoBox, path: str, nodata: float | None = None) -> None:
        self.array = array
        self.geobox = geobox
        self.path = path
        self.nodata = nodata
        self.count = int(array.sizes[array.dims[0]])
        self.dtype = array.dtype
        self.is_lazy = array.chunks is not None
        rows, cols = array.chunks[1:] if array.chunks else ((_BLOCK,), (_BLOCK,))
        height, width = geobox.shape
        self.block_shape = min(max(rows), height), min(max(cols), width)

    def __repr__(self) -> str:
        return f'ArrayRaster({self.path!r})'

    @cached_property
    def fingerprint(self) -> str:
        """Digest of grid and values; of dask's token, or of a sample when the array is large."""
        about = (self.geobox.affine, str(self.geobox.crs), self.array.shape, str(self.dtype))
        digest = hashlib.sha256(repr((*about, self.nodata)).encode())
        if self.is_lazy:
            digest.update(str(self.array.data.name).encode())
        else:
            step = int(np.ceil(np.sqrt(max(1, self.array.nbytes / _SAMPLE_BYTES))))
            digest.update(np.ascontiguousarray(self.array[:, ::step, ::step].values).tobytes())
        return digest.hexdigest()

    def read(self, indexes: Sequence[int], rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a window of some bands: see `Raster.read`."""
        part = self.array[[index - 1 for index in indexes], rows, cols]
        try:
            values = np.array(part.values)
        except (RasterioError, OSError) as error:
            raise ReadError(
                f'{self.path}: cannot read rows {rows.start}:{rows.stop}, '
                f'columns {cols.start}:{cols.stop} ({error}); check the files behind the array'
            ) from error
        return values, valid_values(values, [self.nodata] * len(values))

    def read_coarse(self, index: int, side: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the whole of a band coarsely: see `Raster.read_coarse`."""
        step = -(-max(self.geobox.shape) // side)
        values = np.array(self.array[[index - 1], ::step, ::step].values)
        return values[0], valid_values(values, [self.nodata])

    def sample(self, index: int, side: int) -> np.ndarray:
        """Take a sample of a band's valid pixels: see `Raster.sample`."""
        values, valid = self.read_coarse(index, side)
        seen: np.ndarray = values.ravel() if valid is None else values[valid]
        return seen

    def close(self) -> None:
        """Do nothing: the array belongs to the caller."""


def scene_from_array(source: xr.DataArray | xr.Dataset, *, bands: Sequence[str] | None = None) -> Scene:
    """Make a scene of an xarray object.

    Args:
        source: a DataArray (band, y, x) or (y, x), or a Dataset with a variable for each band;
            other dimensions, such as time, must have length 1.
        bands: names for the bands, or a choice among those that are named: see `open_scene`.

    Raises:
        UsageError: if it has other dimensions.
        SceneError: if its coordinates are not a regular grid.
    """
    if isinstance(source, xr.DataArray):
        sources, notes = _band_sources(source, bands)
        return _assemble(_stem(source), source, sources, notes)
    # A grid mapping kept as a variable belongs to each of the bands.
    source = source.set_coords([name for name in source.data_vars if not source[name].ndim])
    sources, notes = {}, ()
    for variable in source.data_vars.values():
        more, notes = _band_sources(variable, None)
        if clash := sources.keys() & more.keys():
            raise UsageError(f'<Dataset>: has band {min(clash)!r} twice; rename or drop one')
        sources |= more
    if not sources:
        raise SceneError('<Dataset>: holds no variables; give one with a variable for each band')
    scene = _assemble(_source_stem(source) or 'array', source, sources, notes)
    return scene if bands is None else scene.select(bands)


def _assemble(
    stem: str, source: xr.DataArray | xr.Dataset, sources: Mapping[str, BandSource], notes: Sequence[str]
) -> Scene:
    of_band = band_of_stem(_source_stem(source))
    product = product_of_text(of_band[0] if of_band else _source_stem(source))
    return assemble(stem, sources, product=product, date=_date(source), notes=notes)


def _source_stem(source: xr.DataArray | xr.Dataset) -> str:
    """Stem of the file that an object was read from, if it says so."""
    return Path(without_secrets(str(source.encoding.get('source', '')))).stem


def _stem(array: xr.DataArray) -> str:
    """Name an array; names that dask has made up change with every run."""
    name = str(array.name or '')
    if name and not _MADE_UP.search(name):
        return name
    return _source_stem(array) or 'array'


def _band_sources(
    array: xr.DataArray, bands: Sequence[str] | None
) -> tuple[dict[str, BandSource], tuple[str, ...]]:
    """Name the bands of an array and say where they are; also what to tell about the names."""
    path = f'<{_stem(array)}>'
    if array.dtype.kind not in 'iuf':
        raise UsageError(f'{path}: holds {array.dtype} values; convert it to numbers first')
    array = _as_bands(array, path)
    naming = _naming(array)
    if bands is not None:
        naming = choose_bands(path, naming, bands)
    raster = ArrayRaster(array, geobox_of(array, path), path, _nodata(array))
    units = array.attrs.get('units')
    sources = {
        name: BandSource(raster, index, _stated_scaling(array, index - 1), units)
        for name, index in naming.indexes.items()
    }
    return sources, naming.notes


def _as_bands(array: xr.DataArray, path: str) -> xr.DataArray:
    """Bring an array to (band, y, x)."""
    y, x = spatial_dims(array, path)
    others = [dim for dim in array.dims if dim not in {y, x}]
    band = next((dim for dim in others if str(dim) in {'band', 'bands', 'variable', 'label'}), None)
    if band is None and len([dim for dim in others if array.sizes[dim] > 1]) == 1:
        candidate = next(dim for dim in others if array.sizes[dim] > 1)
        band = candidate if array[candidate].dtype.kind in 'OSU' else None
    for dim in others:
        if dim == band:
            continue
        if array.sizes[dim] != 1:
            raise UsageError(
                f'{path}: has {array.sizes[dim]} steps along {dim!r}; '
                f'select one first, as with .isel({dim}=0), or reduce it'
            )
        array = array.isel({dim: 0})
    if band is None:
        # The scalar band coordinate of a selected band names it, and is in the way of a dimension.
        label = array.coords['band'].item() if 'band' in array.coords else None
        array = array.drop_vars('band', errors='ignore').expand_dims('band')
        if isinstance(label, str):
            array = array.assign_coords(band=[label])
        band = 'band'
    return array.transpose(band, y, x)


def _naming(array: xr.DataArray) -> Naming:
    of_band = band_of_stem(_source_stem(array))
    dim = array.dims[0]
    count = array.sizes[dim]
    described: list[str | None] = [None] * count
    long_name = array.attrs.get('long_name')
    if dim in array.coords and array[dim].dtype.kind in 'OSU':
        described = [str(label) for label in array[dim].values]
    elif isinstance(long_name, list | tuple) and len(long_name) == count:
        described = [str(label) for label in long_name]
    elif count == 1:
        described = [_single_name(array)]
    return name_bands(
        range(1, count + 1),
        described,
        colors=['undefined'] * count,
        dtype=array.dtype,
        file_band=of_band[1] if of_band else None,
    )


def _single_name(array: xr.DataArray) -> str | None:
    """Name an array's only band: canonically if anything does, else as the array is called."""
    words = [str(word) for word in (array.name, array.attrs.get('long_name')) if word]
    words = [word for word in words if not _MADE_UP.search(word)]
    return next((word for word in words if canonical_name(word)), words[0] if words else None)


def _nodata(array: xr.DataArray) -> float | None:
    stated = next(
        (array.attrs[key] for key in ('_FillValue', 'missing_value', 'nodata') if key in array.attrs),
        None,
    )
    return None if stated is None else float(stated)


def _stated_scaling(array: xr.DataArray, at: int) -> tuple[float, float] | None:
    """Scale and offset still to be applied; (1, 0) where xarray has applied them already."""
    if {'scale_factor', 'add_offset', 'scales', 'offsets'} & array.encoding.keys():
        return 1.0, 0.0
    scale, offset = array.attrs.get('scale_factor', 1.0), array.attrs.get('add_offset', 0.0)
    scaling = (
        float(_item(array.attrs.get('scales', scale), at)),
        float(_item(array.attrs.get('offsets', offset), at)),
    )
    return None if scaling == (1.0, 0.0) else scaling


def _item(value: Any, at: int) -> Any:  # noqa: ANN401 - attributes hold anything
    return value[at] if isinstance(value, list | tuple | np.ndarray) else value


def _date(source: xr.DataArray | xr.Dataset) -> str | None:
    time = source.coords.get('time')
    if time is None or time.size != 1 or time.dtype.kind != 'M' or bool(time.isnull()):
        return None
    return str(np.datetime_as_string(time.values.reshape(-1)[0], unit='D'))

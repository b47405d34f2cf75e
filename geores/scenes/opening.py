"""Opening a scene from files, folders, products, and xarray as rioxarray, odc-stac and stackstac give it."""

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from geores.errors import ReadError, SceneError, UsageError, without_secrets
from geores.scenes.assembly import BandSource, assemble
from geores.scenes.bands import Spelling, band_of_stem, choose_bands, spell, translated
from geores.scenes.files import named_by_user, offset_of, scene_from_file, scene_from_folder
from geores.scenes.gdal import is_remote
from geores.scenes.header import geobox_of, spatial_dims
from geores.scenes.identify import identify, name_bands
from geores.scenes.product import product_of_text
from geores.scenes.raster import FileRaster, valid_values
from geores.scenes.scene import Scene, ground_size, merge_scenes
from geores.scenes.signs import Clues

if TYPE_CHECKING:
    import xarray as xr

__all__ = ['ArrayRaster', 'Source', 'open_scene', 'scene_from_array']

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

    def __init__(self, array: 'xr.DataArray', geobox: GeoBox, path: str, nodata: float | None = None) -> None:
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

    def with_border(self, value: float) -> 'ArrayRaster':
        """Make a raster of the same array whose pixels are invalid where all bands have this value."""
        return ArrayRaster(self.array, self.geobox, self.path, value)

    def close(self) -> None:
        """Do nothing: the array belongs to the caller."""


def scene_from_array(
    source: 'xr.DataArray | xr.Dataset',
    *,
    bands: Sequence[str] | None = None,
    sensor: str | None = None,
    offset: str | float = 'auto',
) -> Scene:
    """Make a scene of an xarray object.

    Args:
        source: a DataArray (band, y, x) or (y, x), or a Dataset with a variable for each band;
            other dimensions, such as time, must have length 1.
        bands: names for the bands, or a choice among those that are named: see `open_scene`.
        sensor: which sensor the user says it is of.
        offset: what the user says of Sentinel-2's offset.

    Raises:
        UsageError: if it has other dimensions.
        SceneError: if its coordinates are not a regular grid.
    """
    import xarray as xr

    if isinstance(source, xr.DataArray):
        layers = [_as_bands(_numeric(source), f'<{_stem(source)}>')]
    else:
        # A grid mapping kept as a variable belongs to each of the bands.
        source = source.set_coords([name for name in source.data_vars if not source[name].ndim])
        layers = [_as_bands(_numeric(array), f'<{_stem(array)}>') for array in source.data_vars.values()]
    if not layers:
        raise SceneError('<Dataset>: holds no variables; give one with a variable for each band')
    stem = _stem(source) if isinstance(source, xr.DataArray) else _source_stem(source) or 'array'
    of_band = band_of_stem(_source_stem(source))
    text = of_band[0] if of_band else _source_stem(source)
    grids = [geobox_of(layer, f'<{_stem(layer)}>') for layer in layers]
    places = [
        (layer, grid, at) for layer, grid in zip(layers, grids, strict=True) for at in range(len(layer))
    ]
    clues = _clues(source, [(layer, at) for layer, _, at in places], grids, [text, stem])
    identity = identify(clues, product_of_text(text), asked=sensor)
    naming = name_bands(clues, range(1, len(places) + 1), identity)
    if isinstance(source, xr.Dataset):
        _refuse_doubles(clues, identity.sensor)
    rasters = {id(layer): _raster(layer, grid) for layer, grid in zip(layers, grids, strict=True)}
    if bands is not None and (isinstance(source, xr.DataArray) or not naming.is_stated):
        naming = choose_bands(f'<{stem}>', naming, bands)
        identity = named_by_user(identity, naming)
    sources = {}
    for name, index in naming.indexes.items():
        layer, _, at = places[index - 1]
        scaling, units = _stated_scaling(layer, at), layer.attrs.get('units')
        sources[name] = BandSource(rasters[id(layer)], at + 1, scaling, units)
    known = offset_of(identity, clues, offset, date=_date(source))
    scene = assemble(stem, sources, identity=identity, offset=known, date=_date(source), notes=naming.notes)
    return scene if bands is None or isinstance(source, xr.DataArray) else scene.select(bands)


def _refuse_doubles(clues: Clues, sensor: str | None) -> None:
    """Refuse variables that name the same band."""
    names = [translated(text, sensor) for text in clues.described if text]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UsageError(f'<Dataset>: has band {double!r} twice; rename or drop one')


def _numeric(array: 'xr.DataArray') -> 'xr.DataArray':
    """Refuse what holds no numbers."""
    if array.dtype.kind not in 'iuf':
        raise UsageError(f'<{_stem(array)}>: holds {array.dtype} values; convert it to numbers first')
    return array


def _raster(array: 'xr.DataArray', grid: GeoBox) -> ArrayRaster:
    return ArrayRaster(array, grid, f'<{_stem(array)}>', _nodata(array))


def _clues(
    source: 'xr.DataArray | xr.Dataset',
    places: 'Sequence[tuple[xr.DataArray, int]]',
    grids: Sequence[GeoBox],
    texts: Sequence[str],
) -> Clues:
    """Collect what an object says of itself in attributes and scalar coordinates, as STAC readers do."""
    first = places[0][0]
    stated: dict[str, Any] = {str(key): value for key, value in first.attrs.items()}
    stated |= {str(key): value for key, value in source.attrs.items()}
    for key, coordinate in source.coords.items():
        if coordinate.size == 1 and coordinate.dtype.kind in 'OSUbif':
            stated[str(key)] = coordinate.values.reshape(-1)[0]
    attributes = {key.lower(): str(v) for key, v in stated.items() if isinstance(v, _PLAIN)}
    described = {id(layer): _described(layer) for layer, _ in places}
    sizes = [size for grid in grids if grid.crs is not None and (size := ground_size(grid)) is not None]
    return Clues(
        [described[id(layer)][at] for layer, at in places],
        first.dtype,
        [text for text in texts if text],
        ['undefined'] * len(places),
        _nodata(first),
        min(sizes) if sizes else None,
        attributes,
        [_wavelength(layer, at) for layer, at in places],
    )


_PLAIN: Final = (str, bool, int, float, np.str_, np.bool_, np.integer, np.floating)


def _wavelength(array: 'xr.DataArray', at: int) -> float | None:
    """Wavelength of a band in nm, where a coordinate or an attribute states it (in um in STAC)."""
    stated = array.coords.get('center_wavelength', array.attrs.get('center_wavelength'))
    if stated is None:
        return None
    values = np.atleast_1d(np.asarray(stated))
    try:
        value = float(values[at if len(values) > 1 else 0])
    except (TypeError, ValueError, IndexError):
        return None
    return None if not np.isfinite(value) else value * 1000 if value < 100 else value


def _source_stem(source: 'xr.DataArray | xr.Dataset') -> str:
    """Stem of the file that an object was read from, if it says so."""
    return Path(without_secrets(str(source.encoding.get('source', '')))).stem


def _stem(array: 'xr.DataArray') -> str:
    """Name an array; names that dask has made up change with every run."""
    name = str(array.name or '')
    if name and not _MADE_UP.search(name):
        return name
    return _source_stem(array) or 'array'


def _as_bands(array: 'xr.DataArray', path: str) -> 'xr.DataArray':
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


def _described(array: 'xr.DataArray') -> list[str | None]:
    """What an array says of each of its bands."""
    dim = array.dims[0]
    count = array.sizes[dim]
    long_name = array.attrs.get('long_name')
    if dim in array.coords and array[dim].dtype.kind in 'OSU':
        return [str(label) for label in array[dim].values]
    if isinstance(long_name, list | tuple) and len(long_name) == count:
        return [str(label) for label in long_name]
    if count == 1:
        of_band = band_of_stem(_source_stem(array))
        return [_single_name(array) or (of_band[1] if of_band else None)]
    return [None] * count


def _single_name(array: 'xr.DataArray') -> str | None:
    """Name an array's only band: canonically if anything does, else as the array is called."""
    words = [str(word) for word in (array.name, array.attrs.get('long_name')) if word]
    words = [word for word in words if not _MADE_UP.search(word)]
    return next((word for word in words if spell(word) != Spelling()), words[0] if words else None)


def _nodata(array: 'xr.DataArray') -> float | None:
    stated = next(
        (array.attrs[key] for key in ('_FillValue', 'missing_value', 'nodata') if key in array.attrs), None
    )
    return None if stated is None else float(stated)


def _stated_scaling(array: 'xr.DataArray', at: int) -> tuple[float, float] | None:
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


def _date(source: 'xr.DataArray | xr.Dataset') -> str | None:
    time = source.coords.get('time')
    if time is None or time.size != 1 or time.dtype.kind != 'M' or bool(time.isnull()):
        return None
    return str(np.datetime_as_string(time.values.reshape(-1)[0], unit='D'))


_METADATA: Final = re.compile(r'MTD_(MSIL1C|MSIL2A|TL|DS)\.xml')

if TYPE_CHECKING:
    Source = str | os.PathLike[str] | xr.DataArray | xr.Dataset
else:
    Source = str | os.PathLike  # and arrays of xarray, which takes a second to import


def _is_array(source: object) -> 'TypeGuard[xr.DataArray | xr.Dataset]':
    """Whether something is an array of xarray: where nobody has imported that, there is none."""
    xarray = sys.modules.get('xarray')
    return xarray is not None and isinstance(source, xarray.DataArray | xarray.Dataset)


def open_scene(
    source: Source | Sequence[Source],
    *,
    bands: Sequence[str] | None = None,
    name: str | None = None,
    allow_vrt: bool = False,
    sensor: str | None = None,
    offset: str | float = 'auto',
) -> Scene:
    """Open a scene; only headers are read.

    Args:
        source: a GeoTIFF or COG (a path, or a URL), JPEG 2000, PNG or JPEG file; a folder of band
            files; a Sentinel-2 product (`.SAFE`) or a folder inside one; an xarray DataArray with
            dimensions (band, y, x) or (y, x), or Dataset with a variable for each band; or several
            of these, whose bands then make one scene.
        bands: names for the bands of a raster that does not name them, one for each; where the
            source names its bands itself, those to keep, in this order.
        name: name of the scene; the product id, tile and date, or file stem unless given.
        allow_vrt: whether a GDAL virtual raster, which reads other files, may be opened.
        sensor: which sensor it is of, with its level where there are several, such as 'sentinel-2-l2a',
            'landsat-8-l2', 'hls-s30', 'planetscope-sr', 'naip' or 'rgb'; decided from the source if None.
        offset: what is to be added to Sentinel-2's digital numbers: 'none' or -1000; 'auto' decides it.

    Raises:
        SceneError: if a source is missing, not a raster, or of a format that is not allowed.
        BandError: if one of `bands` is not in a source that names its bands.
        UsageError: if the number of names is not that of the bands, or sources share a band.
    """
    if isinstance(source, str | os.PathLike) or _is_array(source):
        scene = _open_one(source, bands, allow_vrt, sensor, offset)
    else:
        scenes = [_open_one(one, None, allow_vrt, sensor, offset) for one in cast('Sequence[Source]', source)]
        if not scenes:
            raise UsageError('no source given: name at least one file, folder or array')
        scene = scenes[0] if len(scenes) == 1 else merge_scenes(scenes)
        scene = scene if bands is None else scene.select(bands)
    said = [
        note for raster in scene.rasters if isinstance(raster, FileRaster) for note in raster.header.notes
    ]
    return replace(
        scene, name=_file_name(name or scene.name), notes=tuple(dict.fromkeys([*scene.notes, *said]))
    )


def _open_one(
    source: Source, bands: Sequence[str] | None, allow_vrt: bool, sensor: str | None, offset: str | float
) -> Scene:
    if _is_array(source):
        return scene_from_array(source, bands=bands, sensor=sensor, offset=offset)
    path = os.fspath(source)
    if not path.strip():
        raise SceneError("'': is not a path; give a raster file or a folder of band files")
    if not is_remote(path) and os.path.isdir(path):
        return scene_from_folder(path, bands=bands, sensor=sensor, offset=offset)
    if _METADATA.fullmatch(os.path.basename(path)) and not is_remote(path):
        raise SceneError(
            f'{path}: is the metadata of a product; give its folder, {os.path.dirname(path) or "."}'
        )
    return scene_from_file(path, bands=bands, allow_vrt=allow_vrt, sensor=sensor, offset=offset)


def _file_name(text: str) -> str:
    """Make a name that is safe as part of a file name on any system."""
    return re.sub(r'[^\w.+-]+', '_', text).strip('._-')[:150] or 'scene'

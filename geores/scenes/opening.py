"""Opening a scene from files, folders, products and xarray objects."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeGuard, cast

from geores.errors import SceneError, UsageError
from geores.scenes.files import scene_from_file, scene_from_folder
from geores.scenes.gdal import is_remote
from geores.scenes.raster import FileRaster
from geores.scenes.scene import Scene, merge_scenes

if TYPE_CHECKING:
    import xarray as xr

__all__ = ['Source', 'open_scene']

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
        from geores.scenes.arrays import scene_from_array

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

"""Opening a scene from files, folders, products and xarray objects."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace

import xarray as xr

from geores.errors import SceneError, UsageError
from geores.scenes.arrays import scene_from_array
from geores.scenes.assembly import scene_from_file, scene_from_folder
from geores.scenes.gdal import is_remote
from geores.scenes.scene import Scene, merge_scenes

__all__ = ['Source', 'open_scene']

Source = str | os.PathLike[str] | xr.DataArray | xr.Dataset


def open_scene(
    source: Source | Sequence[Source],
    *,
    bands: Sequence[str] | None = None,
    name: str | None = None,
    allow_vrt: bool = False,
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

    Raises:
        SceneError: if a source is missing, not a raster, or of a format that is not allowed.
        BandError: if one of `bands` is not in a source that names its bands.
        UsageError: if the number of names is not that of the bands, or sources share a band.
    """
    if isinstance(source, str | os.PathLike | xr.DataArray | xr.Dataset):
        scene = _open_one(source, bands, allow_vrt)
    else:
        scenes = [_open_one(one, None, allow_vrt) for one in source]
        if not scenes:
            raise UsageError('no source given: name at least one file, folder or array')
        scene = scenes[0] if len(scenes) == 1 else merge_scenes(scenes)
        scene = scene if bands is None else scene.select(bands)
    return replace(scene, name=_file_name(name or scene.name))


def _open_one(source: Source, bands: Sequence[str] | None, allow_vrt: bool) -> Scene:
    if isinstance(source, xr.DataArray | xr.Dataset):
        return scene_from_array(source, bands=bands)
    path = os.fspath(source)
    if not path.strip():
        raise SceneError("'': is not a path; give a raster file or a folder of band files")
    if not is_remote(path) and os.path.isdir(path):
        return scene_from_folder(path, bands=bands)
    return scene_from_file(path, bands=bands, allow_vrt=allow_vrt)


def _file_name(text: str) -> str:
    """Make a name that is safe as part of a file name on any system."""
    return re.sub(r'[^\w.+-]+', '_', text).strip('._-')[:150] or 'scene'

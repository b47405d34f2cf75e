"""Scenes: opening a raster, a folder of band files, a Sentinel-2 product or an xarray object."""

from geores.scenes.gdal import gdal_env
from geores.scenes.opening import ArrayRaster, Source, open_scene, scene_from_array
from geores.scenes.raster import FileRaster, Raster
from geores.scenes.scene import Band, Scene, describe, merge_scenes

__all__ = [
    'ArrayRaster',
    'Band',
    'FileRaster',
    'Raster',
    'Scene',
    'Source',
    'describe',
    'gdal_env',
    'merge_scenes',
    'open_scene',
    'scene_from_array',
]

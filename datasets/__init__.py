"""Datasets, one module each: an adapter and a Lightning datamodule."""

if __name__ != 'geores.datasets':
    raise ImportError('this folder installs as geores.datasets: import it under that name')

from geores.datasets.folder import SceneFolder, SceneFolderDataModule
from geores.datasets.patches import GeoTIFFPatches, GeoTIFFPatchesDataModule
from geores.datasets.scene_tiles import SceneTiles, SceneTilesDataModule, split_tiles

__all__ = [
    'GeoTIFFPatches',
    'GeoTIFFPatchesDataModule',
    'SceneFolder',
    'SceneFolderDataModule',
    'SceneTiles',
    'SceneTilesDataModule',
    'split_tiles',
]

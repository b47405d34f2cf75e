"""Datasets, one module each: an adapter and a Lightning datamodule."""

if __name__ != 'geores.datasets':
    raise ImportError('this folder installs as geores.datasets: import it under that name')

from geores.datasets.folder import SceneFolder, SceneFolderDataModule
from geores.datasets.patches import GeoTIFFPatches, GeoTIFFPatchesDataModule

__all__ = ['GeoTIFFPatches', 'GeoTIFFPatchesDataModule', 'SceneFolder', 'SceneFolderDataModule']

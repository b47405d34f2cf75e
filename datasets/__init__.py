"""Datasets, one module each, with a Lightning datamodule each."""

if __name__ != 'geores.datasets':
    raise ImportError('this folder installs as geores.datasets: import it under that name')

from geores.errors import missing_extra

try:
    from geores.datasets._reben_files import expand
    from geores.datasets._rsvqa_module import RSVQADataModule
    from geores.datasets.folder import SceneFolder, SceneFolderDataModule
    from geores.datasets.patches import (
        GeoTIFFPairs,
        GeoTIFFPairsDataModule,
        GeoTIFFPatches,
        GeoTIFFPatchesDataModule,
    )
    from geores.datasets.reben import ReBEN, ReBENDataModule, ReBENMapsDataModule
    from geores.datasets.resisc45 import RESISC45, RESISC45DataModule
    from geores.datasets.rsvqa import RSVQA
    from geores.datasets.scene_tiles import SceneTiles, SceneTilesDataModule, split_tiles
except ModuleNotFoundError as error:
    raise (missing_extra(error) or error) from None

__all__ = [
    'RESISC45',
    'RSVQA',
    'GeoTIFFPairs',
    'GeoTIFFPairsDataModule',
    'GeoTIFFPatches',
    'GeoTIFFPatchesDataModule',
    'RESISC45DataModule',
    'RSVQADataModule',
    'ReBEN',
    'ReBENDataModule',
    'ReBENMapsDataModule',
    'SceneFolder',
    'SceneFolderDataModule',
    'SceneTiles',
    'SceneTilesDataModule',
    'expand',
    'split_tiles',
]

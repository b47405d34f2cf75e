"""Bands of GeoTIFFs in labelled folders, by their descriptions or as the user names them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import rasterio

from geores.card import ModelCard
from geores.errors import BandError, DatasetError

if TYPE_CHECKING:
    from geores.datasets import GeoTIFFPatches, SceneFolder
    from geores.datasets._images import Pixels

__all__ = ['check_bands', 'read_as']


def check_bands(card: ModelCard, names: Sequence[str] | None) -> None:
    """Raise where names that the user gives lack a band that a model takes.

    Args:
        card: Of the model.
        names: Of the bands in file order, if given.

    Raises:
        BandError: A band is missing or named twice.
    """
    if names is None:
        return
    missing = [band for band in card.bands if band not in names]
    if missing:
        raise BandError(f'bands {", ".join(names)}: {card.name} takes {missing[0]} too')
    if len(set(names)) < len(names):
        raise BandError(f'bands {", ".join(names)}: one is named twice')


def read_as(
    dataset: 'GeoTIFFPatches | SceneFolder', card: ModelCard, names: Sequence[str] | None
) -> 'GeoTIFFPatches | SceneFolder':
    """Let a dataset read the bands that a model takes from its GeoTIFFs.

    Args:
        dataset: To change.
        card: Of the model.
        names: Of the bands in file order; None takes the files' descriptions.

    Returns:
        The dataset.
    """
    from geores.datasets._images import ImageStore, read_geotiff

    wanted, size = card.bands, card.input_size
    # Partial functions, unlike closures, can be sent to the processes that read.
    read = (
        partial(read_geotiff, bands=wanted, size=size)
        if names is None
        else partial(_read_named, names=names, bands=wanted, size=size)
    )
    dataset.bands = wanted
    dataset.images = ImageStore(dataset.images.paths, read)
    return dataset


def _read_named(path: Path, names: Sequence[str], bands: Sequence[str], size: int) -> 'Pixels':
    from geores.datasets._images import open_geotiff

    with open_geotiff(path) as source:
        if source.count != len(names):
            raise DatasetError(f'{path}: has {source.count} bands, and {len(names)} are named')
        shrinks = size < min(source.shape)
        try:
            pixels: Pixels = source.read(
                [names.index(band) + 1 for band in bands],
                out_shape=(len(bands), size, size),
                resampling=rasterio.enums.Resampling['average' if shrinks else 'bilinear'],
            )
        except rasterio.errors.RasterioError as error:
            raise DatasetError(f'{path}: the image cannot be read: {error}') from error
    return pixels

"""Bands of GeoTIFFs in labelled folders, and BigEarthNet v2.0 by its official parts.

The bands that a model takes are found by descriptions in the files or by names that the user gives. The
official parts are those of Clasen et al. (2024), reBEN.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geores.card import ModelCard
from geores.errors import BandError, UsageError

if TYPE_CHECKING:
    from geores.datasets import GeoTIFFPatches, ReBEN, SceneFolder

__all__ = ['check_bands', 'find_reben', 'is_official', 'read_as', 'warn_of_training']

"""How the ids of splits start that keep to the official parts."""


def check_bands(card: ModelCard, names: Sequence[str] | None) -> None:
    """Check that the band names given by the user include all bands that a model takes.

    Raises:
        BandError: if a band is missing or named twice.
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
        dataset: dataset to change.
        card: card of the model.
        names: names of the bands in file order; None takes the files' descriptions.

    Returns:
        The dataset.
    """
    from geores.datasets._geotiff import PatchStore

    dataset.bands = card.bands
    dataset.images = PatchStore(dataset.images.paths, card.bands, card.input_size, names=names)
    return dataset


def find_reben(
    card: ModelCard, folders: Sequence[Path], part: str, options: Mapping[str, Any]
) -> 'ReBEN | None':
    """Open a part of BigEarthNet as a model takes it, if the folder holds BigEarthNet.

    Returns:
        The dataset, or None if the folders hold something else.

    Raises:
        UsageError: if the model takes one label an image, other bands, or other sizes; there are several
            folders, or options without BigEarthNet.
    """
    from geores.bigearthnet.opening import find_kind

    if not any(find_kind(folder) for folder in folders):
        if options:
            raise UsageError(f'{", ".join(options)} go with BigEarthNet v2.0, and {folders[0]} is none')
        return None
    if len(folders) > 1:
        raise UsageError(f'{", ".join(map(str, folders))}: BigEarthNet is evaluated alone: name one folder')
    return _open(card, folders[0], part, options)


def is_official(dataset: object) -> bool:
    """Whether a dataset has official parts."""
    from geores.datasets import ReBEN

    return isinstance(dataset, ReBEN)


def warn_of_training(card: ModelCard, part: str) -> tuple[str, ...]:
    """Warnings about metrics on a part that the model may have been trained on."""
    parts = card.split.parts if card.split is not None and card.split.method == 'official' else None
    known, used = parts is not None, parts or ('train', 'val')
    told = f'figures {"are" if known else "may be"} better than on new patches'
    if part in used[:1] or 'all' in {part, used[0]}:
        return (f'patches of split {part!r} {"have" if known else "may have"} trained {card.name}: {told}',)
    if part in used or 'all' in used:
        return (f'{card.name} may have been chosen on split {part!r}, and its thresholds too: {told}',)
    return ()


def _open(card: ModelCard, folder: Path, part: str, options: Mapping[str, Any]) -> 'ReBEN':
    from geores.datasets import ReBEN

    if card.task != 'multi-label':
        raise UsageError(f'{folder}: any number of labels an image, and {card.name} is {card.task}')
    if card.input_size != ReBEN.side:
        raise UsageError(
            f'{folder}: patches of {ReBEN.side} x {ReBEN.side} pixels, and {card.name} takes '
            f'{card.input_size} x {card.input_size}'
        )
    try:
        return ReBEN(folder, part, card.bands, card.resampling, **options)  # type: ignore[arg-type]
    except BandError as error:
        raise BandError(f'{folder}: {card.name} takes bands that it does not have: {error}') from error

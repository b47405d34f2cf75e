"""BigEarthNet v2.0 as labelled data, which has official parts of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geores.card import ModelCard
from geores.errors import BandError, UsageError

if TYPE_CHECKING:
    from geores.datasets import ReBEN

__all__ = ['OFFICIAL', 'find_reben', 'is_official', 'warn_of_training']

OFFICIAL = 'reben-official-'
"""How the ids of splits start that keep to the official parts."""


def find_reben(
    card: ModelCard, folders: Sequence[Path], part: str, options: Mapping[str, Any]
) -> 'ReBEN | None':
    """Open a part as a model takes it, if BigEarthNet stands in the folder.

    Args:
        card: Of the model.
        folders: One, if it is BigEarthNet.
        part: 'train', 'val', 'test' or 'all'.
        options: `metadata` and `snow_and_clouds` of `geores.datasets.ReBEN`.

    Returns:
        The dataset, or None if the folders hold something else.

    Raises:
        UsageError: The model takes one label an image, other bands, or other sizes; there are several
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
    """Whether a dataset has official parts.

    Args:
        dataset: Of any class.
    """
    from geores.datasets import ReBEN

    return isinstance(dataset, ReBEN)


def warn_of_training(card: ModelCard, part: str) -> tuple[str, ...]:
    """What to tell of figures on a part, if the model may have been trained on it.

    Args:
        card: Of the model.
        part: 'train', 'val', 'test' or 'all'.
    """
    known = card.split_id.startswith(OFFICIAL)
    used = card.split_id.removeprefix(OFFICIAL).split('-')[:2] if known else ['train', 'val']
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

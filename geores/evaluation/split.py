"""Find out whether a model was trained on the data, and keep the part that it was not trained on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast, get_args

from geores.card import ModelCard
from geores.errors import DatasetError, UsageError
from geores.evaluation.data import Labelled
from geores.splits import Split, block_split, near_duplicates, stratified_split

__all__ = ['Part', 'are_known', 'check_part', 'kept_parts', 'notes_on_training', 'take_part']

REPORT_FILE = 'report.json'
"""Report of a fine-tuned bundle, which holds the ids of the tiles of each part."""

Part = Literal['all', 'train', 'val', 'test']


def take_part(
    card: ModelCard,
    labelled: Labelled,
    part: Part,
    names: Sequence[str],
    kept: Mapping[str, str] | None = None,
) -> tuple[Labelled, tuple[str, ...]]:
    """Keep the requested part of the data.

    Args:
        card: card of the model.
        labelled: the labelled data.
        part: 'all', or 'train' or 'val': that part of the split that the card names; or an official
            part, 'test' among them, of data that has these.
        names: names under which the card may mention the data.
        kept: part of each tile by its id, as `kept_parts` reads it.

    Returns:
        The data, and warnings if the model may have been trained on it.

    Raises:
        UsageError: if the part is empty, or the data is not what the card's split is of.
    """
    if labelled.official:  # opened as that part
        return labelled, _warnings(card, part)
    if part == 'test':
        raise UsageError(
            "split has to be 'all', 'train' or 'val' for data without official parts, not 'test'"
        )
    asked = part != 'all' or bool(card.trained_on(names))
    split = _split_of_tiles(card, labelled, kept or {}) or _split_of_card(card, labelled, look=asked)
    if split is None and part != 'all':
        as_then = '' if labelled.bounds is None else ', cut as then'
        raise UsageError(
            f'split {part!r}: the split of {card.name} ({card.split_id}) cannot be made again of this data; '
            f'give all of the data that was split and no other{as_then}, or leave the split out'
        )
    if split is None:
        told = 'figures may be of training images, better than on new ones'
        trained = card.trained_on(names)
        labelled = replace(labelled, notes=(*labelled.notes, *notes_on_training(card)))
        return labelled, tuple(
            f'the card of {card.name} names {name} as training data: {told}' for name in trained
        )
    if part == 'all':
        return labelled, (
            f'{len(split.train):,} of {len(labelled.indices):,} images have trained {card.name}: figures are '
            'better than on new ones; split val takes those kept for validation',
        )
    chosen = replace(labelled, indices=labelled.indices[split.train if part == 'train' else split.val])
    if part == 'train':
        return chosen, (f'these images have trained {card.name}: figures are better than on new ones',)
    note = f'these images {card.name} kept for validation, where its thresholds may have been chosen'
    return replace(chosen, notes=(*chosen.notes, note)), ()


def notes_on_training(card: ModelCard) -> tuple[str, ...]:
    """Say where a card describes training data in words, so that names of data cannot be compared with it."""
    return tuple(
        f'the card of {card.name} describes its training data in words, see whether these are among it: '
        f'{source}'
        for source in card.training_data
        if source.in_words
    )


def kept_parts(folder: Path | None) -> dict[str, str]:
    """Part of each tile that a bundle was fine-tuned on, by its id.

    Args:
        folder: folder of the bundle; None, and one without such a report, remember nothing.
    """
    if folder is None:
        return {}
    try:
        parts = json.loads((folder / REPORT_FILE).read_text(encoding='utf-8'))['parts']
        return {str(name): part for part in ('train', 'val') for name in parts[part]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def are_known(kept: Mapping[str, str], scenes: Sequence[str]) -> bool:
    """Whether tiles of all scenes are among those that a bundle was fine-tuned on."""
    return bool(kept) and set(scenes) <= {name.rpartition('/')[0] for name in kept}


def _split_of_tiles(card: ModelCard, labelled: Labelled, kept: Mapping[str, str]) -> Split | None:
    """The split that a bundle remembers, as positions in `labelled.indices`; None for other data."""
    parts = [kept.get(labelled.ids[index]) for index in labelled.indices]
    train, val = ([place for place, part in enumerate(parts) if part == name] for name in ('train', 'val'))
    return Split(train, val, card.split_id) if train or val else None


def check_part(part: str) -> Part:
    """Check that a part of this name exists.

    Raises:
        UsageError: if it is none of `Part`.
    """
    if part not in get_args(Part):
        raise UsageError(f"split has to be 'all', 'train', 'val' or 'test', not {part!r}")
    return cast('Part', part)


def _split_of_card(card: ModelCard, labelled: Labelled, *, look: bool) -> Split | None:
    """Remake the split that the card names, as positions in `labelled.indices`; None for other data.

    Near duplicates were kept on one side: where the split cannot be made of the names alone, and if asked to
    `look`, images are read to find them.
    """
    ids = [labelled.ids[index] for index in labelled.indices]
    strata = [labelled.strata[index] for index in labelled.indices]
    how = card.split
    if how is None or how.val_share is None or how.seed is None:
        return None
    try:
        if how.method == 'stratified':
            split = stratified_split(ids, strata, how.val_share, how.seed)
            if split.id != card.split_id and look:
                images = (labelled.dataset[index]['image'].numpy() for index in labelled.indices)
                groups = near_duplicates(images).tolist()
                split = stratified_split(ids, strata, how.val_share, how.seed, groups)
        elif how.method == 'blocks' and how.block_size is not None and labelled.bounds is not None:
            split = block_split(
                ids,
                strata,
                labelled.bounds[labelled.indices],
                how.block_size,
                how.val_share,
                how.seed,
                buffer=how.buffer or 0.0,
            )
        else:
            return None
    except (DatasetError, ValueError):
        return None
    return split if split.id == card.split_id else None


def _warnings(card: ModelCard, part: str) -> tuple[str, ...]:
    """Warnings about metrics on a part that the model may have been trained on."""
    parts = card.split.parts if card.split is not None and card.split.method == 'official' else None
    known, used = parts is not None, parts or ('train', 'val')
    told = f'figures {"are" if known else "may be"} better than on new patches'
    if part in used[:1] or 'all' in {part, used[0]}:
        return (f'patches of split {part!r} {"have" if known else "may have"} trained {card.name}: {told}',)
    if part in used or 'all' in used:
        return (f'{card.name} may have been chosen on split {part!r}, and its thresholds too: {told}',)
    return ()

"""Splits between training and validation that depend on nothing but the samples' names."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from geores.errors import DatasetError


class Split(NamedTuple):
    """Positions of the training, validation and test samples, and a name of the split."""

    train: list[int]
    val: list[int]
    id: str
    test: tuple[int, ...] = ()


def stratified_split(ids: Sequence[str], strata: Sequence[str], share: float, seed: int) -> Split:
    """Keep a share of each stratum for validation.

    Samples are ordered by a hash of seed and id, so that the split is the same on every machine,
    whatever the order of the files.

    Args:
        ids: Of the samples, each another.
        strata: Of the same length, such as each sample's class.
        share: Part kept for validation, above 0 and below 1.
        seed: Gives another split.

    Returns:
        The split; its id names share, seed and the samples kept for validation.

    Raises:
        DatasetError: Ids are not unique, the share is out of range, or a part would be empty.
    """
    if not 0 < share < 1:
        raise DatasetError(f'val_share has to be above 0 and below 1, not {share}')
    check_ids(ids)
    groups: dict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(ids)), key=lambda index: digest(f'{seed}:{ids[index]}')):
        groups[strata[index]].append(index)
    val = sorted(index for group in groups.values() for index in group[: round(share * len(group))])
    train = sorted(set(range(len(ids))) - set(val))
    if not train or not val:
        raise DatasetError(f'{len(ids)} samples are too few to keep {share:g} for validation')
    return Split(train, val, name(f'stratified-{share:g}-seed{seed}', ids, val))


def check_ids(ids: Sequence[str]) -> None:
    """Refuse samples that cannot be told apart.

    Args:
        ids: Of the samples.

    Raises:
        DatasetError: Two are the same.
    """
    if len(set(ids)) != len(ids):
        raise DatasetError('two samples have the same id')


def name(title: str, ids: Sequence[str], val: Sequence[int]) -> str:
    """A split's id: how it was made, and a hash of the samples kept for validation.

    Args:
        title: How it was made.
        ids: Of all samples.
        val: Positions of those kept.
    """
    return f'{title}-' + digest('\n'.join(sorted(ids[index] for index in val)))[:12]


def digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal.

    Args:
        text: Any.
    """
    return hashlib.sha256(text.encode()).hexdigest()

"""Splits between training and validation that depend on nothing but the samples' names."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from geores.errors import DatasetError


class Split(NamedTuple):
    """Positions of the training and validation samples, and a name of the split."""

    train: list[int]
    val: list[int]
    id: str


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
    if len(set(ids)) != len(ids):
        raise DatasetError('two samples have the same id')
    groups: dict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(ids)), key=lambda index: _digest(f'{seed}:{ids[index]}')):
        groups[strata[index]].append(index)
    val = sorted(index for group in groups.values() for index in group[: round(share * len(group))])
    train = sorted(set(range(len(ids))) - set(val))
    if not train or not val:
        raise DatasetError(f'{len(ids)} samples are too few to keep {share:g} for validation')
    kept = _digest('\n'.join(sorted(ids[index] for index in val)))[:12]
    return Split(train, val, f'stratified-{share:g}-seed{seed}-{kept}')


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""Label matrices, and random splits stratified by class.

The splits depend on nothing but the ids of the samples and a seed: samples are put in the order of a hash of
the two, so that a split is the same on every machine, with every library version and in any file order.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geores.card_values import SplitParameters
from geores.errors import DatasetError

__all__ = [
    'MOST_REPEATS',
    'LabelMatrix',
    'Split',
    'check_ids',
    'check_ratio',
    'digest',
    'label_matrix',
    'label_text',
    'ratio_split',
    'split_name',
    'split_seed',
    'stratified_split',
]

MAX_CLASSES = 1000
"""A column with more different values is not taken for a column of labels."""
MOST_REPEATS = 1000
"""Random draws per seed, see `split_seed`."""


@dataclass(frozen=True)
class LabelMatrix:
    """Labels of N rows as a multi-hot matrix.

    Attributes:
        names: names of the K labels, sorted.
        values: (N, K) bool, whether a row has a label.
    """

    names: tuple[str, ...]
    values: NDArray[np.bool_]


def label_matrix(labels: Sequence[Any] | NDArray[Any], name: str = 'labels') -> LabelMatrix:
    """Turn the labels of rows into a matrix.

    Args:
        labels: one label per row, one list of labels per row, or an (N, K) array of 0 and 1. None, NaN, an
            empty text and an empty list stand for no label.
        name: name of the column, for messages.

    Raises:
        DatasetError: if there are no labels, or more than 1000 different ones.
    """
    array = labels if isinstance(labels, np.ndarray) else None
    if array is not None and array.ndim == 2:
        return LabelMatrix(tuple(str(one) for one in range(array.shape[1])), array.astype(bool))
    kinds = (list, tuple, set, np.ndarray)
    several = any(isinstance(row, kinds) for row in labels)
    rows = [row if isinstance(row, kinds) else [] if several else [row] for row in labels]
    flat = [one for row in rows for one in row]
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    known: dict[Any, int] = {}
    codes = np.array([known.setdefault(one, len(known)) for one in flat], np.int64)
    texts = [label_text(one) for one in known]
    names = tuple(sorted(set(texts) - {''}))
    if not names or len(names) > MAX_CLASSES:
        raise DatasetError(
            f'column {name!r} holds {len(names):,} different labels: '
            f'choose one with 1 to {MAX_CLASSES:,} classes'
        )
    place = {text: index for index, text in enumerate(names)}
    columns = np.array([place.get(text, -1) for text in texts], np.int64)[codes]
    values = np.zeros((len(rows), len(names)), bool)
    values[owners[columns >= 0], columns[columns >= 0]] = True
    return LabelMatrix(names, values)


def label_text(value: object) -> str:
    """A label as text, '' for a missing one. Tables with gaps hold whole numbers as floats."""
    if value is None or value != value or str(value) == '<NA>':
        return ''
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


class Split(NamedTuple):
    """A split of samples.

    Attributes:
        train: indices of the training samples.
        val: indices of the validation samples.
        id: id of the split: how it was made, and usually a hash of the samples kept for validation.
        test: indices of the test samples.
        method: how it was made and by which parameters, for the card of a model; None where it is not known.
    """

    train: list[int]
    val: list[int]
    id: str
    test: tuple[int, ...] = ()
    method: SplitParameters | None = None


def stratified_split(
    ids: Sequence[str], strata: Sequence[str], share: float, seed: int, groups: Sequence[int] | None = None
) -> Split:
    """Keep a share of each stratum for validation.

    Args:
        ids: unique ids of the samples.
        strata: stratum of each sample, such as its class.
        share: share kept for validation, above 0 and below 1.
        seed: random seed.
        groups: samples of one group, such as near duplicates, stay in one part; those of a stratum that is
            one group are split all the same.

    Returns:
        The split. Its id contains share, seed and a hash of the samples kept for validation.

    Raises:
        DatasetError: if ids are not unique, the share is out of range, or a part would be empty.
    """
    if not 0 < share < 1:
        raise DatasetError(f'val_share has to be above 0 and below 1, not {share}')
    check_ids(ids)
    order = sorted(range(len(ids)), key=lambda index: digest(f'{seed}:{ids[index]}'))
    members: dict[int, list[int]] = defaultdict(list)
    for index in order:
        members[index if groups is None else groups[index]].append(index)
    units: dict[str, list[list[int]]] = defaultdict(list)
    for unit in members.values():
        units[strata[unit[0]]].append(unit)
    val = sorted(index for found in units.values() for unit in _kept(found, share) for index in unit)
    train = sorted(set(range(len(ids))) - set(val))
    if not train or not val:
        raise DatasetError(f'{len(ids)} samples are too few to keep {share:g} for validation')
    name = split_name(f'stratified-{share:g}-seed{seed}', ids, val)
    return Split(train, val, name, method=SplitParameters(method='stratified', val_share=share, seed=seed))


def _kept(units: list[list[int]], share: float) -> list[list[int]]:
    """The units of a stratum that are kept for validation: the first that fit into its share."""
    if len(units) == 1:
        units = [[index] for index in units[0]]
    wanted = round(share * sum(map(len, units)))
    kept, taken = [], 0
    for unit in units:
        if taken + len(unit) <= wanted:
            kept.append(unit)
            taken += len(unit)
    if wanted and not kept:  # each is larger than the share
        kept = [min(units, key=len)]
    return kept


def split_seed(seed: int, repeat: int) -> int:
    """Seed of one repeat of an experiment, different for every pair of user seed and repeat."""
    return MOST_REPEATS * seed + repeat


def check_ratio(classes: Sequence[str], ratio: float) -> None:
    """Check that every class keeps training and test images at a training ratio.

    Raises:
        DatasetError: if a class has too few images.
    """
    for name, count in sorted(Counter(classes).items()):
        if not 0 < round((1 - ratio) * count) < count:
            raise DatasetError(
                f'class {name!r} has {count} image{"s" * (count != 1)}, too few for a training ratio of '
                f'{ratio:g}: it needs at least one to train on and one to test on'
            )


def ratio_split(ids: Sequence[str], classes: Sequence[str], ratio: float, repeat: int, seed: int) -> Split:
    """Draw a random split by the protocol of NWPU-RESISC45 (Cheng, Han and Lu 2017).

    A fixed ratio of each class is drawn for training, and the rest is for testing. `stratified_split` makes
    the draw rather than scikit-learn's StratifiedShuffleSplit: counts are exact in every class, and the
    training set of a small ratio is a subset of that of a larger one. `val` of the split holds the test part.

    Raises:
        DatasetError: if a class has too few images.
    """
    check_ratio(classes, ratio)
    return stratified_split(ids, classes, 1 - ratio, split_seed(seed, repeat))


def check_ids(ids: Sequence[str]) -> None:
    """Check that ids are unique.

    Raises:
        DatasetError: if two samples have the same id.
    """
    if len(set(ids)) != len(ids):
        raise DatasetError('two samples have the same id')


def split_name(title: str, ids: Sequence[str], val: Sequence[int]) -> str:
    """Make the id of a `Split`: how it was made, and a hash of the samples kept for validation."""
    return f'{title}-' + digest('\n'.join(sorted(ids[index] for index in val)))[:12]


def digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()

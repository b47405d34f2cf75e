"""Labels of rows as a matrix, whether a row has one label or several.

Splits between training and validation that depend on nothing but the samples' names.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError

__all__ = ['LabelMatrix', 'label_matrix']

MOST = 1000


@dataclass(frozen=True)
class LabelMatrix:
    """Which row has which label.

    Attributes:
        names: of the labels, sorted.
        values: (N, K) of bool.
    """

    names: tuple[str, ...]
    values: NDArray[np.bool_]


def label_matrix(labels: Sequence[Any] | NDArray[Any], name: str = 'labels') -> LabelMatrix:
    """Read labels of rows.

    Args:
        labels: a label a row, or a list of labels a row, or an (N, K) array of 0 and 1. What says nothing
            (None, NaN, an empty text or list) is no label.
        name: of the column, for messages.

    Raises:
        DatasetError: there are more than 1000 different ones, or none.
    """
    array = labels if isinstance(labels, np.ndarray) else None
    if array is not None and array.ndim == 2:
        return LabelMatrix(tuple(str(one) for one in range(array.shape[1])), array.astype(bool))
    rows = list(labels)
    several = any(isinstance(row, list | tuple | set | np.ndarray) for row in rows)
    if several:
        counts = [len(row) if isinstance(row, list | tuple | set | np.ndarray) else 0 for row in rows]
        flat = [one for row, count in zip(rows, counts, strict=True) if count for one in row]
        owners = np.repeat(np.arange(len(rows)), counts)
    else:
        flat, owners = rows, np.arange(len(rows))
    known: dict[Any, int] = {}
    codes = np.array([known.setdefault(one, len(known)) for one in flat], np.int64)
    texts = [_text(one) for one in known]
    names = tuple(sorted(set(texts) - {''}))
    if not names or len(names) > MOST:
        raise DatasetError(
            f'column {name!r} holds {len(names):,} different labels: choose one with 1 to {MOST:,} classes'
        )
    place = {text: index for index, text in enumerate(names)}
    columns = np.array([place.get(text, -1) for text in texts], np.int64)[codes]
    values = np.zeros((len(rows), len(names)), bool)
    values[owners[columns >= 0], columns[columns >= 0]] = True
    return LabelMatrix(names, values)


def _text(value: object) -> str:
    if value is None or value != value or str(value) == '<NA>':
        return ''
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


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

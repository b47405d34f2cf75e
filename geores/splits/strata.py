"""Labels of rows as a matrix, whether a row has one label or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

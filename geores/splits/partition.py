"""The result of a split: which part each row belongs to, and an id that names the split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError
from geores.splits.stratified import digest

__all__ = ['DROPPED', 'LEFT_OUT', 'PARTS', 'Partition', 'check_fractions', 'split_id']

PARTS = ('train', 'validation', 'test')
"""Names of the parts, in the order of fractions."""
DROPPED = 'dropped'
"""Name of the rows that are in no part."""
LEFT_OUT = -1
"""Code of rows that are in no part."""


@dataclass(frozen=True)
class Partition:
    """A split of rows into training, validation and test.

    Attributes:
        codes: (N,) int8, index into `PARTS` per row, -1 for dropped rows.
        groups: (N,) int64, number of the cell, cluster or region per row, -1 for rows outside all of them.
        id: id of the split, as `split_id` makes it.
    """

    codes: NDArray[np.int8]
    groups: NDArray[np.int64]
    id: str

    @property
    def names(self) -> NDArray[np.object_]:
        """Part of each row, (N,): 'train', 'validation', 'test' or 'dropped'."""
        return np.array([*PARTS, DROPPED], object)[self.codes]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows per part, dropped rows included."""
        counted = np.bincount(self.codes + 1, minlength=len(PARTS) + 1).tolist()
        return dict(zip((*PARTS, DROPPED), (*counted[1:], counted[0]), strict=True))

    def rows(self, part: str) -> NDArray[np.int64]:
        """Indices of the rows of a part.

        Args:
            part: 'train', 'validation', 'test' or 'dropped'.
        """
        code = LEFT_OUT if part == DROPPED else PARTS.index(part)
        return np.flatnonzero(self.codes == code)


def check_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    """Validate the fractions of a split and complete them to three.

    Args:
        fractions: fractions of (train, test) or of (train, validation, test).

    Returns:
        (3,), fractions of train, validation and test.

    Raises:
        DatasetError: if there are not two or three fractions, one is out of range, the training fraction is
            0, or they do not sum to 1.
    """
    told = ','.join(f'{one:g}' for one in fractions)
    if len(fractions) not in (2, 3):
        raise DatasetError(f'fractions are of train,test or train,validation,test, not {told!r}')
    if not all(math.isfinite(one) and 0 <= one < 1 for one in fractions):
        raise DatasetError(f'fractions have to be from 0 to below 1, not {told}')
    if abs(sum(fractions) - 1) > 1e-6:
        raise DatasetError(f'fractions have to sum to 1, but {told} sum to {sum(fractions):g}')
    if fractions[0] == 0:
        raise DatasetError(f'the fraction of train has to be above 0, not {told}')
    wanted = fractions if len(fractions) == 3 else (fractions[0], 0.0, fractions[1])
    return np.asarray(wanted, np.float64)


def split_id(title: str, ids: Sequence[str], names: Sequence[str]) -> str:
    """Make the id of a split: how it was made, and a hash of which row is in which part.

    Args:
        title: how the split was made, such as 'blocks-1000'.
        ids: ids of all rows, in any order.
        names: name of the part of each row.
    """
    told = '\n'.join(sorted(f'{one}\t{part}' for one, part in zip(ids, names, strict=True)))
    return f'{title}-{digest(told)[:12]}'

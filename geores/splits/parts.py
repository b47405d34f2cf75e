"""What a geographic split says: the part of each row, and a name of the whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError
from geores.splits.stratified import digest

__all__ = ['DROPPED', 'PARTS', 'Parts', 'check_fractions', 'split_id']

PARTS = ('train', 'validation', 'test')
"""Names of the parts, in the order of fractions."""
DROPPED = 'dropped'
"""Name of what is in no part."""
LEFT_OUT = -1


@dataclass(frozen=True)
class Parts:
    """A split of rows into training, validation and test.

    Attributes:
        codes: (N,) int8: place in `PARTS`, or -1 for a row that is in none.
        groups: (N,) int64: number of the cell, cluster or region of each row; -1 outside all.
        id: how it was made, and a hash of the part of each id.
    """

    codes: NDArray[np.int8]
    groups: NDArray[np.int64]
    id: str

    @property
    def names(self) -> NDArray[np.object_]:
        """(N,): 'train', 'validation', 'test' or 'dropped'."""
        return np.array([*PARTS, DROPPED], object)[self.codes]

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each part, and those dropped."""
        counted = np.bincount(self.codes + 1, minlength=len(PARTS) + 1).tolist()
        return dict(zip((*PARTS, DROPPED), (*counted[1:], counted[0]), strict=True))

    def rows(self, part: str) -> NDArray[np.int64]:
        """Positions of the rows of a part.

        Args:
            part: 'train', 'validation', 'test' or 'dropped'.
        """
        code = LEFT_OUT if part == DROPPED else PARTS.index(part)
        return np.flatnonzero(self.codes == code)


def check_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    """Fractions of the three parts, if they can be such.

    Args:
        fractions: of training and test (two), or training, validation and test (three).

    Returns:
        (3,), of training, validation and test.

    Raises:
        DatasetError: there are fewer than two or more than three, one is out of range, training or all
            others are 0, or they do not sum to 1.
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
    """A split's id: how it was made, and a hash of which id is in which part.

    Args:
        title: how it was made.
        ids: of all rows, in any order.
        names: part of each.
    """
    told = '\n'.join(sorted(f'{one}\t{part}' for one, part in zip(ids, names, strict=True)))
    return f'{title}-{digest(told)[:12]}'

"""What a geographic split says: the part of each row, and a name of the whole.

Random draws of a training ratio from each class: the protocol of NWPU-RESISC45.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError
from geores.splits.stratified import Split, digest, stratified_split

__all__ = [
    'DROPPED',
    'MOST_REPEATS',
    'PARTS',
    'Parts',
    'check_fractions',
    'check_ratio',
    'ratio_split',
    'split_id',
    'split_seed',
]

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


MOST_REPEATS = 1000


def split_seed(seed: int, repeat: int) -> int:
    """The seed of a repeat, another for every seed of the user's and repeat.

    Args:
        seed: The user's.
        repeat: From 0.
    """
    return MOST_REPEATS * seed + repeat


def check_ratio(classes: Sequence[str], ratio: float) -> None:
    """Refuse a ratio by which a class would have nothing to train on or to test on.

    Args:
        classes: Of the images.
        ratio: Part of each class to train on.

    Raises:
        DatasetError: A class has too few images.
    """
    for name, count in sorted(Counter(classes).items()):
        if not 0 < round((1 - ratio) * count) < count:
            raise DatasetError(
                f'class {name!r} has {count} image{"s" * (count != 1)}, too few for a training ratio of '
                f'{ratio:g}: it needs at least one to train on and one to test on'
            )


def ratio_split(ids: Sequence[str], classes: Sequence[str], ratio: float, repeat: int, seed: int) -> Split:
    """One random draw by the protocol of NWPU-RESISC45 (Cheng, Han and Lu 2017).

    Of each class the ratio is drawn for training, the rest is for testing. The draw is
    `stratified_split`, by a hash of seed and name, rather than scikit-learn's StratifiedShuffleSplit: counts
    are exact in every class, and the parts are the same on every machine and with every version of
    a library. The training part of a small ratio is part of that of a larger one.

    Args:
        ids: Of the images, each another.
        classes: Of the images.
        ratio: Part of each class to train on, above 0 and below 1.
        repeat: Which draw, from 0.
        seed: Gives other draws.

    Returns:
        The split, whose `val` is the test part.

    Raises:
        DatasetError: A class has too few images.
    """
    check_ratio(classes, ratio)
    return stratified_split(ids, classes, 1 - ratio, split_seed(seed, repeat))

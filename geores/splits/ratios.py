"""Random draws of a training ratio from each class: the protocol of NWPU-RESISC45."""

from collections import Counter
from collections.abc import Sequence

from geores.errors import DatasetError
from geores.splits.stratified import Split, stratified_split

__all__ = ['MOST_REPEATS', 'check_ratio', 'ratio_split', 'split_seed']

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

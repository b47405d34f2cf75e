"""Check what a training learns from: classes without images, and copies on both sides of a split."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError
from geores.splits import Split

__all__ = ['check_classes', 'say_copies']

_logger = logging.getLogger(__name__)


def check_classes(labels: Sequence[str], targets: NDArray[Any], split: Split, *, fixed: bool = False) -> None:
    """Check that there is something to tell apart, and that every label can be learnt.

    A label without validation images is said in a log message, for no figure is about it.

    Args:
        labels: labels in the order of targets.
        targets: (N,) indices, or (N, K) of 0 and 1; -1 without a label.
        split: parts of the samples.
        fixed: whether the labels are a nomenclature's, so that some may be missing in a small part of a data
            set; these are said too.

    Raises:
        DatasetError: if there is one class alone, or a label has no training image, unless a teacher answers
            for unlabelled ones.
    """
    single = targets.ndim == 1
    if single and len(labels) < 2:
        raise DatasetError(
            f'all images are of one class ({", ".join(labels)}): a model of it can only be right; add images '
            'of another class'
        )
    train, val = (_counts(targets[list(part)], len(labels)) for part in (split.train, split.val))
    unlabelled = bool((targets[split.train].reshape(len(split.train), -1) < 0).any())
    missing = _names(labels, train == 0)
    if missing and not fixed and not unlabelled:
        raise DatasetError(
            f'no training image of {missing} by split {split.id}: a model cannot learn it; take another '
            'split, add images, or leave the class out'
        )
    if missing:
        _logger.warning('no labelled training image of %s by split %s', missing, split.id)
    unseen = _names(labels, (val == 0) & (train > 0))
    if split.val and unseen:
        _logger.warning('no validation image of %s by split %s: not measured', unseen, split.id)


def _counts(targets: NDArray[Any], labels: int) -> NDArray[np.int64]:
    if targets.ndim == 1:
        return np.bincount(targets[targets >= 0].astype(np.int64), minlength=labels)
    return np.asarray((targets > 0).sum(axis=0), np.int64)


def _names(labels: Sequence[str], which: NDArray[np.bool_]) -> str:
    return ', '.join(label for label, one in zip(labels, which, strict=True) if one)


def say_copies(ids: Sequence[str], groups: Sequence[int], split: Split) -> None:
    """Say in a log message how many validation or test images have an exact or near copy in training."""
    train = Counter(groups[index] for index in split.train)
    copies = [index for part in (split.val, split.test) for index in part if groups[index] in train]
    if copies:
        _logger.warning(
            '%s of %s images of validation and test have a copy or near copy in training (such as %s): '
            'figures are better than on new images',
            f'{len(copies):,}',
            f'{len(split.val) + len(split.test):,}',
            ids[copies[0]],
        )

"""Precision, recall and F-beta from counts of right and wrong decisions."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from geores.errors import UsageError
from geores.metrics.validate import check_multi_label, check_single_label

Average = Literal['macro', 'micro', 'samples', 'none']


class Counts(NamedTuple):
    """Decisions counted along some axis: over samples (K,), over labels (N,), or over both ()."""

    tp: Tensor
    fp: Tensor
    fn: Tensor


def count_labels(predictions: Tensor, target: Tensor, average: Average = 'none') -> Counts:
    """Count multi-label decisions.

    Args:
        predictions: (N, K) of 0 and 1.
        target: (N, K) of 0 and 1.
        average: How they will be averaged: by label ('macro', 'none'), by sample, or not at all.

    Raises:
        UsageError: Shapes differ or values are out of range.
    """
    check_multi_label(predictions, target)
    dims = {'macro': (0,), 'none': (0,), 'samples': (1,), 'micro': (0, 1)}
    if average not in dims:
        raise UsageError(f'average has to be one of {", ".join(dims)}, not {average!r}')
    said, true = predictions.bool(), target.bool()
    hits, false, missed = said & true, said & ~true, ~said & true
    return Counts(*(part.sum(dims[average]) for part in (hits, false, missed)))


def count_classes(scores: Tensor, target: Tensor, average: Average = 'none') -> Counts:
    """Count single-label decisions: the best class of each sample.

    Args:
        scores: (N, K).
        target: (N,) class indices.
        average: As in `count_labels`.

    Raises:
        UsageError: Shapes do not fit or indices are out of range.
    """
    check_single_label(scores, target)
    classes = scores.shape[1]
    predictions = torch.nn.functional.one_hot(scores.argmax(1), classes)
    return count_labels(predictions, torch.nn.functional.one_hot(target, classes), average)


def precision(counts: Counts, average: Average = 'none') -> Tensor:
    """Share of what was said that is true; 0 where nothing was said.

    Args:
        counts: Counted for the same average.
        average: 'macro' and 'samples' take the mean over what has true examples.
    """
    return _reduce(counts.tp / (counts.tp + counts.fp).clamp_min(1), counts, average)


def recall(counts: Counts, average: Average = 'none') -> Tensor:
    """Share of what is true that was said.

    Args:
        counts: Counted for the same average.
        average: As in `precision`.
    """
    return _reduce(counts.tp / (counts.tp + counts.fn).clamp_min(1), counts, average)


def fbeta(counts: Counts, average: Average = 'none', beta: float = 1.0) -> Tensor:
    """Weighted harmonic mean of precision and recall.

    Args:
        counts: Counted for the same average.
        average: As in `precision`.
        beta: How much more recall counts than precision.

    Raises:
        UsageError: `beta` is not above 0.
    """
    if beta <= 0:
        raise UsageError(f'beta has to be above 0, not {beta}')
    hits = (1 + beta**2) * counts.tp
    score = hits / (hits + beta**2 * counts.fn + counts.fp).clamp_min(1e-9)
    return _reduce(score, counts, average)


def _reduce(score: Tensor, counts: Counts, average: Average) -> Tensor:
    score = score.where(counts.tp + counts.fn > 0, torch.nan)
    return score.nanmean() if average in {'macro', 'samples'} else score

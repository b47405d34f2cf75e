"""Predictions against ground truth: confusion matrices, precision, recall, F-beta, figures of maps.

The checks of what metrics are given stand here too, since every metric of this package makes them.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassStatScores,
)
from torchmetrics.functional.classification import multiclass_confusion_matrix, multilabel_confusion_matrix

from geores.errors import UsageError

__all__ = [
    'IGNORED',
    'MEANS',
    'Average',
    'Counts',
    'PixelReport',
    'check_multi_label',
    'check_single_label',
    'confusion_matrix',
    'count_classes',
    'count_labels',
    'fbeta',
    'label_matrices',
    'precision',
    'recall',
]

Average = Literal['macro', 'micro', 'samples', 'none']


def confusion_matrix(scores: Tensor, target: Tensor) -> Tensor:
    """Confusion matrix: samples per true class (rows) and predicted class (columns), by torchmetrics.

    The prediction is the class of the highest score.

    Args:
        scores: (N, K).
        target: (N,) indices of the true classes.

    Returns:
        (K, K), int64.

    Raises:
        UsageError: if shapes do not fit or indices are out of range.
    """
    check_single_label(scores, target)
    classes = scores.shape[1]
    matrix: Tensor = multiclass_confusion_matrix(scores.argmax(1), target, classes, validate_args=False)
    return matrix


def label_matrices(predictions: Tensor, target: Tensor) -> Tensor:
    """One 2 x 2 confusion matrix per label: ground truth (rows: no, yes) against prediction (columns).

    Args:
        predictions: (N, K) of 0 and 1.
        target: (N, K) of 0 and 1.

    Returns:
        (K, 2, 2), int64: [[true negatives, false positives], [false negatives, true positives]].

    Raises:
        UsageError: if shapes differ or values are out of range.
    """
    check_multi_label(predictions, target)
    labels = predictions.shape[1]
    matrices: Tensor = multilabel_confusion_matrix(
        predictions.long(), target.long(), labels, validate_args=False
    )
    return matrices


class Counts(NamedTuple):
    """True positives, false positives and false negatives, counted over one axis or more.

    Their shape is (K,) where samples were counted, (N,) where labels were, and () where both were.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor


def count_labels(predictions: Tensor, target: Tensor, average: Average = 'none') -> Counts:
    """Count right and wrong multi-label predictions.

    Args:
        predictions: (N, K) of 0 and 1.
        target: (N, K) of 0 and 1.
        average: how the counts will be averaged: 'macro' and 'none' count per label, 'samples' per sample,
            'micro' over both.

    Raises:
        UsageError: if shapes differ or values are out of range.
    """
    check_multi_label(predictions, target)
    dims = {'macro': (0,), 'none': (0,), 'samples': (1,), 'micro': (0, 1)}
    if average not in dims:
        raise UsageError(f'average has to be one of {", ".join(dims)}, not {average!r}')
    predicted, true = predictions.bool(), target.bool()
    hits, false, missed = predicted & true, predicted & ~true, ~predicted & true
    return Counts(*(part.sum(dims[average]) for part in (hits, false, missed)))


def count_classes(scores: Tensor, target: Tensor, average: Average = 'none') -> Counts:
    """Count right and wrong single-label predictions: the class of the highest score of each sample.

    Args:
        scores: (N, K).
        target: (N,) indices of the true classes.
        average: as in `count_labels`.

    Raises:
        UsageError: if shapes do not fit or indices are out of range.
    """
    check_single_label(scores, target)
    classes = scores.shape[1]
    predictions = torch.nn.functional.one_hot(scores.argmax(1), classes)
    return count_labels(predictions, torch.nn.functional.one_hot(target, classes), average)


def precision(counts: Counts, average: Average = 'none') -> Tensor:
    """Precision: the share of predictions that are true; 0 where nothing was predicted.

    Args:
        counts: counted for the same average.
        average: 'macro' and 'samples' take the mean over labels or samples that have true examples.
    """
    return _reduce(counts.tp / (counts.tp + counts.fp).clamp_min(1), counts, average)


def recall(counts: Counts, average: Average = 'none') -> Tensor:
    """Recall: the share of the ground truth that was predicted.

    Args:
        counts: counted for the same average.
        average: as in `precision`.
    """
    return _reduce(counts.tp / (counts.tp + counts.fn).clamp_min(1), counts, average)


def fbeta(counts: Counts, average: Average = 'none', beta: float = 1.0) -> Tensor:
    """F-beta: the weighted harmonic mean of precision and recall.

    Args:
        counts: counted for the same average.
        average: as in `precision`.
        beta: how much more recall counts than precision.

    Raises:
        UsageError: if `beta` is not above 0.
    """
    if beta <= 0:
        raise UsageError(f'beta has to be above 0, not {beta}')
    hits = (1 + beta**2) * counts.tp
    score = hits / (hits + beta**2 * counts.fn + counts.fp).clamp_min(1e-9)
    return _reduce(score, counts, average)


def _reduce(score: Tensor, counts: Counts, average: Average) -> Tensor:
    score = score.where(counts.tp + counts.fn > 0, torch.nan)
    return score.nanmean() if average in {'macro', 'samples'} else score


def check_multi_label(scores: Tensor, target: Tensor) -> None:
    """Check multi-label scores or predictions against their ground truth.

    Args:
        scores: (N, K), 0 to 1.
        target: (N, K) of 0 and 1.

    Raises:
        UsageError: if shapes differ, or values are out of range.
    """
    if scores.ndim != 2 or scores.shape != target.shape:
        raise UsageError(
            f'scores {tuple(scores.shape)} and target {tuple(target.shape)} have to be (N, K) both'
        )
    # Written so that NaN fails too.
    if not ((scores >= 0) & (scores <= 1)).all():
        raise UsageError('scores have to be between 0 and 1')
    if not ((target == 0) | (target == 1)).all():
        raise UsageError('target has to hold 0 and 1 only')


def check_single_label(scores: Tensor, target: Tensor) -> None:
    """Check single-label scores against their ground truth.

    Args:
        scores: (N, K).
        target: (N,) class indices, 0 to K - 1.

    Raises:
        UsageError: if shapes do not fit, or indices are out of range.
    """
    if scores.ndim != 2 or target.shape != scores.shape[:1]:
        raise UsageError(
            f'scores {tuple(scores.shape)} have to be (N, K) and target {tuple(target.shape)} (N,)'
        )
    if torch.isnan(scores).any():
        raise UsageError('scores hold NaN')
    if target.is_floating_point() or not ((target >= 0) & (target < scores.shape[1])).all():
        raise UsageError(f'target has to hold class indices from 0 to {scores.shape[1] - 1}')


IGNORED = 255
"""Class index of pixels that are ignored."""
MEANS = ('accuracy', 'miou', 'f1_macro', 'accuracy_macro')
"""Figures over all classes."""


class PixelReport:
    """Accuracy, intersection over union and F1 of class maps over many batches and processes.

    Args:
        labels: in the order of the class indices.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        options: dict[str, Any] = {'num_classes': len(self.labels), 'ignore_index': IGNORED, 'average': None}
        self.parts = MetricCollection(
            {
                'iou': MulticlassJaccardIndex(**options),
                'f1': MulticlassF1Score(**options),
                'accuracy': MulticlassAccuracy(**options),
                'counts': MulticlassStatScores(**options),
            },
            compute_groups=[['iou'], ['f1', 'accuracy', 'counts']],
        )

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: (N, H, W), predicted class of each pixel.
            target: (N, H, W), true class of each pixel; 255 is ignored.
        """
        self.parts.update(predicted, target)

    def compute(self) -> dict[str, float]:
        """Figures of all batches so far.

        Returns:
            `accuracy` of all pixels; `miou`, `f1_macro` and `accuracy_macro`, means over the classes that
            occur in ground truth or prediction; and per class `iou_<label>`, `f1_<label>` and
            `accuracy_<label>`, the share of its pixels that are found. Empty where all pixels are ignored.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'The ``compute`` method', UserWarning)
            found = self.parts.compute()
        hits, wrong, _, missed, support = found['counts'].T.double()
        if not support.sum():
            return {}
        there = (hits + wrong + missed) > 0
        figures = {'accuracy': float(hits.sum() / support.sum())}
        for name, mean, kept in (
            ('iou', 'miou', there),
            ('f1', 'f1_macro', there),
            ('accuracy', 'accuracy_macro', support > 0),
        ):
            values = found[name].double()
            figures[mean] = float(values[kept].mean())
            figures |= {
                f'{name}_{label}': float(value)
                for label, value, is_kept in zip(self.labels, values, kept, strict=True)
                if is_kept
            }
        return figures

    def reset(self) -> None:
        """Forget all batches."""
        self.parts.reset()

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        self.parts.to(device)
        return self

"""Metrics of scores as rankings, before any threshold, and the thresholds that they suggest."""

import warnings
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision, multilabel_average_precision

from geores.errors import UsageError
from geores.metrics.confusion import check_multi_label

__all__ = ['average_precision', 'best_thresholds']


def average_precision(
    scores: Tensor, target: Tensor, average: Literal['macro', 'micro', 'none'] = 'macro'
) -> Tensor:
    """Area under the precision-recall curve as a step function, by torchmetrics.

    Args:
        scores: (N, K), 0 to 1.
        target: (N, K) of 0 and 1.
        average: 'micro' ranks all scores together; 'macro' is the mean over labels that have true
            examples; 'none' gives (K,), NaN for labels that have none.

    Raises:
        UsageError: if shapes differ, or values are out of range.
    """
    check_multi_label(scores, target)
    if average not in {'macro', 'micro', 'none'}:
        raise UsageError(f"average has to be 'macro', 'micro' or 'none', not {average!r}")
    target = target.long()
    present = target.any(0)
    if not present.any():
        return torch.full_like(scores[0] if average == 'none' else scores.sum(), torch.nan)
    if average == 'micro':
        return binary_average_precision(scores.flatten(), target.flatten(), validate_args=False)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'No positive samples')
        values = multilabel_average_precision(
            scores, target, scores.shape[1], average='none', validate_args=False
        )
    values = values.where(present, torch.nan)
    return values.nanmean() if average == 'macro' else values


def best_thresholds(scores: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """The threshold per label that gives the best F-beta.

    Thresholds lie midway between two scores, so that rounding does not flip a prediction. A label
    without true examples gets 0.5.

    Args:
        scores: (N, K), 0 to 1; a label is predicted where its score reaches the threshold.
        target: (N, K) of 0 and 1.
        beta: how much more recall counts than precision.

    Returns:
        (K,), above 0 and below 1.

    Raises:
        UsageError: if shapes differ, values are out of range, or there are no samples.
    """
    check_multi_label(scores, target)
    if not len(scores):
        raise UsageError('thresholds need at least one sample')
    ranked, order = scores.double().sort(dim=0, descending=True)
    true = target.gather(0, order).double()
    hits = true.cumsum(0)
    predicted = torch.arange(1, len(scores) + 1, device=scores.device)[:, None]
    score = (1 + beta**2) * hits / (predicted + beta**2 * true.sum(0))
    following = torch.cat([ranked[1:], torch.zeros_like(ranked[:1])])
    # No threshold lies between equal scores.
    best = score.where(ranked > following, -1).argmax(0, keepdim=True)
    cut = ((ranked + following) / 2).gather(0, best)[0]
    return cut.where(true.any(0), 0.5).clamp(1e-4, 1 - 1e-4).float()

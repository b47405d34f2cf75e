"""Checks of what metrics are given."""

import torch
from torch import Tensor

from geores.errors import UsageError


def check_multi_label(scores: Tensor, target: Tensor) -> None:
    """Check multi-label scores or predictions and what is true.

    Args:
        scores: (N, K), 0 to 1.
        target: (N, K) of 0 and 1.

    Raises:
        UsageError: Shapes differ, or values are out of range.
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
    """Check single-label scores and what is true.

    Args:
        scores: (N, K).
        target: (N,) class indices, 0 to K - 1.

    Raises:
        UsageError: Shapes do not fit, or indices are out of range.
    """
    if scores.ndim != 2 or target.shape != scores.shape[:1]:
        raise UsageError(
            f'scores {tuple(scores.shape)} have to be (N, K) and target {tuple(target.shape)} (N,)'
        )
    if torch.isnan(scores).any():
        raise UsageError('scores hold NaN')
    if target.is_floating_point() or not ((target >= 0) & (target < scores.shape[1])).all():
        raise UsageError(f'target has to hold class indices from 0 to {scores.shape[1] - 1}')

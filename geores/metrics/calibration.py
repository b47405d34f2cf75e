"""Whether a score of 0.8 is right in 80 of 100 cases."""

from typing import NamedTuple

import torch
from torch import Tensor

from geores.errors import UsageError
from geores.metrics.validate import check_multi_label, check_single_label


class Reliability(NamedTuple):
    """Scores and what is true of them, in bins of equal width from 0 to 1.

    `score` is the mean score and `share` the share that is true, (B, K), NaN in empty bins; `samples`
    is (B, K) and `edges` (B + 1,).
    """

    edges: Tensor
    score: Tensor
    share: Tensor
    samples: Tensor


def reliability_curve(scores: Tensor, target: Tensor, bins: int = 10) -> Reliability:
    """Mean score against the share that is true, in bins of equal width (Niculescu-Mizil and Caruana 2005).

    A bin holds its upper edge, as in scikit-learn's `calibration_curve`. All labels together are
    the curve of `scores.reshape(-1, 1)`; the usual curve of a single-label model is that of `top_label`.

    Args:
        scores: (N, K), 0 to 1.
        target: (N, K) of 0 and 1.
        bins: How many.

    Raises:
        UsageError: Shapes differ, values are out of range, or there are no bins.
    """
    check_multi_label(scores, target)
    if bins < 1:
        raise UsageError(f'bins has to be 1 or more, not {bins}')
    scores, target = scores.double(), target.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=scores.device)
    place = torch.bucketize(scores, edges[1:-1])
    empty = torch.zeros((bins, scores.shape[1]), dtype=torch.float64, device=scores.device)
    count, score, share = (
        empty.scatter_add(0, place, values) for values in (torch.ones_like(scores), scores, target)
    )
    # 0 / 0 is NaN, as an empty bin has to be.
    return Reliability(edges, score / count, share / count, count.long())


def expected_calibration_error(curve: Reliability) -> Tensor:
    """Mean distance of score and share that is true, weighted by the bins' samples (Guo et al. 2017, eq. 3).

    Args:
        curve: Of `reliability_curve`.

    Returns:
        (K,), NaN without samples.
    """
    gaps = (curve.share - curve.score).abs().nan_to_num(0.0)
    return (gaps * curve.samples).sum(0) / curve.samples.sum(0)


def top_label(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Score of the best class of each sample, and whether it is the right one.

    Args:
        scores: (N, K).
        target: (N,) class indices.

    Returns:
        Scores (N, 1), and (N, 1) of 0 and 1: what `reliability_curve` takes.

    Raises:
        UsageError: Shapes do not fit or indices are out of range.
    """
    check_single_label(scores, target)
    best, classes = scores.max(1, keepdim=True)
    return best, (classes == target[:, None]).long()

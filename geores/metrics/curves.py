"""Figures of decisions as the threshold moves."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from geores.errors import UsageError
from geores.metrics.confusion import Counts, fbeta, precision, recall
from geores.metrics.validate import check_multi_label, check_single_label


class ThresholdCurve(NamedTuple):
    """Precision, recall and F1 at thresholds (T,): (T, K), or (T,) of all labels together.

    Precision is NaN where nothing is said at that threshold or above.
    """

    thresholds: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor


def threshold_curve(
    scores: Tensor,
    target: Tensor,
    thresholds: Tensor | None = None,
    average: Literal['micro', 'none'] = 'none',
) -> ThresholdCurve:
    """What precision, recall and F1 would be at other thresholds.

    Args:
        scores: (N, K), 0 to 1; a label is said where its score is at or above the threshold.
        target: (N, K) of 0 and 1.
        thresholds: (T,); None takes 0.01, 0.02 ... 0.99.
        average: 'micro' counts all labels together.

    Raises:
        UsageError: Shapes differ, or values are out of range.
    """
    check_multi_label(scores, target)
    if average not in {'micro', 'none'}:
        raise UsageError(f"average has to be 'micro' or 'none', not {average!r}")
    if thresholds is None:
        thresholds = torch.arange(1, 100, device=scores.device) / 100
    at = thresholds.to(scores.dtype)
    said = _reaching(scores, at)
    # A score of what is not true is put below every threshold.
    tp = _reaching(scores.where(target.bool(), -torch.inf), at)
    true = target.long().sum(0).expand_as(tp)
    if average == 'micro':
        said, tp, true = said.sum(1), tp.sum(1), true.sum(1)
    counts = Counts(tp, said - tp, true - tp)
    precise = precision(counts).where(said > 0, torch.nan)
    return ThresholdCurve(thresholds, precise, recall(counts), fbeta(counts))


def top_scores(scores: Tensor) -> Tensor:
    """Scores of the best class of each sample, 0 elsewhere.

    With them `threshold_curve` shows what a single-label model gains where it may decline to answer.

    Args:
        scores: (N, K).

    Returns:
        (N, K).

    Raises:
        UsageError: Scores hold NaN or are not (N, K).
    """
    check_single_label(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))
    best = torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1])
    return scores * best


def _reaching(scores: Tensor, thresholds: Tensor) -> Tensor:
    """How many scores of each label are at or above each threshold: (T, K)."""
    ranked = scores.T.contiguous().sort(dim=1).values
    at = thresholds.expand(len(ranked), -1).contiguous()
    return (len(scores) - torch.searchsorted(ranked, at)).T

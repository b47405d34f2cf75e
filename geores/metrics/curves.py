"""Figures over thresholds, of scores against observed shares (calibration), and those that cards keep.

A score is calibrated where 80 of 100 predictions with a score of 0.8 are right.

Metrics of scores as rankings, before any threshold, and the thresholds that they suggest.
"""

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision, multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

from geores.errors import UsageError
from geores.metrics.confusion import (
    Average,
    Counts,
    check_multi_label,
    check_single_label,
    count_classes,
    count_labels,
    fbeta,
    precision,
    recall,
)

__all__ = [
    'Reliability',
    'SceneReport',
    'ThresholdCurve',
    'average_precision',
    'best_thresholds',
    'calibrated',
    'calibration_error',
    'expected_calibration_error',
    'fit_temperature',
    'multi_label_report',
    'reliability_curve',
    'single_label_report',
    'threshold_curve',
    'top_label',
    'top_scores',
]


class ThresholdCurve(NamedTuple):
    """Precision, recall and F1 at thresholds (T,): (T, K), or (T,) for all labels together.

    Precision is NaN where no score reaches the threshold.
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
    """Precision, recall and F1 at each of several thresholds.

    Args:
        scores: (N, K), 0 to 1; a label is predicted where its score reaches the threshold.
        target: (N, K) of 0 and 1.
        thresholds: (T,); None takes 0.01, 0.02 ... 0.99.
        average: 'micro' counts all labels together.

    Raises:
        UsageError: if shapes differ, or values are out of range.
    """
    check_multi_label(scores, target)
    if average not in {'micro', 'none'}:
        raise UsageError(f"average has to be 'micro' or 'none', not {average!r}")
    if thresholds is None:
        thresholds = torch.arange(1, 100, device=scores.device) / 100
    at = thresholds.to(scores.dtype)
    predicted = _reaching(scores, at)
    # Scores of false labels go below every threshold, so that only true positives are counted.
    tp = _reaching(scores.where(target.bool(), -torch.inf), at)
    true = target.long().sum(0).expand_as(tp)
    if average == 'micro':
        predicted, tp, true = predicted.sum(1), tp.sum(1), true.sum(1)
    counts = Counts(tp, predicted - tp, true - tp)
    precise = precision(counts).where(predicted > 0, torch.nan)
    return ThresholdCurve(thresholds, precise, recall(counts), fbeta(counts))


def top_scores(scores: Tensor) -> Tensor:
    """Scores in which only the best class of each sample keeps its score; the others are 0.

    Given these, `threshold_curve` shows what a single-label model gains where it may decline to predict.

    Args:
        scores: (N, K).

    Returns:
        (N, K).

    Raises:
        UsageError: if scores hold NaN or are not (N, K).
    """
    check_single_label(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))
    best = torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1])
    return scores * best


def _reaching(scores: Tensor, thresholds: Tensor) -> Tensor:
    """Number of scores of each label that reach each threshold, (T, K)."""
    ranked = scores.T.contiguous().sort(dim=1).values
    at = thresholds.expand(len(ranked), -1).contiguous()
    return (len(scores) - torch.searchsorted(ranked, at)).T


class Reliability(NamedTuple):
    """Scores against observed shares, in B bins of equal width from 0 to 1.

    `score` is the mean score and `share` the share of true labels, (B, K), NaN in empty bins; `samples`
    is (B, K) and `edges` (B + 1,).
    """

    edges: Tensor
    score: Tensor
    share: Tensor
    samples: Tensor


def reliability_curve(scores: Tensor, target: Tensor, bins: int = 10) -> Reliability:
    """Mean score against the share of true labels per bin (Niculescu-Mizil and Caruana 2005).

    A bin includes its upper edge, as in scikit-learn's `calibration_curve`. For all labels together give
    `scores.reshape(-1, 1)`; the usual curve of a single-label model is that of `top_label`.

    Args:
        scores: (N, K), 0 to 1.
        target: (N, K) of 0 and 1.
        bins: number of bins.

    Raises:
        UsageError: if shapes differ, values are out of range, or there are no bins.
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
    """Mean distance of score and observed share, weighted by the samples per bin (Guo et al. 2017, eq. 3).

    Args:
        curve: of `reliability_curve`.

    Returns:
        (K,), NaN without samples.
    """
    gaps = (curve.share - curve.score).abs().nan_to_num(0.0)
    return (gaps * curve.samples).sum(0) / curve.samples.sum(0)


def top_label(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Score of the best class of each sample, and whether that class is the true one.

    Args:
        scores: (N, K).
        target: (N,) indices of the true classes.

    Returns:
        Scores (N, 1) and targets (N, 1) of 0 and 1, as `reliability_curve` takes them.

    Raises:
        UsageError: if shapes do not fit or indices are out of range.
    """
    check_single_label(scores, target)
    best, classes = scores.max(1, keepdim=True)
    return best, (classes == target[:, None]).long()


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


def calibration_error(scores: Tensor, target: Tensor) -> float:
    """Expected calibration error of the best class of single-label scores, in ten bins.

    Args:
        scores: (N, K), 0 to 1.
        target: (N,) class indices.
    """
    return float(expected_calibration_error(reliability_curve(*top_label(scores, target)))[0])


def calibrated(scores: Tensor, temperature: float) -> Tensor:
    """Softmax scores as they would be had the logits been divided by a temperature.

    Args:
        scores: (N, K), 0 to 1, of one softmax each.
        temperature: above 1 makes them less sure.
    """
    return (scores.clamp_min(1e-12).log() / temperature).softmax(1)


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """Fit the temperature that calibrates logits (Guo et al. 2017, section 4.2).

    Args:
        logits: (N, K), or logarithms of softmax scores; -inf for classes that cannot be.
        target: (N,) class indices, each of a finite logit.

    Returns:
        Between 0.05 and 20; 1 without samples.
    """
    if not len(target):
        return 1.0
    # One number: the loss is smooth in its logarithm, so that a fine grid is enough.
    grid = torch.logspace(-1.3, 1.3, 261, dtype=torch.float64)
    losses = [torch.nn.functional.cross_entropy(logits.double() / one, target) for one in grid]
    return round(float(grid[torch.stack(losses).argmin()]), 4)


_AVERAGES: tuple[Average, ...] = ('micro', 'macro', 'samples')


def multi_label_report(scores: Tensor, target: Tensor, thresholds: Tensor | float = 0.5) -> dict[str, float]:
    """Average precision, F1, precision and recall of multi-label scores.

    Args:
        scores: (N, K), 0 to 1.
        target: (N, K) of 0 and 1.
        thresholds: decision threshold, one for all labels or (K,).

    Returns:
        `ap_macro`, `ap_micro`, and `f1_`, `precision_`, `recall_` micro, macro and samples.

    Raises:
        UsageError: if shapes differ, or values are out of range.
    """
    report = {
        'ap_macro': average_precision(scores, target, 'macro'),
        'ap_micro': average_precision(scores, target, 'micro'),
    }
    predictions = (scores >= thresholds).long()
    for average in _AVERAGES:
        counts = count_labels(predictions, target, average)
        report[f'f1_{average}'] = fbeta(counts, average)
        report[f'precision_{average}'] = precision(counts, average)
        report[f'recall_{average}'] = recall(counts, average)
    return {name: float(value) for name, value in report.items()}


def single_label_report(scores: Tensor, target: Tensor) -> dict[str, float]:
    """Accuracy, F1 and average precision of single-label scores.

    Args:
        scores: (N, K), 0 to 1.
        target: (N,) class indices.

    Returns:
        `accuracy` (of all samples), `accuracy_macro` (mean over classes), `f1_macro`, `ap_macro`
        and `ap_micro` (each class against the others).

    Raises:
        UsageError: if shapes do not fit, or values are out of range.
    """
    counts = count_classes(scores, target)
    one_hot = torch.nn.functional.one_hot(target, scores.shape[1])
    report = {
        'accuracy': recall(count_classes(scores, target, 'micro'), 'micro'),
        'accuracy_macro': recall(counts, 'macro'),
        'f1_macro': fbeta(counts, 'macro'),
        'ap_macro': average_precision(scores, one_hot, 'macro'),
        'ap_micro': average_precision(scores, one_hot, 'micro'),
    }
    return {name: float(value) for name, value in report.items()}


class SceneReport(Metric):
    """The multi-label or single-label report over many batches and processes.

    Args:
        task: 'multi-label' or 'single-label'.
    """

    full_state_update = False
    higher_is_better = True
    scores: list[Tensor]
    target: list[Tensor]

    def __init__(self, task: Literal['multi-label', 'single-label']) -> None:
        super().__init__()
        self._report: Callable[[Tensor, Tensor], dict[str, float]] = (
            multi_label_report if task == 'multi-label' else single_label_report
        )
        self.add_state('scores', default=[], dist_reduce_fx='cat')
        self.add_state('target', default=[], dist_reduce_fx='cat')

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Keep a batch.

        Args:
            scores: (N, K), 0 to 1.
            target: (N, K) of 0 and 1, or (N,) class indices.
        """
        self.scores.append(scores.detach())
        self.target.append(target.detach())

    def compute(self) -> dict[str, float]:
        """Value of each figure over all samples kept."""
        return self._report(dim_zero_cat(self.scores), dim_zero_cat(self.target))

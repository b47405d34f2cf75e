"""The figures that training logs and model cards keep."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from geores.metrics.confusion import Average, count_classes, count_labels, fbeta, precision, recall
from geores.metrics.curves import average_precision

__all__ = ['SceneReport', 'multi_label_report', 'single_label_report']

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

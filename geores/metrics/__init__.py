"""Metrics: pure functions on tensors, and a torchmetrics class on top.

One convention throughout, where scikit-learn counts zero: what has no true example (a class, or an
image when averaging over images) has no score. It is NaN in scores per class and left out of means.
"""

from geores.metrics.confusion import Counts, count_classes, count_labels, fbeta, precision, recall
from geores.metrics.ranking import average_precision, best_thresholds
from geores.metrics.report import SceneReport, multi_label_report, single_label_report

__all__ = [
    'Counts',
    'SceneReport',
    'average_precision',
    'best_thresholds',
    'count_classes',
    'count_labels',
    'fbeta',
    'multi_label_report',
    'precision',
    'recall',
    'single_label_report',
]

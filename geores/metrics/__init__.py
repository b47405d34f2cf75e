"""Metrics: pure functions on tensors, and a torchmetrics class on top.

One convention throughout, where scikit-learn counts zero: what has no true example (a class, or an
image when averaging over images) has no score. It is NaN in scores per class and left out of means.
"""

from geores.metrics.bootstrap import bootstrap_intervals, weighted_average_precision
from geores.metrics.calibration import (
    Reliability,
    expected_calibration_error,
    reliability_curve,
    top_label,
)
from geores.metrics.confusion import Counts, count_classes, count_labels, fbeta, precision, recall
from geores.metrics.curves import ThresholdCurve, threshold_curve, top_scores
from geores.metrics.matrix import confusion_matrix, label_matrices
from geores.metrics.ranking import average_precision, best_thresholds
from geores.metrics.report import SceneReport, multi_label_report, single_label_report

__all__ = [
    'Counts',
    'Reliability',
    'SceneReport',
    'ThresholdCurve',
    'average_precision',
    'best_thresholds',
    'bootstrap_intervals',
    'confusion_matrix',
    'count_classes',
    'count_labels',
    'expected_calibration_error',
    'fbeta',
    'label_matrices',
    'multi_label_report',
    'precision',
    'recall',
    'reliability_curve',
    'single_label_report',
    'threshold_curve',
    'top_label',
    'top_scores',
    'weighted_average_precision',
]

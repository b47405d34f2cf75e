"""Metrics: pure functions on tensors, and a torchmetrics class on top.

One convention holds throughout, where scikit-learn counts zero: a class without true examples, or an image
without them when averaging over images, has no score. It is NaN in scores per class and left out of means.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geores.metrics.confusion import (
        Counts,
        confusion_matrix,
        count_classes,
        count_labels,
        fbeta,
        label_matrices,
        precision,
        recall,
    )
    from geores.metrics.crossval import bootstrap_intervals, weighted_average_precision
    from geores.metrics.curves import (
        Reliability,
        SceneReport,
        ThresholdCurve,
        average_precision,
        best_thresholds,
        expected_calibration_error,
        multi_label_report,
        reliability_curve,
        single_label_report,
        threshold_curve,
        top_label,
        top_scores,
    )

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

_HOMES = ('confusion', 'curves', 'crossval')
"""Modules, imported on first use: accuracy of maps and of answers to questions needs no torch."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in __all__:
        homes = (import_module(f'{__name__}.{module}') for module in _HOMES)
        return next(getattr(home, name) for home in homes if name in home.__all__)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted(__all__)

"""Figures of class maps, per class and over all pixels."""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassStatScores,
)

__all__ = ['IGNORED', 'MEANS', 'PixelReport']

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
        """Move to a device.

        Args:
            device: that the predictions will be on.
        """
        self.parts.to(device)
        return self

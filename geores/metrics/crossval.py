"""Figures of cross-validation: each fold is scored with thresholds that it did not choose."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geores.metrics.ranking import best_thresholds
from geores.metrics.report import multi_label_report, single_label_report

__all__ = ['Evidence', 'Figures', 'Scores', 'cross_validated', 'summarised']


class Scores(NamedTuple):
    """Scores of a model on images that it was not trained on.

    Attributes:
        values: (N, K), 0 to 1.
        target: (N, K) of 0 and 1, or (N,) class indices.
        sources: name of the data set of each image, N in all.
    """

    values: Tensor
    target: Tensor
    sources: list[str]

    def of(self, source: str | None) -> 'Scores':
        """Scores of the images of one source.

        Args:
            source: one of the names; None for all.
        """
        kept = [index for index, name in enumerate(self.sources) if source in {None, name}]
        return Scores(self.values[kept], self.target[kept], [self.sources[index] for index in kept])

    def report(self, thresholds: Tensor | None) -> dict[str, float]:
        """Value of each figure.

        Args:
            thresholds: (K,) for multi-label scores; None for single-label scores.
        """
        if thresholds is None:
            return single_label_report(self.values, self.target)
        return multi_label_report(self.values, self.target, thresholds)


class Figures(NamedTuple):
    """Figures of a model that answers questions, on images that it was not trained on.

    Attributes:
        metrics: source -> name of the figure -> value.
        questions: number of questions.
        temperature: by which the logits are divided.
    """

    metrics: dict[str, dict[str, Any]]
    questions: int
    temperature: float


class Evidence(NamedTuple):
    """What a card states about a model that was cross-validated and then trained on everything.

    Attributes:
        thresholds: (K,), tuned on all folds; None for single-label models.
        metrics: source -> name of the figure -> mean over folds; `<name>_std` is the standard deviation.
        split_id: of the folds and their seed.
        calibration: as on a card; None where nothing was calibrated.
    """

    thresholds: Tensor | None
    metrics: dict[str, dict[str, Any]]
    split_id: str
    calibration: Mapping[str, float] | None = None


def cross_validated(folds: Sequence[Scores], split_id: str) -> Evidence:
    """Sum up the folds of a model that classifies.

    A fold of a multi-label model is scored with thresholds tuned on the other folds.

    Args:
        folds: scores of the held-out part of each fold.
        split_id: of the folds and their seed.
    """
    multi = folds[0].target.ndim == 2
    thresholds = [_tuned([*folds[:k], *folds[k + 1 :]]) if multi else None for k in range(len(folds))]
    names = sorted({name for fold in folds for name in fold.sources})
    tuned = ', thresholds tuned on the other folds' if multi else ''
    metrics = {}
    for source in [*names, None] if len(names) > 1 else names:
        parts = [fold.of(source) for fold in folds]
        count = sum(len(part.values) for part in parts)
        figures = [part.report(chosen) for part, chosen in zip(parts, thresholds, strict=True)]
        split = f'{len(folds)}-fold cross-validation on {count} images{tuned}'
        metrics[source or 'all'] = {'split': split, **_spread(figures)}
    return Evidence(_tuned(folds) if multi else None, metrics, split_id)


def summarised(folds: Sequence[Figures], split_id: str) -> Evidence:
    """Sum up the folds of a model that answers questions.

    The temperature is the geometric mean over the folds, since it divides logits.

    Args:
        folds: figures of the held-out part of each fold.
        split_id: of the folds and their seed.
    """
    count = sum(fold.questions for fold in folds)
    metrics = {}
    for source, first in folds[0].metrics.items():
        # A fold may lack a figure, such as that of a question type that does not occur in it.
        figures = [
            {name: value for name, value in fold.metrics[source].items() if isinstance(value, float)}
            for fold in folds
        ]
        text = {name: value for name, value in first.items() if isinstance(value, str)}
        split = f'{len(folds)}-fold cross-validation by location on {count} questions'
        metrics[source] = text | {'split': split} | _spread(figures)
    temperature = float(np.exp(np.mean([np.log(fold.temperature) for fold in folds])))
    return Evidence(None, metrics, split_id, {'temperature': round(temperature, 4)})


def _tuned(folds: Sequence[Scores]) -> Tensor:
    """Thresholds that are best on several folds together, (K,)."""
    return best_thresholds(
        torch.cat([fold.values for fold in folds]), torch.cat([fold.target for fold in folds])
    )


def _spread(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean and standard deviation of each figure over folds."""
    spread = {}
    for name in dict.fromkeys(name for figure in figures for name in figure):
        values = [figure.get(name, float('nan')) for figure in figures]
        spread[name] = round(float(np.mean(values)), 4)
        spread[f'{name}_std'] = round(float(np.std(values)), 4)
    return {name: value for name, value in spread.items() if value == value}  # without NaN

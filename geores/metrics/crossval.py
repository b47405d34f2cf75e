"""Figures of cross-validation: each fold is scored with thresholds that it did not choose."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geores.metrics.confusion import count_classes, fbeta, recall
from geores.metrics.curves import calibrated, calibration_error, fit_temperature
from geores.metrics.ranking import best_thresholds
from geores.metrics.report import multi_label_report, single_label_report

__all__ = [
    'Evidence',
    'Figures',
    'Scores',
    'calibration_errors',
    'cross_validated',
    'joined',
    'summarised',
    'temperature_of',
]


class Scores(NamedTuple):
    """Scores of a model on images that it was not trained on.

    Attributes:
        values: (N, K), 0 to 1.
        target: (N, K) of 0 and 1, or (N,) class indices.
        sources: name of the data set of each image, N in all.
        labels: names of the K classes, for figures of each; empty gives none.
    """

    values: Tensor
    target: Tensor
    sources: list[str]
    labels: tuple[str, ...] = ()

    def of(self, source: str | None) -> 'Scores':
        """Scores of the images of one source.

        Args:
            source: one of the names; None for all.
        """
        kept = [index for index, name in enumerate(self.sources) if source in {None, name}]
        sources = [self.sources[index] for index in kept]
        return Scores(self.values[kept], self.target[kept], sources, self.labels)

    def report(self, thresholds: Tensor | None) -> dict[str, float]:
        """Value of each figure.

        Args:
            thresholds: (K,) for multi-label scores; None for single-label scores.
        """
        if thresholds is None:
            return single_label_report(self.values, self.target)
        return multi_label_report(self.values, self.target, thresholds)

    def classes(self) -> dict[str, float]:
        """Producer's accuracy and F1 of each class that occurs, of single-label scores."""
        counts = count_classes(self.values, self.target)
        shown = torch.bincount(self.target, minlength=self.values.shape[1]) > 0
        rows = {'accuracy': recall(counts), 'f1': fbeta(counts)}
        return {
            f'{figure}_{label}': round(float(value), 4)
            for figure, values in rows.items()
            for label, value, occurs in zip(self.labels, values, shown, strict=bool(self.labels))
            if occurs
        }

    def calibrated(self, temperature: float) -> 'Scores':
        """As they would be had the logits been divided by a temperature.

        Args:
            temperature: as on a card.
        """
        return self._replace(values=calibrated(self.values, temperature))


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

    A fold of a multi-label model is scored with thresholds tuned on the other folds; that of a single-label
    model is calibrated by them, and its card gets the temperature of all.

    Args:
        folds: scores of the held-out part of each fold.
        split_id: of the folds and their seed.
    """
    multi = folds[0].target.ndim == 2
    others = [[*folds[:k], *folds[k + 1 :]] for k in range(len(folds))]
    thresholds = [_tuned(rest) if multi else None for rest in others]
    temperatures = [1.0 if multi else temperature_of(joined(rest)) for rest in others]
    names = sorted({name for fold in folds for name in fold.sources})
    tuned = f', {"thresholds" if multi else "temperature"} tuned on the other folds'
    metrics = {}
    for source in [*names, None] if len(names) > 1 else names:
        parts = [fold.of(source) for fold in folds]
        count = sum(len(part.values) for part in parts)
        figures = [part.report(chosen) for part, chosen in zip(parts, thresholds, strict=True)]
        split = f'{len(folds)}-fold cross-validation on {count} images{tuned}'
        metrics[source or 'all'] = {'split': split, **_spread(figures)}
        if not multi:
            metrics[source or 'all'] |= joined(parts).classes() | calibration_errors(parts, temperatures)
    if multi:
        return Evidence(_tuned(folds), metrics, split_id)
    return Evidence(None, metrics, split_id, {'temperature': temperature_of(joined(folds))})


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores of several parts as those of one.

    Args:
        parts: scores of the same classes.
    """
    return Scores(
        torch.cat([part.values for part in parts]),
        torch.cat([part.target for part in parts]),
        [name for part in parts for name in part.sources],
        parts[0].labels,
    )


def temperature_of(scores: Scores) -> float:
    """The temperature that calibrates single-label scores.

    Args:
        scores: of one softmax each.
    """
    return fit_temperature(scores.values.double().clamp_min(1e-12).log(), scores.target)


def calibration_errors(parts: Sequence[Scores], temperatures: Sequence[float]) -> dict[str, float]:
    """Expected calibration errors of all parts together, before and after calibration.

    Args:
        parts: single-label scores.
        temperatures: the temperature of each.

    Returns:
        `ece_uncalibrated` and `ece`.
    """
    before = joined(parts)
    after = joined([part.calibrated(one) for part, one in zip(parts, temperatures, strict=True)])
    return {
        'ece_uncalibrated': round(calibration_error(before.values, before.target), 4),
        'ece': round(calibration_error(after.values, after.target), 4),
    }


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

"""Figures of cross-validation, and bootstrap intervals.

Each fold is scored with thresholds that it did not choose; an interval says how far figures would move with
other samples of the same kind.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from geores.card_values import SplitParameters
from geores.errors import UsageError
from geores.metrics.confusion import (
    Counts,
    check_multi_label,
    count_classes,
    count_labels,
    fbeta,
    precision,
    recall,
)
from geores.metrics.curves import (
    best_thresholds,
    calibrated,
    calibration_error,
    fit_temperature,
    multi_label_report,
    single_label_report,
)
from geores.metrics.vqa import image_gains

__all__ = [
    'LEVEL',
    'Evidence',
    'Figures',
    'Scores',
    'bootstrap_intervals',
    'bootstrap_weights',
    'calibration_errors',
    'calibration_of',
    'cross_validated',
    'joined',
    'summarised',
    'temperature_of',
    'weighted_average_precision',
]

LEVEL = 0.95
"""Level of the intervals."""

_ELEMENTS = 2**22
"""Most elements of an array of replicates, samples and labels, which bounds the memory."""


def bootstrap_intervals(
    scores: Tensor, predictions: Tensor, target: Tensor, replicates: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of figures (Efron and Tibshirani 1993, chapter 13).

    Samples are drawn with replacement, as if they were independent. Neighbouring tiles of one scene are not,
    and their intervals are too narrow.

    Args:
        scores: (N, K), 0 to 1.
        predictions: (N, K) of 0 and 1.
        target: (N, K) of 0 and 1.
        replicates: number of drawings.
        seed: of the drawings.

    Returns:
        Lower and upper limit of `ap_`, `f1_`, `precision_` and `recall_`, each `micro` and `macro`.

    Raises:
        UsageError: if shapes differ, values are out of range, or there are no samples or replicates.
    """
    check_multi_label(scores, target)
    check_multi_label(predictions, target)
    if replicates < 1 or not len(scores):
        raise UsageError('intervals need at least one replicate and one sample')
    size = max(1, _ELEMENTS // scores.numel())
    drawn = [
        _figures(scores, predictions, target, weights)
        for weights in bootstrap_weights(len(scores), replicates, seed, size)
    ]
    tail = (1 - LEVEL) / 2
    limits = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    intervals = {}
    for name in drawn[0]:
        low, high = torch.cat([part[name] for part in drawn]).nanquantile(limits).tolist()
        intervals[name] = (low, high)
    return intervals


def bootstrap_weights(samples: int, replicates: int, seed: int, size: int) -> Iterator[Tensor]:
    """Number of times that each sample is drawn in each replicate.

    Args:
        samples: n, of which N are drawn with replacement.
        replicates: number of drawings.
        seed: of the drawings.
        size: replicates at a time, which changes nothing but the memory.

    Yields:
        (size or the rest, N), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, replicates, size):
        rows = min(size, replicates - start)
        drawn = torch.stack([torch.randint(samples, (samples,), generator=generator) for _ in range(rows)])
        ones = torch.ones(drawn.shape, dtype=torch.float64)
        yield torch.zeros_like(ones).scatter_add_(1, drawn, ones)


def weighted_average_precision(scores: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Average precision per label where samples count several times; with weights of 1 `average_precision`.

    Args:
        scores: (N, K).
        target: (N, K) of 0 and 1.
        weights: (R, N), 0 or more.

    Returns:
        (R, K), NaN where no example is true.
    """
    values = []
    for label in range(scores.shape[1]):
        ranked, order = scores[:, label].sort(descending=True)
        drawn = weights[:, order]
        # Equal scores are one step of the curve: no threshold lies between them.
        ends = torch.cat([ranked[:-1] > ranked[1:], torch.ones(1, dtype=torch.bool)])
        hits = (drawn * target[order, label]).cumsum(1)[:, ends]
        predicted = drawn.cumsum(1)[:, ends]
        steps = hits.diff(dim=1, prepend=torch.zeros_like(hits[:, :1]))
        values.append((steps * hits / predicted.clamp_min(1e-12)).sum(1) / hits[:, -1])
    return torch.stack(values, 1)


def _figures(scores: Tensor, predictions: Tensor, target: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Figures by name, one value per replicate, (R,)."""
    predicted, true = predictions.bool(), target.bool()
    counted = Counts(
        *(weights @ part.double() for part in (predicted & true, predicted & ~true, ~predicted & true))
    )
    total = Counts(*(part.sum(1) for part in counted))
    every = weights.repeat_interleave(scores.shape[1], 1)
    flat = scores.reshape(-1, 1), target.reshape(-1, 1)
    figures = {
        'ap_macro': weighted_average_precision(scores, target, weights).nanmean(1),
        'ap_micro': weighted_average_precision(*flat, every)[:, 0],
    }
    for name, figure in (('f1', fbeta), ('precision', precision), ('recall', recall)):
        figures[f'{name}_micro'] = figure(total)
        figures[f'{name}_macro'] = figure(counted).nanmean(1)
    return figures


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

    def right_and_wrong(self, thresholds: Tensor | None) -> Counts:
        """Number of true positives, false positives and misses of each label, (K,) each.

        Args:
            thresholds: (K,) for multi-label scores; None for single-label scores, whose best label counts.
        """
        if thresholds is not None:
            return count_labels((self.values >= thresholds).long(), self.target)
        decided = one_hot(self.values.argmax(1), self.values.shape[1])
        return count_labels(decided, one_hot(self.target, self.values.shape[1]))

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
        """As they would be had the logits been divided by a temperature, as on a card."""
        return self._replace(values=calibrated(self.values, temperature))


class Figures(NamedTuple):
    """Figures of a model that answers questions, on images that it was not trained on.

    Attributes:
        metrics: source -> name of the figure -> value.
        questions: number of questions.
        temperature: by which the logits are divided.
        right: of each question image, type, and whether the question-only model and the model were right.
        scores: those of all answers; None leaves calibration errors out.
    """

    metrics: dict[str, dict[str, Any]]
    questions: int
    temperature: float
    right: Sequence[tuple[str, str, bool, bool]] = ()
    scores: Scores | None = None


class Evidence(NamedTuple):
    """What a card states about a model that was cross-validated and then trained on everything.

    Attributes:
        thresholds: (K,), tuned on all folds; None for single-label models.
        metrics: source -> name of the figure -> mean over folds; `<name>_std` is the standard deviation.
        split_id: of the folds and their seed.
        calibration: as on a card; None where nothing was calibrated.
        f1: F1 of each label over all images, (K,), NaN where none has it; None where it was not measured.
        split: how the split was made, where it is known.
    """

    thresholds: Tensor | None
    metrics: dict[str, dict[str, Any]]
    split_id: str
    calibration: Mapping[str, Any] | None = None
    f1: Tensor | None = None
    split: SplitParameters | None = None


def cross_validated(folds: Sequence[Scores], split_id: str) -> Evidence:
    """Sum up the folds of a model that classifies.

    A fold of a multi-label model is scored with thresholds tuned on the other folds; that of a single-label
    model is calibrated by them, and its card gets the temperature of all.
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
    counts = [fold.right_and_wrong(chosen) for fold, chosen in zip(folds, thresholds, strict=True)]
    f1 = fbeta(Counts(*(torch.stack(parts).sum(0) for parts in zip(*counts, strict=True))))
    if multi:
        return Evidence(_tuned(folds), metrics, split_id, None, f1)
    total = sum(len(fold.values) for fold in folds)
    said = f'{len(folds)} folds of {total} images, each calibrated by the others'
    whole = next(reversed(metrics.values()))  # of all sources
    calibration = calibration_of(whole, temperature_of(joined(folds)), said)
    return Evidence(None, metrics, split_id, calibration, f1)


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores of several parts, of the same classes, as those of one."""
    return Scores(
        torch.cat([part.values for part in parts]),
        torch.cat([part.target for part in parts]),
        [name for part in parts for name in part.sources],
        parts[0].labels,
    )


def temperature_of(scores: Scores) -> float:
    """The temperature that calibrates single-label scores, of one softmax each."""
    return fit_temperature(scores.values.double().clamp_min(1e-12).log(), scores.target)


def calibration_of(figures: Mapping[str, Any], temperature: float, measured_on: str) -> dict[str, Any]:
    """The calibration of a card: its temperature, and the errors without and with calibration."""
    errors = {name: figures[name] for name in ('ece_uncalibrated', 'ece')}
    return {'temperature': temperature, **errors, 'measured_on': measured_on}


def calibration_errors(parts: Sequence[Scores], temperatures: Sequence[float]) -> dict[str, float]:
    """Expected calibration errors of all parts together, before and after calibration.

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
        way = 'image' if '(image)' in text.get('split', '') else 'location'
        split = f'{len(folds)}-fold cross-validation by {way} on {count} questions'
        metrics[source] = text | {'split': split} | _spread(figures)
    if len(metrics) == 1 and all(fold.right for fold in folds):
        rows = [(f'{number} {row[0]}', *row[1:]) for number, fold in enumerate(folds) for row in fold.right]
        metrics[source] |= image_gains(rows)
    logs = np.log([fold.temperature for fold in folds])
    temperature = round(float(np.exp(logs.mean())), 4)
    scores = [fold.scores for fold in folds if fold.scores is not None]
    if len(scores) < max(len(folds), 2):
        return Evidence(None, metrics, split_id, {'temperature': temperature})
    others = np.exp((logs.sum() - logs) / (len(folds) - 1)).tolist()
    most = max(one.values.shape[1] for one in scores)
    scores = [one._replace(values=pad(one.values, (0, most - one.values.shape[1]))) for one in scores]
    where = 'the folds, with the temperature of the other folds'
    calibration = calibration_of(calibration_errors(scores, others), temperature, where)
    return Evidence(None, metrics, split_id, calibration)


def _tuned(folds: Sequence[Scores]) -> Tensor:
    """Thresholds that are best on several folds together, (K,)."""
    whole = joined(folds)
    return best_thresholds(whole.values, whole.target)


def _spread(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean and standard deviation of each figure over folds."""
    spread = {}
    for name in dict.fromkeys(name for figure in figures for name in figure):
        values = [figure.get(name, float('nan')) for figure in figures]
        spread[name] = round(float(np.mean(values)), 4)
        spread[f'{name}_std'] = round(float(np.std(values)), 4)
    return {name: value for name, value in spread.items() if value == value}  # without NaN

"""Scores of visual question answering: accuracy per question type, errors of numbers, and baselines.

Accuracy per type, AA (mean over types) and OA (over all questions) are those of Lobry et al. 2020, section V.
Answers are text, so that one that training never gave counts as wrong and cannot be left out by accident.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from geores.errors import UsageError

__all__ = [
    'Difference',
    'NumericError',
    'VQAScores',
    'image_gains',
    'majority_answers',
    'majority_baseline',
    'numeric_error',
    'paired_difference',
    'vqa_scores',
]

Interval = tuple[float, float]
Key = TypeVar('Key', bound=Hashable)


class VQAScores(NamedTuple):
    """Shares of questions that are answered right.

    Attributes:
        by_type: accuracy per question type.
        counts: number of questions per type.
        average: AA, the mean over types.
        overall: OA, over all questions.
    """

    by_type: dict[str, float]
    counts: dict[str, int]
    average: float
    overall: float


class NumericError(NamedTuple):
    """Errors of answers that are numbers or ranges of numbers.

    The error of a range is its distance to the true number, 0 where the range contains it.

    Attributes:
        asked: number of questions whose true answer is a number.
        answered: number of those answered with a number or a range; only they enter the following.
        inside: share of answers whose range contains the true number.
        mean: mean error, in the unit of the number.
        median: median error.
        log: mean error of log10(1 + number).
    """

    asked: int
    answered: int
    inside: float
    mean: float
    median: float
    log: float


class Difference(NamedTuple):
    """Gain in accuracy of one model over another, with an interval."""

    mean: float
    low: float
    high: float


def vqa_scores(predictions: Sequence[str], answers: Sequence[str], types: Sequence[str]) -> VQAScores:
    """Accuracy per question type, their mean (AA), and over all questions (OA).

    Answers are encoded, one per question; the true ones are also those that the model cannot give.

    Raises:
        UsageError: if lengths differ, or there are no questions.
    """
    _check_lengths(predictions, answers, types)
    right, counts = Counter[str](), Counter(types)
    for prediction, answer, kind in zip(predictions, answers, types, strict=True):
        right[kind] += prediction == answer
    by_type = {kind: right[kind] / counts[kind] for kind in sorted(counts)}
    average = sum(by_type.values()) / len(by_type)
    return VQAScores(by_type, dict(sorted(counts.items())), average, right.total() / len(answers))


def numeric_error(
    predictions: Sequence[str], answers: Sequence[str], bounds: Callable[[str], Interval | None]
) -> NumericError:
    """Errors of numbers in answers. Questions whose true answer is no number are left out.

    Args:
        predictions: encoded answers of a model.
        answers: true answers, best as raw numbers ('449'); of a range the nearer end counts.
        bounds: gives the smallest and largest number of an answer, or None where it is no number, such as
            `AnswerEncoding.bounds`.

    Returns:
        The errors, NaN where no answer is a number. Give one question type at a time, since counts and
        square metres have no common mean.

    Raises:
        UsageError: if lengths differ, or there are no questions.
    """
    _check_lengths(predictions, answers)
    pairs = [
        (bounds(prediction), true)
        for prediction, answer in zip(predictions, answers, strict=True)
        if (true := bounds(answer)) is not None
    ]
    known = [(predicted, true) for predicted, true in pairs if predicted is not None]
    if not known:
        return NumericError(len(pairs), 0, *[np.nan] * 4)
    ranges = np.array(known, np.float64)
    gaps, logs = _gaps(ranges), _gaps(np.log10(1 + ranges))
    means = ((gaps == 0).mean(), gaps.mean(), np.median(gaps), logs.mean())
    return NumericError(len(pairs), len(known), *map(float, means))


def majority_answers(answers: Sequence[str], groups: Sequence[Key]) -> dict[Key, str]:
    """Most frequent answer per group, such as the type or text of the question; ties go by alphabet.

    Raises:
        UsageError: if lengths differ, or there are no answers.
    """
    _check_lengths(answers, groups)
    seen: dict[Key, Counter[str]] = defaultdict(Counter)
    for answer, group in zip(answers, groups, strict=True):
        seen[group][answer] += 1
    return {group: min(counts, key=lambda one: (-counts[one], one)) for group, counts in seen.items()}


def majority_baseline(answers: Sequence[str], types: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Majority baseline: answer each question with the most frequent training answer of its type.

    A type that training lacks gets the most frequent answer of all.

    Raises:
        UsageError: if lengths differ, or there are no training answers.
    """
    _check_lengths(answers, types)
    table = majority_answers(answers, types)
    most = majority_answers(answers, [''] * len(answers))['']
    return [table.get(kind, most) for kind in asked]


def paired_difference(
    first: Sequence[bool],
    second: Sequence[bool],
    images: Sequence[Hashable],
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """How much more often the first model is right than the second, on the same questions.

    Questions about one image are not independent, so whole images are drawn with replacement (cluster
    bootstrap, percentile interval).

    Args:
        first: whether the first model answers each question right.
        second: whether the second model does.
        images: image of each question.
        draws: number of bootstrap replicates.
        level: of the interval.
        seed: of the draws.

    Raises:
        UsageError: if lengths differ, there are no questions, or the level is not between 0 and 1.
    """
    _check_lengths(first, second, images)
    if not 0 < level < 1 or draws < 1:
        raise UsageError(f'level has to be between 0 and 1 and draws 1 or more, not {level} and {draws}')
    gains: dict[Hashable, list[int]] = defaultdict(list)
    for right, other, image in zip(first, second, images, strict=True):
        gains[image].append(int(bool(right)) - int(bool(other)))
    sums = np.array([(sum(gain), len(gain)) for gain in gains.values()], np.float64)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    totals = sums[drawn].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high))


def image_gains(rows: Sequence[tuple[str, str, bool, bool]]) -> dict[str, float]:
    """How much more often a model is right than its question-only twin, with intervals over images.

    A row holds image and type of a question, and whether the question-only model and the model were right.
    `gain`, `gain_low` and `gain_high` are of all questions; those of a type are such as `gain_count`.
    """
    gains: dict[str, float] = {}
    for kind in ['', *sorted({row[1] for row in rows})]:
        asked = [row for row in rows if not kind or row[1] == kind]
        images, _, blind, right = zip(*asked, strict=True)
        found = paired_difference(right, blind, images)
        name = f'gain_{kind}' if kind else 'gain'
        gains |= {name: found.mean, f'{name}_low': found.low, f'{name}_high': found.high}
    return {name: round(value, 4) for name, value in gains.items()}


def _gaps(ranges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances between the predicted and the true range, (N, 2, 2); 0 where they overlap."""
    predicted, true = ranges[:, 0], ranges[:, 1]
    return np.maximum(true[:, 0] - predicted[:, 1], predicted[:, 0] - true[:, 1]).clip(min=0)


def _check_lengths(*parts: Sequence[object]) -> None:
    lengths = [len(part) for part in parts]
    if len(set(lengths)) != 1 or not lengths[0]:
        counts = ', '.join(map(str, lengths))
        raise UsageError(f'one entry a question is needed in each, and there are {counts}')

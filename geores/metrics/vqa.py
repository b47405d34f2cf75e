"""Scores of visual question answering: accuracy by question type, error of numbers, and what knows no image.

Accuracy by type, AA (mean of the types) and OA (of all questions) are those of Lobry et al. 2020, section V.
Answers are text, so that one that training never gave is simply wrong: it cannot be left out by accident.
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
    'majority_answers',
    'majority_baseline',
    'numeric_error',
    'paired_difference',
    'vqa_scores',
]

Interval = tuple[float, float]
Key = TypeVar('Key', bound=Hashable)


class VQAScores(NamedTuple):
    """Shares of questions answered right.

    Attributes:
        by_type: Accuracy of each question type that there is.
        counts: Questions of each type.
        average: AA, the mean over types.
        overall: OA, over all questions.
    """

    by_type: dict[str, float]
    counts: dict[str, int]
    average: float
    overall: float


class NumericError(NamedTuple):
    """How far numbers are from the truth, 0 where the answer's range holds it.

    Attributes:
        asked: Questions whose true answer is a number.
        answered: Those answered with a number or a range; the others enter none of the following.
        inside: Share of them whose range holds the true number.
        mean: Mean distance from the range to the true number, in its unit.
        median: Median of the same.
        log: Mean absolute difference of log10(1 + number), from the nearer end of the range.
    """

    asked: int
    answered: int
    inside: float
    mean: float
    median: float
    log: float


class Difference(NamedTuple):
    """Gain in accuracy of one model over another, and an interval of it."""

    mean: float
    low: float
    high: float


def vqa_scores(predictions: Sequence[str], answers: Sequence[str], types: Sequence[str]) -> VQAScores:
    """Accuracy by question type, their mean (AA), and over all questions (OA).

    Args:
        predictions: Encoded answers of a model, one a question.
        answers: Encoded true answers, also those that the model cannot give.
        types: Question types.

    Raises:
        UsageError: Lengths differ, or there are no questions.
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
    """How far answered numbers are from true ones.

    Args:
        predictions: Encoded answers of a model.
        answers: True ones, best as raw numbers ('449'); of a range the nearer end counts.
        bounds: Smallest and largest number of an answer, None for what is none, such as
            `AnswerEncoding.bounds`. Questions whose true answer is no number are left out.

    Returns:
        The error; NaN throughout where nothing is answered with a number. Give one question type at a time:
        counts and square metres have no common mean.

    Raises:
        UsageError: Lengths differ, or there are no questions.
    """
    _check_lengths(predictions, answers)
    pairs = [
        (bounds(prediction), true)
        for prediction, answer in zip(predictions, answers, strict=True)
        if (true := bounds(answer)) is not None
    ]
    known = [(said, true) for said, true in pairs if said is not None]
    if not known:
        return NumericError(len(pairs), 0, *[np.nan] * 4)
    ranges = np.array(known, np.float64)
    gaps = _gaps(ranges)
    logs = _gaps(np.log10(1 + ranges))
    return NumericError(
        len(pairs),
        len(known),
        float((gaps == 0).mean()),
        float(gaps.mean()),
        float(np.median(gaps)),
        float(logs.mean()),
    )


def majority_answers(answers: Sequence[str], groups: Sequence[Key]) -> dict[Key, str]:
    """Most frequent answer of each group; of equally frequent ones the first by its text.

    Args:
        answers: Of the training part.
        groups: Such as each question's type, or its text.

    Raises:
        UsageError: Lengths differ, or there are no answers.
    """
    _check_lengths(answers, groups)
    seen: dict[Key, Counter[str]] = defaultdict(Counter)
    for answer, group in zip(answers, groups, strict=True):
        seen[group][answer] += 1
    return {group: min(counts, key=lambda one: (-counts[one], one)) for group, counts in seen.items()}


def majority_baseline(answers: Sequence[str], types: Sequence[str], asked: Sequence[str]) -> list[str]:
    """What one says who knows but the type of a question: the answer that it mostly has in training.

    Args:
        answers: Encoded, of the training part.
        types: Question types of the training part.
        asked: Types of the questions to answer; one that training lacks gets the most frequent answer of all.

    Raises:
        UsageError: Lengths differ, or there are no training answers.
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

    Questions of one image are not independent, so that whole images are drawn anew (cluster bootstrap,
    percentile interval).

    Args:
        first: Whether each question is answered right.
        second: The same of the other model.
        images: Which image each question is on.
        draws: Of the bootstrap.
        level: Of the interval.
        seed: Of the draws.

    Raises:
        UsageError: Lengths differ, there are no questions, or the level is not between 0 and 1.
    """
    _check_lengths(first, second, images)
    if not 0 < level < 1 or draws < 1:
        raise UsageError(f'level has to be between 0 and 1 and draws 1 or more, not {level} and {draws}')
    gains: dict[Hashable, list[int]] = defaultdict(list)
    for one, other, image in zip(first, second, images, strict=True):
        gains[image].append(int(bool(one)) - int(bool(other)))
    sums = np.array([(sum(some), len(some)) for some in gains.values()], np.float64)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    totals = sums[drawn].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high))


def _gaps(ranges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances between two ranges each, (N, 2, 2): 0 where they share a number."""
    said, true = ranges[:, 0], ranges[:, 1]
    gaps: NDArray[np.float64] = np.maximum(0, np.maximum(true[:, 0] - said[:, 1], said[:, 0] - true[:, 1]))
    return gaps


def _check_lengths(*parts: Sequence[object]) -> None:
    lengths = [len(part) for part in parts]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise UsageError(
            f'one entry a question is needed in each, and there are {", ".join(map(str, lengths))}'
        )

"""What a model's probabilities say about each tile: of yes, of urban, of a number."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geores.vqa.answers import AnswerEncoding

__all__ = ['LEVEL', 'AnswerTable', 'Readings']

LEVEL = 0.9
"""Probability that intervals are made for."""

OPEN = 10.0
"""How many times its lower end an open bin reaches: a decade, as the others. In the real sample of RSVQA-LR
counts above 1000 have a mean of 4,100; with a decade it is 3,900."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Readings:
    """What is known of every tile about one question; arrays of (T,), NaN where a tile was not seen.

    Attributes:
        best: Position of the likeliest answer among the model's, -1 where not seen.
        best_probability: Of it.
        chance: Probability of 'yes' or 'urban'.
        mean: Expected number (count, or area in square metres).
        variance: Of it.
        low: Number below which the truth lies with at most half of 1 - `LEVEL`.
        high: Number above which it lies with at most as much.
        below: Probability that it lies below `low`.
        upto: Probability that it does not lie above `high`.
    """

    best: Floats
    best_probability: Floats
    chance: Floats
    mean: Floats
    variance: Floats
    low: Floats
    high: Floats
    below: Floats
    upto: Floats

    @classmethod
    def empty(cls, count: int) -> Self:
        """Of tiles none of which was seen."""
        return cls(*(np.full(count, np.nan) for _ in fields(cls)))

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which tiles were seen."""
        return ~np.isnan(self.best_probability)

    def put(self, tiles: NDArray[np.int64], part: 'Readings') -> None:
        """Fill in some tiles."""
        for field in fields(self):
            getattr(self, field.name)[tiles] = getattr(part, field.name)

    def take(self, tiles: NDArray[np.bool_]) -> 'Readings':
        """Of some tiles alone."""
        return Readings(*(getattr(self, field.name)[tiles] for field in fields(self)))


class AnswerTable:
    """From probabilities of answers to `Readings`.

    Within a bin numbers are taken as spread evenly over their logarithms: small ones are more frequent. On
    the real sample of RSVQA-LR that gives means of 3.9, 40 and 392, and the true ones are 4.1, 38 and 292.

    Args:
        labels: Answers of the model, in order.
        encoding: What they stand for.
    """

    def __init__(self, labels: Sequence[str], encoding: AnswerEncoding) -> None:
        self.labels = tuple(labels)
        self.encoding = encoding

    def read(self, probabilities: NDArray[np.float32], kind: str) -> Readings:
        """Read the answers of some tiles to one question.

        Args:
            probabilities: (n, K), summing to 1.
            kind: Type of the question.
        """
        scores = probabilities.astype(np.float64)
        best = scores.argmax(1).astype(np.float64)
        nothing = np.full(len(scores), np.nan)
        chance = self._chance(scores, kind)
        numbers = (nothing,) * 6 if kind not in ('count', 'area') else self._numbers(scores, kind)
        return Readings(best, scores.max(1), chance, *numbers)

    def _chance(self, scores: Floats, kind: str) -> Floats:
        pair = ('urban', 'rural') if kind == 'rural_urban' else ('yes', 'no')
        if not set(pair) <= set(self.labels):
            return np.full(len(scores), np.nan)
        one, other = (scores[:, self.labels.index(label)] for label in pair)
        total = one + other
        chance: Floats = np.divide(one, total, out=np.full(len(scores), 0.5), where=total > 0)
        return chance

    def _numbers(self, scores: Floats, kind: str) -> tuple[Floats, ...]:
        columns, low, high = self._bins['m2' if kind == 'area' else '']
        if not len(columns):
            return (np.full(len(scores), np.nan),) * 6
        parts = scores[:, columns]
        parts = parts / np.maximum(parts.sum(1, keepdims=True), 1e-12)
        mean, square = _moments(low, high)
        expected = parts @ mean
        variance = np.maximum(parts @ square - expected**2, 0.0)
        upto = parts.cumsum(1)
        tail = (1 - LEVEL) / 2
        first = (upto > tail + 1e-9).argmax(1)
        last = (upto >= 1 - tail - 1e-9).argmax(1)
        rows = np.arange(len(scores))
        below = np.where(first > 0, upto[rows, first - 1], 0.0)
        # A mass of nothing above the last bin is one of nothing, whatever rounding says.
        reached = np.minimum(upto[rows, last], 1.0)
        return expected, variance, low[first], high[last], below, reached

    @cached_property
    def _bins(self) -> dict[str, tuple[NDArray[np.int64], Floats, Floats]]:
        """Positions, lower and upper ends of the answers that are numbers, in ascending order, by unit."""
        found = {}
        for unit in ('', 'm2'):
            rows = sorted(
                (*bounds, position)
                for position, label in enumerate(self.labels)
                if label.endswith('m2') == bool(unit) and (bounds := self.encoding.bounds(label))
            )
            low, high, columns = np.array(rows, np.float64).reshape(-1, 3).T
            found[unit] = (columns.astype(np.int64), low, high)
        return found


def _moments(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Mean and mean square of numbers in bins, which begin at 1 or hold one number each."""
    top = np.where(np.isinf(high), OPEN * low, high)
    wide = top > low
    ratio = np.log(np.where(wide, top / np.maximum(low, 1e-9), np.e))
    mean = np.where(wide, (top - low) / ratio, low)
    square = np.where(wide, (top**2 - low**2) / (2 * ratio), low**2)
    return mean, square

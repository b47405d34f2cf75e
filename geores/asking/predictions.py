"""Predictions per tile: the probability of yes or urban, and the distribution of a number.

`predict_tiles` asks the model about the stored features of every tile, `AnswerTable` turns its probabilities
of answers into `TilePredictions`, and `TileAreas` says how much ground each tile stands for.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.inference.reader import Arrays
from geores.vqa.answers import AnswerEncoding

if TYPE_CHECKING:
    from geores.classification.scored import Scored

__all__ = [
    'LEVEL',
    'AnswerTable',
    'Bins',
    'TileAreas',
    'TileModel',
    'TilePredictions',
    'pixel_area',
    'predict_tiles',
    'tile_areas',
]

LEVEL = 0.9
"""Probability that the truth lies in an interval."""

OPEN = 10.0
"""An open bin ends at its lower end times this factor: a decade, as the other bins. In the real sample of
RSVQA-LR counts above 1000 have a mean of 4,100; a decade gives 3,900."""

TILES = 256
"""Maximum number of tiles in a batch."""
QUESTIONS = 256
"""Maximum number of questions in a batch."""
FEATURE_BYTES = 128 * 2**20
"""Maximum size of the features in a batch, float16."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """Ranges of numbers in ascending order, ends inclusive; many hold a single number.

    Within a range numbers are assumed log-uniform, because small numbers are more frequent. On the real
    sample of RSVQA-LR this gives bin means of 3.9, 40 and 392; the true means are 4.1, 38 and 292.

    Attributes:
        low: lower ends, (B,).
        high: upper ends, (B,); the last one may be infinite.
    """

    low: Floats
    high: Floats

    @cached_property
    def top(self) -> Floats:
        """Finite upper ends: `OPEN` times the lower end for an open range."""
        return np.where(np.isinf(self.high), OPEN * self.low, self.high)

    @cached_property
    def mean(self) -> Floats:
        """Expected number of each range."""
        wide = self.top > self.low
        ratio = np.log(np.where(wide, self.top / np.maximum(self.low, 1e-9), math.e))
        return np.where(wide, (self.top - self.low) / ratio, self.low)

    def at(self, place: NDArray[np.int64], part: Floats) -> Floats:
        """Quantiles within ranges, rounded down to whole numbers where a range holds several.

        Args:
            place: index of the range.
            part: quantile within that range, 0 to 1.
        """
        low, top = self.low[place], self.top[place]
        wide = top > low
        ratio = np.where(wide, (top + 1) / np.maximum(low, 1e-9), 1.0)
        return np.where(wide, np.minimum(np.floor(low * ratio**part), top), low)


NO_BINS = Bins(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class TilePredictions:
    """Predictions for one question, one per tile; arrays of shape (T,), NaN where a tile was not seen.

    Attributes:
        best: index of the likeliest answer among the model's labels.
        best_probability: probability of the likeliest answer.
        chance: probability of 'yes' or 'urban'.
        upto: cumulative probability over the ranges of a number (a count, or square metres), (T, B).
        bins: the ranges; empty if no number is asked for.
        unit: factor from the bins to the number, such as each tile's area (T,) if bins are shares of a tile.
    """

    best: Floats
    best_probability: Floats
    chance: Floats
    upto: Floats
    bins: Bins = field(default=NO_BINS)
    unit: Floats = field(default_factory=lambda: np.ones(1))

    @classmethod
    def empty(cls, count: int, bins: Bins = NO_BINS) -> Self:
        """Predictions for `count` tiles, none of which was seen."""
        best, probability, chance = np.full((3, count), np.nan)
        return cls(best, probability, chance, np.full((count, len(bins.low)), np.nan), bins)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Mask of the tiles that were seen, (T,)."""
        return ~np.isnan(self.best_probability)

    @property
    def mean(self) -> Floats:
        """Expected number per tile."""
        if not len(self.bins.low):
            return np.full(len(self.best), np.nan)
        expected: Floats = np.diff(self.upto, axis=1, prepend=0.0) @ self.bins.mean
        return expected * self.unit

    @property
    def some(self) -> Floats:
        """Probability that the number is not 0."""
        none: Floats = self.upto[:, self.bins.high == 0].sum(1)
        return 1 - none

    @property
    def low(self) -> Floats:
        """Lower end of the central interval with probability `LEVEL`."""
        return self._end((1 - LEVEL) / 2 + 1e-9, self.bins.low)

    @property
    def high(self) -> Floats:
        """Upper end of the central interval with probability `LEVEL`."""
        return self._end(1 - (1 - LEVEL) / 2 - 1e-9, self.bins.high)

    def put(self, tiles: NDArray[np.int64], part: 'TilePredictions') -> None:
        """Write the predictions of some tiles in place."""
        for name in ('best', 'best_probability', 'chance', 'upto'):
            getattr(self, name)[tiles] = getattr(part, name)

    def _end(self, chance: float, ends: Floats) -> Floats:
        if not len(ends):
            return np.full(len(self.best), np.nan)
        return np.where(self.seen, ends[(self.upto >= chance).argmax(1)] * self.unit, np.nan)


class AnswerTable:
    """Reads probabilities of answers as `TilePredictions`.

    Args:
        labels: answers of the model, in the order of its outputs.
        encoding: tells which numbers a class of answers stands for.
    """

    def __init__(self, labels: Sequence[str], encoding: AnswerEncoding) -> None:
        self.labels = tuple(labels)
        self.encoding = encoding

    def empty(self, count: int, kind: str) -> TilePredictions:
        """TilePredictions of tiles none of which was seen.

        Args:
            count: number of tiles.
            kind: type of the question.
        """
        return TilePredictions.empty(count, self._numbers(kind)[1])

    def read(self, probabilities: NDArray[np.float32], kind: str) -> TilePredictions:
        """Read the probabilities of some tiles for one question.

        Args:
            probabilities: probabilities of the answers, (n, K), summing to 1.
            kind: type of the question.
        """
        scores = probabilities.astype(np.float64)
        best = scores.argmax(1).astype(np.float64)
        columns, bins = self._numbers(kind)
        parts = scores[:, columns]
        parts = parts / np.maximum(parts.sum(1, keepdims=True), 1e-12)
        # The last cumulative probability is exactly 1, whatever the rounding.
        upto = np.minimum(parts.cumsum(1), 1.0)
        upto[:, -1:] = 1.0
        return TilePredictions(best, scores.max(1), self._chance(scores, kind), upto, bins)

    def _chance(self, scores: Floats, kind: str) -> Floats:
        pair = ('urban', 'rural') if kind == 'rural_urban' else ('yes', 'no')
        if not set(pair) <= set(self.labels):
            return np.full(len(scores), np.nan)
        one, other = (scores[:, self.labels.index(label)] for label in pair)
        total = one + other
        chance: Floats = np.divide(one, total, out=np.full(len(scores), 0.5), where=total > 0)
        return chance

    def _numbers(self, kind: str) -> tuple[NDArray[np.int64], Bins]:
        """Indices of the answers that are numbers, in ascending order, and their ranges."""
        if kind not in ('count', 'area'):
            return np.empty(0, np.int64), NO_BINS
        return self._bins['m2' if kind == 'area' else '']

    @cached_property
    def _bins(self) -> dict[str, tuple[NDArray[np.int64], Bins]]:
        found = {}
        for unit in ('', 'm2'):
            rows = sorted(
                (*bounds, position)
                for position, label in enumerate(self.labels)
                if label.endswith('m2') == bool(unit) and (bounds := self.encoding.bounds(label))
            )
            low, high, columns = np.array(rows, np.float64).reshape(-1, 3).T
            found[unit] = (columns.astype(np.int64), Bins(low, high))
        return found


@dataclass(frozen=True)
class TileAreas:
    """Areas that tiles see and own; tiles may overlap, and every pixel is owned by one tile.

    Attributes:
        shape: rows and columns of tiles; the arrays are (rows * cols,), row-major.
        seen: area of the valid pixels in each tile, in square metres (in pixels without a CRS).
        owned: area of the valid pixels that the tile owns; over all tiles they add up to the scene.
    """

    shape: tuple[int, int]
    seen: Floats
    owned: Floats

    @property
    def share(self) -> Floats:
        """Share of the area a tile sees that it owns."""
        return np.divide(self.owned, self.seen, out=np.zeros(len(self.seen)), where=self.seen > 0)


class TileModel(Protocol):
    """Answers questions about features of tiles; `geores.vqa.model.VQAModel` is one."""

    def probabilities(self, features: Tensor, questions: Sequence[str]) -> Tensor:
        """Probabilities (N, Q, K) of K answers for features (N, D, h, w) and Q questions."""


def predict_tiles(
    result: 'Scored', model: TileModel, table: AnswerTable, asked: Sequence[tuple[str, str]]
) -> list[TilePredictions]:
    """Ask every seen tile all questions.

    Args:
        result: the encoded scene, whose store holds features.
        model: the model that made the features.
        table: reads the model's probabilities.
        asked: wording and type of each question.

    Returns:
        One `TilePredictions` per question, over all tiles of the plan in row-major order.
    """
    predictions = [table.empty(result.plan.tiling.count, kind) for _, kind in asked]
    for tiles, features in _batches(result):
        for start in range(0, len(asked), QUESTIONS):
            part = asked[start : start + QUESTIONS]
            scores = model.probabilities(features, [text for text, _ in part]).numpy()
            for place, (_, kind) in enumerate(part):
                predictions[start + place].put(tiles, table.read(scores[:, place], kind))
    return predictions


def _batches(result: 'Scored') -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Batches of seen tiles across chunks: their row-major indices, and features (n, D, h, w)."""
    held: list[tuple[NDArray[np.int64], NDArray[np.float16]]] = []
    numbers = np.arange(result.plan.tiling.count).reshape(result.plan.tiling.shape)
    for chunk in result.plan:
        arrays = result.store.get(chunk.index)
        tiles = numbers[chunk.rows, chunk.cols][arrays['scores'][..., 0] > 0]
        most = max(1, min(TILES, FEATURE_BYTES // max(arrays['features'][:1].nbytes, 1)))
        for start in range(0, len(tiles), most):
            held.append((tiles[start : start + most], arrays['features'][start : start + most]))
            if sum(len(part) for part, _ in held) >= most:
                yield _joined(held)
                held = []
    if held:
        yield _joined(held)


def _joined(
    held: list[tuple[NDArray[np.int64], NDArray[np.float16]]],
) -> tuple[NDArray[np.int64], Tensor]:
    features = np.concatenate([part for _, part in held])
    return np.concatenate([tiles for tiles, _ in held]), torch.from_numpy(features).float()


def tile_areas(result: 'Scored') -> TileAreas:
    """Areas that the tiles of an encoded scene see and own."""
    pixel = pixel_area(result)
    shape = result.plan.tiling.shape
    seen, owned = np.zeros(shape), np.zeros(shape)
    for chunk in result.plan:
        arrays: Arrays = result.store.get(chunk.index)
        seen[chunk.rows, chunk.cols] = arrays['valid']
        owned[chunk.rows, chunk.cols] = arrays['owned']
    return TileAreas(shape, seen.ravel() * pixel, owned.ravel() * pixel)


def pixel_area(result: 'Scored') -> float:
    """Square metres of a pixel; without a CRS, those of the pixels that the model was trained on."""
    low, high = result.card.gsd
    return result.pixel_area if result.gsd is not None else low * high

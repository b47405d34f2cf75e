"""One estimate for the scene from the predictions of all its tiles: pure functions, no files, no networks.

The rules, where a tile owns the share w_t of the area it sees (1 where tiles do not overlap):

* Presence: the probability that any tile has it; "yes" from 0.5 on.
* Count and area: the median of the sum, for its tail is heavy, and the interval that leaves out half of
  1 - `LEVEL` at each end. An object is counted in each tile that it touches, up to four where it is no longer
  than a tile: a count's lower end is a quarter of that of the sum, or, where that is more, what holds for
  objects of any length: the largest number of each group of adjoining tiles. For `LONG` things the latter
  alone.
* Comparison: how often one sum exceeds the other.
* Rural or urban: the kind with the larger share of area, with the probability that it is the larger one.

Tiles of one scene, seen by one model, have correlated errors. The uncertainty of a tile is modelled as one
normal variable, part of which all tiles share: a one-factor Gaussian copula (Vasicek 1987, "Probability of
loss on loan portfolio"; Li 2000, "On default correlation: a copula function approach"). The marginal
distribution of every tile is unchanged; `CORRELATION` only decides how often tiles are wrong together.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, floor, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import log_ndtr, ndtri

from geores.asking.predictions import LEVEL, Bins, Floats, TileAreas, TilePredictions
from geores.classification.scored import Scored

__all__ = [
    'CORRELATION',
    'LONG',
    'TOUCHED',
    'SceneEstimate',
    'TileEvidence',
    'any_of',
    'area',
    'compare_counts',
    'count',
    'draw_numbers',
    'draws_for',
    'presence',
    'rural_urban',
    'uniforms',
]

TOUCHED = 4
"""Maximum number of tiles that an object no longer than a tile can touch."""
LONG = frozenset({'footway', 'highway', 'pier', 'railway', 'river', 'road', 'sea'})
"""Categories of objects that may be longer than a tile."""


@dataclass(frozen=True)
class SceneEstimate:
    """The answer about the whole scene, with its uncertainty.

    Attributes:
        answer: the answer, written as the raw answers of RSVQA: 'yes', '37', '10632m2', 'rural'.
        probability: probability of the answer; for a number, that the truth lies in the interval.
        supports: evidence mask, (T,): the tiles that the answer rests on.
        strength: evidence per tile, (T,), 0 to 1, NaN where the tile was not seen.
        value: the number, or the share of area that has the answer.
        interval: lower and upper end, both inclusive.
        parts: the two sums of a comparison.
    """

    answer: str
    probability: float
    supports: NDArray[np.bool_] = field(repr=False)
    strength: Floats = field(repr=False)
    value: float | None = None
    interval: tuple[float, float] | None = None
    parts: tuple[float, float] | None = None


def presence(predictions: TilePredictions) -> SceneEstimate:
    """Whether any tile shows the thing that is asked about."""
    chance = any_of(predictions.chance[predictions.seen])
    positive = predictions.chance >= 0.5
    yes = chance >= 0.5
    if yes and not positive.any():  # many tiles are possible, none is likely: take the likeliest
        positive = predictions.chance >= np.nanmax(predictions.chance)
    supports = positive if yes else predictions.seen
    return SceneEstimate('yes' if yes else 'no', chance if yes else 1 - chance, supports, predictions.chance)


def count(predictions: TilePredictions, areas: TileAreas, touched: int | None = TOUCHED) -> SceneEstimate:
    """Number of objects in the scene.

    Args:
        predictions: counts per tile.
        areas: what each tile sees and owns.
        touched: maximum number of tiles that one object touches; None if there is no such limit.
    """
    seen = predictions.seen
    sums, most = _zeros(seen), _zeros(seen)
    for tiles, numbers in _drawn(predictions, seen):
        sums += areas.share[tiles] @ numbers
        most += numbers.sum(0)
    lower = _in_groups(predictions, areas.shape)
    if touched is not None:
        lower = max(lower, ceil(round(_ends(sums)[0] / touched, 6)))
    upper = max(float(floor(_ends(most)[1])), lower)
    value = float(np.clip(round(np.median(sums)), lower, upper))
    supports = seen & (predictions.some >= 0.5)
    return SceneEstimate(
        f'{value:.0f}',
        _within(sums),
        supports if supports.any() else seen,
        _relative(predictions.mean),
        value,
        (float(lower), upper),
    )


def area(predictions: TilePredictions, areas: TileAreas) -> SceneEstimate:
    """Area that the objects cover in square metres; every tile contributes the ground that it owns.

    Where tiles overlap it is unknown whether the covered part of a tile lies in the pixels it owns. So
    `least` and `most` bound what the owned part can hold, and `sums` takes the proportional share.
    """
    seen = predictions.seen
    least, sums, most = (_zeros(seen) for _ in range(3))
    for tiles, numbers in _drawn(predictions, seen):
        whole, part = areas.seen[tiles, None], areas.owned[tiles, None]
        numbers = np.minimum(numbers, whole)
        high = np.minimum(numbers, part)
        low = np.minimum(np.maximum(numbers - (whole - part), 0.0), high)
        least += low.sum(0)
        most += high.sum(0)
        sums += np.clip(areas.share[tiles, None] * numbers, low, high).sum(0)
    mean = np.minimum(areas.share * np.where(seen, predictions.mean, 0.0), areas.owned)
    interval = float(floor(_ends(least)[0])), float(ceil(_ends(most)[1]))
    value = float(np.clip(np.round(np.median(sums)), *interval))
    supports = seen & (predictions.some >= 0.5)
    strength = np.divide(mean, areas.owned, out=np.zeros(len(mean)), where=areas.owned > 0)
    return SceneEstimate(
        f'{value:.0f}m2',
        _within(sums),
        supports if supports.any() else seen,
        np.where(seen, strength, np.nan),
        value,
        interval,
    )


def compare_counts(
    first: TilePredictions, second: TilePredictions, areas: TileAreas, choice: str
) -> SceneEstimate:
    """Whether there are fewer, more or as many objects of the first kind as of the second.

    Args:
        first: counts per tile of the first kind.
        second: counts per tile of the second kind.
        areas: what each tile sees and owns.
        choice: 'less', 'more' or 'equal'.
    """
    seen = first.seen & second.seen
    sums = [_zeros(seen), _zeros(seen)]
    for number, side in enumerate((first, second)):
        for tiles, numbers in _drawn(side, seen, number):
            sums[number] += areas.share[tiles] @ numbers
    gap = sums[0] - sums[1]
    holds = {'less': gap <= -0.5, 'more': gap >= 0.5, 'equal': np.abs(gap) < 0.5}[choice]
    chance = _frequency(holds, gap)
    yes = chance >= 0.5
    difference = np.where(seen, first.mean - second.mean, np.nan)
    toward = {'less': -1.0, 'more': 1.0}.get(choice, 0.0) * (1 if yes else -1)
    speaks = toward * difference > 0 if toward else (np.abs(difference) < 0.5) == yes
    supports = seen & speaks
    return SceneEstimate(
        'yes' if yes else 'no',
        chance if yes else 1 - chance,
        supports if supports.any() else seen,
        _relative(np.abs(difference)),
        float(np.median(gap)),
        parts=(float(np.median(sums[0])), float(np.median(sums[1]))),
    )


def rural_urban(predictions: TilePredictions, areas: TileAreas) -> SceneEstimate:
    """Whether the larger share of the area is rural or urban."""
    seen = predictions.seen
    places = np.flatnonzero(seen)
    weight = areas.owned[places] / max(areas.owned[places].sum(), 1e-12)
    chance = predictions.chance[places]
    shares = _zeros(seen)
    for part, level in uniforms(len(places)):
        shares += weight[part] @ (level < chance[part, None])
    urban = _frequency(shares >= 0.5, shares)
    answer = 'urban' if urban >= 0.5 else 'rural'
    share = min(float(weight @ (chance if answer == 'urban' else 1 - chance)), 1.0)
    supports = seen & ((predictions.chance >= 0.5) == (answer == 'urban'))
    strength = predictions.chance if answer == 'urban' else 1 - predictions.chance
    return SceneEstimate(
        answer,
        urban if answer == 'urban' else 1 - urban,
        supports,
        strength,
        max(share, 0.5),  # the larger share may be expected below a half where chances are skewed
    )


def _drawn(
    predictions: TilePredictions, seen: NDArray[np.bool_], side: int = 0
) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Indices of seen tiles in blocks, with random draws of the number in each of them, (n, draws)."""
    places = np.flatnonzero(seen)
    unit = np.broadcast_to(predictions.unit, seen.shape)
    for part, level in uniforms(len(places), side):
        tiles = places[part]
        yield tiles, draw_numbers(predictions.upto[tiles], predictions.bins, level) * unit[tiles, None]


def _zeros(seen: NDArray[np.bool_]) -> Floats:
    return np.zeros(draws_for(int(seen.sum())))


def _ends(sums: Floats) -> tuple[float, float]:
    """The central interval that holds the share `LEVEL` of the draws."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(sums, (tail, 1 - tail), method='inverted_cdf')
    return float(low), float(high)


def _frequency(holds: NDArray[np.bool_], drawn: Floats) -> float:
    """Share of the draws in which something holds; 0 or 1 only if all draws are equal."""
    rarest = 0.0 if np.allclose(drawn, drawn[0]) else 0.5 / len(drawn)
    return float(np.clip(holds.mean(), rarest, 1 - rarest))


def _in_groups(predictions: TilePredictions, shape: tuple[int, int]) -> int:
    """Lower bound of the number of objects, whatever their length.

    An object touches adjoining tiles only, none of which is empty. So it lies within one connected group of
    tiles that may hold objects or were not seen, and a group holds at least as many as its fullest tile.
    """
    may = (~predictions.seen | (_known(predictions.high) > 0)).reshape(shape)
    groups, number = ndimage.label(may, np.ones((3, 3)))
    if not number:
        return 0
    fullest = ndimage.maximum(_known(predictions.low).reshape(shape), groups, np.arange(1, number + 1))
    return int(np.sum(fullest))


def _within(sums: Floats) -> float:
    """Share of the draws that lies in the interval."""
    low, high = _ends(sums)
    return float(((sums >= low) & (sums <= high)).mean())


def _relative(values: Floats) -> Floats:
    """Values relative to the largest one, 0 to 1."""
    largest = np.nanmax(values) if (~np.isnan(values)).any() else 0.0
    return values / largest if largest > 0 else values


def _known(values: Floats) -> Floats:
    """The values with 0 for tiles that were not seen."""
    return np.where(np.isnan(values), 0.0, values)


CORRELATION = 0.25
"""Share of the variance that is common to all tiles, from `benchmarks/ask_calibration.py` on held-out data.

Numbers in answer to the same question on two images of RSVQA HR correlate by 0.41 (90 %: 0.23 to 0.56) up to
400 m apart, by 0.13 (0.07 to 0.18) up to 1.5 km, and not at all farther apart: 0.25 lies between. Areas of
mosaics of labelled patches, as `sentinel2` measures them, lie in intervals of 90 % in 94 of 100 cases at
0.25, and in 82 at 0.1 (`benchmarks/ask_areas.py`).
"""
BLOCK = 512
"""Tiles drawn at once."""


def draws_for(tiles: int) -> int:
    """Number of draws of a sum: fewer where many tiles average out."""
    return int(np.clip(2**21 // max(tiles, 1), 250, 1000))


def any_of(chances: Floats) -> float:
    """Probability that at least one tile has it.

    Given the shared part of the errors tiles are independent: so the probability that none has it is
    averaged over strata of that shared part.

    Args:
        chances: probability per tile, (T,).
    """
    common = ndtri(_strata(1000))[:, None] * sqrt(CORRELATION)
    none = ndtri(1 - np.clip(chances, 0.0, 1.0))
    total = np.zeros(len(common))
    for start in range(0, len(none), BLOCK):
        part = none[start : start + BLOCK]
        total += log_ndtr((part - common) / sqrt(1 - CORRELATION)).sum(1)
    return 1 - float(np.exp(total).mean())


def uniforms(tiles: int, side: int = 0) -> Iterator[tuple[slice, Floats]]:
    """Blocks of tiles with correlated uniform draws, (n, draws), 0 to 1.

    They are the quantiles at which the distribution of each tile is read, and the same for all questions.
    Draws are stratified: every tile takes each quantile equally often.

    Args:
        tiles: number of tiles.
        side: 0, or 1 for draws that are independent of these.
    """
    draws = draws_for(tiles)
    for block, start in enumerate(range(0, tiles, BLOCK)):
        count = min(BLOCK, tiles - start)
        yield slice(start, start + count), _block(count, draws, block, side, CORRELATION)


@lru_cache(maxsize=16)
def _block(count: int, draws: int, block: int, side: int, correlation: float) -> Floats:
    common = np.random.default_rng(side).permutation(ndtri(_strata(draws)))
    own = np.random.default_rng((1, side, block)).standard_normal((count, draws))
    mixed = sqrt(correlation) * common + sqrt(1 - correlation) * own
    ranks = mixed.argsort(1).argsort(1)
    return _strata(draws)[ranks]


def draw_numbers(upto: Floats, bins: Bins, level: Floats) -> Floats:
    """Draw numbers for some tiles by inverting their distributions, (n, draws).

    Args:
        upto: cumulative probabilities of the tiles, (n, B); see `TilePredictions`.
        bins: the ranges of numbers that they are about.
        level: uniform draws of `uniforms`, (n, draws).
    """
    rows = np.arange(len(upto))[:, None]
    # Shift every row into an interval of its own, so that one sorted search serves all rows.
    place = np.searchsorted((upto + 2 * rows).ravel(), (level + 2 * rows).ravel())
    place = place.reshape(level.shape) - rows * upto.shape[1]
    below = np.concatenate([np.zeros((len(upto), 1)), upto], 1)
    start, stop = below[rows, place], below[rows, place + 1]
    return bins.at(place, (level - start) / np.maximum(stop - start, 1e-12))


def _strata(count: int) -> NDArray[np.float64]:
    """Midpoints of `count` equal parts of the interval 0 to 1."""
    return (np.arange(count) + 0.5) / count


@dataclass(frozen=True)
class TileEvidence:
    """The tiles that an answer rests on, and what the model predicted for them.

    Attributes:
        scored: the scene with its tiles, grid and quicklook.
        labels: answers that the model can give for a tile.
        predictions: predictions for every tile; one per side of a comparison, otherwise a single one.
        estimate: the answer about the whole scene that was computed from the predictions.
        top_k: maximum number of tiles that count as evidence; None keeps all that support the answer.
    """

    scored: Scored
    labels: tuple[str, ...]
    predictions: tuple[TilePredictions, ...]
    estimate: SceneEstimate
    top_k: int | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Evidence mask, (T,): the tiles that support the answer, limited to the strongest `top_k`."""
        supports = self.estimate.supports
        if self.top_k is None or supports.sum() <= self.top_k:
            return supports
        strength = np.nan_to_num(self.estimate.strength)
        if self.estimate.answer == 'no':  # the strongest evidence is the tile least likely to show the thing
            strength = 1 - strength
        strength = np.where(supports, strength, -1.0)
        chosen = np.zeros(len(supports), bool)
        chosen[np.argsort(-strength, kind='stable')[: self.top_k]] = True
        return chosen

"""One answer from those of all tiles.

The rules, for tiles that own w_t of what they see (1 where tiles do not overlap):

* Presence: yes where a tile says yes (0.5 and more). Tiles of one scene, seen by one model, err together:
  one minus the product of all chances of "no" would be sure of anything on a scene of many tiles. The chance
  of the likeliest tile is what the answer is worth at least; n tiles that say yes count as the
  n / (1 + (n - 1) `TOGETHER`) that are independent of each other (Kish 1965, design effect), at most 2.
* Count and area: the sum of expected numbers. The interval's ends are sums of the tiles' own ends: right
  however much the tiles err together. An object is counted in each tile that it touches, up to four where it
  is no longer than a tile: a count's lower end is a quarter of the sum, or, where that is more, what holds
  for objects of any length: the largest number of each group of adjoining tiles. For `LONG` things the
  latter alone.
* Comparison: the chance that one sum exceeds the other, taken as normal, a part `TOGETHER` of the
  tiles' errors being common to all.
* Rural or urban: the kind of the larger share of area, with the chance that it is the larger one.
"""

from dataclasses import dataclass, field
from math import ceil, erf, isinf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geores.asking.readings import Floats, Readings

__all__ = ['LONG', 'Combined', 'Ownership', 'area', 'compare', 'count', 'presence', 'rural_urban']

TOGETHER = 0.5
"""Part of the tiles' errors that is common to all; assumed, between none and all."""
TOUCHED = 4
"""Tiles that an object no longer than a tile touches at most."""
LONG = frozenset({'footway', 'highway', 'pier', 'railway', 'river', 'road', 'sea'})
"""Categories whose objects may touch more."""


@dataclass(frozen=True)
class Ownership:
    """What tiles see and own.

    Attributes:
        shape: Rows and columns of tiles; the arrays are (rows * cols,), row-major.
        seen: Square metres (pixels where the scene has no CRS) of valid pixels in each tile.
        owned: The part of them that belongs to the tile; over all tiles they are the scene's.
    """

    shape: tuple[int, int]
    seen: Floats
    owned: Floats

    @property
    def share(self) -> Floats:
        """Part of what each tile sees that it owns."""
        return np.divide(self.owned, self.seen, out=np.zeros(len(self.seen)), where=self.seen > 0)


@dataclass(frozen=True)
class Combined:
    """An answer about the whole scene.

    Attributes:
        answer: As RSVQA writes raw answers: 'yes', '37', '10632m2', 'rural'.
        probability: Of it; of a number, that the truth lies in the interval.
        carries: Which tiles the answer rests on, (T,).
        strength: How strongly each tile speaks for what is asked, (T,), 0 to 1, NaN where not seen.
        value: The number, or the share of area of the answer.
        interval: Both ends inclusive, the upper may be infinite.
        parts: The two sums of a comparison.
    """

    answer: str
    probability: float
    carries: NDArray[np.bool_] = field(repr=False)
    strength: Floats = field(repr=False)
    value: float | None = None
    interval: tuple[float, float] | None = None
    parts: tuple[float, float] | None = None


def presence(readings: Readings) -> Combined:
    """Whether any tile has it."""
    chances = readings.chance[readings.seen]
    strongest = float(chances.max())
    says = readings.chance >= 0.5
    yes = bool(says.any())
    chance = 1 - (1 - strongest) * (_support(chances[chances >= 0.5]) if yes else 1.0)
    carries = says if yes else readings.seen
    return Combined('yes' if yes else 'no', chance if yes else 1 - chance, carries, readings.chance)


def count(readings: Readings, owned: Ownership, *, long: bool = False) -> Combined:
    """How many there are, in all tiles.

    Args:
        readings: Counts.
        owned: Of the tiles.
        long: Whether one object may touch more than four tiles.
    """
    seen = readings.seen
    weight = np.where(seen, owned.share, 0.0)
    mean, low, high = (_known(values) for values in (readings.mean, readings.low, readings.high))
    lower = _in_groups(readings, owned.shape)
    if not long:
        lower = max(lower, ceil(round(float((weight * low).sum()) / TOUCHED, 6)))
    upper = float(high.sum())
    value = float(np.clip(round((weight * mean).sum()), lower, upper))
    carries = seen & (readings.best_probability > 0) & (np.where(seen, mean, 0.0) >= 0.5)
    return Combined(
        f'{value:.0f}',
        _within(readings),
        carries if carries.any() else seen,
        _relative(readings.mean),
        value,
        (float(lower), upper),
    )


def area(readings: Readings, owned: Ownership) -> Combined:
    """How large an area they cover, in square metres; every tile answers for what it owns."""
    seen = readings.seen
    outside = owned.seen - owned.owned
    low = np.where(seen, np.maximum(_known(readings.low) - outside, 0.0), 0.0)
    high = np.where(seen, np.minimum(_known(readings.high), owned.owned), 0.0)
    low = np.minimum(low, high)
    mean = np.clip(owned.share * _known(readings.mean), low, high)
    value = float(np.round(mean.sum()))
    interval = (float(np.floor(low.sum())), float(np.ceil(high.sum())))
    carries = seen & (mean > 0) & (mean >= 0.005 * owned.owned)
    strength = np.divide(mean, owned.owned, out=np.zeros(len(mean)), where=owned.owned > 0)
    return Combined(
        f'{value:.0f}m2',
        _within(readings),
        carries if carries.any() else seen,
        np.where(seen, strength, np.nan),
        value,
        interval,
    )


def compare(first: Readings, second: Readings, owned: Ownership, choice: str) -> Combined:
    """Whether there are less, more or as many of the first as of the second.

    Args:
        first: Counts.
        second: Counts.
        owned: Of the tiles.
        choice: 'less', 'more' or 'equal'.
    """
    seen = first.seen & second.seen
    weight = np.where(seen, owned.share, 0.0)
    sums = [float((weight * _known(side.mean)).sum()) for side in (first, second)]
    spread = _spread(weight * np.sqrt(_known(first.variance) + _known(second.variance)))
    gap = sums[0] - sums[1]
    less, upto = _normal(-0.5 - gap, spread), _normal(0.5 - gap, spread)
    chance = {'less': less, 'more': 1 - upto, 'equal': upto - less}[choice]
    yes = chance >= 0.5
    difference = np.where(seen, first.mean - second.mean, np.nan)
    toward = {'less': -1.0, 'more': 1.0}.get(choice, 0.0) * (1 if yes else -1)
    speaks = toward * difference > 0 if toward else (np.abs(difference) < 0.5) == yes
    carries = seen & speaks
    return Combined(
        'yes' if yes else 'no',
        chance if yes else 1 - chance,
        carries if carries.any() else seen,
        _relative(np.abs(difference)),
        gap,
        parts=(sums[0], sums[1]),
    )


def rural_urban(readings: Readings, owned: Ownership) -> Combined:
    """Which of the two is the larger share of area."""
    seen = readings.seen
    weight = np.where(seen, owned.owned, 0.0)
    weight = weight / max(weight.sum(), 1e-12)
    chance = _known(readings.chance)
    share = float((weight * chance).sum())
    spread = _spread(weight * np.sqrt(chance * (1 - chance)))
    urban = 1 - _normal(0.5 - share, spread)
    share = min(max(share, 0.0), 1.0)
    answer = 'urban' if share >= 0.5 else 'rural'
    carries = seen & ((readings.chance >= 0.5) == (answer == 'urban'))
    strength = readings.chance if answer == 'urban' else 1 - readings.chance
    return Combined(
        answer,
        urban if answer == 'urban' else 1 - urban,
        carries,
        strength,
        share if answer == 'urban' else 1 - share,
    )


def _support(chances: Floats) -> float:
    """By which factor tiles that say yes as well lower the doubt that the likeliest one leaves."""
    others = np.minimum(np.sort(chances)[:-1], 1 - 1e-12)
    if not len(others):
        return 1.0
    independent = len(chances) / (1 + len(others) * TOGETHER)
    return float(np.exp((independent - 1) * np.log1p(-others).mean()))


def _in_groups(readings: Readings, shape: tuple[int, int]) -> int:
    """The number of objects of any length that there are at least.

    An object touches adjoining tiles only, none of which is empty: it lies in one group of tiles that may
    hold objects or were not seen. In a group there are at least as many as in its fullest tile.
    """
    may = (~readings.seen | (_known(readings.high) > 0)).reshape(shape)
    groups, number = ndimage.label(may, np.ones((3, 3)))
    if not number:
        return 0
    fullest = ndimage.maximum(_known(readings.low).reshape(shape), groups, np.arange(1, number + 1))
    return int(np.sum(fullest))


def _within(readings: Readings) -> float:
    """Chance that every tile's number lies in its interval, if all err the same way."""
    seen = readings.seen
    return float(np.clip(readings.upto[seen].min() - readings.below[seen].max(), 0.0, 1.0))


def _spread(deviations: Floats) -> float:
    """Standard deviation of a sum whose terms share a part of their errors."""
    alone = float((deviations**2).sum())
    together = float(deviations.sum()) ** 2
    return sqrt((1 - TOGETHER) * alone + TOGETHER * together)


def _normal(value: float, spread: float) -> float:
    """Share of a normal distribution about 0 that lies below a value."""
    if spread < 1e-9 or isinf(value):
        return 1.0 if value > 0 else 0.5 if value == 0 else 0.0
    return 0.5 * (1 + erf(value / spread / sqrt(2)))


def _relative(values: Floats) -> Floats:
    """Of the largest, 0 to 1."""
    largest = np.nanmax(values) if (~np.isnan(values)).any() else 0.0
    return values / largest if largest > 0 else values


def _known(values: Floats) -> Floats:
    """0 for tiles that were not seen, and nothing else changed."""
    return np.where(np.isnan(values), 0.0, values)

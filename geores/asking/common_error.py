"""Tiles of one scene, seen by one model, err together: chances and sums over them.

What is uncertain of a tile is taken as one normal number, of which a part is the same for all tiles: a
Gaussian copula with one factor (Vasicek 1987, "Probability of loss on loan portfolio"; Li 2000). Each tile
keeps its own distribution; only how often tiles are wrong at once follows from `CORRELATION`.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri

from geores.asking.readings import Bins, Floats

__all__ = ['CORRELATION', 'any_of', 'draw_numbers', 'draws_for', 'uniforms']

CORRELATION = 0.25
"""Part of the variance that is common to all tiles, by `benchmarks/ask_calibration.py` on what was kept out.

Numbers in answer to the same question on two images of RSVQA HR correlate by 0.41 (90 %: 0.23 to 0.56) up to
400 m apart, by 0.13 (0.07 to 0.18) up to 1.5 km, and not at all farther apart: 0.25 lies between. Areas of
mosaics of labelled patches, as `sentinel2` measures them, lie in intervals of 90 % in 94 of 100 cases at
0.25, and in 82 at 0.1 (`benchmarks/ask_areas.py`).
"""
BLOCK = 512
"""Tiles drawn at once."""


def draws_for(tiles: int) -> int:
    """How often a sum is drawn: less often where many tiles average out."""
    return int(np.clip(2**21 // max(tiles, 1), 250, 1000))


def any_of(chances: Floats) -> float:
    """The chance that anything is there, of chances that it is in each tile."""
    common = ndtri(_strata(1000))[:, None] * sqrt(CORRELATION)
    none = ndtri(1 - np.clip(chances, 0.0, 1.0))
    total = np.zeros(len(common))
    for start in range(0, len(none), BLOCK):
        part = none[start : start + BLOCK]
        total += log_ndtr((part - common) / sqrt(1 - CORRELATION)).sum(1)
    return 1 - float(np.exp(total).mean())


def uniforms(tiles: int, side: int = 0) -> Iterator[tuple[slice, Floats]]:
    """Blocks of tiles, and how far up its own distribution the truth lies in each draw, (n, draws), 0 to 1.

    The same for all questions. Every tile has each part of its distribution equally often.

    Args:
        tiles: How many.
        side: 0, or 1 for what errs independently of it.
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
    """Numbers of some tiles, (n, draws).

    Args:
        upto: Of the tiles' `Readings`, (n, B).
        bins: Of the same.
        level: Of `uniforms`.
    """
    rows = np.arange(len(upto))[:, None]
    # Every row in an interval of its own, so that one search does for all.
    place = np.searchsorted((upto + 2 * rows).ravel(), (level + 2 * rows).ravel())
    place = place.reshape(level.shape) - rows * upto.shape[1]
    below = np.concatenate([np.zeros((len(upto), 1)), upto], 1)
    start, stop = below[rows, place], below[rows, place + 1]
    return bins.at(place, (level - start) / np.maximum(stop - start, 1e-12))


def _strata(count: int) -> NDArray[np.float64]:
    """The middles of that many equal parts of 0 to 1."""
    return (np.arange(count) + 0.5) / count

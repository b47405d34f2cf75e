"""Distances between the rows of two parts, and rows that lie at one place."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from geores.splits.ground import Lonlat, count_pairs, ecef, nearest

__all__ = ['SAME_PLACE', 'PairDistances', 'distances_between', 'other_dates', 'spacing']

SAME_PLACE = 1.0
"""Metres within which two middles are one place."""


@dataclass(frozen=True)
class PairDistances:
    """How near the rows of one part come to those of another; geodesics between middles, metres.

    Attributes:
        part: whose rows are looked at.
        other: in which their nearest is sought.
        rows: of `part`.
        minimum: least distance to the nearest row of `other`.
        percentile_1: one row in a hundred is nearer than this.
        median: half of the rows are nearer than this.
        rows_within: radius -> rows of `part` that have a row of `other` within it.
        pairs_within: radius -> pairs of rows within it.
        same_place: rows of `part` whose place is that of a row of `other`.
        same_place_other_date: those of them with another date there; None where dates are unknown.
    """

    part: str
    other: str
    rows: int
    minimum: float
    percentile_1: float
    median: float
    rows_within: dict[str, int]
    pairs_within: dict[str, int]
    same_place: int
    same_place_other_date: int | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def distances_between(
    names: tuple[str, str],
    places: Lonlat,
    others: Lonlat,
    radii: Sequence[float],
    dates: tuple[NDArray[Any], NDArray[Any]] | None,
) -> PairDistances:
    """Measure two parts against each other.

    Args:
        names: of the part and the other.
        places: (N, 2) of the part.
        others: (M, 2) of the other.
        radii: metres.
        dates: of the rows of both, if known.
    """
    spots, back = np.unique(places, axis=0, return_inverse=True)  # a place may recur on many dates
    away = nearest(spots, np.unique(others, axis=0))[0][back.ravel()]
    twins = np.flatnonzero(away < SAME_PLACE)
    low, middle = np.percentile(away, [1, 50])
    pairs = count_pairs(places, others, radii) if radii else []
    return PairDistances(
        *names,
        rows=len(places),
        minimum=float(away.min()),
        percentile_1=float(low),
        median=float(middle),
        rows_within={f'{radius:g}': int((away < radius).sum()) for radius in radii},
        pairs_within={f'{radius:g}': count for radius, count in zip(radii, pairs, strict=True)},
        same_place=len(twins),
        same_place_other_date=None
        if dates is None
        else other_dates(places[twins], others, dates[0][twins], dates[1]),
    )


def other_dates(places: Lonlat, others: Lonlat, dates: NDArray[Any], their_dates: NDArray[Any]) -> int:
    """How many rows have one of another date at their place.

    Args:
        places: (N, 2).
        others: (M, 2).
        dates: (N,).
        their_dates: (M,).
    """
    if not len(places):
        return 0
    found = KDTree(ecef(others)).query_ball_point(ecef(places), SAME_PLACE)
    return sum(bool((their_dates[there] != date).any()) for there, date in zip(found, dates, strict=True))


def spacing(places: Lonlat) -> float:
    """Median distance from a place to the next; infinite where there is but one.

    Args:
        places: (N, 2), each another.
    """
    if len(places) < 2:
        return float('inf')
    points = ecef(places)
    sample = points[:: max(1, len(points) // 20_000)]
    return float(np.median(KDTree(points).query(sample, k=2, workers=-1)[0][:, 1]))

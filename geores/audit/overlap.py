"""Compare two parts of a split: distances, shared places, near-duplicates, footprints and labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import jensenshannon

from geores.splits import DROPPED, LabelMatrix
from geores.splits.buffer import Lonlat, count_pairs, ecef, nearest
from geores.splits.source import group_images

__all__ = [
    'SAME_PLACE',
    'Duplicates',
    'PairDistances',
    'PairDrift',
    'PairOverlap',
    'distances_between',
    'drift_between',
    'find_duplicates',
    'other_dates',
    'overlap_between',
]

_SHOWN = 20

SAME_PLACE = 1.0
"""Distance in metres below which two row centres count as one place."""


@dataclass(frozen=True)
class Duplicates:
    """Near duplicates across parts.

    Attributes:
        images: number of images compared.
        unmatched: number of rows without an image.
        groups: number of groups of near duplicates that span several parts.
        rows: number of rows in such groups.
        examples: ids and parts of the first groups.
    """

    images: int
    unmatched: int
    groups: int
    rows: int
    examples: tuple[dict[str, str], ...]


def find_duplicates(
    folder: Path,
    ids: list[str],
    names: NDArray[np.object_],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Duplicates:
    """Find near-duplicate images in different parts by their perceptual hashes.

    Args:
        folder: folder of the images, searched recursively; an image belongs to the id that is its path in the
            folder, with or without its ending, or its name.
        ids: ids of the rows.
        names: (N,) part of each row.
        progress: called with the number of images just read and the total.

    Raises:
        DatasetError: if there is no such folder, or no image belongs to a row.
        ReadError: if an image cannot be read.
    """
    rows = np.flatnonzero(names != DROPPED).tolist()
    found = group_images(folder, [ids[row] for row in rows], progress)
    members: dict[int, list[int]] = {}
    for place, group in found.items():
        members.setdefault(group, []).append(rows[place])
    across = [same for same in members.values() if len({names[row] for row in same}) > 1]
    return Duplicates(
        len(found),
        len(rows) - len(found),
        len(across),
        sum(map(len, across)),
        tuple({ids[row]: str(names[row]) for row in same} for same in across[:_SHOWN]),
    )


@dataclass(frozen=True)
class PairDistances:
    """Distances from the rows of one part to those of another: geodesics between centres, in metres.

    Attributes:
        part: part whose rows are examined.
        other: part that distances are measured to.
        rows: number of rows of `part`.
        minimum: smallest distance to a row of `other`.
        percentile_1: 1st percentile of the distances to the nearest row of `other`.
        median: median of the distances to the nearest row of `other`.
        rows_within: number of rows of `part` with a row of `other` within each radius.
        pairs_within: number of pairs of rows within each radius.
        same_place: number of rows of `part` at the place of a row of `other`.
        same_place_other_date: how many of these have another date there; None without dates.
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


def distances_between(
    names: tuple[str, str],
    places: Lonlat,
    others: Lonlat,
    radii: Sequence[float],
    dates: tuple[NDArray[Any], NDArray[Any]] | None,
) -> PairDistances:
    """Measure the distances between two parts.

    Args:
        names: names of the part and of the other part.
        places: (N, 2) of the part.
        others: (M, 2) of the other.
        radii: distances in metres.
        dates: acquisition dates of the rows of both parts, if known.
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
    """Count the rows with a row of another date at the same place.

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


LEAST = 1e-3
"""Share of the smaller footprint from which an overlap counts: edges are rounded, and bend in projections."""


@dataclass(frozen=True)
class PairOverlap:
    """Overlap between the footprints of two parts.

    Attributes:
        part: part whose rows are examined.
        other: part whose footprints may overlap them.
        rows: number of rows of `part` that overlap a footprint of `other`.
        pairs: number of pairs of overlapping footprints.
        largest: largest overlap, as a share of the smaller footprint.
    """

    part: str
    other: str
    rows: int
    pairs: int
    largest: float


def overlap_between(
    names: tuple[str, str], shapes: NDArray[np.object_], others: NDArray[np.object_]
) -> PairOverlap:
    """Find footprints of a part that overlap those of another.

    Args:
        names: names of the part and of the other part.
        shapes: (N,) outlines of the part, on an equal-area map.
        others: (M,) of the other.
    """
    mine, theirs = shapely.STRtree(others).query(shapes, predicate='intersects')
    common = shapely.area(shapely.intersection(shapes[mine], others[theirs]))
    smaller = np.minimum(shapely.area(shapes[mine]), shapely.area(others[theirs]))
    shares = np.divide(common, smaller, out=np.zeros_like(common), where=smaller > 0)
    found = shares > LEAST
    return PairOverlap(
        *names,
        rows=len(np.unique(mine[found])),
        pairs=int(found.sum()),
        largest=float(shares[found].max(initial=0)),
    )


@dataclass(frozen=True)
class PairDrift:
    """Difference between the label distributions of two parts.

    Attributes:
        part: name of the first part.
        other: name of the second part.
        overall: Jensen-Shannon divergence (Lin 1991) of the shares of labels, in bits: 0 where alike,
            1 if no label is in both.
        labels: divergence per label between having it or not, in bits.
        missing: labels of `part` that are absent from `other`.
    """

    part: str
    other: str
    overall: float
    labels: dict[str, float]
    missing: tuple[str, ...]


def drift_between(
    names: tuple[str, str], labels: LabelMatrix, rows: NDArray[np.bool_], others: NDArray[np.bool_]
) -> PairDrift | None:
    """Compare the labels of two parts; None where one has no labels at all.

    Args:
        names: names of the part and of the other part.
        labels: labels of all rows.
        rows: (N,) which are of the part.
        others: (N,) which are of the other.
    """
    mine, theirs = labels.values[rows].sum(axis=0), labels.values[others].sum(axis=0)
    if not mine.any() or not theirs.any():
        return None
    having = [
        np.stack([count / total, 1 - count / total], axis=1)
        for count, total in ((mine, rows.sum()), (theirs, others.sum()))
    ]
    # Scipy gives the square root, and NaN where rounding makes the divergence negative.
    overall, single = (
        np.nan_to_num(jensenshannon(*pair, base=2, axis=-1)) ** 2 for pair in ((mine, theirs), having)
    )
    return PairDrift(
        *names,
        overall=float(overall),
        labels=dict(zip(labels.names, single.tolist(), strict=True)),
        missing=tuple(
            name for name, here, there in zip(labels.names, mine, theirs, strict=True) if here and not there
        ),
    )

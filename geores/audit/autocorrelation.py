"""Spatial autocorrelation of labels: Moran's I per distance class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from geores.splits import LabelMatrix
from geores.splits.buffer import Lonlat, ecef, spacing

__all__ = ['Autocorrelation', 'autocorrelation']

BINS = 12
ANCHORS = 2000
NEIGHBOURS = 200
FEWEST = 30
"""Minimum number of pairs in a distance class, and of places."""
FADED = 0.1
"""Moran's I below which labels count as uncorrelated."""
_REACH = 0.25


@dataclass(frozen=True)
class Autocorrelation:
    """Moran's I of labels per distance class.

    Attributes:
        distances: upper edges of the classes, metres; None for a class of fewer than 30 pairs.
        values: Moran's I in each: 1 if labels of a pair are always the same, about 0 if they are as in pairs
            drawn at random.
        pairs: number of pairs of places per distance class.
        halves_at: distance in metres where Moran's I halves; None if it does not within the classes.
        fades_at: distance in metres where Moran's I falls below 0.1, a lower bound for a buffer; or None.
    """

    distances: tuple[float, ...]
    values: tuple[float | None, ...]
    pairs: tuple[int, ...]
    halves_at: float | None
    fades_at: float | None

    @property
    def alike(self) -> bool:
        """Whether labels of neighbours are correlated, so that a buffer has an effect."""
        return next((value for value in self.values if value is not None), 0.0) >= FADED


def autocorrelation(places: Lonlat, labels: LabelMatrix) -> Autocorrelation | None:
    """Measure the spatial autocorrelation of labels.

    Moran's I summed over labels (as for one label: Moran 1950, Biometrika 37, 17-23; with one label a row it
    is the join count of equal labels, less what chance gives, over its most). Classes of distance grow
    from the distance between neighbours to a quarter of the extent; each is measured on up to 2000 places
    and about 200 neighbours of each, drawn without regard to the order of rows. Rows at one place count once.

    Args:
        places: (N, 2).
        labels: labels of the rows.

    Returns:
        None where there are fewer than 30 places, or all have the same labels.
    """
    spots, values = _by_place(places, labels.values)
    values = values - values.mean(axis=0)
    variance = float((values**2).sum(axis=1).mean())
    if len(spots) < FEWEST or variance < 1e-12:
        return None
    points = ecef(spots)
    first = max(1.5 * spacing(spots), 1.0)
    reach = max(_REACH * float(np.linalg.norm(np.ptp(points, axis=0))), 2 * first)
    edges = np.geomspace(first, reach, BINS)
    order = np.random.RandomState(0).permutation(len(spots))
    points, values = points[order], values[order]
    figures = _by_distance(points, values, edges)
    means = [None if total is None else total / variance for total, _ in figures]
    start = next((mean for mean in means if mean is not None), 0.0)
    return Autocorrelation(
        tuple(edges.tolist()),
        tuple(means),
        tuple(count for _, count in figures),
        _falls(edges, means, start / 2),
        _falls(edges, means, FADED),
    )


def _by_place(places: Lonlat, labels: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unique places, with the mean of the labels of their rows."""
    _, first, back, counts = np.unique(
        np.rint(places * 1e6), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    sums = np.stack(
        [np.bincount(back.ravel(), labels[:, label], len(first)) for label in range(labels.shape[1])], axis=1
    )
    return places[first], sums / counts[:, None]


def _by_distance(
    points: NDArray[np.float64], values: NDArray[np.float64], edges: NDArray[np.float64]
) -> list[tuple[float | None, int]]:
    """Apply `_in_class` to each distance class, with no more neighbours than needed for precision."""
    anchors, everyone = KDTree(points[:ANCHORS]), KDTree(points)
    figures = []
    for low, high in zip([0.0, *edges[:-1]], edges, strict=True):
        around = everyone.count_neighbors(anchors, high) / len(anchors.data)
        share = min(1.0, NEIGHBOURS / max(around, 1))
        kept = max(int(share * len(points)), len(anchors.data))
        others = everyone if kept == len(points) else KDTree(points[:kept])
        figures.append(_in_class(anchors, others, values, low, high))
    return figures


def _in_class(
    anchors: KDTree, others: KDTree, values: NDArray[np.float64], low: float, high: float
) -> tuple[float | None, int]:
    """Mean product of the labels of pairs so far apart, and their number; trees hold the first places."""
    pairs = anchors.sparse_distance_matrix(others, high, output_type='ndarray')
    pairs = pairs[(pairs['v'] > low) & (pairs['i'] != pairs['j'])]
    if len(pairs) < FEWEST:
        return None, len(pairs)
    return float(np.einsum('ij,ij->i', values[pairs['i']], values[pairs['j']]).mean()), len(pairs)


def _falls(edges: NDArray[np.float64], means: list[float | None], level: float) -> float | None:
    """Distance at which the curve falls to a level, by linear interpolation between classes."""
    before: tuple[float, float] | None = None
    for edge, mean in zip(map(float, edges), means, strict=True):
        if mean is None:
            continue
        if mean < level:
            if before is None:
                return edge
            share = (before[1] - level) / (before[1] - mean)
            return before[0] + share * (edge - before[0])
        before = (edge, mean)
    return None

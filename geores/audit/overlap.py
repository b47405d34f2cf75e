"""Compare two parts of a split: overlapping footprints, and how their labels differ."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Transformer

from geores.splits import LabelMatrix
from geores.splits.ground import local_crs
from geores.splits.source import Source

__all__ = ['PairDrift', 'PairOverlap', 'drift_between', 'footprints_of', 'jensen_shannon', 'overlap_between']

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

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self)


def footprints_of(source: Source) -> NDArray[np.object_] | None:
    """Get the outlines of rows in an equal-area projection; None for point positions.

    Args:
        source: source of the rows.
    """
    crs = local_crs(source.places)
    if source.squares is not None:
        return _squares(source.squares, crs)
    geometry = getattr(source.frame, 'geometry', None)
    if geometry is None or not geometry.geom_type.isin(['Polygon', 'MultiPolygon']).all():
        return None
    shapes: NDArray[np.object_] = shapely.make_valid(np.asarray(geometry.to_crs(crs).array, object))
    return shapes


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


def _squares(squares: NDArray[np.float64], crs: CRS) -> NDArray[np.object_]:
    corners = squares[:, [[1, 2], [3, 2], [3, 4], [1, 4]]]
    placed = np.empty_like(corners)
    for epsg in np.unique(squares[:, 0]):
        rows = squares[:, 0] == epsg
        change = Transformer.from_crs(int(epsg), crs, always_xy=True)
        placed[rows] = np.stack(change.transform(corners[rows, :, 0], corners[rows, :, 1]), axis=-1)
    shapes: NDArray[np.object_] = shapely.polygons(placed)
    return shapes


@dataclass(frozen=True)
class PairDrift:
    """Difference between the label distributions of two parts.

    Attributes:
        part: name of the first part.
        other: name of the second part.
        overall: Jensen-Shannon divergence of the shares of labels, in bits: 0 if they are the same, 1 if no
            label is in both.
        labels: divergence per label between having it or not, in bits.
        missing: labels of `part` that are absent from `other`.
    """

    part: str
    other: str
    overall: float
    labels: dict[str, float]
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self) | {'missing': list(self.missing)}


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Jensen-Shannon divergence in bits along the last axis (Lin 1991, IEEE Trans. Inf. Theory 37, 145-151).

    Args:
        first: (..., K) of 0 or more; they are brought to a sum of 1.
        second: (..., K).
    """
    one, two = (np.asarray(values, np.float64) for values in (first, second))
    one, two = (values / values.sum(axis=-1, keepdims=True) for values in (one, two))
    between = (one + two) / 2

    def bits(values: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = np.divide(values, between, out=np.ones_like(values), where=values > 0)
        return np.asarray((values * np.log2(ratio)).sum(axis=-1))

    return np.asarray(np.maximum((bits(one) + bits(two)) / 2, 0))


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
    single = jensen_shannon(*having)
    return PairDrift(
        *names,
        overall=float(jensen_shannon(mine, theirs)),
        labels=dict(zip(labels.names, single.tolist(), strict=True)),
        missing=tuple(
            name for name, here, there in zip(labels.names, mine, theirs, strict=True) if here and not there
        ),
    )

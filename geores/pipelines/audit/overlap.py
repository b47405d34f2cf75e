"""Footprints of two parts that cover the same ground."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from geores.pipelines.splitting import Source
from geores.splits.ground import local_crs

__all__ = ['PairOverlap', 'footprints_of', 'overlap_between']

LEAST = 1e-3
"""Share of the smaller footprint from which an overlap counts: edges are rounded, and bend in projections."""


@dataclass(frozen=True)
class PairOverlap:
    """Ground that two parts share.

    Attributes:
        part: whose rows are looked at.
        other: in which footprints over the same ground are sought.
        rows: of `part` that overlap a footprint of `other`.
        pairs: of footprints that overlap.
        largest: share of the smaller footprint in the largest overlap.
    """

    part: str
    other: str
    rows: int
    pairs: int
    largest: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def footprints_of(source: Source) -> NDArray[np.object_] | None:
    """Outlines of rows on an equal-area map; None where there are only points.

    Args:
        source: of the rows.
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
        names: of the part and the other.
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

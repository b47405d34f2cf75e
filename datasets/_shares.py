"""Where tiles lie, and which class each of them shows."""

from typing import Literal, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.datasets._vector import LabelledFeatures
from geores.errors import DatasetError
from geores.grid import Tiling

__all__ = ['Decision', 'Placement', 'check_share', 'decide', 'windows_centred', 'windows_on_grid']

Placement = Literal['auto', 'grid', 'centred']


class Decision(NamedTuple):
    """What labels say of tiles.

    Attributes:
        classes: (N,) names; '' where none is decided.
        shares: (N,) part of the tile that its class covers; 1 where points decide.
        reasons: (N,) why none is: 'no label', 'share' (none covers enough), or 'several' (two cover the
            same, or points of two classes); '' where one is.
    """

    classes: NDArray[np.object_]
    shares: NDArray[np.float64]
    reasons: NDArray[np.object_]


def check_share(min_share: float) -> None:
    """Raise `DatasetError` where a least share is out of range."""
    if not 0 < min_share <= 1:
        raise DatasetError(f'min_share has to be above 0 and at most 1, not {min_share}')


def windows_on_grid(shape: tuple[int, int], size: int, stride: int) -> NDArray[np.int64]:
    """First row and column of the tiles that inference takes, (N, 2), row-major.

    Args:
        shape: of the grid, pixels.
        size: pixels of a tile.
        stride: pixels from tile to tile.
    """
    tiling = Tiling(*shape, size, stride)
    rows, cols = np.meshgrid(tiling.y.starts, tiling.x.starts, indexing='ij')
    return np.stack([rows.ravel(), cols.ravel()], axis=1).astype(np.int64)


def windows_centred(
    shape: tuple[int, int], size: int, cols: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.int64]:
    """First row and column of a tile about each centre inside the grid, moved to lie whole in it.

    Args:
        shape: of the grid, pixels.
        size: pixels of a tile.
        cols: of the centres, (M,), pixels.
        rows: of the centres, (M,), pixels.

    Returns:
        (N, 2), each once, row-major.
    """
    inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    centres = np.stack([rows[inside], cols[inside]], axis=1)
    starts = np.clip(np.floor(centres - size / 2 + 0.5), 0, np.array(shape) - size)
    return np.unique(starts.astype(np.int64), axis=0)


def decide(boxes: NDArray[np.object_], features: LabelledFeatures, min_share: float) -> Decision:
    """The class of each tile.

    Polygons: the class that covers the largest area of the tile, if that is at least `min_share` of the
    whole tile. Polygons of a class that overlap count once; two classes that cover the same area decide
    nothing. Points: the class of the points inside; tiles with points of two classes are left undecided.

    Args:
        boxes: the tiles, (N,), in the CRS of the features.
        features: polygons or points.
        min_share: above 0 and at most 1.

    """
    names, codes = np.unique(features.classes.astype(str), return_inverse=True)
    cover = _points(boxes, features, codes) if features.kind == 'point' else _areas(boxes, features, codes)
    return _verdict(cover, names, 0.0 if features.kind == 'point' else min_share)


def _verdict(cover: NDArray[np.float64], names: NDArray[np.str_], min_share: float) -> Decision:
    """From the cover of each class, (N, K), to a decision."""
    everyone = np.arange(len(cover))
    best = cover.argmax(axis=1)
    share = cover[everyone, best]
    tied = (np.isclose(cover, share[:, None], rtol=0, atol=1e-9).sum(axis=1) > 1) & (share > 0)
    reasons = np.full(len(cover), '', object)
    reasons[tied] = 'several'
    reasons[share < min_share - 1e-9] = 'share'  # areas are rounded: half a tile is half a tile
    reasons[share <= 0] = 'no label'
    classes = np.where(reasons == '', names[best].astype(object), '')
    return Decision(classes, share, reasons)


def _areas(
    boxes: NDArray[np.object_], features: LabelledFeatures, codes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Part of each tile that each class covers, (N, K)."""
    tiles, found = shapely.STRtree(features.geometries).query(boxes, predicate='intersects')
    parts = shapely.intersection(boxes[tiles], features.geometries[found])
    groups = tiles * (codes.max(initial=0) + 1) + codes[found]
    order = np.argsort(groups, kind='stable')
    cover = np.zeros((len(boxes), codes.max(initial=0) + 1))
    for group in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(group):
            ground = parts[group[0]] if len(group) == 1 else shapely.union_all(parts[group])
            cover[tiles[group[0]], codes[found[group[0]]]] = shapely.area(ground)
    shares: NDArray[np.float64] = cover / shapely.area(boxes)[:, None]
    return shares


def _points(
    boxes: NDArray[np.object_], features: LabelledFeatures, codes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """1 for each class that has a point in a tile, (N, K): two classes then tie."""
    tiles, found = shapely.STRtree(features.geometries).query(boxes, predicate='intersects')
    cover = np.zeros((len(boxes), codes.max(initial=0) + 1))
    cover[tiles, codes[found]] = 1.0
    return cover

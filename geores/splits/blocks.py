"""Cells of ground (squares, hexagons, clusters), and a split that keeps blocks of ground together.

Tiles of one neighbourhood look alike, and overlapping ones share pixels. A random split puts some of them
into training and others into validation, whose scores are then too good (Roberts et al. 2017, Ecography 40,
913-929; Ploton et al. 2020, Nature Communications 11, 4540).
"""

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geores.card_values import SplitMethod
from geores.errors import DatasetError
from geores.splits.buffer import Lonlat, ecef, local_crs
from geores.splits.stratified import Split, digest

__all__ = ['block_split', 'check_block_crs', 'clusters', 'hexagons', 'squares']

ROUNDS = 50
"""Maximum number of k-means iterations."""
_CENTIMETRES = 100.0
_CHUNK = 2**16
ABSENT = 10.0
"""Cost of a class that is missing from a part although several blocks have it."""
SWEEPS = 20
"""Maximum number of passes over all blocks."""
TOUCHING = 1e-6
"""Overlap in metres below which tiles count as touching only; their edges are rounded."""


def squares(places: Lonlat, size: float, crs: object = None) -> NDArray[np.int64]:
    """Assign places to square cells of an equal-area map.

    Args:
        places: (N, 2) longitudes and latitudes.
        size: side of a cell in metres.
        crs: projected CRS whose origin the cells start at. The default is `local_crs`, whose origin is the
            centre of the places, so that adding places may change the cells.

    Returns:
        (N, 2): column and row of each place's cell.

    Raises:
        DatasetError: if the size is not above 0, or the CRS is not projected in metres.
    """
    return np.floor(_laid_out(places, size, crs) / size).astype(np.int64)


def hexagons(places: Lonlat, size: float, crs: object = None) -> NDArray[np.int64]:
    """Assign places to hexagonal cells of an equal-area map; all six neighbours are equally far.

    Args:
        places: (N, 2) longitudes and latitudes.
        size: distance between the centres of neighbouring cells, in metres.
        crs: as in `squares`.

    Returns:
        (N, 2): axial coordinates of each place's cell.

    Raises:
        DatasetError: if the size is not above 0, or the CRS is not projected in metres.
    """
    x, y = _laid_out(places, size, crs).T / size
    across = y * 2 / np.sqrt(3)
    cube = np.stack([x - across / 2, across, -x - across / 2], axis=1)
    # Cube coordinates sum to 0: the one that rounding changed most follows from the other two.
    whole = np.rint(cube)
    worst = np.abs(whole - cube).argmax(axis=1)
    rows = np.arange(len(whole))
    whole[rows, worst] -= whole.sum(axis=1)
    return np.asarray(whole[:, :2], np.int64)


def clusters(places: Lonlat, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Cluster places by k-means on their positions in three dimensions.

    Initial centres follow k-means++ (Arthur and Vassilvitskii 2007). Positions are rounded to whole metres,
    whose squares and sums are exact in double precision, and `numpy.random.RandomState` is stable across
    versions, so every machine finds the same clusters.

    Args:
        places: (N, 2) longitudes and latitudes.
        count: number of clusters.
        seed: random seed.

    Returns:
        (N, 1): number of each place's cluster.

    Raises:
        DatasetError: if the count is below 1, or there are fewer different places than clusters.
    """
    spots, back, weights = np.unique(np.rint(ecef(places)), axis=0, return_inverse=True, return_counts=True)
    if count < 1:
        raise DatasetError(f'clusters have to be 1 or more, not {count}')
    if count > len(spots):
        raise DatasetError(f'{len(spots)} different places are too few for {count} clusters')
    centres = _start(spots, weights, count, np.random.RandomState(seed))
    owners = np.full(len(spots), -1)
    for _ in range(ROUNDS):
        before, owners = owners, _owners(spots, centres)
        if (owners == before).all():
            break
        totals = np.zeros((count, 4))
        np.add.at(totals, owners, np.hstack([spots * weights[:, None], weights[:, None]]))
        filled = totals[:, 3] > 0
        centres[filled] = np.rint(totals[filled, :3] / totals[filled, 3:])
    return owners[back.ravel()].astype(np.int64)[:, None]


def _start(
    spots: NDArray[np.float64], weights: NDArray[np.int64], count: int, random: np.random.RandomState
) -> NDArray[np.float64]:
    """Draw initial centres with probability by squared distance from the centres drawn before."""
    chosen = [int(random.randint(len(spots)))]
    away = np.full(len(spots), np.inf)
    for _ in range(count - 1):
        away = np.minimum(away, ((spots - spots[chosen[-1]]) ** 2).sum(axis=1))
        running = np.cumsum(away * weights)
        pick = int(np.searchsorted(running, random.random_sample() * running[-1], side='right'))
        chosen.append(min(pick, len(spots) - 1))
    return spots[chosen].copy()


def _owners(spots: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    lengths = (centres**2).sum(axis=1)
    parts = [
        (lengths - 2 * (spots[start : start + _CHUNK] @ centres.T)).argmin(axis=1)
        for start in range(0, len(spots), _CHUNK)
    ]
    return np.concatenate(parts).astype(np.int64)


def check_block_crs(crs: object) -> CRS:
    """Check that a CRS can carry blocks.

    Args:
        crs: anything that pyproj understands.

    Raises:
        DatasetError: if it is no CRS, or not projected in metres.
    """
    try:
        wanted = CRS.from_user_input(crs)
    except CRSError as error:
        raise DatasetError(f'block_crs {crs!r} is no CRS') from error
    if not wanted.is_projected or wanted.axis_info[0].unit_conversion_factor != 1:
        raise DatasetError(f'block_crs has to be a projected CRS in metres, such as EPSG:3035, not {crs!r}')
    return wanted


def _laid_out(places: Lonlat, size: float, crs: object) -> NDArray[np.float64]:
    if not 0 < size < np.inf:
        raise DatasetError(f'block_size has to be above 0 metres, not {size}')
    wanted = local_crs(places) if crs is None else check_block_crs(crs)
    x, y = Transformer.from_crs(4326, wanted, always_xy=True).transform(*places.T)
    xy = np.stack([x, y], axis=1)
    if not np.isfinite(xy).all():
        raise DatasetError(f'places cannot be brought to {wanted.name}: choose another block_crs')
    # Round to centimetres: machines differ in the last digits, and places may lie on the edge of a cell.
    return np.rint(xy * _CENTIMETRES) / _CENTIMETRES


def block_split(
    ids: Sequence[str],
    strata: Sequence[str],
    bounds: ArrayLike,
    block_size: float,
    share: float = 0.2,
    seed: int = 0,
    *,
    buffer: float = 0.0,
) -> Split:
    """Keep whole blocks of ground for validation, with about the same share of each class.

    A tile belongs to the square block that holds its centre; blocks are counted from the origin of the
    coordinates. Training tiles that overlap a validation tile, or lie closer to one than the buffer, are in
    neither part. The split does not depend on the machine or the order of the tiles.

    Args:
        ids: unique ids of the tiles.
        strata: class of each tile.
        bounds: (N, 4), west, south, east, north, in metres.
        block_size: side of a block in metres.
        share: share of the tiles of each class wanted for validation, above 0 and below 1.
        seed: random seed.
        buffer: minimum gap between training and validation tiles, in metres.

    Returns:
        The split; its id names block size, buffer, share, seed and the tiles kept for validation.

    Raises:
        DatasetError: if ids are not unique, an argument is out of range, or the tiles lie in too few blocks.
    """
    bounds = np.asarray(bounds, np.float64).reshape(-1, 4)
    _check(ids, share, block_size, buffer)
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2
    squares, owners = np.unique(np.floor(centres / block_size), axis=0, return_inverse=True)
    owners = owners.ravel()
    classes = np.unique(np.asarray(strata, str), return_inverse=True)[1]
    counts = np.zeros((len(squares), classes.max(initial=0) + 1))
    np.add.at(counts, (owners, classes), 1)
    order = sorted(range(len(squares)), key=lambda one: digest(f'{seed}:{squares[one].astype(int)}'))
    chosen = np.zeros(len(squares), bool)
    chosen[order] = _choose(counts[order], share)
    held = chosen[owners]
    close = np.zeros(len(ids), bool)
    close[~held] = _near(bounds[~held], bounds[held], buffer)
    train, val = np.flatnonzero(~held & ~close).tolist(), np.flatnonzero(held).tolist()
    if not train or not val:
        raise DatasetError(
            f'{len(ids)} tiles lie in {len(squares)} blocks of {block_size:g} m, too few to '
            f'keep {share:g} for validation: choose a smaller block size or buffer'
        )
    kept = digest('\n'.join(sorted(ids[index] for index in val)))[:12]
    method = SplitMethod(method='blocks', block_size=block_size, buffer=buffer, val_share=share, seed=seed)
    title = f'blocks-{block_size:g}m-buffer{buffer:g}m-{share:g}-seed{seed}'
    return Split(train, val, f'{title}-{kept}', method=method)


def _check(ids: Sequence[str], share: float, block_size: float, buffer: float) -> None:
    if not 0 < share < 1:
        raise DatasetError(f'val_share has to be above 0 and below 1, not {share}')
    if not 0 < block_size < np.inf:
        raise DatasetError(f'block_size has to be above 0 metres, not {block_size}')
    if not 0 <= buffer < np.inf:
        raise DatasetError(f'buffer has to be 0 metres or more, not {buffer}')
    if len(set(ids)) != len(ids):
        raise DatasetError('two tiles have the same id')


def _choose(counts: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Choose the blocks to hold out, by moves and swaps of blocks that come closer to the share.

    Args:
        counts: tiles of each class in each block, (B, K), in the order in which blocks are looked at.
        share: wanted of each class.
    """
    chosen = np.zeros(len(counts), bool)
    inside, lowest = np.zeros(counts.shape[1]), np.inf
    for _ in range(SWEEPS):
        before = lowest
        for block in range(len(counts)):
            moved = inside + np.where(chosen[block], -1, 1) * counts[block]
            others = np.flatnonzero(chosen != chosen[block])
            swapped = moved + np.where(chosen[block], 1, -1) * counts[others]
            costs = _costs(np.vstack([moved, swapped]), counts, share)
            best = int(costs.argmin())
            if costs[best] < lowest - 1e-12:
                lowest = float(costs[best])
                chosen[block] ^= True
                inside = moved
                if best:
                    chosen[others[best - 1]] ^= True
                    inside = swapped[best - 1]
        if lowest == before:
            break
    return chosen


def _costs(inside: NDArray[np.float64], counts: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Cost of M choices of blocks, (M,), given their numbers of tiles per class, (M, K)."""
    total = counts.sum(axis=0)
    spread = (counts > 0).sum(axis=0) > 1  # a class that lies in one block cannot be in both parts
    absent = (spread & ((inside == 0) | (inside == total))).sum(axis=1)
    off = ((inside / np.maximum(total, 1) - share) ** 2).sum(axis=1)
    overall = (inside.sum(axis=1) / total.sum() - share) ** 2
    costs: NDArray[np.float64] = off + overall + ABSENT * absent
    return costs


def _near(tiles: NDArray[np.float64], others: NDArray[np.float64], buffer: float) -> NDArray[np.bool_]:
    """Mask of the tiles, (N, 4), that overlap one of the others, (M, 4), or lie within the buffer."""
    near = np.zeros(len(tiles), bool)
    tree = shapely.STRtree(shapely.box(*others.T))
    reach = tiles + np.array([-buffer, -buffer, buffer, buffer])
    mine, theirs = tree.query(shapely.box(*reach.T))
    gaps = np.maximum(tiles[mine, :2] - others[theirs, 2:], others[theirs, :2] - tiles[mine, 2:])
    overlap = (gaps < -TOUCHING).all(axis=1)
    close = np.hypot(*np.maximum(gaps, 0).T) < buffer - TOUCHING
    near[mine[overlap | close]] = True
    return near

"""Geographic splits: whole blocks of ground to one part, so that neighbours do not tell the answer.

Tiles of one neighbourhood look alike, and overlapping ones share pixels. A random split puts some of them
into training and others into validation, whose figures are then too good (Roberts et al. 2017,
Ecography 40, 913-929; Ploton et al. 2020, Nature Communications 11, 4540).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from geores.errors import DatasetError
from geores.splits.stratified import Split

__all__ = ['block_split']

ABSENT = 10.0
"""Cost of a class that lies in several blocks and is absent from one of the parts."""
SWEEPS = 20
TOUCHING = 1e-6
"""Tiles that overlap by less than this only touch: their edges are rounded."""


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
    """Keep whole blocks of ground for validation, so that each class has about its share there.

    A tile belongs to the square block that holds its centre; blocks are counted from the origin of the
    coordinates. Training tiles that overlap a validation tile, or lie nearer to one than the buffer, are
    in neither part. The split is the same on every machine, whatever the order of the tiles.

    Args:
        ids: Of the tiles, each another.
        strata: Class of each tile.
        bounds: (N, 4), west, south, east, north, in metres.
        block_size: Side of a block, metres.
        share: Part of the tiles of each class that is wanted for validation, above 0 and below 1.
        seed: Gives another split.
        buffer: Smallest gap between tiles of the two parts, metres.

    Returns:
        The split; its id names block size, buffer, share, seed and the tiles kept for validation.

    Raises:
        DatasetError: Ids are not unique, an argument is out of range, or the tiles lie in too few blocks.
    """
    bounds = np.asarray(bounds, np.float64).reshape(-1, 4)
    _check(ids, share, block_size, buffer)
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2
    squares, owners = np.unique(np.floor(centres / block_size), axis=0, return_inverse=True)
    owners = owners.ravel()
    classes = np.unique(np.asarray(strata, str), return_inverse=True)[1]
    counts = np.zeros((len(squares), classes.max(initial=0) + 1))
    np.add.at(counts, (owners, classes), 1)
    order = sorted(range(len(squares)), key=lambda one: _digest(f'{seed}:{squares[one].astype(int)}'))
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
    kept = _digest('\n'.join(sorted(ids[index] for index in val)))[:12]
    return Split(train, val, f'blocks-{block_size:g}m-buffer{buffer:g}m-{share:g}-seed{seed}-{kept}')


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
    """Which blocks to hold out: by moves of one block, or swaps of two, that come nearer to the share.

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
    """How far from the share some choices are, (M,), whose tiles of each class are (M, K)."""
    total = counts.sum(axis=0)
    spread = (counts > 0).sum(axis=0) > 1  # a class that lies in one block cannot be in both parts
    absent = (spread & ((inside == 0) | (inside == total))).sum(axis=1)
    off = ((inside / np.maximum(total, 1) - share) ** 2).sum(axis=1)
    overall = (inside.sum(axis=1) / total.sum() - share) ** 2
    costs: NDArray[np.float64] = off + overall + ABSENT * absent
    return costs


def _near(tiles: NDArray[np.float64], others: NDArray[np.float64], buffer: float) -> NDArray[np.bool_]:
    """Which tiles, (N, 4), overlap one of the others, (M, 4), or lie nearer to one than the buffer."""
    near = np.zeros(len(tiles), bool)
    tree = shapely.STRtree(shapely.box(*others.T))
    reach = tiles + np.array([-buffer, -buffer, buffer, buffer])
    mine, theirs = tree.query(shapely.box(*reach.T))
    gaps = np.maximum(tiles[mine, :2] - others[theirs, 2:], others[theirs, :2] - tiles[mine, 2:])
    overlap = (gaps < -TOUCHING).all(axis=1)
    close = np.hypot(*np.maximum(gaps, 0).T) < buffer - TOUCHING
    near[mine[overlap | close]] = True
    return near


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

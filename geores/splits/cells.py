"""Numbers of the cells of ground in which places lie: squares, hexagons and clusters."""

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geores.errors import DatasetError
from geores.splits.ground import Lonlat, ecef, local_crs

__all__ = ['clusters', 'hexagons', 'squares']

ROUNDS = 50
_CENTIMETRES = 100.0
_CHUNK = 2**16


def squares(places: Lonlat, size: float, crs: object = None) -> NDArray[np.int64]:
    """Square cells on an equal-area map.

    Args:
        places: (N, 2) longitudes and latitudes.
        size: metres of a side.
        crs: to count the cells in, from its origin; `local_crs` where not given, whose origin is the middle
            of the places, so that more places may mean other cells.

    Returns:
        (N, 2): column and row of each place's cell.

    Raises:
        DatasetError: the size is no length, or the CRS is not one in metres.
    """
    return np.floor(_laid_out(places, size, crs) / size).astype(np.int64)


def hexagons(places: Lonlat, size: float, crs: object = None) -> NDArray[np.int64]:
    """Hexagonal cells on an equal-area map, whose six neighbours are all equally far.

    Args:
        places: (N, 2) longitudes and latitudes.
        size: metres from the middle of a cell to the middle of the next.
        crs: as in `squares`.

    Returns:
        (N, 2): axial coordinates of each place's cell.

    Raises:
        DatasetError: the size is no length, or the CRS is not one in metres.
    """
    x, y = _laid_out(places, size, crs).T / size
    across = y * 2 / np.sqrt(3)
    cube = np.stack([x - across / 2, across, -x - across / 2], axis=1)
    # To the nearest middle: what was rounded most follows from the others, for the three sum to 0.
    whole = np.rint(cube)
    worst = np.abs(whole - cube).argmax(axis=1)
    rows = np.arange(len(whole))
    whole[rows, worst] -= whole.sum(axis=1)
    return np.asarray(whole[:, :2], np.int64)


def clusters(places: Lonlat, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Clusters of places by k-means, on positions in three dimensions.

    Positions are counted in whole metres, whose squares and sums double precision holds without error:
    every machine finds the same clusters, as random numbers of `numpy.random.RandomState` never change.
    Starts by k-means++ (Arthur and Vassilvitskii 2007).

    Args:
        places: (N, 2) longitudes and latitudes.
        count: of clusters.
        seed: gives others.

    Returns:
        (N, 1): number of each place's cluster.

    Raises:
        DatasetError: the count is below 1, or there are fewer different places than clusters.
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
    """First centres: each drawn by its squared distance from those there are."""
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


def _laid_out(places: Lonlat, size: float, crs: object) -> NDArray[np.float64]:
    if not 0 < size < np.inf:
        raise DatasetError(f'block_size has to be above 0 metres, not {size}')
    try:
        wanted = local_crs(places) if crs is None else CRS.from_user_input(crs)
    except CRSError as error:
        raise DatasetError(f'block_crs {crs!r} is no CRS') from error
    if not wanted.is_projected or wanted.axis_info[0].unit_conversion_factor != 1:
        raise DatasetError(f'block_crs has to be a projected CRS in metres, such as EPSG:3035, not {crs!r}')
    x, y = Transformer.from_crs(4326, wanted, always_xy=True).transform(*places.T)
    xy = np.stack([x, y], axis=1)
    if not np.isfinite(xy).all():
        raise DatasetError(f'places cannot be brought to {wanted.name}: choose another block_crs')
    # Whole centimetres: machines differ in the last digits, and places may lie on the edge of a cell.
    return np.rint(xy * _CENTIMETRES) / _CENTIMETRES

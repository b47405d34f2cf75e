"""Compare two parts of a split: distances, shared places, and near-duplicate images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from geores.errors import DatasetError, ReadError
from geores.splits import DROPPED, near_duplicates
from geores.splits.ground import Lonlat, count_pairs, ecef, nearest
from geores.splits.source import raster_files

__all__ = [
    'SAME_PLACE',
    'Duplicates',
    'PairDistances',
    'distances_between',
    'find_duplicates',
    'other_dates',
    'spacing',
]

SIDE = 128
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

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return self.__dict__ | {'examples': list(self.examples)}


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
    if not folder.is_dir():
        raise DatasetError(f'{folder}: no such folder of images')
    known: dict[str, Path] = {}
    for path in raster_files(folder):
        inside = path.relative_to(folder)
        for name in (path.stem, path.name, str(inside), str(inside.with_suffix(''))):
            known.setdefault(name, path)
    used = [row for row, one in enumerate(ids) if one in known and names[row] != DROPPED]
    if not used:
        raise DatasetError(f'{folder}: no image is named after an id, such as {ids[0]!r}')
    groups = near_duplicates(_images([known[ids[row]] for row in used], progress))
    members: dict[int, list[int]] = {}
    for row, group in zip(used, groups.tolist(), strict=True):
        members.setdefault(group, []).append(row)
    across = [rows for rows in members.values() if len({names[row] for row in rows}) > 1]
    return Duplicates(
        len(used),
        int((names != DROPPED).sum()) - len(used),
        len(across),
        sum(map(len, across)),
        tuple({ids[row]: str(names[row]) for row in rows} for rows in across[:_SHOWN]),
    )


def _images(paths: list[Path], progress: Callable[[int, int], None]) -> Iterator[NDArray[np.generic]]:
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    from geores.scenes import gdal_env

    for path in paths:
        try:
            with warnings.catch_warnings(), gdal_env():
                warnings.simplefilter('ignore', NotGeoreferencedWarning)
                with rasterio.open(path) as file:
                    height, width = (min(max(side, 32), SIDE) for side in file.shape)
                    pixels = file.read(out_shape=(file.count, height, width))
        except RasterioError as error:
            raise ReadError(f'{path} cannot be read: {" ".join(str(error).split())}') from error
        progress(1, len(paths))
        yield pixels


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

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self)


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


def spacing(places: Lonlat) -> float:
    """Median distance from a place to its nearest neighbour; infinite for a single place.

    Args:
        places: (N, 2), without repeats.
    """
    if len(places) < 2:
        return float('inf')
    points = ecef(places)
    sample = points[:: max(1, len(points) // 20_000)]
    return float(np.median(KDTree(points).query(sample, k=2, workers=-1)[0][:, 1]))

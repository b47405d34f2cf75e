"""Distances on the ground, and rows that must not be parted: close, or nearly the same image.

`apply_buffer` drops rows within a distance of another part. `near_duplicates` groups images that look
alike, so that a splitter can keep each group together.

Positions are longitudes and latitudes (WGS 84). Searches run on chords: straight lines between points of
the ellipsoid in three dimensions, which know neither UTM zones nor the antimeridian nor poles. A chord is
never longer than the geodesic, and shorter by less than d³/(24 r²): 0.1 mm at 5 km, 1 m at 100 km. Whatever
lies within that margin of a limit is measured again as a geodesic (Karney 2013, J. Geodesy 87, 43-55).
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError, ProjError
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from geores.errors import DatasetError
from geores.splits.assignment import LEFT_OUT, PARTS

__all__ = [
    'Positions',
    'apply_buffer',
    'check_buffer',
    'count_pairs',
    'drop_copies',
    'ecef',
    'geodesic',
    'keep_apart',
    'local_crs',
    'lonlat',
    'near',
    'near_duplicates',
    'nearest',
    'perceptual_hash',
    'spacing',
]

Positions: TypeAlias = Any
"""A GeoDataFrame or GeoSeries with a CRS, or (N, 2) longitudes and latitudes."""
Lonlat: TypeAlias = NDArray[np.float64]

_GEOD = Geod(ellps='WGS84')
_MAJOR, _FLATTENING = 6378137.0, 1 / 298.257223563
_LEAST_RADIUS = 6_335_000.0
"""Smallest radius of curvature of the ellipsoid, in metres, rounded down."""
_WIDE = 60.0
"""Degrees from the centre beyond which `local_crs` takes a projection of the whole Earth."""


def lonlat(positions: Positions, crs: object = None) -> Lonlat:
    """Compute longitudes and latitudes of the centres of rows.

    The centre of a polygon is its centroid in its own CRS. Geographic polygons across the antimeridian are
    first joined.

    Args:
        positions: a GeoDataFrame or GeoSeries, or (N, 2) x and y.
        crs: CRS of x and y; EPSG:4326 (longitude, latitude) by default.

    Returns:
        (N, 2), longitudes from -180 to 180.

    Raises:
        DatasetError: if there is no CRS, a geometry is missing or empty, a position is no number, or it lies
            outside the Earth.
    """
    frame = getattr(positions, 'geometry', None)
    if frame is None:
        xy = np.asarray(positions, np.float64)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise DatasetError(f'positions have to be (N, 2), longitude and latitude, not {xy.shape}')
    else:
        crs = frame.crs
        if crs is None:
            raise DatasetError(
                'positions state no CRS, so they cannot be placed on Earth: set it in the file'
            )
        xy = _centroids(np.asarray(frame.array, object), geographic=bool(CRS(crs).is_geographic))
    _refuse(~np.isfinite(xy).all(axis=1), 'has no position (NaN)')
    return _on_earth(xy, crs)


def _centroids(geometries: NDArray[np.object_], *, geographic: bool) -> NDArray[np.float64]:
    _refuse(shapely.is_missing(geometries) | shapely.is_empty(geometries), 'has no geometry')
    if geographic:
        bounds = shapely.bounds(geometries)
        across = bounds[:, 2] - bounds[:, 0] > 180
        geometries = geometries.copy()
        geometries[across] = shapely.transform(geometries[across], _eastward)
    middles = shapely.centroid(geometries)
    return np.stack([shapely.get_x(middles), shapely.get_y(middles)], axis=1)


def _eastward(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([points[:, 0] % 360, points[:, 1]], axis=1)


def _on_earth(xy: NDArray[np.float64], crs: object) -> Lonlat:
    if crs is not None and CRS.from_user_input(crs) != CRS(4326):
        try:
            change = Transformer.from_crs(crs, 4326, always_xy=True)
            xy = np.stack(change.transform(xy[:, 0], xy[:, 1]), axis=1)
        except (CRSError, ProjError) as error:
            raise DatasetError(f'positions cannot be brought to longitude and latitude: {error}') from error
        _refuse(~np.isfinite(xy).all(axis=1), 'lies outside of where its CRS is of use')
    outside = (np.abs(xy[:, 1]) > 90) | (np.abs(xy[:, 0]) > 360)
    _refuse(outside, 'lies outside the Earth: longitude and latitude are needed, in this order')
    return np.stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]], axis=1)


def _refuse(bad: NDArray[np.bool_] | np.bool_, what: str) -> None:
    bad = np.atleast_1d(bad)
    if bad.any():
        more = f' (and {bad.sum() - 1:,} more)' if bad.sum() > 1 else ''
        raise DatasetError(f'row {int(bad.argmax())}{more} {what}: mend it or leave it out')


def ecef(places: ArrayLike) -> NDArray[np.float64]:
    """Convert positions to earth-centred, earth-fixed coordinates in metres.

    Args:
        places: (N, 2) longitudes and latitudes.

    Returns:
        (N, 3).
    """
    longitude, latitude = np.radians(np.asarray(places, np.float64).reshape(-1, 2)).T
    squared = _FLATTENING * (2 - _FLATTENING)
    across = _MAJOR / np.sqrt(1 - squared * np.sin(latitude) ** 2)
    return np.stack(
        [
            across * np.cos(latitude) * np.cos(longitude),
            across * np.cos(latitude) * np.sin(longitude),
            across * (1 - squared) * np.sin(latitude),
        ],
        axis=1,
    )


def geodesic(first: Lonlat, second: Lonlat) -> NDArray[np.float64]:
    """Geodesic distance between pairs of points, in metres.

    Args:
        first: (N, 2).
        second: (N, 2).
    """
    return np.asarray(_GEOD.inv(*first.T, *second.T)[2], np.float64).reshape(-1)


def nearest(places: Lonlat, others: Lonlat) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the nearest other place and its geodesic distance.

    Args:
        places: (N, 2).
        others: (M, 2), at least one.

    Returns:
        Distances in metres, (N,), and indices into `others`, (N,).
    """
    _, found = KDTree(ecef(others)).query(ecef(places), workers=-1)
    return geodesic(places, others[found]), np.asarray(found, np.int64)


def near(places: Lonlat, others: Lonlat, radius: float) -> NDArray[np.bool_]:
    """Mask of the places that have another place within a geodesic distance.

    Args:
        places: (N, 2).
        others: (M, 2).
        radius: distance in metres; 0 finds nothing.
    """
    close = np.zeros(len(places), bool)
    if not len(others) or not len(places) or radius <= 0:
        return close
    tree, points = KDTree(ecef(others)), ecef(places)
    chords, _ = tree.query(points, distance_upper_bound=radius, workers=-1)
    close = _longest_arc(chords) < radius
    for row in np.flatnonzero(~close & (chords < radius)):
        found = tree.query_ball_point(points[row], radius)
        close[row] = (geodesic(np.repeat(places[row : row + 1], len(found), 0), others[found]) < radius).any()
    return close


def count_pairs(places: Lonlat, others: Lonlat, radii: Sequence[float]) -> list[int]:
    """Count the pairs of places closer than each radius, with a relative accuracy of a millionth.

    Args:
        places: (N, 2).
        others: (M, 2).
        radii: distances in metres.
    """
    order = np.argsort(radii)
    half = np.minimum(np.asarray(radii, np.float64)[order] / 2 / 6_371_000.0, np.pi / 2)
    chords = np.nextafter(2 * 6_371_000.0 * np.sin(half), 0)
    counted = KDTree(ecef(places)).count_neighbors(KDTree(ecef(others)), chords)
    counts = np.empty(len(order), np.int64)
    counts[order] = counted
    return [int(one) for one in counts]


def _longest_arc(chords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper bound of the geodesic distance for given chord lengths."""
    arcs = 2 * _LEAST_RADIUS * np.arcsin(np.minimum(chords / 2 / _LEAST_RADIUS, 1))
    return np.where(chords < _LEAST_RADIUS, arcs * (1 + 1e-12), np.inf)


def _centre(places: Lonlat) -> tuple[float, float]:
    """Centre of places in whole degrees, independent of their order."""
    total = np.rint(ecef(places)).astype(np.int64).sum(axis=0)  # integer sums do not depend on the order
    x, y, z = (float(one) for one in total)
    return float(np.rint(np.degrees(np.arctan2(y, x)))), float(
        np.rint(np.degrees(np.arctan2(z, np.hypot(x, y))))
    )


def local_crs(places: Lonlat) -> CRS:
    """Choose an equal-area projection: Lambert azimuthal around the places, or EASE-Grid 2.0 if far apart.

    Args:
        places: (N, 2).
    """
    lon, lat = _centre(places)
    away = np.linalg.norm(ecef(places) - ecef([[lon, lat]]), axis=1).max(initial=0)
    if away > 2 * 6_371_000 * np.sin(np.radians(_WIDE / 2)):
        return CRS(6933)
    return CRS.from_proj4(f'+proj=laea +lat_0={lat:g} +lon_0={lon:g} +datum=WGS84 +units=m')


Pixels = NDArray[np.generic]

_PRIORITY = (PARTS.index('test'), PARTS.index('val'), PARTS.index('train'))
"""Parts by which of them keeps its rows where two come too close."""
_SIDE = 32
_COEFFICIENTS = 8
_SHADE = 0.005
"""Part of the brightest mean by which images without texture may differ, as by compression."""
_CHUNK = 1024
"""Images that are compared with all others at once; bounds the memory of the comparison."""


def apply_buffer(places: Lonlat, codes: NDArray[np.int8], buffer: float) -> NDArray[np.int8]:
    """Drop rows whose centre lies closer than a buffer distance to a row of another part.

    All test rows stay. Validation rows close to a test row are dropped, then training rows close to a test
    row or to a remaining validation row. A pair that is exactly the buffer distance apart stays.

    Args:
        places: (N, 2) longitudes and latitudes of the row centres.
        codes: (N,), index into `PARTS` per row, -1 for rows in no part.
        buffer: minimum geodesic distance between the centres of rows in different parts, in metres.

    Returns:
        (N,), the codes with -1 for dropped rows.

    Raises:
        DatasetError: if the buffer is negative or not finite, or leaves a part without rows.
    """
    check_buffer(buffer)
    kept = codes.copy()
    if buffer == 0:
        return kept
    for rank, part in enumerate(_PRIORITY[1:], start=1):
        mine = np.flatnonzero(kept == part)
        others = np.isin(kept, _PRIORITY[:rank])
        kept[mine[near(places[mine], places[others], buffer)]] = LEFT_OUT
    left = {name: int((kept == part).sum()) for part, name in enumerate(PARTS) if (codes == part).any()}
    if not all(left.values()):
        told = ', '.join(f'{count:,} {name}' for name, count in left.items())
        raise DatasetError(
            f'a buffer of {buffer:g} m leaves a part without rows: {told} would remain of {len(codes):,}; '
            'choose a smaller buffer or larger blocks'
        )
    return kept


def drop_copies(groups: Sequence[int], codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """Drop rows that have a near duplicate in another part: test rows stay, then validation rows.

    Args:
        groups: (N,) group of each row, such as of `near_duplicates`.
        codes: (N,), as of `apply_buffer`, and so is the result.
    """
    kept, taken = codes.copy(), set[int]()
    for part in _PRIORITY:
        mine = np.flatnonzero(codes == part).tolist()
        kept[[row for row in mine if groups[row] in taken]] = LEFT_OUT
        taken |= {groups[row] for row in mine}
    return kept


def keep_apart(places: Lonlat, codes: NDArray[np.int8], buffer: float) -> NDArray[np.int8]:
    """Former name of `apply_buffer`."""
    warnings.warn('keep_apart is called apply_buffer now', DeprecationWarning, stacklevel=2)
    return apply_buffer(places, codes, buffer)


def check_buffer(buffer: float) -> None:
    """Check that a buffer is a distance.

    Args:
        buffer: distance in metres.

    Raises:
        DatasetError: if it is negative or not finite.
    """
    if not 0 <= buffer < np.inf:
        raise DatasetError(f'buffer has to be 0 metres or more, not {buffer}')


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


def perceptual_hash(image: Pixels) -> NDArray[np.bool_]:
    """Compute a 64-bit perceptual hash: similar images differ in few bits.

    The mean over bands is brought to 32 x 32 pixels and cosine transformed. The bits say which of the
    lowest 8 x 8 coefficients lie above their median (Zauner 2010, Implementation and Benchmarking of
    Perceptual Image Hash Functions, section 3.2.1).

    Args:
        image: (C, H, W), in any units, at least 32 x 32 pixels.

    Returns:
        (64,) bool.
    """
    small = _thumbnail(image).mean(0)
    low = dctn(small)[:_COEFFICIENTS, :_COEFFICIENTS].ravel()
    bits: NDArray[np.bool_] = low > np.median(low[1:])
    return bits


def _thumbnail(image: Pixels) -> NDArray[np.float64]:
    """Sums of pixels in 32 x 32 cells, (C, 32, 32); what is not finite counts as 0."""
    pixels = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    rows, cols = (np.linspace(0, side, _SIDE + 1).astype(int)[:-1] for side in pixels.shape[1:])
    cells: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(pixels, rows, axis=1), cols, axis=2)
    return cells


def near_duplicates(images: Iterable[Pixels], distance: int = 6) -> NDArray[np.int64]:
    """Group images whose perceptual hashes differ in few bits, directly or through a chain of images.

    A hash knows neither colour nor brightness, so two images of which one is brighter than its own contrast
    explains are no duplicates: water and sand without any texture hash alike.

    Args:
        images: images of shape (C, H, W).
        distance: maximum Hamming distance of the 64-bit hashes of two near duplicates.

    Returns:
        (N,), number of each image's group, from 0.
    """
    # With bits as -1 and 1, the dot product of two hashes is 64 - 2 * (Hamming distance).
    hashes, levels, contrasts = [], [], []
    for image in images:
        hashes.append(perceptual_hash(image))
        pixels = np.nan_to_num(image.reshape(len(image), -1).astype(np.float64), posinf=0.0, neginf=0.0)
        levels.append(pixels.mean(axis=1))
        contrasts.append(pixels.std(axis=1).max())
    if not hashes:
        return np.empty(0, dtype=np.int64)
    signs = np.array(hashes, dtype=np.float32) * 2 - 1
    bands = min(map(len, levels))
    level, contrast = np.array([one[:bands] for one in levels]), np.array(contrasts)
    pairs = [
        np.argwhere(signs[start : start + _CHUNK] @ signs.T >= signs.shape[1] - 2 * distance)
        + np.array((start, 0))
        for start in range(0, len(signs), _CHUNK)
    ]
    first, second = np.concatenate(pairs).T
    apart = np.abs(level[first] - level[second]).max(axis=1)
    room = np.maximum(contrast[first], contrast[second]) + _SHADE * np.abs(level).max()
    first, second = first[apart <= room], second[apart <= room]
    near = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(signs),) * 2)
    return np.asarray(connected_components(near, directed=False)[1], dtype=np.int64)

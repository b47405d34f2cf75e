"""Split the images of RSVQA: official splits, or splits by location that keep close images together."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geores.card_values import SplitParameters
from geores.datasets._geotiff import open_geotiff
from geores.errors import DatasetError
from geores.questions.question_files import ImageEntry
from geores.splits import Split, group_folds, stratified_split

__all__ = [
    'MERCATOR',
    'close_groups',
    'image_bounds',
    'near_any',
    'official_split',
    'split_by_image',
    'split_by_location',
]

Box = tuple[float, float, float, float]
Boxes = NDArray[np.float64]

MERCATOR = 'EPSG:3857'
RADIUS = 6378137.0
"""Radius of the sphere of Web Mercator, in metres."""
ADJOINING = 0.05
"""Images adjoin if their gap is below this share of a side: estimated sides are off by up to 0.9 %."""


def image_bounds(entry: ImageEntry, *, mercator: bool = True) -> Box | None:
    """Find the bounds of an image in Web Mercator: west, south, east, north.

    A GeoTIFF holds its own bounds. For other files the JSON gives the lower left corner (which it calls
    `upperleft_map_x` and `upperleft_map_y`; the released files hold the bottom edge) and the ground
    resolution, which Web Mercator stretches by 1/cos(latitude).

    Args:
        entry: the image.
        mercator: the JSON gives positions in Web Mercator; else they are of an unknown system.

    Returns:
        Bounds in metres of the map; None if neither source has the position.

    Raises:
        DatasetError: if the file cannot be read.
    """
    if entry.path.suffix.lower() in {'.tif', '.tiff'}:
        with open_geotiff(entry.path) as source:
            if source.crs is not None:
                return _mercator(source.crs, source.bounds, entry.path)
    west, south = (_number(entry.fields.get(key)) for key in ('upperleft_map_x', 'upperleft_map_y'))
    ground = _ground(entry.fields.get('res_x'))
    if not mercator or west is None or south is None or ground is None or abs(south) > math.pi * RADIUS:
        return None
    width, height = _size(entry.path)
    pixel = ground * math.cosh(south / RADIUS)  # 1 / cos(latitude), from the northing itself
    return west, south, west + width * pixel, south + height * pixel


def close_groups(bounds: Boxes, buffer: float = 0.0) -> list[int]:
    """Number the places: images that overlap, adjoin or lie within a buffer share one, also through chains.

    Args:
        bounds: (N, 4), west, south, east, north in Web Mercator; NaN where unknown, each its own place.
        buffer: gap that two places have at least, metres on the ground.
    """
    mine, theirs = _near(bounds, bounds, buffer)
    links = coo_array((np.ones(len(mine)), (mine, theirs)), shape=(len(bounds), len(bounds)))
    return [int(one) for one in connected_components(links, directed=False)[1]]


def near_any(bounds: Boxes, others: Boxes, buffer: float = 0.0) -> NDArray[np.bool_]:
    """Mask of the images that overlap, adjoin or lie within a buffer of one of some others.

    Args:
        bounds: (N, 4) as in `close_groups`; those that lie nowhere are near to none.
        others: (M, 4).
        buffer: metres on the ground.
    """
    return np.isin(np.arange(len(bounds)), _near(bounds, others, buffer)[0])


def _near(bounds: Boxes, others: Boxes, buffer: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if not 0 <= buffer < math.inf:
        raise DatasetError(f'buffer has to be 0 metres or more, not {buffer}')
    mine, theirs = (np.flatnonzero(np.isfinite(boxes).all(axis=1)) for boxes in (bounds, others))
    reached, held = _reach(bounds[mine], buffer), others[theirs]
    first, second = shapely.STRtree(shapely.box(*held.T)).query(shapely.box(*reached.T))
    return mine[first], theirs[second]


def _reach(bounds: Boxes, buffer: float) -> Boxes:
    stretch = np.cosh(np.abs(bounds[:, [1, 3]]).max(axis=1, initial=0) / RADIUS)
    sides = (bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0)
    margin = np.maximum(buffer * stretch, ADJOINING * sides)[:, None]
    return np.asarray(bounds + margin * np.array([-1, -1, 1, 1]))


def _mercator(crs: CRS, bounds: Sequence[float], path: Path) -> Box:
    if crs == CRS.from_string(MERCATOR):
        west, south, east, north = bounds
    else:
        try:
            west, south, east, north = transform_bounds(crs, MERCATOR, *bounds)
        except (CRSError, rasterio.errors.RasterioError) as error:
            raise DatasetError(f'{path}: its place cannot be found: {error}') from error
    return west, south, east, north


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path, formats=('PNG', 'TIFF')) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f'{path}: the image cannot be read: {error}') from error


def _number(value: Any) -> float | None:  # noqa: ANN401
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _ground(resolution: Any) -> float | None:  # noqa: ANN401
    """Parse a ground resolution such as '10m', '.1524m' or 10, in metres."""
    if isinstance(resolution, str):
        try:
            resolution = float(resolution.strip().removesuffix('m'))
        except ValueError:
            return None
    metres = _number(resolution)
    return metres if metres is not None and metres > 0 else None


def official_split(splits: Sequence[str], *, tested: bool = False) -> Split:
    """Make the split of the official files.

    Args:
        splits: 'train', 'val' or another, of each image.
        tested: there is a test part, so that one for validation is no must.

    Raises:
        DatasetError: if the files have no such splits.
    """
    train, val = ([index for index, name in enumerate(splits) if name == part] for part in ('train', 'val'))
    if not train or not (val or tested):
        raise DatasetError("the files have no official splits; set split to 'location'")
    return Split(train, val, 'official', method=SplitParameters(method='official', parts=('train', 'val')))


def split_by_location(
    image_ids: Sequence[str],
    strata: Sequence[str],
    bounds: NDArray[np.float64],
    val_share: float,
    seed: int,
    *,
    buffer: float = 0.0,
    folds: int | None = None,
    fold: int = 1,
) -> Split:
    """Split by location: images that overlap, adjoin or lie within a buffer stay together.

    Args:
        image_ids: ids of the images.
        strata: stratum of each image, such as rural or urban; both parts get some of each.
        bounds: (N, 4) in Web Mercator, NaN where unknown.
        val_share: share of the places of each stratum kept for validation.
        seed: random seed.
        buffer: minimum gap between training and validation images, in metres on the ground.
        folds: cross-validation by this many folds in place of `val_share`.
        fold: number of the validation fold, from 1.

    Raises:
        DatasetError: if an argument is out of range, no image has a place, or places are too few.
    """
    unknown = int((~np.isfinite(bounds).all(axis=1)).sum())
    if unknown:
        raise DatasetError(
            f'{unknown} of {len(image_ids)} images have no place, and a split by location needs them'
        )
    groups = close_groups(bounds, buffer)
    title = f'location-buffer{buffer:g}m'
    if folds is not None:
        split = _fold(image_ids, strata, groups, seed, folds, fold)
    else:
        split = _hold_out(image_ids, strata, groups, val_share, seed)
    made = split.method or SplitParameters(method='location')
    return split._replace(
        id=f'{title}-{split.id}', method=replace(made, method='location', buffer=float(buffer))
    )


def split_by_image(
    image_ids: Sequence[str],
    strata: Sequence[str],
    val_share: float,
    seed: int,
    *,
    folds: int | None = None,
    fold: int = 1,
) -> Split:
    """Split by image: images that adjoin may come to two sides, which flatters a model that knows the ground.

    Args:
        image_ids: ids of the images.
        strata: stratum of each image; both parts get some of each.
        val_share: share of the images of each stratum kept for validation.
        seed: random seed.
        folds: cross-validation by this many folds in place of `val_share`.
        fold: number of the validation fold, from 1.

    Raises:
        DatasetError: if an argument is out of range, or images are too few.
    """
    if folds is None:
        return stratified_split(image_ids, strata, val_share, seed)
    return _fold(image_ids, strata, range(len(image_ids)), seed, folds, fold)


def _fold(
    ids: Sequence[str], strata: Sequence[str], groups: Sequence[int], seed: int, folds: int, fold: int
) -> Split:
    if not 1 <= fold <= folds:
        raise DatasetError(f'fold has to be from 1 to {folds}, not {fold}')
    return group_folds(ids, strata, groups, folds, seed)[fold - 1]


def _hold_out(
    image_ids: Sequence[str], strata: Sequence[str], groups: Sequence[int], share: float, seed: int
) -> Split:
    """Hold out a share of the places; a place has the id of its first image and its most frequent stratum."""
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    places = list(members.values())
    names = [min(image_ids[index] for index in place) for place in places]
    seen = [Counter(strata[index] for index in place) for place in places]
    kinds = [max(sorted(one.items()), key=lambda pair: pair[1])[0] for one in seen]
    split = stratified_split(names, kinds, share, seed)
    train, val = (sorted(index for place in part for index in places[place]) for part in split[:2])
    return Split(train, val, split.id, method=split.method)

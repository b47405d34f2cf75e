"""Which images of RSVQA are trained on: official splits, and splits by location."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geores.datasets._rsvqa_places import close_groups
from geores.errors import DatasetError
from geores.splits import Split, group_folds, stratified_split

__all__ = ['official_split', 'split_by_location']


def official_split(splits: Sequence[str], *, tested: bool = False) -> Split:
    """Training and validation images as the files say.

    Args:
        splits: 'train', 'val' or another, of each image.
        tested: There is a test part, so that one for validation is no must.

    Raises:
        DatasetError: The files have no such splits.
    """
    train, val = ([index for index, name in enumerate(splits) if name == part] for part in ('train', 'val'))
    if not train or not (val or tested):
        raise DatasetError("the files have no official splits; set split to 'location'")
    return Split(train, val, 'official')


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
    """Keep places for validation: images that overlap, adjoin or lie within a buffer stay together.

    Args:
        image_ids: Of the images.
        strata: Such as whether each is rural or urban, to be had in both parts.
        bounds: (N, 4) in Web Mercator, NaN where unknown.
        val_share: Part of the places of each stratum for validation.
        seed: Gives another split.
        buffer: Smallest gap between images of the two parts, metres on the ground.
        folds: Cross-validation by this many folds in place of `val_share`.
        fold: Which of them to keep, from 1.

    Raises:
        DatasetError: An argument is out of range, no image has a place, or places are too few.
    """
    unknown = int((~np.isfinite(bounds).all(axis=1)).sum())
    if unknown:
        raise DatasetError(
            f'{unknown} of {len(image_ids)} images have no place, and a split by location needs them'
        )
    groups = close_groups(bounds, buffer)
    title = f'location-buffer{buffer:g}m'
    if folds is not None:
        if not 1 <= fold <= folds:
            raise DatasetError(f'fold has to be from 1 to {folds}, not {fold}')
        split = group_folds(image_ids, strata, groups, folds, seed)[fold - 1]
    else:
        split = _hold_out(image_ids, strata, groups, val_share, seed)
    return split._replace(id=f'{title}-{split.id}')


def _hold_out(
    image_ids: Sequence[str], strata: Sequence[str], groups: Sequence[int], share: float, seed: int
) -> Split:
    """A share of the places, each named by its first image and of its most frequent stratum."""
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    places = list(members.values())
    names = [min(image_ids[index] for index in place) for place in places]
    kinds = [max(sorted(seen.items()), key=lambda one: one[1])[0] for seen in _counted(places, strata)]
    split = stratified_split(names, kinds, share, seed)
    train, val = (sorted(index for place in part for index in places[place]) for part in split[:2])
    return Split(train, val, split.id)


def _counted(places: Sequence[Sequence[int]], strata: Sequence[str]) -> list[Counter[str]]:
    return [Counter(strata[index] for index in place) for place in places]

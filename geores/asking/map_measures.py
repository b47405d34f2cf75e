"""What a class map gives for a question: which areas count, how many, how large, how far apart.

Pure functions of a `Thing` and a `ClassMap`, which `geores.asking.map_answers` puts into answers.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from geores.asking.class_map import TAIL, ClassMap, CoverAreas, Mask, connected_areas, shifted
from geores.inference.pixels import PROBABILITY_STEPS
from geores.questions.everyday import Thing

__all__ = [
    'LADDER',
    'LEAST',
    'LEAST_PIXELS',
    'best_square',
    'chosen_areas',
    'count_areas',
    'distances_to',
    'ends_within',
    'least_area',
    'limits',
    'possible_pixels',
    'sure_pixels',
]

LEAST = 5000.0
"""Smallest connected area that counts where none is asked for, square metres.

It is the smallest that is a forest by the definition of the FAO (Global Forest Resources Assessment 2020).
"""
LEAST_PIXELS = 50
"""The same in pixels, where the scene has no CRS."""
AROUND = 3
"""Pixels around an area to which its upper end may reach."""
SLACK = 1e-9
"""Relative error of sums of areas."""
LADDER = ndtri((np.arange(100) + 0.5) / 100)
"""Standard deviations of the shared error, one in the middle of each of a hundred equally likely parts."""


def least_area(class_map: ClassMap) -> float:
    """The smallest area that counts where no size is asked for."""
    return LEAST if class_map.unit == 'm2' else float(LEAST_PIXELS)


def limits(thing: Thing, class_map: ClassMap) -> tuple[float, float]:
    """Smallest and largest area that counts."""
    least, most = least_area(class_map), np.inf
    if thing.sizes.below is not None:
        most = thing.sizes.below
        least = least if most > least else 0.0
    return (least if thing.sizes.above is None else thing.sizes.above), most


def chosen_areas(thing: Thing, class_map: ClassMap) -> tuple[CoverAreas, Mask]:
    """The areas of a cover, and which of them count."""
    areas = class_map.of(thing.cover)
    least, most = limits(thing, class_map)
    chosen = (areas.sizes >= least * (1 - SLACK)) & (areas.sizes <= most * (1 + SLACK))
    if thing.near is not None and chosen.any():
        other = class_map.of(thing.near)
        there = other.inside(other.sizes >= least_area(class_map) * (1 - SLACK))
        nearest = ndimage.minimum(
            distances_to(there, class_map), areas.numbers, np.arange(1, len(areas.sizes) + 1)
        )
        chosen &= nearest <= thing.metres
    return areas, chosen


def distances_to(mask: Mask, class_map: ClassMap) -> NDArray[np.float64]:
    """Distance of each pixel to the nearest of a mask, edge to edge, metres; infinite where there is none.

    Args:
        mask: (rows, cols).
        class_map: the map, whose pixels are taken for squares.
    """
    if not mask.any():
        return np.full(mask.shape, np.inf)
    # Of two pixels one beside the other the edges touch: the mask grown by a pixel has distance 0.
    grown = ndimage.binary_dilation(mask, np.ones((3, 3)))
    found: NDArray[np.float64] = ndimage.distance_transform_edt(~grown) * (class_map.gsd or 1.0)
    return found


def sure_pixels(areas: CoverAreas, chosen: Mask) -> Mask:
    """Pixels of the chosen areas that are still the cover at the lower end of the interval."""
    return areas.inside(chosen) & (areas.steps >= _step(-TAIL))


def possible_pixels(areas: CoverAreas, chosen: Mask, least: float, class_map: ClassMap) -> Mask:
    """Pixels of the chosen areas, and of the areas that reach the smallest size at the upper end."""
    mask = (areas.numbers > 0) | (areas.steps >= _step(TAIL))
    numbers, sizes = connected_areas(mask, class_map.by_row)
    large: Mask = np.concatenate([[False], sizes >= least * (1 - SLACK)])[numbers]
    return areas.inside(chosen) | large


def _step(deviations: float) -> float:
    """Least step of probability that is above a half, given the errors that pixels share."""
    chances = np.arange(PROBABILITY_STEPS + 1) / PROBABILITY_STEPS
    return float(np.argmax(shifted(chances, deviations) >= 0.5))


def best_square(areas: CoverAreas, least: float, class_map: ClassMap) -> float:
    """Largest mean probability of the cover in a square of the smallest size."""
    side = max(1, round((least / float(np.median(class_map.by_row))) ** 0.5))
    side = min(side, *areas.steps.shape)
    means = ndimage.uniform_filter(areas.steps.astype(np.float32), side, mode='nearest')
    return float(np.clip(means.max() / PROBABILITY_STEPS, 0, 1))


def count_areas(thing: Thing, class_map: ClassMap) -> tuple[int, int, int]:
    """Number of areas at the lower end, as mapped, and at the upper end."""
    areas, chosen = chosen_areas(thing, class_map)
    least, value = limits(thing, class_map)[0], int(chosen.sum())
    sure = sure_pixels(areas, chosen)
    held = np.bincount(areas.numbers[sure], np.broadcast_to(class_map.by_row[:, None], sure.shape)[sure],
                       len(chosen) + 1)[1:]  # fmt: skip
    low = int((chosen & (held >= max(least, SLACK) * (1 - SLACK))).sum())
    _, sizes = connected_areas((areas.numbers > 0) | (areas.steps >= _step(TAIL)), class_map.by_row)
    high = int((sizes >= least * (1 - SLACK)).sum())
    return low, value, max(high, value)


def ends_within(areas: CoverAreas, inside: Mask, class_map: ClassMap) -> tuple[float, float]:
    """Ends of the interval of the area of some connected areas, which may shrink or grow at their edges."""
    around = ndimage.binary_dilation(inside, iterations=AROUND) if inside.any() else inside
    around &= class_map.valid & (inside | (areas.numbers == 0))
    return (
        float(class_map.expected(areas.steps, inside, -TAIL)),
        float(class_map.expected(areas.steps, around, TAIL)),
    )

"""Intervals of the areas of a class map: from the probabilities of its pixels, widened as patches taught.

What a network is sure of is not always what people say. By what factor intervals have to be widened so that
they hold nine of ten areas that people know was measured on mosaics of patches with labels by a person
(`benchmarks/ask_map_areas.py`, docs/ask.md).
"""

import numpy as np
from scipy import ndimage

from geores.asking.class_map import LADDER, TAIL, ClassMap, Floats, Mask

__all__ = ['draws_of', 'ends_of_parts', 'ends_of_whole', 'widening']

WIDER: dict[str, dict[str, float]] = {
    'landcover': {'water': 1.3, 'forest': 1.65, 'grass': 2.4, 'crops': 1.5, 'built': 2.75, '': 1.85},
    'landcover-l1c': {'water': 2.2, 'forest': 1.75, 'grass': 2.45, 'crops': 1.6, 'built': 2.65, '': 2.05},
}
"""By what factor both halves of the interval of a cover's area are widened, by bundle; '' for other covers.

Of L1C by patches that were brought there by two lines, taken together.
"""
AROUND = 3
"""Pixels around an area to which its upper end may reach."""


def widening(cover: str, model: str) -> float:
    """By what factor both halves of the interval of a cover's area are widened; 1 where none was measured.

    Args:
        cover: key of the cover.
        model: name of the bundle.
    """
    known = WIDER.get(model, {})
    return known.get(cover, known.get('', 1.0))


def ends_of_whole(cover: str, class_map: ClassMap) -> tuple[float, float]:
    """Ends of the interval of the area of a cover, which holds the mapped area.

    Args:
        cover: key of the cover.
        class_map: the map.
    """
    low, high = (float(class_map.expected_of(cover, z)) for z in (-TAIL, TAIL))
    return _widened(cover, low, float(class_map.of(cover).sizes.sum()), high, class_map)


def ends_of_parts(cover: str, inside: Mask, value: float, class_map: ClassMap) -> tuple[float, float]:
    """Ends of the interval of the area of some connected areas, which may shrink or grow at their edges.

    Args:
        cover: key of the cover.
        inside: pixels of the areas, (rows, cols).
        value: their mapped area, which the interval holds.
        class_map: the map.
    """
    areas = class_map.of(cover)
    around = ndimage.binary_dilation(inside, iterations=AROUND) if inside.any() else inside
    around &= class_map.valid & (inside | (areas.numbers == 0))
    low = float(class_map.expected(areas.steps, inside, -TAIL))
    high = float(class_map.expected(areas.steps, around, TAIL))
    return _widened(cover, low, value, high, class_map)


def draws_of(cover: str, class_map: ClassMap) -> Floats:
    """Equally likely areas of a cover, of the width of its interval.

    Args:
        cover: key of the cover.
        class_map: the map.
    """
    mapped = float(class_map.of(cover).sizes.sum())
    draws = class_map.expected_of(cover, LADDER)
    middle = float(np.median(draws))
    draws = draws * (mapped / middle) if middle else draws
    return np.asarray(np.maximum(mapped + widening(cover, class_map.card.name) * (draws - mapped), 0))


def _widened(cover: str, low: float, value: float, high: float, class_map: ClassMap) -> tuple[float, float]:
    factor = widening(cover, class_map.card.name)
    below, above = factor * max(0.0, value - low), factor * max(0.0, high - value)
    return max(0.0, value - below), max(value, min(class_map.valid_area, value + above))

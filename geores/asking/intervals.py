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
    'landcover-l1c': {'water': 3.0, 'forest': 1.75, 'grass': 2.65, 'crops': 1.6, 'built': 2.95, '': 2.15},
}
"""How many times as far the shared error lies at the ends of an interval, by bundle and cover; '' for others.

Of L1C for both lines together, by which the patches were brought there.
"""
AROUND = 3
"""Pixels around an area to which its upper end may reach."""


def widening(cover: str, model: str) -> float:
    """How many times as far the shared error lies at the ends of an interval; 1 where nothing was measured.

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
    tail, value = TAIL * widening(cover, class_map.card.name), float(class_map.of(cover).sizes.sum())
    low, high = (float(class_map.expected_of(cover, z)) for z in (-tail, tail))
    return min(low, value), max(high, value)


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
    tail = TAIL * widening(cover, class_map.card.name)
    low = float(class_map.expected(areas.steps, inside, -tail))
    high = float(class_map.expected(areas.steps, around, tail))
    return min(low, value), max(high, value)


def draws_of(cover: str, class_map: ClassMap) -> Floats:
    """Equally likely areas of a cover, of the width of its interval.

    Args:
        cover: key of the cover.
        class_map: the map.
    """
    mapped = float(class_map.of(cover).sizes.sum())
    draws = class_map.expected_of(cover, widening(cover, class_map.card.name) * LADDER)
    middle = float(np.median(draws))
    return draws * (mapped / middle) if middle else draws

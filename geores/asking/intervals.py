"""Intervals of the areas of a class map, from the probabilities of its pixels.

What a network is sure of is not always what people say: how often such intervals hold the areas that people
labelled stands on the card where it was measured (`benchmarks/ask_map_areas.py`), and answers say so.
"""

import numpy as np
from scipy import ndimage

from geores.asking.class_map import LADDER, TAIL, ClassMap, Floats, Mask
from geores.card import ModelCard

__all__ = ['draws_of', 'ends_of_parts', 'ends_of_whole', 'ends_within', 'held_note']

AROUND = 3
"""Pixels around an area to which its upper end may reach."""


def held_note(card: ModelCard) -> str:
    """Say how often intervals held the area of the ground truth, or that it was not measured.

    Args:
        card: of the bundle that made the map.
    """
    said = "; the interval is the network's own: "
    if card.intervals is None:
        return f'{said}how often such ones hold areas that people label was not measured'
    return f'{said}such ones held {card.intervals.held:.0%} of areas that people labelled'


def ends_of_whole(cover: str, class_map: ClassMap) -> tuple[float, float]:
    """Ends of the interval of the area of a cover, which holds the mapped area.

    Args:
        cover: key of the cover.
        class_map: the map.
    """
    low, high = (float(class_map.expected_of(cover, z)) for z in (-TAIL, TAIL))
    return _around(float(class_map.of(cover).sizes.sum()), low, high, class_map)


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
    return _around(value, low, high, class_map)


def ends_within(cover: str, zone: Mask, value: float, class_map: ClassMap) -> tuple[float, float]:
    """Ends of the interval of the area of a cover within a part of the map.

    Args:
        cover: key of the cover.
        zone: valid pixels of the part, (rows, cols).
        value: the mapped area there, which the interval holds.
        class_map: the map.
    """
    steps = class_map.of(cover).steps
    low, high = (float(class_map.expected(steps, zone, z)) for z in (-TAIL, TAIL))
    return _around(value, low, high, class_map)


def draws_of(cover: str, class_map: ClassMap) -> Floats:
    """Equally likely areas of a cover, of the width of its interval.

    Args:
        cover: key of the cover.
        class_map: the map.
    """
    mapped = float(class_map.of(cover).sizes.sum())
    draws = class_map.expected_of(cover, LADDER)
    middle = float(np.median(draws))
    return np.asarray(draws * (mapped / middle) if middle else draws)


def _around(value: float, low: float, high: float, class_map: ClassMap) -> tuple[float, float]:
    """Ends that hold a value, and no more than what is seen."""
    return max(0.0, min(low, value)), max(value, min(class_map.valid_area, high))

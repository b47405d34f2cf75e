"""The class map that questions are answered from: connected areas, and how many, how large, how far apart.

`ClassMap` holds the map in memory, a byte a pixel; `connected_areas` finds areas of pixels that share a
side, across whatever windows the map was made in. Intervals come from the calibrated probabilities of all
pixels. The measures are pure functions of a `Thing` and a `ClassMap`, which `geores.asking.map_answers`
puts into answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import sqrt
from typing import Any

import numpy as np
import rasterio.features
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from scipy import ndimage
from scipy.special import ndtr, ndtri

from geores.asking.combine import CORRELATION
from geores.asking.predictions import LEVEL
from geores.card import ModelCard
from geores.cartography.areas import Legend, row_areas
from geores.cartography.polygons import polygons_of_rings
from geores.inference.sinks import NO_PROBABILITY, PROBABILITY_STEPS
from geores.questions.everyday import Thing
from geores.questions.land_cover import CoverWords, covers_of

__all__ = [
    'LADDER',
    'LEAST',
    'LEAST_PIXELS',
    'TAIL',
    'ClassMap',
    'CoverAreas',
    'Mask',
    'best_square',
    'chosen_areas',
    'connected_areas',
    'count_areas',
    'distances_to',
    'inside_near',
    'least_area',
    'limits',
    'possible_pixels',
    'shifted',
    'sure_pixels',
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

TAIL = float(ndtri((1 + LEVEL) / 2))
"""Number of standard deviations of the shared error at the ends of an interval."""


def shifted(chances: Floats, deviations: float | Floats, correlation: float = CORRELATION) -> Floats:
    """Probabilities of pixels, given that the errors which they share lie some standard deviations off.

    What is uncertain of a pixel is one normal number, `correlation` of whose variance all pixels share
    (the one-factor model of `geores.asking.combine`). Over a standard normal `deviations` the mean is
    the probability itself; 0 and 1 stay what they are.

    Args:
        chances: probabilities, 0 to 1.
        deviations: standard deviations, of a shape that goes with the probabilities'; above 0 there is more
            of what is asked for.
        correlation: share of the variance that is common to all pixels.
    """
    return np.asarray(ndtr((ndtri(chances) + sqrt(correlation) * deviations) / sqrt(1 - correlation)))


def connected_areas(mask: NDArray[np.bool_], by_row: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Number the areas of a mask whose pixels share a side, and measure them.

    Args:
        mask: (rows, cols).
        by_row: area of a pixel of each row, (rows,).

    Returns:
        Numbers from 1, 0 outside, (rows, cols); areas (n,), the first that of number 1.
    """
    numbers, count = ndimage.label(mask)
    return numbers, _sums(numbers, count, np.broadcast_to(by_row[:, None], mask.shape))


def _sums(numbers: NDArray[np.int32], count: int, values: NDArray[Any]) -> Floats:
    """Sum of values over each numbered area, (count,)."""
    inside = numbers > 0
    return np.bincount(numbers[inside], values[inside], count + 1)[1:].astype(np.float64)


@dataclass(frozen=True)
class CoverAreas:
    """The connected areas of one land cover on a map.

    Attributes:
        numbers: number of the area of each pixel, 0 outside, (rows, cols).
        sizes: their areas, (n,).
        chances: mean probability of the cover in each, (n,).
        steps: probability of the cover of each pixel, 0 to `PROBABILITY_STEPS`, 0 where there is no data.
    """

    numbers: NDArray[np.int32] = field(repr=False)
    sizes: Floats
    chances: Floats
    steps: NDArray[np.uint8] = field(repr=False)

    @cached_property
    def centres(self) -> Floats:
        """Mean row and column of the pixels of each area, (n, 2)."""
        count = len(self.sizes)
        pixels = _sums(self.numbers, count, np.ones_like(self.numbers))
        height, width = self.numbers.shape
        places = (np.broadcast_to(one, (height, width)) for one in np.ogrid[:height, :width])
        sums = np.stack([_sums(self.numbers, count, place) for place in places], axis=1)
        return np.asarray(sums / pixels[:, None])

    def inside(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mask of the pixels of the chosen areas, (rows, cols)."""
        return np.concatenate([[False], chosen])[self.numbers]


@dataclass(frozen=True)
class ClassMap:
    """A map of classes with the probabilities behind it.

    Attributes:
        name: of the scene.
        card: of the model that made it.
        grid: its pixels.
        gsd: metres on the ground per pixel; None where the scene has no CRS.
        classes: 0 for no data, else number of the label from 1, (rows, cols).
        probabilities: gives those of labels, (n, rows, cols), as `geores.inference.sinks` keeps them.
        notes: what the user should know about the map.
        record: what it was made of, and with: provenance and key.
        picture: gives the scene as a small picture, (h, w, 3).
    """

    name: str
    card: ModelCard
    grid: GeoBox
    gsd: float | None
    classes: NDArray[np.integer[Any]] = field(repr=False)
    probabilities: Callable[[Sequence[int]], NDArray[np.uint8]] = field(repr=False)
    notes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)
    picture: Callable[[], NDArray[np.uint8]] | None = field(default=None, repr=False)
    _areas: dict[str, CoverAreas] = field(default_factory=dict, repr=False, compare=False)
    _outlines: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)
    _extremes: dict[str, tuple[Floats, Floats]] = field(default_factory=dict, repr=False, compare=False)
    _counts: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def words(self) -> CoverWords:
        """The covers that the map shows, and the words for them."""
        return covers_of(self.card.labels)

    @cached_property
    def legend(self) -> Legend:
        """Labels and colours of the map."""
        return Legend.of(self.card.labels, self.card.colours)

    @cached_property
    def _ground(self) -> tuple[Floats, str, list[str]]:
        crs = None if self.grid.crs is None else CRS.from_user_input(self.grid.crs.proj)
        return row_areas(self.grid.affine, (self.grid.shape.y, self.grid.shape.x), crs)

    @property
    def by_row(self) -> Floats:
        """Area of a pixel of each row, (rows,)."""
        return self._ground[0]

    @property
    def unit(self) -> str:
        """Unit of areas: 'm2', or 'pixel' where the scene has no CRS."""
        return self._ground[1]

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Mask of the pixels that have a class, (rows, cols)."""
        return self.classes > 0

    @cached_property
    def valid_area(self) -> float:
        """Area of the pixels that have a class."""
        return self.total(self.valid)

    def total(self, mask: NDArray[np.bool_]) -> float:
        """Area of the pixels of a mask."""
        return float(mask.sum(1) @ self.by_row)

    def of(self, key: str) -> CoverAreas:
        """The connected areas of a cover; found once.

        Args:
            key: of the cover.
        """
        if key not in self._areas:
            labels = self.words.labels[key]
            shown = np.zeros(len(self.card.labels) + 1, bool)
            shown[np.array(labels) + 1] = True
            numbers, sizes = connected_areas(shown[self.classes], self.by_row)
            parts = self.probabilities(labels)
            sums = parts.astype(np.uint16 if len(labels) > 1 else np.uint8, copy=False)
            total = sums[0] if len(labels) == 1 else np.minimum(sums.sum(0), PROBABILITY_STEPS)
            steps = np.where(self.valid & (parts[0] != NO_PROBABILITY), total, 0).astype(np.uint8)
            weights = steps * self.by_row[:, None]
            chances = _sums(numbers, len(sizes), weights) / PROBABILITY_STEPS / np.maximum(sizes, 1e-12)
            self._areas[key] = CoverAreas(numbers, sizes, np.minimum(chances, 1.0), steps)
        return self._areas[key]

    def outlines(self, key: str) -> NDArray[Any]:
        """Polygons of the connected areas of a cover in the CRS of the map, (n,); drawn once.

        Args:
            key: of the cover.
        """
        if key not in self._outlines:
            areas = self.of(key)
            drawn = rasterio.features.shapes(
                areas.numbers, mask=areas.numbers > 0, connectivity=4, transform=self.grid.affine
            )
            shapes = [(outline['coordinates'], int(number) - 1) for outline, number in drawn]
            found: NDArray[Any] = np.empty(len(areas.sizes), object)
            found[[place for _, place in shapes]] = polygons_of_rings([rings for rings, _ in shapes])
            self._outlines[key] = found
        return self._outlines[key]

    def extremes(self, key: str) -> tuple[Floats, Floats]:
        """What each area of a cover holds of sure pixels, (n,), and sizes of the areas of possible ones.

        Args:
            key: of the cover.
        """
        if key not in self._extremes:
            areas = self.of(key)
            sure = (areas.numbers > 0) & (areas.steps >= _step(-TAIL))
            weights = np.broadcast_to(self.by_row[:, None], sure.shape)[sure]
            held = np.bincount(areas.numbers[sure], weights, len(areas.sizes) + 1)[1:]
            possible = (areas.numbers > 0) | (areas.steps >= _step(TAIL))
            self._extremes[key] = held.astype(np.float64), connected_areas(possible, self.by_row)[1]
        return self._extremes[key]

    def expected(
        self, steps: NDArray[np.uint8], mask: NDArray[np.bool_], deviations: float | Floats
    ) -> Floats:
        """Area of a cover within a mask, given how far the errors that pixels share lie off.

        Args:
            steps: probabilities of the cover, of `CoverAreas`.
            mask: where to add up, (rows, cols).
            deviations: standard deviations, a number or (n,).

        Returns:
            Areas, of the shape of the deviations.
        """
        return _given(self._counted(steps, mask), deviations)

    def expected_of(self, key: str, deviations: float | Floats) -> Floats:
        """Area of a cover on the whole map, as `expected`; its pixels are counted once.

        Args:
            key: of the cover.
            deviations: as in `expected`.
        """
        if key not in self._counts:
            self._counts[key] = self._counted(self.of(key).steps, self.valid)
        return _given(self._counts[key], deviations)

    def _counted(self, steps: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Floats:
        """Area of each step of probability within a mask."""
        if (self.by_row == self.by_row[0]).all():
            pixels = np.bincount(steps[mask], minlength=PROBABILITY_STEPS + 1)
            return np.asarray(pixels * self.by_row[0], float)
        weights = np.broadcast_to(self.by_row[:, None], mask.shape)[mask]
        return np.asarray(np.bincount(steps[mask], weights, PROBABILITY_STEPS + 1), float)


def _given(found: Floats, deviations: float | Floats) -> Floats:
    """Expected area of areas by step of probability, of the shape of the deviations."""
    chances = np.arange(PROBABILITY_STEPS + 1) / PROBABILITY_STEPS
    return np.asarray(shifted(chances, np.asarray(deviations)[..., None]) @ found)


LEAST = 5000.0
"""Smallest connected area that counts where none is asked for, square metres.

It is the smallest that is a forest by the definition of the FAO (Global Forest Resources Assessment 2020).
"""
LEAST_PIXELS = 50
"""The same in pixels, where the scene has no CRS."""
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
        away = distances_to(inside_near(thing, class_map), class_map)
        nearest = ndimage.minimum(away, areas.numbers, np.arange(1, len(areas.sizes) + 1))
        chosen &= nearest <= thing.metres
    return areas, chosen


def inside_near(thing: Thing, class_map: ClassMap) -> Mask:
    """Pixels of the areas that a thing has to lie near, (rows, cols)."""
    if thing.near is None:
        return np.zeros(class_map.classes.shape, bool)
    other = class_map.of(thing.near)
    return other.inside(other.sizes >= least_area(class_map) * (1 - SLACK))


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


@cache
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
    _, chosen = chosen_areas(thing, class_map)
    least, value = limits(thing, class_map)[0], int(chosen.sum())
    held, sizes = class_map.extremes(thing.cover)
    low = int((chosen & (held >= max(least, SLACK) * (1 - SLACK))).sum())
    high = int((sizes >= least * (1 - SLACK)).sum())
    return low, value, max(high, value)

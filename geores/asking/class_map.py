"""The class map that questions are answered from, and the connected areas of a land cover on it.

`ClassMap` holds the map in memory, a byte a pixel; `connected_areas` finds areas of pixels that share a side,
across whatever windows the map was made in. Intervals come from the calibrated probabilities of all pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from scipy import ndimage
from scipy.special import ndtr, ndtri

from geores.asking.combine import CORRELATION
from geores.asking.predictions import LEVEL
from geores.card import ModelCard
from geores.cartography.areas import Legend, row_areas
from geores.inference.pixels import NO_PROBABILITY, PROBABILITY_STEPS
from geores.questions.land_cover import CoverWords, covers_of

__all__ = ['TAIL', 'ClassMap', 'CoverAreas', 'Mask', 'connected_areas', 'shifted']

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

TAIL = float(ndtri((1 + LEVEL) / 2))
"""Number of standard deviations of the shared error at the ends of an interval."""


def shifted(chances: Floats, deviations: float, correlation: float = CORRELATION) -> Floats:
    """Probabilities of pixels, given that the errors which they share lie some standard deviations off.

    What is uncertain of a pixel is one normal number, `correlation` of whose variance all pixels share
    (the one-factor model of `geores.asking.combine`). Over a standard normal `deviations` the mean is
    the probability itself; 0 and 1 stay what they are.

    Args:
        chances: probabilities, 0 to 1.
        deviations: standard deviations; above 0 there is more of what is asked for.
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
        probabilities: gives those of labels, (n, rows, cols), as `geores.inference.pixels` keeps them.
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
        if (self.by_row == self.by_row[0]).all():
            found = np.bincount(steps[mask], minlength=PROBABILITY_STEPS + 1) * self.by_row[0]
        else:
            weights = np.broadcast_to(self.by_row[:, None], mask.shape)[mask]
            found = np.bincount(steps[mask], weights, PROBABILITY_STEPS + 1)
        chances = np.arange(PROBABILITY_STEPS + 1) / PROBABILITY_STEPS
        return np.asarray([found @ shifted(chances, one) for one in np.atleast_1d(deviations)]).reshape(
            np.shape(deviations)
        )

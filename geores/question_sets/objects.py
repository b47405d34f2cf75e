"""The objects of a scene, and which of them lie in a tile."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.osm import Features, Ground, shape_of, size_of
from geores.osm.features import polygons_of
from geores.questions.facts import TileFacts

__all__ = ['Counting', 'SceneObjects']

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Counting:
    """Rules for counting objects, and for their sizes and neighbours.

    Attributes:
        min_share: minimum share of an object's area (or length) inside a tile for it to be counted there; it
            is also counted if its centroid lies inside, or if it covers `min_cover` of the tile.
        limits: minimum areas of medium and of large objects in square metres.
        next_to: maximum distance in metres of objects that are next to each other.
        min_cover: minimum share of the tile that a clipped object has to cover to be counted anyway.
    """

    min_share: float
    limits: tuple[float, float]
    next_to: float
    min_cover: float = 0.01


@dataclass(frozen=True)
class SceneObjects:
    """Objects of a scene in the CRS of its grid.

    Attributes:
        ids: ids of the objects, (N,), sorted.
        categories: categories of each object.
        image: geometries in the CRS of the grid, (N,).
        ground: projection of the place for true areas.
        pixel: side of a pixel in the CRS of the grid: parts of clipped objects below it are ignored.
    """

    ids: NDArray[np.object_]
    categories: tuple[tuple[str, ...], ...]
    image: NDArray[np.object_]
    ground: Ground
    pixel: float

    @classmethod
    def place(cls, features: Features, ground: Ground, pixel: float) -> 'SceneObjects':
        """Project objects to the grid of a scene."""
        image = ground.place(features.geometry)
        kept = np.flatnonzero(~shapely.is_empty(image))
        names = tuple(features.categories[index] for index in kept)
        placed = cls(features.ids[kept], names, image[kept], ground, pixel)
        _ = placed.measure, placed.shapes, placed.bounds  # computed here once, not in every process
        return placed

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the spatial index, which holds every object once more."""
        return {name: value for name, value in self.__dict__.items() if name != '_tree'}

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """All categories, in alphabetical order."""
        return tuple(sorted({name for names in self.categories for name in names}))

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """Bounds in the CRS of the grid, (N, 4): west, south, east, north."""
        return np.asarray(shapely.bounds(self.image))

    @cached_property
    def level(self) -> NDArray[np.object_]:
        """Geometries in the equal-area projection in metres, (N,)."""
        return self.ground.level(self.image)

    @cached_property
    def is_area(self) -> NDArray[np.bool_]:
        """Whether each object is an area and no line, (N,)."""
        return np.asarray(shapely.get_dimensions(self.image) == 2)

    @cached_property
    def measure(self) -> NDArray[np.float64]:
        """Square metres of areas and metres of lines, (N,)."""
        return _measure(self.level, self.is_area)

    @cached_property
    def shapes(self) -> NDArray[np.object_]:
        """Shape of each object, (N,), see `shape_of`."""
        shapes = np.full(len(self.ids), None, object)
        areas = np.flatnonzero(self.is_area)
        shapes[areas] = shape_of(self.level[areas])
        return shapes

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.image)

    def together(self, frames: Sequence[Bounds]) -> list[tuple[str, ...]]:
        """Categories in each of some frames, in alphabetical order."""
        found: list[set[str]] = [set() for _ in frames]
        boxes = shapely.box(*np.array(frames, float).reshape(-1, 4).T)
        for frame, index in zip(*self._tree.query(boxes), strict=True):
            found[frame].update(self.categories[index])
        return [tuple(sorted(names)) for names in found]

    def tile(self, bounds: Bounds, counting: Counting) -> TileFacts:
        """The objects in a tile, clipped at its edges.

        Args:
            bounds: west, south, east, north in the CRS of the grid.
            counting: rules for counting objects.
        """
        frame = shapely.box(*bounds)
        extent = float(shapely.area(self.ground.level(np.array([frame], object)))[0])
        near = np.sort(self._tree.query(frame))
        inside = _within(self.bounds[near], bounds)
        image, level = self.image[near].copy(), self.level[near].copy()
        cut = np.flatnonzero(~inside)
        image[cut] = _clipped(image[cut], self.is_area[near][cut], frame)
        level[cut] = self.ground.level(image[cut])
        is_area = self.is_area[near]
        size = np.where(is_area, self.pixel**2, self.pixel)
        image_size = np.where(is_area, shapely.area(image), shapely.length(image))
        seen = np.flatnonzero(inside | (image_size >= size))
        near, inside, is_area = near[seen], inside[seen], is_area[seen]
        image, level = image[seen], level[seen]
        measure = np.where(inside, self.measure[near], _measure(level, is_area))
        areas = np.where(is_area, measure, 0.0)
        counted = inside | self._counts(near, frame, measure, areas, extent, counting)
        sizes = size_of(areas, counting.limits)
        sizes[~is_area] = None
        shapes = self.shapes[near].copy()
        shapes[~inside] = None
        return TileFacts(
            ids=self.ids[near],
            categories=tuple(self.categories[index] for index in near),
            bounds=np.asarray(shapely.bounds(image)).reshape(-1, 4),
            ground=level,
            areas=areas,
            sizes=sizes,
            shapes=shapes,
            counted=counted,
            next_to=counting.next_to,
            square_kilometres=extent / 1e6,
        )

    def _counts(
        self,
        near: NDArray[np.int64],
        frame: shapely.Polygon,
        measure: NDArray[np.float64],
        areas: NDArray[np.float64],
        extent: float,
        counting: Counting,
    ) -> NDArray[np.bool_]:
        """Mask of the clipped objects that are counted."""
        whole = self.measure[near]
        share = np.divide(measure, whole, out=np.zeros_like(measure), where=whole > 0)
        counts = (share >= counting.min_share) | (areas >= counting.min_cover * extent)
        counts |= np.asarray(shapely.intersects(frame, shapely.centroid(self.image[near])))
        return counts


def _within(bounds: NDArray[np.float64], frame: Bounds) -> NDArray[np.bool_]:
    low = (bounds[:, :2] >= frame[:2]).all(axis=1)
    high = (bounds[:, 2:] <= frame[2:]).all(axis=1)
    return np.asarray(low & high)


def _clipped(
    geometry: NDArray[np.object_], is_area: NDArray[np.bool_], frame: shapely.Polygon
) -> NDArray[np.object_]:
    """The parts of geometries inside a frame: polygons of areas, lines of lines."""
    clipped = np.array(shapely.intersection(geometry, frame), object)
    clipped[is_area] = polygons_of(clipped[is_area])
    return clipped


def _measure(level: NDArray[np.object_], is_area: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.where(is_area, shapely.area(level), shapely.length(level)))

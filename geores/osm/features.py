"""OpenStreetMap objects as questions use them: id, categories, geometry, true area, size and shape.

`collect` merges the objects of any files.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

__all__ = [
    'CIRCLE',
    'FILL',
    'HIGH_RESOLUTION',
    'LONG',
    'SIZE_LIMITS',
    'Features',
    'Ground',
    'OSMObject',
    'collect',
    'default_limits',
    'shape_of',
    'size_of',
]

Geometries = NDArray[np.object_]

MILLIMETRES = 3
"""Decimals of coordinates in metres, so that platform differences of reprojection are rounded away."""

FILL = 0.85
"""Minimum share of its minimum rotated rectangle that a square or rectangular object fills."""
LONG = 1.25
"""Maximum ratio of the sides of a square object; rectangular objects have a larger one."""
CIRCLE = 0.88
"""Minimum isoperimetric quotient (4 pi area / perimeter squared) of a circular object: a square has 0.79,
a regular octagon 0.95."""

HIGH_RESOLUTION = 2.0
"""Pixel size in metres below which the size limits for high resolution apply."""
SIZE_LIMITS = {'high': (100.0, 500.0), 'low': (3_000.0, 10_000.0)}
"""Minimum areas of medium and of large objects in square metres (released code of Lobry et al. 2020)."""


class Ground:
    """Projections between degrees, the grid of images, and an equal-area projection around a place.

    Args:
        longitude: longitude of the centre in degrees.
        latitude: latitude of the centre in degrees.
        image_crs: CRS of the grid of images, in metres.
        mercator: whether to measure in Web Mercator instead, whose areas are not true.
    """

    def __init__(self, longitude: float, latitude: float, image_crs: str, *, mercator: bool = False) -> None:
        self.image_crs = image_crs
        self.definition = (
            'EPSG:3857'
            if mercator
            else (f'+proj=laea +lat_0={latitude:.4f} +lon_0={longitude:.4f} +datum=WGS84 +units=m +no_defs')
        )

    @cached_property
    def _placing(self) -> Transformer:
        return Transformer.from_crs('EPSG:4326', self.image_crs, always_xy=True)

    @cached_property
    def _levelling(self) -> Transformer:
        return Transformer.from_crs(self.image_crs, CRS(self.definition), always_xy=True)

    def place(self, geometry: Geometries) -> Geometries:
        """Project from degrees to the CRS of the images, rounded to millimetres.

        Args:
            geometry: geometries in longitude and latitude, (N,).

        Returns:
            Valid geometries, (N,); empty if nothing is left of an area.
        """
        placed = np.asarray(shapely.transform(shapely.force_2d(geometry), _rounded(self._placing)), object)
        areas = shapely.get_dimensions(placed) == 2
        bent = areas & ~shapely.is_valid(placed)
        placed[bent] = polygons_of(shapely.make_valid(placed[bent]))
        return placed

    def level(self, geometry: Geometries) -> Geometries:
        """Project from the CRS of the images to the equal-area projection.

        Args:
            geometry: geometries, (N,).

        Returns:
            Geometries in metres with true areas, (N,).
        """
        levelled = shapely.transform(geometry, lambda places: _moved(self._levelling, places))
        return np.asarray(levelled, object)


def _moved(transformer: Transformer, places: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack(transformer.transform(places[:, 0], places[:, 1]))


def _rounded(transformer: Transformer):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a function of places
    return lambda places: np.round(_moved(transformer, places), MILLIMETRES)


def default_limits(gsd: float) -> tuple[float, float]:
    """Minimum areas of medium and of large objects in square metres, by pixel size."""
    return SIZE_LIMITS['high' if gsd < HIGH_RESOLUTION else 'low']


def size_of(areas: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.object_]:
    """Classify objects by their area.

    Args:
        areas: areas in square metres, (N,).
        limits: minimum areas of medium and of large objects.

    Returns:
        'small', 'medium' or 'large' per object, (N,).
    """
    names = np.array(['small', 'medium', 'large'], object)
    found: NDArray[np.object_] = names[np.searchsorted(limits, areas, side='right')]
    return found


def shape_of(polygons: Geometries) -> NDArray[np.object_]:
    """Classify the shapes of objects by their outer rings; objects of several parts have none.

    Square and rectangular objects fill `FILL` of their minimum rotated rectangle and differ in the ratio of
    its sides, see `LONG`; circular ones fill less and have an isoperimetric quotient of at least `CIRCLE`.

    Args:
        polygons: geometries in metres on the ground, (N,).

    Returns:
        'square', 'rectangular', 'circular' or None per object, (N,).
    """
    shapes = np.full(len(polygons), None, object)
    parts = np.array([_only_part(polygon) for polygon in polygons], object)
    single = np.flatnonzero([part is not None for part in parts])
    if not len(single):
        return shapes
    filled = np.asarray(shapely.polygons(shapely.get_exterior_ring(parts[single])), object)
    areas = shapely.area(filled)
    around, across, along = _rectangles(filled)
    fills = np.divide(areas, around, out=np.zeros_like(areas), where=around > 0)
    quotients = 4 * np.pi * areas / np.maximum(shapely.length(filled), 1e-9) ** 2
    boxy = fills >= FILL
    even = along <= LONG * across
    shapes[single[boxy & even]] = 'square'
    shapes[single[boxy & ~even]] = 'rectangular'
    shapes[single[~boxy & (quotients >= CIRCLE)]] = 'circular'
    return shapes


def _only_part(polygon: shapely.Geometry) -> shapely.Polygon | None:
    if polygon.geom_type == 'Polygon':
        return polygon if not polygon.is_empty else None
    if polygon.geom_type == 'MultiPolygon' and len(polygon.geoms) == 1:
        return polygon.geoms[0]
    return None


def _rectangles(polygons: Geometries) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Area, short side and long side of the minimum rotated rectangle of each polygon."""
    boxes = np.asarray(shapely.oriented_envelope(polygons), object)
    sides = np.zeros((len(boxes), 2))
    for index, box in enumerate(boxes):
        places = shapely.get_coordinates(box)
        if len(places) >= 4:
            sides[index] = np.hypot(*np.diff(places[:3], axis=0).T)
    short, long = sides.min(axis=1), sides.max(axis=1)
    return short * long, short, long


class OSMObject(NamedTuple):
    """One object as read from a file; several rows of a file may be parts of one object.

    Attributes:
        id: 'way/123', 'relation/5', or 'osm/123' if the file does not tell the type.
        kind: 'area' or 'line'.
        categories: categories of the object, at least one.
        geometry: geometry in longitude and latitude, WGS84.
    """

    id: str
    kind: str
    categories: tuple[str, ...]
    geometry: BaseGeometry


@dataclass(frozen=True)
class Features:
    """Objects sorted by id, whatever the order of the file.

    Attributes:
        ids: ids, (N,), each at most once for areas and once for lines.
        categories: categories of each object.
        geometry: geometries, (N,), in longitude and latitude, WGS84; areas are valid (multi)polygons.
        notes: notes on the data, one sentence each.
    """

    ids: NDArray[np.object_]
    categories: tuple[tuple[str, ...], ...]
    geometry: NDArray[np.object_]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.ids)


def collect(found: Iterable[OSMObject], notes: Iterable[str] = ()) -> Features:
    """Sort objects by id, merge rows with the same id, and make areas valid."""
    parts: dict[tuple[str, str], list[OSMObject]] = {}
    for one in found:
        parts.setdefault((one.id, one.kind), []).append(one)
    twice = sum(len(ones) > 1 for ones in parts.values())
    keys = sorted(parts)
    geometry = np.array([None] * len(keys), object)
    for position, key in enumerate(keys):
        geometry[position] = _whole([one.geometry for one in parts[key]])
    areas = np.array([kind == 'area' for _, kind in keys], bool)
    bent = areas & ~shapely.is_valid(geometry)
    geometry[bent] = polygons_of(shapely.make_valid(geometry[bent]))
    kept = np.flatnonzero(~shapely.is_empty(geometry) & np.isfinite(shapely.bounds(geometry)).all(axis=1))
    categories = [tuple(dict.fromkeys(name for one in parts[key] for name in one.categories)) for key in keys]
    messages = list(notes)
    if twice:
        messages.append(f'{twice} objects stand in several rows: put together by their ids')
    if bent.any():
        messages.append(f'{int(bent.sum())} invalid areas were repaired')
    if len(kept) < len(keys):
        messages.append(f'{len(keys) - len(kept)} objects without a usable geometry are left out')
    ids = np.array([key[0] for key in keys], object)
    return Features(ids[kept], tuple(categories[index] for index in kept), geometry[kept], tuple(messages))


def polygons_of(geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """The polygonal part of each geometry, (N,), without lines and points.

    Returns:
        One polygon, multipolygon or empty polygon per geometry.
    """
    kept = np.array(geometry, object)
    mixed = np.flatnonzero(~np.isin(shapely.get_type_id(kept), (3, 6)))
    for index in mixed:
        parts = shapely.get_parts(shapely.get_parts(kept[index]))
        parts = parts[shapely.get_type_id(parts) == 3]
        kept[index] = shapely.union_all(parts) if len(parts) else shapely.Polygon()
    return kept


def _whole(parts: list[BaseGeometry]) -> BaseGeometry:
    """One geometry of all rows of an object, because extracts repeat or split objects."""
    distinct = list({shapely.to_wkb(part): part for part in parts}.values())
    if len(distinct) == 1:
        return distinct[0]
    if distinct[0].geom_type.endswith('Polygon'):
        distinct = [part if part.is_valid else shapely.make_valid(part) for part in distinct]
    whole: BaseGeometry = shapely.union_all(distinct)
    return whole

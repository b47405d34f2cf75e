"""True areas, sizes and shapes of objects on the ground."""

from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from geores.osm.features import polygons_of

__all__ = [
    'CIRCLE',
    'FILL',
    'HIGH_RESOLUTION',
    'LONG',
    'SIZE_LIMITS',
    'Ground',
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


def _rectangles(
    polygons: Geometries,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Area, short side and long side of the minimum rotated rectangle of each polygon."""
    boxes = np.asarray(shapely.oriented_envelope(polygons), object)
    sides = np.zeros((len(boxes), 2))
    for index, box in enumerate(boxes):
        places = shapely.get_coordinates(box)
        if len(places) >= 4:
            sides[index] = np.hypot(*np.diff(places[:3], axis=0).T)
    short, long = sides.min(axis=1), sides.max(axis=1)
    return short * long, short, long

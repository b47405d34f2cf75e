"""OpenStreetMap objects as questions use them: an id, categories and a geometry.

`collect` merges the objects of any files; `read_overpass` reads them from JSON of the Overpass API, made with
`out geom` or with the nodes beside the ways.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geores.errors import UsageError
from geores.osm.mapping import TagMapping

__all__ = ['Features', 'OSMObject', 'collect', 'read_overpass']


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
    """Sort objects by id, merge rows with the same id, and make areas valid.

    Args:
        found: objects as read from files.
        notes: notes to keep.
    """
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


Place = tuple[float, float]
Elements = Mapping[tuple[str, int], dict[str, Any]]


def read_overpass(path: Path, data: Mapping[str, Any], mapping: TagMapping) -> Iterator[OSMObject]:
    """Objects in an Overpass result that have a category.

    Args:
        path: path of the file, for messages.
        data: parsed JSON of the file.
        mapping: mapping from tags to categories.

    Raises:
        UsageError: if elements are not as Overpass writes them, or ways have no geometry.
    """
    try:
        elements = {(str(one['type']), int(one['id'])): one for one in data['elements']}
        found = list(_found(elements, mapping))
    except (KeyError, TypeError, ValueError, shapely.errors.GEOSException) as error:
        raise UsageError(
            f'{path} has an element that is not as Overpass writes them: {type(error).__name__} {error}'
        ) from error
    mapped = [one for one in elements.values() if _categories(one, mapping)]
    if mapped and not found:
        raise UsageError(f'{path} has no geometries: ask Overpass with "out geom;" or "(._;>;); out;"')
    yield from found


def _categories(element: dict[str, Any], mapping: TagMapping) -> tuple[str, ...]:
    tags = element.get('tags', {})
    if element['type'] == 'node':
        return ()
    return (*mapping.categories('line', tags), *mapping.categories('area', tags))


def _found(elements: Elements, mapping: TagMapping) -> Iterator[OSMObject]:
    for (kind, number), element in elements.items():
        tags = element.get('tags', {})
        name = f'{kind}/{number}'
        if kind == 'way':
            places = _places(element, elements)
            lines, areas = mapping.categories('line', tags), mapping.categories('area', tags)
            if lines and len(set(places)) > 1:
                yield OSMObject(name, 'line', lines, shapely.LineString(places))
            if areas and len(places) > 3 and places[0] == places[-1] and tags.get('area') != 'no':
                yield OSMObject(name, 'area', areas, shapely.Polygon(places))
        elif kind == 'relation' and tags.get('type') in ('multipolygon', 'boundary'):
            areas = mapping.categories('area', tags)
            polygon = _multipolygon(element, elements) if areas else None
            if polygon is not None and not polygon.is_empty:
                yield OSMObject(name, 'area', areas, polygon)


def _places(element: Mapping[str, Any], elements: Elements) -> list[Place]:
    """Coordinates of a way, or of a member of a relation."""
    if 'geometry' in element:
        points = [point for point in element['geometry'] if point is not None]
    else:
        points = [elements[key] for node in element.get('nodes', ()) if (key := ('node', node)) in elements]
    return [(float(point['lon']), float(point['lat'])) for point in points]


def _multipolygon(relation: Mapping[str, Any], elements: Elements) -> BaseGeometry | None:
    """The polygons of the outer members minus those of the inner members."""
    rings: dict[str, list[shapely.LineString]] = {'outer': [], 'inner': []}
    for member in relation.get('members', ()):
        if member.get('type') != 'way':
            continue
        way = member if 'geometry' in member else elements.get(('way', int(member['ref'])))
        places = [] if way is None else _places(way, elements)
        if len(set(places)) > 1:
            rings['inner' if member.get('role') == 'inner' else 'outer'].append(shapely.LineString(places))
    outer, inner = (_filled(rings[role]) for role in ('outer', 'inner'))
    if outer is None:
        return None
    whole = outer if inner is None else shapely.difference(outer, inner)
    polygon: BaseGeometry = polygons_of([whole])[0]  # type: ignore[arg-type]
    return polygon


def _filled(lines: list[shapely.LineString]) -> BaseGeometry | None:
    if not lines:
        return None
    faces = shapely.get_parts(shapely.polygonize(lines))
    filled: BaseGeometry = shapely.union_all(faces)
    return filled

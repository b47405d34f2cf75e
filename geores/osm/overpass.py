"""Answers of the Overpass API in JSON, with `out geom` or with nodes beside the ways."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from geores.errors import UsageError
from geores.osm.features import Found, polygons_of
from geores.osm.mapping import TagMapping

__all__ = ['read_overpass']

Place = tuple[float, float]
Elements = Mapping[tuple[str, int], dict[str, Any]]


def read_overpass(path: Path, data: Mapping[str, Any], mapping: TagMapping) -> Iterator[Found]:
    """Objects of an Overpass answer that a mapping knows.

    Args:
        path: of the file, for messages.
        data: its content.
        mapping: says what to look for.

    Raises:
        UsageError: elements are not as Overpass writes them, or ways have no geometry.
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


def _found(elements: Elements, mapping: TagMapping) -> Iterator[Found]:
    for (kind, number), element in elements.items():
        tags = element.get('tags', {})
        name = f'{kind}/{number}'
        if kind == 'way':
            places = _places(element, elements)
            lines, areas = mapping.categories('line', tags), mapping.categories('area', tags)
            if lines and len(set(places)) > 1:
                yield Found(name, 'line', lines, shapely.LineString(places))
            if areas and len(places) > 3 and places[0] == places[-1] and tags.get('area') != 'no':
                yield Found(name, 'area', areas, shapely.Polygon(places))
        elif kind == 'relation' and tags.get('type') in ('multipolygon', 'boundary'):
            areas = mapping.categories('area', tags)
            polygon = _multipolygon(element, elements) if areas else None
            if polygon is not None and not polygon.is_empty:
                yield Found(name, 'area', areas, polygon)


def _places(element: Mapping[str, Any], elements: Elements) -> list[Place]:
    """Places of a way, or of a member of a relation."""
    if 'geometry' in element:
        points = [point for point in element['geometry'] if point is not None]
    else:
        points = [elements[key] for node in element.get('nodes', ()) if (key := ('node', node)) in elements]
    return [(float(point['lon']), float(point['lat'])) for point in points]


def _multipolygon(relation: Mapping[str, Any], elements: Elements) -> BaseGeometry | None:
    """Rings of the outer members, less those of the inner ones."""
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

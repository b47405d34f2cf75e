"""Bring the JSON of the Overpass API to a file that osmium reads: one assembler makes the areas of both.

The JSON is that of `out geom`, or has the nodes beside the ways.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geores.errors import UsageError

__all__ = ['write_overpass']

Place = tuple[float, float]
Elements = dict[tuple[str, int], Mapping[str, Any]]

NOWHERE = 2**40
"""Id of a node that no file holds: it stands for nodes and places that are missing in the JSON."""


def write_overpass(osmium: Any, path: Path, data: Mapping[str, Any], target: Path) -> None:  # noqa: ANN401
    """Write nodes, ways and relations of an Overpass result.

    Nodes are numbered anew by their places, because members of relations have places and no ids of nodes.

    Args:
        osmium: the optional module `osmium`.
        path: path of the JSON, for messages.
        data: parsed JSON of the file.
        target: file to write, in a format that osmium knows by its ending.

    Raises:
        UsageError: if elements are not as Overpass writes them, or no way has a geometry.
    """
    try:
        elements = {(str(one['type']), int(one['id'])): one for one in data['elements']}
        ways = dict(sorted(_ways(elements).items()))
        relations = sorted(key[1] for key in elements if key[0] == 'relation')
        known = dict.fromkeys(place for places in ways.values() for place in places if place is not None)
        nodes = {place: number for number, place in enumerate(known, 1)}
        if not nodes and any(one.get('tags') for key, one in elements.items() if key[0] != 'node'):
            raise UsageError(f'{path} has no geometries: ask Overpass with "out geom;" or "(._;>;); out;"')
        made = osmium.osm.mutable
        with osmium.SimpleWriter(str(target), overwrite=True) as writer:
            for place, number in nodes.items():
                writer.add_node(made.Node(id=number, location=place))
            for number, places in ways.items():
                refs = [NOWHERE if place is None else nodes[place] for place in places]
                tags = elements.get(('way', number), {}).get('tags', {})
                writer.add_way(made.Way(id=number, nodes=refs, tags=tags))
            for number in relations:
                element = elements['relation', number]
                members = [
                    (str(one['type'])[0], int(one['ref']), str(one.get('role', '')))
                    for one in element.get('members', ())
                ]
                writer.add_relation(made.Relation(id=number, members=members, tags=element.get('tags', {})))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f'{path} has an element that is not as Overpass writes them: {type(error).__name__} {error}'
        ) from error


def _ways(elements: Elements) -> dict[int, list[Place | None]]:
    """Places of all ways, of members of relations too; of two versions that with fewer gaps counts."""
    ways: dict[int, list[Place | None]] = {}
    members = [
        (int(member['ref']), member)
        for element in elements.values()
        for member in element.get('members', ())
        if member['type'] == 'way' and 'geometry' in member
    ]
    own = [(number, element) for (kind, number), element in elements.items() if kind == 'way']
    for number, way in (*own, *members):
        places = _places(way, elements)
        if number not in ways or _gaps(places) < _gaps(ways[number]):
            ways[number] = places
    return ways


def _places(way: Mapping[str, Any], elements: Elements) -> list[Place | None]:
    points: Sequence[Any]
    if 'geometry' in way:
        points = way['geometry']
    else:
        points = [elements.get(('node', int(node))) for node in way.get('nodes', ())]
    return [None if point is None else (float(point['lon']), float(point['lat'])) for point in points]


def _gaps(places: Sequence[Place | None]) -> float:
    return sum(place is None for place in places) / len(places) if places else 1.0

"""Read OpenStreetMap objects in a box from files of any supported format.

The JSON of the Overpass API (of `out geom`, or with the nodes beside the ways) is brought to a file that
osmium reads, so that one assembler makes the areas of both.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import shapely

from geores.errors import GeoresError, ReadError, UsageError, WriteError
from geores.osm.clip import clip
from geores.osm.features import Features, OSMObject, collect
from geores.osm.mapping import TagMapping, read_table

__all__ = ['read_osm', 'read_pbf', 'write_overpass']

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
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
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


Box = tuple[float, float, float, float]

IN_MEMORY = 512 * 2**20
"""Size of a file in bytes from which on the locations of its nodes are kept on disk, 16 bytes per node."""


def read_pbf(
    path: Path, box: Box, mapping: TagMapping, notes: list[str] | None = None
) -> Iterator[OSMObject]:
    """Objects of an `.osm.pbf` file (or `.osm`, `.osm.bz2`) that have a category.

    Areas are closed ways and multipolygon relations; a way that leaves the extract is a line through the
    nodes in it. The objects of a PBF file that can touch the box are first written to a small temporary
    file, so memory grows with the box and not with the file. Other formats are read as a whole.

    Args:
        path: file to read.
        box: west, south, east, north in degrees.
        mapping: mapping from tags to categories.
        notes: list to which notes on areas are added: those that are incomplete or have lines that cross.

    Raises:
        UsageError: if the package `osmium` is not installed.
        ReadError: if the file is damaged, not sorted, or not of OpenStreetMap.
        WriteError: if there is no room for temporary files.
    """
    yield from _read_osmium(path, box, mapping, [] if notes is None else notes)


def _read_osmium(
    path: Path, box: Box, mapping: TagMapping, notes: list[str], overpass: Mapping[str, Any] | None = None
) -> Iterator[OSMObject]:
    """Objects of a file of osmium's formats, or of parsed JSON of Overpass."""
    try:
        import osmium
    except ImportError as error:
        raise UsageError(
            f'{path} needs the package osmium: pip install "geores[osm]", or give a GeoPackage'
        ) from error
    try:
        with tempfile.TemporaryDirectory(prefix='geores-osm-') as name:
            part = path
            if overpass is not None:
                part = Path(name, 'part.opl')
                write_overpass(osmium, path, overpass, part)
            elif path.suffix.lower() == '.pbf':
                part = Path(name, 'part.osm.pbf')
                part = part if clip(osmium, path, box, mapping.keys, part) else path
            areas = _Areas()
            found = _stream(osmium, part, box, mapping, name, areas)
            yield from found if overpass is None else map(_plain, found)
            notes += [f'{path}: {note}' for note in areas.notes()]
    except GeoresError:
        raise
    except (RuntimeError, ValueError, osmium.InvalidLocationError) as error:  # for every fault of a file
        raise ReadError(f'{path} cannot be read as OpenStreetMap data (cut short?): {error}') from error
    except OSError as error:
        if error.filename == str(path):
            raise ReadError(f'{path} cannot be read: {error.strerror}') from error
        raise WriteError(
            f'{path} needs room for temporary files: {error}; set TMPDIR to a folder that has it'
        ) from error


@dataclass
class _Areas:
    """What osmium's assembler makes of the areas of a file.

    Roles of members are often wrong. The assembler goes by how rings lie, and leaves out areas that lack a
    member or a node in the file, and those whose lines cross or do not close.

    Attributes:
        wanted: id of each area with a category that the file names -> roles of its ways; empty for a way.
        holes: id of each area that was assembled -> whether it has an inner ring; None if no ring was found.
    """

    wanted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    holes: dict[str, bool | None] = field(default_factory=dict)

    def expect(self, item: Any) -> None:  # noqa: ANN401 - osmium has no types
        """Note a closed way or a multipolygon, of which an area should come."""
        if item.is_relation():
            self.wanted[_name(item)] = tuple(one.role for one in item.members if one.type == 'w')
        elif item.is_closed() and len(item.nodes) > 3 and item.tags.get('area') != 'no':
            self.wanted[_name(item)] = ()

    def notes(self) -> list[str]:
        """Notes for the user, one sentence each."""
        odd = [
            name
            for name, roles in self.wanted.items()
            if roles and self.holes.get(name) is not None
            if set(roles) - {'outer', 'inner'} or ('inner' in roles) != self.holes[name]
        ]
        counts = {
            'areas lack members or nodes in the file and are left out': self.wanted.keys()
            - self.holes.keys(),
            'areas have lines that cross or do not close and are left out': [
                name for name, holes in self.holes.items() if holes is None
            ],
            'multipolygons have members without a role or with a wrong one: how their rings lie decides': odd,
        }
        return [f'{len(names)} {what}' for what, names in counts.items() if names]


def _stream(
    osmium: Any,  # noqa: ANN401 - osmium has no types
    path: Path,
    box: Box,
    mapping: TagMapping,
    folder: str,
    areas: _Areas,
) -> Iterator[OSMObject]:
    keys = osmium.filter.KeyFilter(*mapping.keys)
    large = path.stat().st_size > IN_MEMORY
    storage = f'sparse_file_array,{os.path.join(folder, "nodes")}' if large else 'flex_mem'
    factory = osmium.geom.WKBFactory()
    stream = osmium.FileProcessor(str(path)).with_locations(storage).with_areas(keys).with_filter(keys)
    for item in stream:
        if item.is_node():
            continue
        tags = {tag.k: tag.v for tag in item.tags}
        bounds = item.is_way() or (item.is_relation() and tags.get('type') in ('multipolygon', 'boundary'))
        if bounds and mapping.categories('area', tags):
            areas.expect(item)
        kind = 'line' if item.is_way() else 'area' if item.is_area() else None
        categories = () if kind is None else mapping.categories(kind, tags)
        if kind is None or not categories:
            continue
        geometry = _line(osmium, factory, item) if kind == 'line' else _area(osmium, factory, item)
        if kind == 'area':
            areas.holes[_name(item)] = None if geometry is None else item.num_rings()[1] > 0
        if geometry is not None and _meets(geometry, box):
            yield OSMObject(_name(item), kind, categories, geometry)


def _name(item: Any) -> str:  # noqa: ANN401 - osmium has no types
    if not item.is_area():
        return f'{"way" if item.is_way() else "relation"}/{item.id}'
    return f'{"way" if item.from_way() else "relation"}/{item.orig_id()}'


def _plain(one: OSMObject) -> OSMObject:
    """An object with a polygon in place of a multipolygon of one part."""
    parts: Any = getattr(one.geometry, 'geoms', ())
    return one._replace(geometry=parts[0]) if len(parts) == 1 else one


def _line(osmium: Any, factory: Any, way: Any) -> Any:  # noqa: ANN401
    try:
        return shapely.from_wkb(factory.create_linestring(way))
    except osmium.InvalidLocationError:
        places = [(node.lon, node.lat) for node in way.nodes if node.location.valid()]
        return shapely.LineString(places) if len(set(places)) > 1 else None
    except RuntimeError:  # a way of one place
        return None


def _area(osmium: Any, factory: Any, area: Any) -> Any:  # noqa: ANN401
    try:
        return shapely.from_wkb(factory.create_multipolygon(area))
    except (osmium.InvalidLocationError, RuntimeError):  # without rings that close
        return None


def _meets(geometry: shapely.Geometry, box: Box) -> bool:
    west, south, east, north = geometry.bounds
    return bool(west <= box[2] and east >= box[0] and south <= box[3] and north >= box[1])


OSM = ('.pbf', '.osm', '.bz2', '.gz')
TABLES = ('.gpkg', '.parquet', '.geoparquet', '.shp', '.geojson', '.fgb')


def read_osm(paths: Sequence[str | Path], box: Box, mapping: TagMapping) -> Features:
    """Read the objects of some files that lie in a box.

    Args:
        paths: `.osm.pbf`, GeoPackage, GeoParquet, Shapefile, GeoJSON or Overpass JSON files.
        box: west, south, east, north in degrees (WGS84).
        mapping: mapping from tags to categories.

    Returns:
        The objects, sorted by id.

    Raises:
        UsageError: if a file is missing or of an unknown format, or no object lies in the box.
        ReadError: if a file is damaged.
    """
    notes: list[str] = []
    found = [one for path in paths for one in _read(Path(path), box, mapping, notes)]
    names = ', '.join(str(path) for path in paths)
    edges = ', '.join(f'{edge:.4f}' for edge in box)
    if not found:
        raise UsageError(
            f'{names}: no object that the mapping knows lies in the area of the scenes '
            f'(west, south, east, north: {edges}): give the extract of that place'
        )
    features = collect(found, notes)
    if not len(features):
        raise UsageError(f'{names}: no object has a usable geometry')
    return features


def _read(path: Path, box: Box, mapping: TagMapping, notes: list[str]) -> Iterator[OSMObject]:
    if not path.is_file():
        raise UsageError(f'{path} is not there: give --osm a file of OpenStreetMap objects')
    suffix = path.suffix.lower()
    if suffix in OSM:
        return read_pbf(path, box, mapping, notes)
    if suffix in TABLES:
        return read_table(path, box, mapping)
    if suffix == '.json':
        data = _json(path)
        if 'elements' in data:
            return _read_osmium(path, box, mapping, notes, data)
        if 'features' in data:
            return read_table(path, box, mapping)
        raise UsageError(f"{path} is neither an answer of Overpass ('elements') nor GeoJSON ('features')")
    raise UsageError(f'{path}: give .osm.pbf, {", ".join(TABLES)} or the .json of Overpass')


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f'{path} cannot be read as JSON (cut short?): {error}') from error
    return data if isinstance(data, dict) else {}

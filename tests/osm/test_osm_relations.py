"""Areas of multipolygon relations: the same from Overpass JSON as from the same data in a PBF file."""

import json

import pytest
import shapely

from geores.osm import load_mapping, read_osm

osmium = pytest.importorskip('osmium', reason='the optional package osmium is not there')

STEP = 0.001
BOX = (12.9, 51.9, 13.2, 52.2)


def square(low, high, across=None):
    """Corners of a square, in steps."""
    left, right = (low, high) if across is None else across
    return [(left, low), (right, low), (right, high), (left, high), (left, low)]


def degrees(corner):
    return round(13 + corner[0] * STEP, 7), round(52 + corner[1] * STEP, 7)


def write_json(path, ways, members, tags, *, beside=False):
    """An Overpass result, with `out geom` or with nodes beside the ways; a way of None is missing."""

    def geometry(corners):
        return [
            None if one is None else dict(zip(('lon', 'lat'), degrees(one), strict=True)) for one in corners
        ]

    relation = {'type': 'relation', 'id': 1, 'tags': tags}
    elements = []
    if beside:
        corners = sorted({one for way in ways.values() for one in way or () if one is not None})
        numbers = {one: number for number, one in enumerate(corners, 1)}
        for one, number in numbers.items():
            lon, lat = degrees(one)
            elements.append({'type': 'node', 'id': number, 'lon': lon, 'lat': lat})
        for number, way in ways.items():
            if way is not None:
                nodes = [numbers.get(one, 999) for one in way]
                elements.append({'type': 'way', 'id': number, 'nodes': nodes})
    relation['members'] = [
        {'type': 'way', 'ref': number, 'role': role}
        | ({} if beside or ways[number] is None else {'geometry': geometry(ways[number])})
        for number, role in members
    ]
    path.write_text(json.dumps({'elements': [*elements, relation]}))
    return path


def write_pbf(path, ways, members, tags):
    """The same as a PBF file."""
    made = osmium.osm.mutable
    corners = sorted({one for way in ways.values() for one in way or () if one is not None})
    numbers = {one: number for number, one in enumerate(corners, 1)}
    with osmium.SimpleWriter(str(path), overwrite=True) as writer:
        for one, number in numbers.items():
            writer.add_node(made.Node(id=number, location=degrees(one)))
        for number, way in sorted(ways.items()):
            if way is not None:
                writer.add_way(made.Way(id=number, nodes=[numbers.get(one, 999) for one in way]))
        writer.add_relation(
            made.Relation(id=1, members=[('w', number, role) for number, role in members], tags=tags)
        )
    return path


HILL = {1: square(0, 10)}
ROLES = 'without a role or with a wrong one'
LACKING = 'lack members or nodes'
CROSSING = 'cross or do not close'
CASES = {
    'island in a hole': (
        {1: square(0, 10), 2: square(2, 8), 3: square(4, 6)},
        [(1, 'outer'), (2, 'inner'), (3, 'outer')],
        68,
        None,
    ),
    'island listed first': (
        {1: square(4, 6), 2: square(2, 8), 3: square(0, 10)},
        [(1, 'outer'), (2, 'inner'), (3, 'outer')],
        68,
        None,
    ),
    'hole with role outer': ({1: square(0, 10), 2: square(3, 6)}, [(1, 'outer'), (2, 'outer')], 91, ROLES),
    'ring with role inner': ({1: square(0, 10)}, [(1, 'inner')], 100, ROLES),
    'members without roles': ({1: square(0, 10), 2: square(3, 6)}, [(1, ''), (2, '')], 91, ROLES),
    'odd roles': ({1: square(0, 10), 2: square(3, 6)}, [(1, 'enclave'), (2, 'exclave')], 91, ROLES),
    'a ring of two ways, one backwards': (
        {1: [(0, 0), (10, 0), (10, 10)], 2: [(0, 0), (0, 10), (10, 10)]},
        [(1, 'outer'), (2, 'outer')],
        100,
        None,
    ),
    'rings that touch in a corner': (
        {1: square(0, 4), 2: square(4, 6)},
        [(1, 'outer'), (2, 'outer')],
        20,
        None,
    ),
    'rings that share an edge': (
        {1: square(0, 4), 2: square(0, 4, (4, 8))},
        [(1, 'outer'), (2, 'outer')],
        32,
        None,
    ),
    'holes that share an edge': (
        {1: square(0, 10), 2: square(2, 4, (2, 4)), 3: square(2, 4, (4, 6))},
        [(1, 'outer'), (2, 'inner'), (3, 'inner')],
        92,
        None,
    ),
    'a hole that touches the ring in a corner': (
        {1: square(0, 10), 2: [(0, 0), (3, 1), (1, 3), (0, 0)]},
        [(1, 'outer'), (2, 'inner')],
        96,
        None,
    ),
    'a member that is missing': ({1: square(0, 10), 2: None}, [(1, 'outer'), (2, 'inner')], None, LACKING),
    'a node that is missing': (
        {1: [(0, 0), (10, 0), None, (0, 10), (0, 0)]},
        [(1, 'outer')],
        None,
        LACKING,
    ),
    'a ring that crosses itself': (
        {1: [(0, 0), (4, 4), (4, 0), (0, 4), (0, 0)]},
        [(1, 'outer')],
        None,
        CROSSING,
    ),
    'a ring that does not close': ({1: [(0, 0), (4, 0), (4, 4)]}, [(1, 'outer')], None, CROSSING),
}


@pytest.mark.parametrize('kind', ['multipolygon', 'boundary'])
@pytest.mark.parametrize('case', CASES)
def test_areas_of_json_are_those_of_a_pbf(tmp_path, case, kind):
    ways, members, wanted, note = CASES[case]
    tags = {'type': kind, 'landuse': 'forest'}
    files = [
        write_pbf(tmp_path / 'a.osm.pbf', ways, members, tags),
        write_json(tmp_path / 'geom.json', ways, members, tags),
        write_json(tmp_path / 'beside.json', ways, members, tags, beside=True),
    ]
    # A hut beside it, so that something is found where the relation is left out.
    hut = {'type': 'way', 'id': 50, 'tags': {'building': 'yes'}}
    places = [degrees(corner) for corner in square(20, 21)]
    hut['geometry'] = [{'lon': lon, 'lat': lat} for lon, lat in places]
    (tmp_path / 'hut.json').write_text(json.dumps({'elements': [hut]}))
    found = [read_osm([file, tmp_path / 'hut.json'], BOX, load_mapping()) for file in files]
    for features in found:
        areas = dict(zip(features.ids, features.geometry, strict=True))
        assert ('relation/1' in areas) == (wanted is not None)
        if wanted is not None:
            assert areas['relation/1'].is_valid
            assert areas['relation/1'].area / STEP**2 == pytest.approx(wanted)
    assert all(shapely.equals(features.geometry, found[0].geometry).all() for features in found)
    told = [[text.partition(': ')[2] for text in features.notes] for features in found]
    assert told == [told[0]] * 3
    assert len(told[0]) == (note is not None)
    assert note is None or (note in told[0][0] and told[0][0].startswith('1 '))


def test_closed_ways_of_json_and_pbf_are_the_same_areas(tmp_path):
    rings = {
        1: square(0, 3),
        2: [(0, 0), (4, 4), (4, 0), (0, 4), (0, 0)],
        3: [(0, 0), (5, 0), None, (0, 5), (0, 0)],
        4: [(0, 0), (5, 0), (0, 0)],
    }
    elements = [
        {
            'type': 'way',
            'id': number,
            'tags': {'building': 'yes'},
            'geometry': [
                None if one is None else dict(zip(('lon', 'lat'), degrees(one), strict=True)) for one in ring
            ],
        }
        for number, ring in rings.items()
    ]
    (tmp_path / 'a.json').write_text(json.dumps({'elements': elements}))
    features = read_osm([tmp_path / 'a.json'], BOX, load_mapping())
    assert list(features.ids) == ['way/1']
    assert [note.partition(': ')[2] for note in features.notes] == [
        '1 areas lack members or nodes in the file and are left out',
        '1 areas have lines that cross or do not close and are left out',
    ]

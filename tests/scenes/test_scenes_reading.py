"""Reading: values and validity equal rasterio's, from many threads; damage is never zeros."""

import gc
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio._env import get_gdal_config

from geores.errors import GeoresError, ReadError, SceneError, UsageError
from geores.scenes import FileRaster, gdal_env, open_scene

from ..scene_fixtures import TILE, pixels, write_jp2, write_safe, write_tiff

pytestmark = pytest.mark.filterwarnings('ignore:Use `@` matmul:PendingDeprecationWarning')

ALL = slice(None)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted),
    cols=st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted),
    indexes=st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
    nodata=st.sampled_from([None, 7, 300]),
)
def test_windows_equal_rasterio(tmp_path, rows, cols, indexes, nodata):
    path = tmp_path / f'{nodata}.tif'
    if not path.exists():
        write_tiff(path, pixels(3, dtype='uint8', high=30), nodata=nodata if nodata != 300 else None)
    raster = FileRaster(str(path), nodata=nodata)
    values, valid = raster.read(indexes, slice(*rows), slice(*cols))
    with rasterio.open(path) as dataset:
        expected = dataset.read()[[index - 1 for index in indexes], slice(*rows), slice(*cols)]
    np.testing.assert_array_equal(values, expected)
    expected_valid = np.all(expected != (nodata or 999), axis=0)
    np.testing.assert_array_equal(np.ones_like(expected_valid) if valid is None else valid, expected_valid)
    raster.close()


def test_windows_are_slices_of_step_one(tmp_path):
    raster = FileRaster(str(write_tiff(tmp_path / 'a.tif', pixels())))
    with pytest.raises(UsageError, match='step 1'):
        raster.read([1], slice(0, 10, 2), ALL)


@pytest.mark.parametrize('nodata', [float('nan'), -9999.0, None])
def test_floating_point_nodata_nan_and_infinity(tmp_path, nodata):
    values = pixels(2, dtype='float32')
    values[0, 2, 3], values[1, 4, 5], values[0, 6, 7] = np.nan, np.inf, -9999
    raster = FileRaster(str(write_tiff(tmp_path / 'a.tif', values, nodata=nodata)))
    _, valid = raster.read([2, 1], ALL, ALL)
    invalid = {(2, 3), (4, 5)} | ({(6, 7)} if nodata == -9999 else set())
    assert set(map(tuple, np.argwhere(~valid).tolist())) == invalid
    _, valid = raster.read([2], slice(0, 4), ALL)
    assert valid is None


@pytest.mark.parametrize('internal', [True, False])
def test_mask_bands_inside_and_beside(tmp_path, internal):
    mask = np.full((40, 50), 255, 'uint8')
    mask[10:20] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        path = write_tiff(tmp_path / 'a.tif', pixels())
        with rasterio.open(path, 'r+') as dataset:
            dataset.write_mask(mask)
    assert (tmp_path / 'a.tif.msk').exists() != internal
    _, valid = FileRaster(str(path)).read([1], ALL, slice(5, 15))
    np.testing.assert_array_equal(valid, mask[:, 5:15] > 0)


@pytest.mark.parametrize('tiled', [True, False])
def test_blocks_that_were_never_written_are_invalid(tmp_path, tiled):
    path = tmp_path / 'killed.tif'
    options = {'tiled': True, 'blockxsize': 16, 'blockysize': 16} if tiled else {'blockysize': 16}
    options |= {'transform': rasterio.Affine(10, 0, 0, 0, -10, 99), 'interleave': 'band'}
    with rasterio.open(
        path, 'w', 'GTiff', width=48, height=64, count=2, dtype='uint16', sparse_ok=True, **options
    ) as dataset:
        dataset.write(np.full((2, 32, 48), 5, 'uint16'), window=((0, 32), (0, 48)))
        dataset.write(pixels(1, 16, 48), indexes=[1], window=((32, 48), (0, 48)))
    raster = FileRaster(str(path))
    held = np.arange(64) < 48
    np.testing.assert_array_equal(raster.read([1], slice(7, 60), slice(3, 40))[1][:, 0], held[7:60])
    np.testing.assert_array_equal(raster.read([2, 1], ALL, ALL)[1], np.tile(np.arange(64) < 32, (48, 1)).T)
    assert raster.read([1], slice(0, 48), ALL)[1] is None


def test_written_zeros_are_valid(tmp_path):
    values = pixels(low=0, high=2)
    raster = FileRaster(str(write_tiff(tmp_path / 'a.tif', values)))
    assert raster.read([1], ALL, ALL)[1] is None


def test_threads_read_what_rasterio_reads(tmp_path):
    scene = open_scene(write_safe(tmp_path))
    expected = {}
    for name, band in scene.bands.items():
        with rasterio.open(band.raster.path) as dataset:
            expected[name] = dataset.read()

    def read(seed):
        rng = np.random.default_rng(seed)
        name = rng.choice(list(expected))
        rows, cols = (slice(*sorted(rng.integers(0, 97, 2).tolist())) for _ in range(2))
        return np.array_equal(scene.band(name).raster.read([1], rows, cols)[0], expected[name][:, rows, cols])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(200)))


def open_files():
    found = []
    for descriptor in os.listdir('/proc/self/fd'):
        with suppress(FileNotFoundError):  # that of this list, and what other threads close
            found.append(os.readlink(f'/proc/self/fd/{descriptor}'))
    return found


@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='needs /proc')
def test_handles_close_with_threads_scenes_and_collection(tmp_path):
    path = str(write_tiff(tmp_path / 'a.tif', pixels()))
    with open_scene(path) as scene:
        raster = scene.band('band1').raster
        assert path not in open_files()
        thread = threading.Thread(target=raster.read, args=([1], ALL, ALL))
        thread.start()
        thread.join()
        del thread
        gc.collect()
        assert path not in open_files()
        raster.read([1], ALL, ALL)
        assert path in open_files()
    assert path not in open_files()
    raster.read([1], ALL, ALL)
    assert path in open_files()
    del scene, raster
    gc.collect()
    assert path not in open_files()


def test_rasters_can_be_sent_to_other_processes(tmp_path):
    raster = FileRaster(str(write_tiff(tmp_path / 'a.tif', pixels())))
    expected, _ = raster.read([1], ALL, ALL)
    other = pickle.loads(pickle.dumps(raster))  # noqa: S301
    np.testing.assert_array_equal(other.read([1], ALL, ALL)[0], expected)


@pytest.mark.parametrize('compress', ['deflate', None])
def test_truncated_tiff_tells_path_and_window(tmp_path, compress):
    path = write_tiff(tmp_path / 'cut.tif', pixels(1, 256, 256), compress=compress, blockysize=16)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    raster = FileRaster(str(path))
    with pytest.raises(ReadError, match=r'cut\.tif: cannot read rows 200:256, columns 3:99') as caught:
        raster.read([1], slice(200, 256), slice(3, 99))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('fraction', [0.3, 0.6, 0.99])
def test_truncated_jp2_is_never_zeros(tmp_path, monkeypatch, fraction):
    # GDAL's own threads would report the damage on stderr only, and leave zeros.
    monkeypatch.setenv('GDAL_NUM_THREADS', 'ALL_CPUS')
    path = write_jp2(tmp_path / 'cut.jp2', pixels(1, 256, 256))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(ReadError, match=r'cut\.jp2: cannot read rows 0:256'):
        FileRaster(str(path)).read([1], ALL, ALL)


@pytest.mark.parametrize('driver', ['PNG', 'JPEG'])
@pytest.mark.parametrize('fraction', [0.3, 0.6, 0.9])
@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_truncated_images_are_never_zeros(tmp_path, driver, fraction):
    path = write_tiff(tmp_path / 'cut.img', pixels(3, 256, 256, 'uint8'), crs=None, driver=driver)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    for indexes in ([1], [1, 2], [1, 2, 3]):
        with pytest.raises(GeoresError, match=r'cut\.img'):
            FileRaster(str(path)).read(indexes, ALL, ALL)


def test_file_removed_after_opening(tmp_path):
    path = write_tiff(tmp_path / 'gone.tif', pixels())
    scene = open_scene(path)
    path.unlink()
    with pytest.raises(ReadError, match=r'gone\.tif'):
        scene.band('band1').raster.read([1], ALL, ALL)
    with pytest.raises(SceneError, match=r'gone\.tif'):
        _ = scene.fingerprint


@pytest.fixture
def address(tmp_path, monkeypatch):
    """Serve a folder over HTTP."""
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '127.0.0.1')

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_remote_files_are_geotiffs_read_over_the_network(tmp_path, address):
    values = pixels(2)
    write_tiff(tmp_path / f'{TILE}_stack.tif', values, descriptions=('B02', 'B03'))
    scene = open_scene(f'{address}/{TILE}_stack.tif?token=1')
    assert (list(scene.bands), scene.name) == (['B02', 'B03'], f'{TILE}_stack')
    np.testing.assert_array_equal(scene.band('B03').raster.read([2], ALL, ALL)[0][0], values[1])
    again = open_scene(f'{address}/{TILE}_stack.tif?token=1')
    assert again.fingerprint == scene.fingerprint
    with pytest.raises(SceneError, match=r'missing\.tif.*check the address'):
        open_scene(f'{address}/missing.tif')


def test_cache_is_counted_in_bytes_and_given_back():
    before = get_gdal_config('GDAL_CACHEMAX')
    with gdal_env(48 * 2**20):
        assert get_gdal_config('GDAL_CACHEMAX') == 48 * 2**20
        assert get_gdal_config('GDAL_NUM_THREADS') == 1
    assert get_gdal_config('GDAL_CACHEMAX') == before


def test_options_of_the_user_stay(monkeypatch):
    monkeypatch.setenv('GDAL_CACHEMAX', '96')
    assert 'GDAL_CACHEMAX' not in gdal_env().options


def test_cache_takes_effect(tmp_path):
    # A block read again comes from the cache: it can still be read when the file has been cut.
    path = write_tiff(tmp_path / 'a.tif', pixels(1, 512, 512), tiled=True, blockxsize=512, blockysize=512)
    with gdal_env():
        raster = FileRaster(str(path))
        first, _ = raster.read([1], ALL, ALL)
        os.truncate(path, 2000)
        np.testing.assert_array_equal(raster.read([1], ALL, ALL)[0], first)

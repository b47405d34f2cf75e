"""A map of a scene on a server fetches what it needs, once: bytes are counted where they are sent."""

import os
import signal
import threading
from concurrent.futures import Future

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.errors import RasterioIOError
from rasterio.shutil import copy
from rasterio.windows import Window

import geores
from geores.inference import GridReader
from geores.scenes import blocks, open_scene
from geores.scenes.blocks import HeldBlocks, holding_blocks, rectangles

from ..fixtures import RGB, SENTINEL2, noise, tiny_bundle, write_scene
from ..remote_fixtures import serve_ranges

SIDE = 2000
DEFLATE = {'compress': 'DEFLATE', 'predictor': 2}
TILED = {'driver': 'GTiff', 'tiled': True, 'copy_src_overviews': True, 'blockxsize': 256, 'blockysize': 256}
LAYOUTS = {
    'blocks of all bands': {'driver': 'COG', 'blocksize': 256, 'compress': 'DEFLATE'},
    'large blocks': {'driver': 'COG', 'blocksize': 512, 'compress': 'LZW'},
    'uncompressed': {'driver': 'COG', 'blocksize': 256, 'compress': 'NONE'},
    'bands apart': {**TILED, **DEFLATE, 'interleave': 'BAND'},
    'strips': {'driver': 'GTiff', 'copy_src_overviews': True, 'blockysize': 16, **DEFLATE},
    'no overviews': {**TILED, **DEFLATE},
}


@pytest.fixture(scope='module')
def scene():
    """Pixels that all layouts have, (bands, rows, cols)."""
    return noise(len(SENTINEL2), SIDE, SIDE, 'uint16')


@pytest.fixture(scope='module')
def reflectances(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bundles') / 'tiny-sentinel2'
    return tiny_bundle(folder, SENTINEL2, units='reflectance*10000', input_size=64)


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '127.0.0.1')
    with serve_ranges(tmp_path) as served:
        yield served


def write(path, values, bands, options):
    """Write a scene with overviews in its own file, unless the layout has none."""
    plain = write_scene(path.with_suffix('.plain'), bands, values=values, blocks=256)
    if options.get('driver') == 'COG' or 'copy_src_overviews' in options:
        with rasterio.open(plain, 'r+') as file:
            file.build_overviews([2, 4, 8], rasterio.enums.Resampling.average)
    copy(plain, path, **options)
    plain.unlink()
    return path


def needed(path, bands):
    """Bytes of the blocks of some bands of a file, each once."""
    with rasterio.open(path) as file:
        places = {
            file.get_tag_item(f'BLOCK_OFFSET_{col}_{row}', 'TIFF', bidx=index): int(
                file.get_tag_item(f'BLOCK_SIZE_{col}_{row}', 'TIFF', bidx=index)
            )
            for index, name in enumerate(file.descriptions, 1)
            for (row, col), _ in file.block_windows(index)
            if name in bands
        }
    return sum(places.values())


def same_scores(near, far, model):
    one, other = (geores.classify(open_scene(x), model, device='cpu', runtime='torch') for x in (near, far))
    np.testing.assert_array_equal(one.scores.values, other.scores.values)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_map_fetches_its_blocks_once(layout, scene, reflectances, server, tmp_path):
    options = LAYOUTS[layout]
    if layout == 'no overviews':
        options = {key: value for key, value in options.items() if key != 'copy_src_overviews'}
    path = write(tmp_path / 'scene.tif', scene, SENTINEL2, options)
    same_scores(path, f'{server.address}/scene.tif?{layout.replace(" ", "-")}', reflectances)
    assert server.size <= 1.1 * needed(path, SENTINEL2)


def test_a_map_of_a_file_a_band_fetches_its_blocks_once(scene, reflectances, server, tmp_path):
    names = [f'T33UUU_20170216T102101_{band}.tif' for band in SENTINEL2]
    paths = [
        write(tmp_path / name, scene[at : at + 1], [band], LAYOUTS['blocks of all bands'])
        for at, (name, band) in enumerate(zip(names, SENTINEL2, strict=True))
    ]
    same_scores(paths, [f'{server.address}/{name}' for name in names], reflectances)
    assert server.size <= 1.1 * sum(needed(path, SENTINEL2) for path in paths)


def test_a_map_of_a_picture_fetches_its_blocks_once(bundle, server, tmp_path):
    options = {'driver': 'COG', 'blocksize': 256, 'compress': 'JPEG', 'quality': 90}
    path = write(tmp_path / 'scene.tif', noise(3, SIDE, SIDE), RGB, options)
    same_scores(path, f'{server.address}/scene.tif', bundle)
    assert server.size <= 1.1 * needed(path, RGB)


def test_what_threads_read_beside_each_other_is_fetched_once(scene, server, tmp_path):
    path = write(tmp_path / 'scene.tif', scene, SENTINEL2, LAYOUTS['blocks of all bands'])
    far = open_scene(f'{server.address}/scene.tif?threads')
    reader = GridReader(far, SENTINEL2, far.geobox)
    spans = [slice(start, start + 500) for start in range(0, SIDE, 500)]
    threads = [
        threading.Thread(target=lambda row=row: [reader.read(row, col) for col in spans]) for row in spans
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values, _ = reader.read(slice(290, 910), slice(290, 910))
    np.testing.assert_array_equal(values, scene[:, 290:910, 290:910])
    assert server.size <= 1.1 * needed(path, SENTINEL2)


def test_masked_and_transparent_pixels_are_those_of_the_file(server, tmp_path):
    values = noise(4, 300, 300)
    values[3] = np.where(values[0] > 100, 255, 0)
    path = tmp_path / 'rgba.tif'
    write(path, values, (*RGB, 'alpha'), {'driver': 'COG', 'blocksize': 128, 'compress': 'DEFLATE'})
    near, far = (open_scene(x).rasters[0] for x in (path, f'{server.address}/rgba.tif'))
    assert near.header.alpha == far.header.alpha == 4
    np.testing.assert_array_equal(far.read_coarse(2, 70)[0], near.read_coarse(2, 70)[0])
    with holding_blocks():
        far.read([1], slice(100, 130), slice(100, 130))
    for one, other in zip(
        near.read([3, 1], slice(0, 300), slice(5, 300)),
        far.read([3, 1], slice(0, 300), slice(5, 300)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


class Stub:
    """A dataset whose reads are counted, and can wait or fail."""

    block_shapes = ((16, 16),)
    height, width, count, indexes = 40, 50, 1, (1,)

    def __init__(self):
        self.reads = 0
        self.entered, self.go = threading.Event(), threading.Event()
        self.fails = False

    def read(self, indexes, window, out_dtype):
        self.reads += 1
        self.entered.set()
        self.go.wait(60)
        if self.fails:
            raise RasterioIOError('the connection broke')
        (top, bottom), (left, right) = window.toranges()
        rows, cols = np.mgrid[int(top) : int(bottom), int(left) : int(right)]
        return np.stack([100 * rows + cols for _ in indexes]).astype(out_dtype)


def look(held, dataset):
    with holding_blocks():
        return held.read(dataset, [1], Window(20, 20, 4, 4))


def test_two_threads_that_look_at_one_block_fetch_it_once():
    held, dataset, seen = HeldBlocks(np.dtype('int32'), shared=True), Stub(), []
    threads = [threading.Thread(target=lambda: seen.append(look(held, dataset))) for _ in range(2)]
    threads[0].start()
    dataset.entered.wait(60)
    threads[1].start()
    dataset.go.set()
    for thread in threads:
        thread.join()
    assert dataset.reads == 1
    np.testing.assert_array_equal(*seen)
    assert seen[0][0, 0, 0] == 2020


def test_a_look_that_failed_is_tried_again():
    held, dataset = HeldBlocks(np.dtype('int32'), shared=True), Stub()
    dataset.go.set()
    dataset.fails = True
    with pytest.raises(RasterioIOError):
        look(held, dataset)
    dataset.fails = False
    assert look(held, dataset)[0, 0, 0] == 2020


def test_blocks_go_with_their_file():
    held, dataset = HeldBlocks(np.dtype('int32'), shared=True), Stub()
    dataset.go.set()
    look(held, dataset)
    number = held._number
    assert any(key.number == number for key in HeldBlocks._held)
    del held
    assert not any(key.number == number for key in HeldBlocks._held)


def test_a_file_that_goes_while_another_is_looked_at_takes_its_blocks_along():
    kept, gone, new = (HeldBlocks(np.dtype('int32'), shared=True) for _ in range(3))
    dataset, others = Stub(), [gone]
    dataset.go.set()
    look(kept, dataset)
    look(gone, dataset)
    number = gone._number
    del gone

    class Collecting(Future):
        """A block in whose turn garbage is collected, which is possible anywhere."""

        def done(self):
            others.clear()
            return super().done()

    block = Collecting()
    block.set_result(np.zeros((1, 16, 16), 'int32'))
    first = next(key for key in HeldBlocks._held if key.number == kept._number)
    HeldBlocks._held[first] = block
    assert look(new, dataset)[0, 0, 0] == 2020
    assert not any(key.number == number for key in HeldBlocks._held)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='POSIX')
def test_a_forked_child_does_not_wait_for_what_its_parent_fetches():
    held, dataset = HeldBlocks(np.dtype('int32'), shared=True), Stub()
    thread = threading.Thread(target=look, args=(held, dataset))
    thread.start()
    dataset.entered.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        dataset.go = threading.Event()
        dataset.go.set()
        seen = held.read(dataset, [1], Window(20, 20, 4, 4))
        os._exit(0 if seen[0, 0, 0] == 2020 else 1)
    dataset.go.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_a_window_that_the_cache_cannot_hold_is_fetched_once(scene, server, tmp_path):
    path = write(tmp_path / 'scene.tif', scene, SENTINEL2, LAYOUTS['blocks of all bands'])
    far = open_scene(f'{server.address}/scene.tif?small-cache')
    reader = GridReader(far, SENTINEL2, far.geobox, cache_bytes=scene.nbytes // 4)
    np.testing.assert_array_equal(reader.read(slice(0, SIDE), slice(0, SIDE))[0], scene)
    assert server.size <= 1.1 * needed(path, SENTINEL2)


@st.composite
def reads(draw):
    spans = [
        sorted(draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True))) for size in (75, 90)
    ]
    indexes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True))
    return draw(st.booleans()), indexes, spans


@pytest.fixture(scope='module', params=['PIXEL', 'BAND'])
def dataset(request, tmp_path_factory):
    path = tmp_path_factory.mktemp('held') / 'file.tif'
    with rasterio.open(
        path, 'w', driver='GTiff', count=3, height=75, width=90, dtype='uint16', tiled=True, blockxsize=16,
        blockysize=32, interleave=request.param, crs='EPSG:32633',
        transform=rasterio.transform.from_origin(0, 75, 2, 2),
    ) as file:  # fmt: skip
        file.write(noise(3, 75, 90, 'uint16'))
    with rasterio.open(path) as file:
        yield file


@given(some=st.lists(reads(), min_size=1, max_size=8), most=st.sampled_from([0, 5_000, 2**20]))
def test_what_is_held_changes_no_pixel_and_is_bounded(dataset, some, most):
    held = HeldBlocks(np.dtype('uint16'), shared=dataset.interleaving.name == 'pixel')
    whole = dataset.read()
    before, blocks.HELD_BYTES = blocks.HELD_BYTES, most
    try:
        for looks, indexes, ((top, bottom), (left, right)) in some:
            window = Window(left, top, right - left, bottom - top)
            if looks:
                with holding_blocks():
                    values = held.read(dataset, indexes, window)
            else:
                values = held.read(dataset, indexes, window)
            expected = whole[[index - 1 for index in indexes], top:bottom, left:right]
            np.testing.assert_array_equal(values, expected)
            assert sum(future.result().nbytes for future in HeldBlocks._held.values()) <= most
    finally:
        blocks.HELD_BYTES = before


@given(st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.booleans()))
def test_rectangles_have_every_place_once_and_are_full(places):
    found = rectangles(places)
    assert sorted(place for group in found for place in group) == sorted(places)
    for group in found:
        rows, cols = ({place[axis] for place in group} for axis in (0, 1))
        assert len(group) == len(rows) * len(cols)
        assert max(rows) - min(rows) + 1 == len(rows)
        assert max(cols) - min(cols) + 1 == len(cols)
        assert len({places[place] for place in group}) == 1

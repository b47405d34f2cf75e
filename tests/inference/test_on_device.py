"""Regions that are sent to a device as they are stored give what regions on the host give, on any device."""

import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from types import SimpleNamespace

import geopandas
import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import box

import geores
from geores.asking.encoding import EncodeStep
from geores.grid import Blocks
from geores.inference import (
    ChunkWork,
    GridReader,
    Mask,
    MemoryStore,
    Quicklook,
    UnitTransform,
    VectorSink,
    run,
)
from geores.inference import on_device as on_device_module
from geores.inference import prepared as preparing
from geores.inference.layer import StoredWindow
from geores.inference.on_device import SLOTS, DevicePlacement, Ring
from geores.inference.plan import Plan
from geores.inference.region import HostPixels, cut_tiles, read_region, valid_tiles
from geores.runtime.predictor import Predictor
from geores.scenes import open_scene

from ..ask_fixtures import oracle_bundle
from ..fixtures import hold_files, write_scene
from ..pixel_fixtures import pixel_bundle  # noqa: F401
from ..reader_fixtures import CORNER, UTM, noise, write
from .test_engine import ArrayReader, masks, means, plans

CPU = torch.device('cpu')
DTYPES = ('uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'uint64', 'float32', 'float64')


class Memory:
    """A raster in memory."""

    is_lazy, fingerprint, path = False, '', '<memory>'

    def __init__(self, values, valid, pixel, blocks):
        self.values, self.valid = values, valid
        self.geobox = GeoBox(valid.shape, Affine(pixel, 0, CORNER[0], 0, -pixel, CORNER[1]), UTM)
        self.count, self.dtype, self.block_shape, self.nodata = len(values), values.dtype, blocks, None

    def read(self, indexes, rows, cols):
        valid = self.valid[rows, cols]
        return self.values[[i - 1 for i in indexes], rows, cols], None if valid.all() else valid


def scene_of(*rasters):
    """Bands b0, b1, ... of rasters, in turn, so that those of one are not neighbours."""
    bands = [
        SimpleNamespace(raster=raster, index=index + 1)
        for index in range(max(raster.count for raster in rasters))
        for raster in rasters
        if index < raster.count
    ]
    names = [f'b{number}' for number in range(len(bands))]
    return names, SimpleNamespace(band=dict(zip(names, bands, strict=True)).__getitem__)


@st.composite
def readers(draw):
    """Readers of rasters of several types and pixel sizes, with gains, masks, areas and invalid pixels."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    height, width = (6 * draw(st.integers(3, 10)) for _ in range(2))
    rasters = []
    for zoom in draw(st.lists(st.sampled_from([1, 2, 3, 1 / 2, 1 / 3]), min_size=1, max_size=3)):
        shape = (draw(st.integers(1, 3)), round(height / zoom), round(width / zoom))
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        least, most = (-3000, 5000) if dtype.kind == 'f' else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        values = rng.uniform(least, most, shape).astype(dtype)
        values[:, :2, :2] = 7
        valid = rng.random(shape[1:]) > draw(st.sampled_from([0.0, 0.3]))
        if dtype.kind == 'f':
            values[:, ~valid] = np.nan
        blocks = (draw(st.integers(4, 40)), draw(st.integers(4, 40)))
        rasters.append(Memory(values, valid, 10.0 * zoom, blocks))
    grid = GeoBox((height, width), Affine(10, 0, CORNER[0], 0, -10, CORNER[1]), UTM)
    names, scene = scene_of(*rasters)
    gains = st.builds(
        UnitTransform,
        gain=st.sampled_from([1.0, 1e-4, 255 / 37, 2.0]),
        bias=st.sampled_from([0.0, -1000.0, 0.1]),
        low=st.sampled_from([None, 0.0]),
        high=st.sampled_from([None, 255.0]),
        decibels=st.booleans(),
    )
    mask = None
    if draw(st.booleans()):
        flags = rng.integers(0, 3, (1, height // 2, width // 2)).astype('uint8')
        mask = Mask(Memory(flags, np.ones(flags.shape[1:], bool), 20.0, (16, 16)), (2,))
    area = grid.extent.geom.centroid.buffer(90) if draw(st.booleans()) else None
    reader = GridReader(
        scene,
        names,
        grid,
        resampling=draw(st.sampled_from(['nearest', 'bilinear'])),
        transforms={name: draw(gains) for name in names},
        mask=mask,
        area=area,
        blank=draw(st.sampled_from([None, 7.0])),
    )
    rows, cols = (
        slice(*sorted(draw(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)))))
        for size in (height, width)
    )
    return reader, slice(rows.start, rows.stop + 1), slice(cols.start, cols.stop + 1)


@settings(deadline=None, max_examples=80)
@given(readers())
def test_a_window_that_is_sent_as_it_is_stored_is_the_window(case):
    reader, rows, cols = case
    values, valid = reader.read(rows, cols)
    fill = np.arange(len(values)) - 3.5
    values[:, ~valid] = fill[:, None]
    stored = reader.read_stored(rows, cols)
    assert np.array_equal(stored.valid, valid)
    pixels = DevicePlacement([CPU])(stored, fill.tolist(), [(0, 0), (0, 0)])
    exact = [not transform.decibels for transform in reader._transforms]
    assert np.array_equal(pixels.values[exact], values[exact])
    assert np.allclose(pixels.values, values, rtol=1e-6, atol=1e-5)


def test_stored_numbers_are_sent_in_the_bytes_that_they_take(tmp_path):
    for name, pixel in (('B02', 10.0), ('B03', 10.0), ('B05', 20.0)):
        side = round(960 / pixel)
        write(tmp_path / f'{name}.tif', noise((1, side, side)), pixel)
    scene = open_scene(tmp_path)
    window = GridReader(scene, list(scene.bands), scene.geobox).read_stored(slice(16, 80), slice(16, 80))
    kinds = {stored.values.dtype.name: stored.values.nbytes for stored, _ in window.layers}
    assert kinds == {'uint16': 2 * 34 * 34}  # the last one: 32 pixels and a margin
    assert [stored.values.nbytes for stored, _ in window.layers[:2]] == [2 * 64 * 64] * 2


@settings(deadline=None, max_examples=30)
@given(plans(), st.integers(0, 9))
def test_tiles_of_a_device_are_those_of_the_host(plan, seed):
    """Also past the grid, where pixels are invalid, and for any chunks and batches."""
    rng, tiling = np.random.default_rng(seed), plan.tiling
    valid = masks(tiling, seed) if seed % 3 else None
    reader = ArrayReader(rng.random((2, tiling.height, tiling.width)), valid)
    sinks, fill = [VectorSink(2), Quicklook([1, 0], 1 + seed)], [3.0, -1.0]
    here, there = MemoryStore(), MemoryStore()
    run(ChunkWork(plan, reader, means, sinks, fill), here)
    steps = ChunkWork(
        plan, reader, lambda tiles: means(tiles.on(CPU).numpy()), sinks, fill, DevicePlacement([CPU])
    )
    run(steps, there, readers=3, computers=2)
    assert here.done() == there.done()
    for index in here.done():
        for name, array in here.get(index).items():
            assert np.array_equal(array, there.get(index)[name], equal_nan=True), name


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_blocks_of_pixels_keep_their_fill_on_a_device(data):
    height, width = data.draw(st.integers(20, 70)), data.draw(st.integers(20, 70))
    blocks = Blocks(height, width, 24, data.draw(st.integers(0, 8)), 4, (0, 0))
    rng = np.random.default_rng(height)
    reader = ArrayReader(rng.random((2, height, width)), rng.random((height, width)) > 0.2)
    plan = Plan(blocks, (2, 2), 3, 0.0)
    for chunk in plan:
        here, there = (
            read_region(plan, reader, chunk, [5.0, 6.0], way) for way in (None, DevicePlacement([CPU]))
        )
        assert isinstance(here.pixels, HostPixels)
        assert np.array_equal(here.values, there.values)
        assert np.array_equal(here.valid, there.valid)
        tiles = valid_tiles(plan, here)
        if len(tiles):
            assert np.array_equal(cut_tiles(plan, here, tiles), cut_tiles(plan, there, tiles).on(CPU).numpy())


def test_shapes_without_a_device():
    """On torch's device without memory, so that nothing of the way back and forth is needed for a shape."""
    meta = torch.device('meta')
    plan = Plan(plans_tiling := geores.grid.Tiling(40, 50, 16, 8), (9, 9), 8)
    valid = np.random.default_rng(0).random((40, 50)) > 0.1
    reader = ArrayReader(np.zeros((3, 40, 50)), valid)
    region = read_region(plan, reader, plan.chunk(0, 0), None, DevicePlacement([meta]))
    tiles = cut_tiles(plan, region, valid_tiles(plan, region))
    assert tiles.on(meta).shape == (plans_tiling.count, 3, 16, 16)
    assert tiles.on(meta, 100).shape == (100, 3, 16, 16)
    assert tiles.on(meta).dtype == torch.float32


def test_tiles_are_filled_up_to_a_number_with_the_last_one():
    plan = Plan(geores.grid.Tiling(32, 32, 8, 8), (4, 4), 8)
    reader = ArrayReader(np.random.default_rng(0).random((2, 32, 32)))
    region = read_region(plan, reader, plan.chunk(0, 0), None, DevicePlacement([CPU]))
    tiles = cut_tiles(plan, region, np.array([[0, 1], [2, 3]]))
    more = tiles.on(CPU, 5)
    assert torch.equal(more[:2], tiles.on(CPU))
    assert torch.equal(more[2:], more[1:2].expand(3, -1, -1, -1))
    with torch.inference_mode():
        more.zero_()  # which is the caller's own
    assert tiles.on(CPU).any()


def test_many_threads_share_few_pieces_of_pinned_memory():
    ring = Ring(CPU, slots=2)

    def send(seed):
        rng = np.random.default_rng(seed)
        arrays = [
            rng.integers(0, 9, (seed + 1, 31)).astype(kind) for kind in ('uint8', 'uint16', 'float32', 'bool')
        ]
        sent, event = ring.send([arrays[0][:, ::2], *arrays[1:]])
        assert event is None
        return [arrays[0][:, ::2], *arrays[1:]], sent

    with ThreadPoolExecutor(8) as pool:
        for arrays, sent in list(pool.map(send, range(60))):
            for array, tensor in zip(arrays, sent, strict=True):
                assert np.array_equal(array, tensor.numpy().view(array.dtype))


class Event:
    """Stands for an event of a CUDA device."""

    def __init__(self, made):
        self.place, self.waited = len(made), 0
        made.append(self)

    def synchronize(self):
        self.waited += 1


def test_streams_wait_for_what_others_did(monkeypatch):
    """With events as on a GPU: a use comes after the copy, and in other threads after the units."""
    made, waits = [], []
    monkeypatch.setattr(on_device_module, '_mark', lambda device: Event(made))
    monkeypatch.setattr(
        on_device_module, '_after', lambda event, device, *kept: waits.append((event, len(kept)))
    )
    place = DevicePlacement([CPU])
    window = StoredWindow.of(np.ones((2, 8, 8), np.float32), np.ones((8, 8), bool))
    pixels = [place(window, [0.0, 0.0], [(0, 0), (0, 0)]) for _ in range(SLOTS + 1)]
    assert [event.waited for event in made] == [1, *[0] * SLOTS]  # the first piece was used again
    pixels[0].on(CPU)
    assert waits == [(made[0], 1), (made[-1], 1)]  # the one array that was sent; then the pixels
    pixels[0].on(CPU)
    assert waits[2:] == [(made[-1], 1)]


@pytest.mark.parametrize(('readers', 'computers'), [(1, 1), (3, 2), (4, 4)])
def test_few_regions_are_on_a_device_at_once(readers, computers):
    alive, most, lock = weakref.WeakSet(), [0], Lock()
    place = DevicePlacement([CPU])

    def counted(*args):
        pixels = place(*args)
        with lock:
            alive.add(pixels)
            most.append(len(alive))
        return pixels

    plan = Plan(geores.grid.Tiling(160, 160, 8, 8), (1, 2), 1)
    reader = ArrayReader(np.zeros((1, 160, 160)))
    work = ChunkWork(plan, reader, lambda tiles: means(tiles.on(CPU).numpy()), [VectorSink(2)], None, counted)
    run(work, MemoryStore(), readers=readers, computers=computers)
    assert len(most) == 1 + len(plan)
    assert max(most) <= readers + computers + 5


@pytest.fixture
def on_device(monkeypatch):
    """Classify once as on a CPU, and once as on a GPU; count the regions that were sent."""
    sent = []
    plain = DevicePlacement.__call__

    def counted(self, *args):
        sent.append(args)
        return plain(self, *args)

    monkeypatch.setattr(DevicePlacement, '__call__', counted)

    def both(classify):
        here = classify()
        assert not sent
        with monkeypatch.context() as patch:
            patch.setattr(preparing, 'ON_DEVICE', {'cpu'})
            there = classify()
        assert sent
        sent.clear()
        return here, there

    return both


@pytest.mark.parametrize('stride', [32, 16, 8])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'float32'])
def test_scores_of_tiles_are_the_same(stride, dtype, bundle, tmp_path, on_device):
    shape = (3, 150, 170)
    values = noise(shape, dtype='int16').astype(dtype) + (0.25 if dtype == 'float32' else 0)
    values[:, 40:70, :60] = 0
    scene = write(tmp_path / 'scene.tif', values.astype(dtype), nodata=0, names=['red', 'green', 'blue'])
    here, there = on_device(
        lambda: geores.classify(scene, bundle, stride=stride, tile=32, device='cpu', runtime='torch')
    )
    assert np.array_equal(here.scores.values, there.scores.values, equal_nan=True)
    assert here.shares == there.shares
    picture = [result.look.assemble(result.plan, result.store) for result in (here, there)]
    assert np.array_equal(*picture, equal_nan=True)


def test_pixels_are_the_same_and_come_back_as_bytes(pixel_bundle, tmp_path, on_device, monkeypatch):  # noqa: F811
    scene = write_scene(tmp_path / 'scene.tif', height=200, width=260)
    area = tmp_path / 'area.geojson'
    geobox = open_scene(scene).geobox
    frame = geopandas.GeoDataFrame(
        geometry=[box(*geobox.extent.geom.buffer(-200).bounds)], crs=str(geobox.crs)
    )
    frame.to_file(area)
    kinds = set()
    plain = Predictor.__call__

    def noted(self, tiles):
        arrays = plain(self, tiles)
        kinds.update((name, array.dtype.name) for name, array in arrays.items())
        return arrays

    monkeypatch.setattr(Predictor, '__call__', noted)
    how = {'tile': 48, 'probabilities': True, 'aoi': area, 'device': 'cpu', 'runtime': 'torch'}
    here, there = on_device(lambda: geores.classify(scene, pixel_bundle, **how))
    for name in ('classes', 'confidence', 'scores'):
        assert np.array_equal(getattr(here, name).values, getattr(there, name).values, equal_nan=True), name
    assert kinds == {('classes', 'uint8'), ('confidence', 'uint8'), ('probabilities', 'uint8')}


def test_files_of_several_devices_are_those_of_the_host(bundle, tmp_path, on_device):
    scene = write_scene(tmp_path / 'scene.tif', height=200, width=260, blocks=64)

    def written():
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        (outcome,) = geores.classify_many(
            [scene], bundle, out=out, device='cpu,cpu', workers=3, stride=16, runtime='torch'
        )
        assert outcome.result is not None, outcome.error
        return {name: (out / name).read_bytes() for name in hold_files(out) if name != 'run.json'}

    here, there = on_device(written)
    assert here == there


def test_features_of_questions_are_the_same(tmp_path):
    model = geores.load_model(oracle_bundle(tmp_path / 'oracle'))
    step, bands = EncodeStep(model, 'fp32'), len(model.card.bands)
    plan = Plan(geores.grid.Tiling(128, 128, 64, 64), (2, 2), 4)
    reader = ArrayReader(np.random.default_rng(0).uniform(0, 255, (bands, 128, 128)))
    tiles = np.array([[0, 0], [1, 1]])
    here, there = (
        step(cut_tiles(plan, read_region(plan, reader, plan.chunk(0, 0), None, way), tiles))['features']
        for way in (None, DevicePlacement([CPU]))
    )
    assert np.array_equal(here, there)

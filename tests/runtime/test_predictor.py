"""The whole way from scene to scores equals `Model.predict` on tiles cut by hand."""

import gc
import weakref
from threading import Barrier, Thread

import numpy as np
import pytest
import rasterio
import torch

import geores
from geores.errors import UsageError
from geores.runtime.base import (
    BFLOAT16,
    has_bfloat16,
    one_thread_each,
    packs_bfloat16,
    pick_device,
)
from geores.runtime.eager import pack_convolutions
from geores.runtime.predictor import STREAMS, Predictor, choose_predictor, device_streams

from ..fixtures import tiny_bundle, write_scene

BATCHES = 2e-5
"""How far scores in float32 may move with the batch size."""


@pytest.fixture(scope='module')
def model(bundle):
    return geores.load_model(bundle)


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif', blocks=64)


def tile_scores(result):
    return result.table.read('scores', *(slice(0, count) for count in result.plan.tiling.shape))


def test_scores_equal_predict_on_tiles_cut_by_hand(scene, model):
    result = geores.classify(scene, model, stride=24, precision='fp32')
    with rasterio.open(scene) as file:
        pixels = file.read().astype(np.float32)
    y, x = result.plan.tiling.y, result.plan.tiling.x
    tiles = [pixels[:, top : top + 32, left : left + 32] for top in y.starts for left in x.starts]
    expected = model.predict(np.stack(tiles)).reshape(y.count, x.count, -1)
    assert np.abs(tile_scores(result) - expected).max() < BATCHES
    # Every tile answers for itself, at the place where the table says it lies.
    outlines = result.tiles.geometry.bounds.to_numpy().reshape(y.count, x.count, 4)
    with rasterio.open(scene) as file:
        corners = [file.xy(top, left, offset='ul') for top in y.starts for left in x.starts]
    assert np.allclose(outlines[..., [0, 3]].reshape(-1, 2), corners)


def test_bits_do_not_depend_on_the_number_of_threads(scene, model):
    runs = [
        geores.classify(scene, model, stride=8, precision='fp32', workers=workers) for workers in (1, 2, 5)
    ]
    for other in runs[1:]:
        assert np.array_equal(tile_scores(runs[0]), tile_scores(other))


@pytest.mark.parametrize('batch_size', [1, 3, 200])
def test_batch_size_moves_the_last_digits_alone(scene, model, batch_size):
    one = geores.classify(scene, model, stride=16, precision='fp32')
    other = geores.classify(scene, model, stride=16, precision='fp32', batch_size=batch_size)
    assert np.abs(tile_scores(one) - tile_scores(other)).max() < BATCHES


def test_cells_agree_with_rasterio(scene, model, tmp_path):
    result = geores.classify(scene, model, stride=16)
    path = result.save(tmp_path / 'out')['scores']
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), result.scores.to_numpy(), equal_nan=True)
        x, y = file.xy(3, 5)
        assert file.crs == result.scores.rio.crs
    assert result.scores.x[5] == x
    assert result.scores.y[3] == y


def precision_of(model, precision, probe):
    return choose_predictor(model, precision, probe).precision


def test_precision(model, monkeypatch):
    probe = np.random.default_rng(0).uniform(0, 255, (2, 3, 32, 32)).astype(np.float32)
    assert precision_of(model, 'fp32', probe) == 'fp32'
    monkeypatch.setattr('geores.runtime.choice.has_bfloat16', lambda: True)
    assert precision_of(model, 'auto', probe) == 'bf16'
    assert precision_of(model, 'auto', probe[:0]) == 'fp32'  # not unseen
    monkeypatch.setattr('geores.runtime.nearness.TOLERANCE', 0.0)
    assert precision_of(model, 'auto', probe) == 'fp32'
    monkeypatch.setattr('geores.runtime.choice.has_bfloat16', lambda: False)
    assert precision_of(model, 'auto', probe[:0]) == 'fp32'
    with pytest.raises(UsageError, match='fp16 needs'):
        precision_of(model, 'fp16', probe)
    with pytest.raises(UsageError, match='unknown'):
        precision_of(model, 'fp8', probe)


def test_bf16_is_near_float32(model):
    probe = np.random.default_rng(0).uniform(0, 255, (8, 3, 32, 32)).astype(np.float32)
    exact, rough = (Predictor(model, precision)(probe.copy())['scores'] for precision in ('fp32', 'bf16'))
    assert np.abs(exact - rough).max() < 0.05
    assert exact.dtype == rough.dtype == np.float32


def test_bfloat16_can_be_turned_off(model, monkeypatch):
    monkeypatch.setenv(BFLOAT16, '0')
    assert not has_bfloat16()
    assert not packs_bfloat16()
    probe = np.random.default_rng(0).uniform(0, 255, (2, 3, 32, 32)).astype(np.float32)
    assert precision_of(model, 'auto', probe) == 'fp32'
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    assert type(pack_convolutions(network, torch.bfloat16)[0]) is torch.nn.Conv2d


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_the_model_is_not_changed(bundle, precision):
    model = geores.load_model(bundle)
    before = {
        name: (tensor, tensor.clone()) for name, tensor in model.network.state_dict(keep_vars=True).items()
    }
    Predictor(model, precision)(np.ones((1, 3, 32, 32), np.float32))
    after = model.network.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    for name, (tensor, copy) in before.items():
        assert after[name] is tensor
        assert torch.equal(tensor, copy)
        assert tensor.stride() == copy.stride()


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with one_thread_each():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_devices():
    assert pick_device('cpu') == 'cpu'
    assert pick_device('auto') in ('cpu', 'cuda')
    with pytest.raises(UsageError, match='unknown'):
        pick_device('toaster')
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match='not available'):
            pick_device('cuda')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_cuda_is_near_the_cpu(scene, bundle):
    model = geores.load_model(bundle, 'cuda')
    ours = geores.classify(scene, model, stride=16, precision='fp16')
    exact = geores.classify(scene, geores.load_model(bundle), stride=16, precision='fp32')
    assert np.abs(tile_scores(ours) - tile_scores(exact)).max() < 0.05


class TestUnits:
    """From stored numbers to the card's units."""

    @pytest.fixture
    def reflectance(self, tmp_path):
        folder = tmp_path / 'reflectance'
        bands = ('B02', 'B03', 'B04', 'B08')
        return geores.load_model(tiny_bundle(folder, bands=bands, units='reflectance*10000'))

    def write(self, path, values, scale=None, offset=None):
        write_scene(path, ('B02', 'B03', 'B04', 'B08'), values=values, blocks=64)
        if scale is not None:
            with rasterio.open(path, 'r+') as file:
                file.scales, file.offsets = (scale,) * 4, (offset,) * 4
        return path

    def test_stated_scale_and_offset_and_fractions_agree(self, tmp_path, reflectance):
        stored = np.random.default_rng(0).integers(1001, 5000, (4, 96, 96)).astype('uint16')
        plain = self.write(tmp_path / 'plain.tif', stored - 1000)
        shifted = self.write(tmp_path / 'shifted.tif', stored, 1e-4, -0.1)
        floats = self.write(tmp_path / 'floats.tif', ((stored - 1000.0) / 1e4).astype('float32'))
        expected = tile_scores(geores.classify(plain, reflectance, precision='fp32'))
        for path in (shifted, floats):
            found = geores.classify(path, reflectance, precision='fp32')
            assert np.abs(tile_scores(found) - expected).max() < 1e-3
        assert any('reflectance from 0 to 1' in note for note in found.info.notes)

    def test_other_depths_are_stretched_to_eight_bits_and_it_is_said(self, tmp_path, model):
        values = np.random.default_rng(0).integers(0, 4000, (3, 96, 96)).astype('uint16')
        result = geores.classify(write_scene(tmp_path / 'deep.tif', values=values), model)
        assert any('stretched to 8 bits' in note for note in result.info.notes)


def test_tiles_with_invalid_pixels_decide_about_precision(tmp_path, model, monkeypatch):
    monkeypatch.setattr('geores.runtime.choice.has_bfloat16', lambda: True)
    monkeypatch.setattr('geores.runtime.nearness.TOLERANCE', 0.0)
    values = np.random.default_rng(0).integers(1, 255, (3, 128, 128), np.uint8)
    values[:, ::32, ::32] = 0
    scene = write_scene(tmp_path / 'holes.tif', values=values, nodata=0)
    assert geores.classify(scene, model).info.precision == 'fp32'


def test_a_network_is_laid_out_once_for_all_scenes(bundle):
    model = geores.load_model(bundle)
    first = Predictor(model, 'fp32').runtime
    assert Predictor(model, 'fp32').runtime is first
    assert Predictor(model, 'bf16').runtime is not first
    tiles = np.full((1, len(model.card.bands), 32, 32), 50, np.float32)
    before = Predictor(model, 'fp32')(tiles.copy())['scores']
    with torch.no_grad():
        next(model.network.parameters()).mul_(2)  # as where it is trained on
    changed = Predictor(model, 'fp32')
    assert changed.runtime is not first
    assert not np.array_equal(changed(tiles.copy())['scores'], before)
    held = weakref.ref(changed.runtime)
    del first, changed, model
    gc.collect()
    assert held() is None


def _take_stream(step, barrier, found):
    barrier.wait()
    found.add(step._stream())


def test_streams_of_a_device_are_those_of_all_scenes(model, monkeypatch):
    made = []
    monkeypatch.setattr(torch.cuda, 'Stream', lambda device: made.append(device) or len(made))
    device_streams.cache_clear()
    found = set()
    for _ in range(3):
        step, barrier = Predictor(model, 'fp32'), Barrier(4)
        threads = [Thread(target=_take_stream, args=(step, barrier, found)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    device_streams.cache_clear()
    assert len(made) == len(found) == STREAMS

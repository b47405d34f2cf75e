"""The whole way from scene to scores equals `Model.predict` on tiles cut by hand."""

import gc
import weakref
from copy import deepcopy
from threading import Barrier, Thread

import numpy as np
import pytest
import rasterio
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from timm.layers import ScaledStdConv2d

import geores
from geores.errors import UsageError
from geores.models.lite import LiteNetwork, SameConv2d
from geores.runtime.base import (
    BFLOAT16,
    has_bfloat16,
    one_thread_each,
    packs_bfloat16,
    pick_device,
    round_keeping_sums,
)
from geores.runtime.eager import fold_batch_norms, pack_convolutions, quicken_mish
from geores.runtime.predictor import STREAMS, Predictor, choose_predictor, device_streams

from ..fixtures import tiny_bundle, write_scene

needs_packing = pytest.mark.skipif(
    not packs_bfloat16(), reason='this processor, or GEORES_BFLOAT16=0, does not convolve in bfloat16'
)

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason='torch was built without oneDNN'
)

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


def with_statistics(network):
    """Random statistics in every batch normalisation, without which folding would change nothing."""
    draw = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.uniform_(-1, 1, generator=draw)
            norm.running_var.uniform_(0.5, 2, generator=draw)
            with torch.no_grad():
                norm.weight.uniform_(0.5, 2, generator=draw)
                norm.bias.uniform_(-1, 1, generator=draw)
    return network.eval()


def norms(network):
    return [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize('name', ['resnet10t', 'resnet50', 'efficientnet_b0'])
@torch.inference_mode()
def test_folded_networks_give_the_same(name):
    # In float64, for depths of random weights swell the rounding of float32.
    network = with_statistics(timm.create_model(name, num_classes=5)).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before = network(images)
    folded = fold_batch_norms(deepcopy(network))
    assert not norms(folded)
    torch.testing.assert_close(folded(images), before, rtol=1e-9, atol=1e-9 * float(before.abs().max()))


@torch.inference_mode()
@pytest.mark.parametrize(('scale', 'folds'), [(1.0, True), (1e-5, False), (1e6, False)])
def test_float16_folds_what_it_holds(scale, folds):
    """Also where a channel is nearly dead, but not where weights would overflow, or all lose their digits."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4)).eval()
    network[1].weight.fill_(scale)
    network[1].weight[2] = 1e-9
    network[1].running_var.fill_(4.0)
    plain, half = (fold_batch_norms(deepcopy(network), dtype) for dtype in (torch.float32, torch.float16))
    assert not norms(plain)
    assert (not norms(half)) is folds
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(half(images), network(images))


class Odd(torch.nn.Module):
    """Convolutions before batch normalisations, in ways that must not be folded."""

    def __init__(self, way):
        super().__init__()
        kind = ScaledStdConv2d if way == 'standardised' else torch.nn.Conv2d
        self.conv, self.norm = kind(4, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        self.way = way

    def forward(self, images):
        maps = self.conv(images)
        if self.way == 'branches':
            return self.norm(maps) + maps
        if self.way == 'repeated':
            return self.norm(self.conv(self.norm(maps)))
        if self.way == 'bare':
            return self.norm(maps) + torch.nn.functional.conv2d(images, self.conv.weight, padding=1)
        if self.way == 'untraceable' and images.sum() > 0:
            return self.norm(maps).relu()
        return self.norm(maps)


@pytest.mark.parametrize('way', ['standardised', 'branches', 'repeated', 'bare', 'untraceable'])
@torch.inference_mode()
def test_what_cannot_be_folded_stays(way):
    network = with_statistics(Odd(way))
    images = torch.randn(2, 4, 16, 16)
    folded = fold_batch_norms(deepcopy(network))
    assert len(norms(folded)) == 1
    assert torch.equal(folded(images), network(images))


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 40)),
        elements=st.floats(-4, 4, width=32, allow_subnormal=False),
    )
)
@torch.inference_mode()
def test_filters_keep_their_sums_in_bfloat16(filters):
    layer = torch.nn.Linear(filters.shape[1], filters.shape[0], bias=False)
    layer.weight.data = exact = torch.from_numpy(filters)
    rounded = round_keeping_sums(torch.nn.Sequential(layer))[0].weight
    assert torch.equal(rounded.bfloat16().float(), rounded)

    # Each is one of the two values on either side of it, and sums are no farther than of the nearest ones.
    nearest = exact.bfloat16().float()
    gaps = 2 * (nearest - exact).abs().maximum(exact.abs() * 2**-8)
    assert ((rounded - exact).abs() <= gaps).all()

    def wrong(values):
        return (values.double() - exact.double()).sum(dim=1).abs()

    assert (wrong(rounded) <= wrong(nearest)).all()


def test_sums_of_long_filters_are_kept_well():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(32, 64, 3)
    rounded = round_keeping_sums(torch.nn.Sequential(deepcopy(layer)))[0]
    exact = layer.weight.double().sum(dim=(1, 2, 3))
    wrong = (rounded.weight.double().sum(dim=(1, 2, 3)) - exact).abs().mean()
    assert wrong < 0.05 * (layer.weight.bfloat16().double().sum(dim=(1, 2, 3)) - exact).abs().mean()
    assert torch.equal(rounded.bias, layer.bias)


@needs_packing
@pytest.mark.parametrize('name', ['resnet10t', 'tf_efficientnet_lite0'])
@pytest.mark.parametrize('size', [32, 45])
@torch.inference_mode()
def test_packed_convolutions_give_the_same_bits(name, size):
    network = timm.create_model(name, num_classes=5).eval()
    network = network.to(torch.bfloat16).to(memory_format=torch.channels_last)
    images = torch.randn(3, 3, size, size, dtype=torch.bfloat16)
    images = images.contiguous(memory_format=torch.channels_last)
    before = network(images)
    packed = pack_convolutions(deepcopy(network), torch.bfloat16)
    assert any(type(module).__name__ == '_PackedConv2d' for module in packed.modules())
    assert torch.equal(packed(images), before)
    assert torch.equal(packed(images[:1]), before[:1])


@needs_onednn
@pytest.mark.parametrize('size', [(45, 45), (64, 33)])
@pytest.mark.parametrize('name', ['resnet10t', 'lite'])
@torch.inference_mode()
def test_packed_convolutions_give_the_same_in_float32(name, size):
    torch.manual_seed(0)
    network = with_statistics(LiteNetwork() if name == 'lite' else timm.create_model(name, num_classes=5))
    network = fold_batch_norms(network).to(memory_format=torch.channels_last)
    assert not norms(network)
    images = torch.randn(3, 3, *size).contiguous(memory_format=torch.channels_last)
    before = network(images)
    packed = pack_convolutions(deepcopy(network), torch.float32)
    assert any(type(module).__name__ == '_PackedConv2d' for module in packed.modules())
    torch.testing.assert_close(packed(images), before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))


@needs_onednn
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([2, 3, 5]), st.integers(1, 3))
@torch.inference_mode()
def test_packed_convolutions_pad_as_tensorflow_does(height, width, kernel, stride):
    conv = SameConv2d(4, 4, kernel, stride, groups=4)
    images = torch.randn(2, 4, height, width).contiguous(memory_format=torch.channels_last)
    found = pack_convolutions(torch.nn.Sequential(conv), torch.float32)(images)
    assert found.shape == (2, 4, -(-height // stride), -(-width // stride))
    torch.testing.assert_close(found, conv(images), rtol=1e-5, atol=1e-5)


def count(network, kind):
    return sum(type(module) is kind for module in network.modules())


@needs_packing
@pytest.mark.parametrize(
    ('name', 'kind', 'left'),
    # After a sum, after a pooling, and where timm pads by itself, convolutions do not activate.
    [('resnet10t', torch.nn.ReLU, 4), ('tf_efficientnet_lite0', torch.nn.ReLU6, 5)],
)
@torch.inference_mode()
def test_packed_convolutions_activate_what_they_compute(name, kind, left):
    network = fold_batch_norms(with_statistics(timm.create_model(name, num_classes=5)))
    packed = pack_convolutions(deepcopy(network), torch.bfloat16)
    assert count(packed, kind) == left < count(network, kind)


class Branches(torch.nn.Module):
    """An activation of what something else needs as it is."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.ReLU()

    def forward(self, images):
        maps = self.conv(images)
        return self.act(maps) - maps


@needs_packing
@torch.inference_mode()
def test_packed_convolutions_leave_what_others_need():
    packed = pack_convolutions(network := Branches(), torch.bfloat16)
    assert type(network.act) is torch.nn.ReLU
    assert float(packed(torch.randn(2, 4, 16, 16)).max()) > 0


def test_convolutions_with_hooks_stay():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    network[0].register_forward_hook(lambda *_: None)
    assert pack_convolutions(network, torch.bfloat16)[0] is network[0]
    assert count(network, torch.nn.ReLU) == 1


def test_nothing_is_packed_for_processors_without_bf16(monkeypatch):
    monkeypatch.setattr('geores.runtime.eager.packs_bfloat16', lambda: False)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    assert type(pack_convolutions(network, torch.bfloat16)[0]) is torch.nn.Conv2d


def test_bfloat16_can_be_turned_off(model, monkeypatch):
    monkeypatch.setenv(BFLOAT16, '0')
    assert not has_bfloat16()
    assert not packs_bfloat16()
    probe = np.random.default_rng(0).uniform(0, 255, (2, 3, 32, 32)).astype(np.float32)
    assert precision_of(model, 'auto', probe) == 'fp32'
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    assert type(pack_convolutions(network, torch.bfloat16)[0]) is torch.nn.Conv2d


class ReadsWeights(torch.nn.Sequential):
    """As networks do that ask a layer for its type or size."""

    def forward(self, images):
        return super().forward(images.to(self[0].weight.dtype))


@needs_packing
@torch.inference_mode()
def test_packed_convolutions_show_their_weights():
    network = ReadsWeights(torch.nn.Conv2d(3, 4, 3))
    assert pack_convolutions(network, torch.bfloat16)(torch.ones(1, 3, 8, 8)).shape == (1, 4, 6, 6)


@needs_packing
@torch.inference_mode()
def test_packed_convolutions_keep_their_biases_exact():
    conv = torch.nn.Conv2d(1, 1, 1)
    conv.weight.fill_(-1)
    conv.bias.fill_(1.001)  # 1 in bfloat16
    packed = pack_convolutions(torch.nn.Sequential(conv), torch.bfloat16)
    assert float(packed(torch.ones(1, 1, 4, 4)).mean()) == pytest.approx(0.001, rel=0.01)


@pytest.mark.parametrize('options', [{'padding': 'same'}, {'padding': 1, 'padding_mode': 'reflect'}])
@torch.inference_mode()
def test_convolutions_that_pad_by_themselves_stay(options):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, **options)).to(torch.bfloat16)
    images = torch.randn(2, 3, 16, 16, dtype=torch.bfloat16)
    packed = pack_convolutions(deepcopy(network), torch.bfloat16)
    assert type(packed[0]) is torch.nn.Conv2d
    assert torch.equal(packed(images), network(images))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_mish_in_pieces_is_mish(dtype, layout):
    conv, other = torch.nn.Conv2d(3, 5, 1), torch.nn.Mish()
    network = torch.nn.Sequential(conv, torch.nn.Mish(), other).to(dtype)
    images = (torch.randn(2, 3, 80, 90) * 20).to(dtype).contiguous(memory_format=layout)
    kept = images.clone()
    quick = quicken_mish(deepcopy(network))
    assert [type(module).__name__ for module in quick[1:]] == ['CachedMish', 'CachedMish']
    assert [module.inplace for module in quick[1:]] == [True, False]
    near = {'rtol': 2e-2 if dtype == torch.bfloat16 else 1e-5, 'atol': 1e-5}
    torch.testing.assert_close(quick(images), network(images), **near)
    assert torch.equal(images, kept)
    far = torch.tensor([-1e4, -90.0, 0.0, 19.9, 20.1, 1e4], dtype=dtype)
    torch.testing.assert_close(quick[2](far), torch.nn.functional.mish(far), **near)


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

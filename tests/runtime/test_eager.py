"""Networks rewritten for inference give the answers of the network as it is: folded, packed, rounded."""

from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from timm.layers import ScaledStdConv2d

from geores.models.lite import LiteNetwork, SameConv2d
from geores.runtime.base import packs_bfloat16, packs_float32, round_keeping_sums
from geores.runtime.eager import fold_batch_norms, pack_convolutions, quicken_mish

needs_packing = pytest.mark.skipif(
    not packs_bfloat16(), reason='this processor, or GEORES_BFLOAT16=0, does not convolve in bfloat16'
)
needs_onednn = pytest.mark.skipif(
    not packs_float32(), reason='torch was built without oneDNN, or for ARM, where it is not used in one step'
)


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


def filters_of(rows, weights):
    """Filters, (rows, weights) at most, float32."""
    shapes = st.tuples(st.integers(1, rows), st.integers(1, weights))
    return arrays(np.float32, shapes, elements=st.floats(-4, 4, width=32, allow_subnormal=False))


@given(filters_of(4, 40))
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


@given(filters_of(3, 5))
@torch.inference_mode()
def test_of_short_filters_no_other_rounding_is_better(filters):
    layer = torch.nn.Linear(filters.shape[1], filters.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(filters)
    rounded = round_keeping_sums(torch.nn.Sequential(layer))[0].weight.double().numpy()

    def cost(row, exact):
        wrong = row - exact
        return (wrong**2).sum() + 10 * wrong.sum() ** 2

    inwards = (filters.view(np.int32) & -(2**16)).view(np.float32)  # the value of bfloat16 nearer to 0
    outwards = np.where(inwards == filters, inwards, (inwards.view(np.int32) + 2**16).view(np.float32))
    for row, exact, *around in zip(rounded, filters.astype(float), inwards, outwards, strict=True):
        ways = product(*np.stack(around, axis=1).astype(float))
        assert cost(row, exact) <= min(cost(np.array(way), exact) for way in ways) * (1 + 1e-9)


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

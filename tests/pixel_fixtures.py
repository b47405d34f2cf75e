"""Bundles that label pixels, as weights and as ONNX files."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from geores import ModelCard, models, save_bundle
from geores.errors import UsageError

from .fixtures import LABELS, RGB

LAND_COVER = ('water', 'trees', 'grass', 'flooded_vegetation', 'crops', 'shrub_and_scrub', 'built', 'bare',
              'snow_and_ice')  # fmt: skip
"""Labels of a map of land cover, those of `landcover`."""

CONTEXT = 5
"""Pixels around: two convolutions of 3 x 3, a halving and a doubling."""

with contextlib.suppress(UsageError):

    @models.register('test-pixels')
    class Pixels(nn.Module):
        """Convolutions, a halving by averages and a doubling: its windows have to be even."""

        def __init__(self, in_chans: int, num_classes: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(in_chans, 8, 3, padding=1)
            self.second = nn.Conv2d(8, num_classes, 3, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = nn.functional.avg_pool2d(self.first(images).relu(), 2)
            return nn.functional.interpolate(self.second(maps), scale_factor=2, mode='nearest')


def pixel_card(name='tiny-pixels', bands=RGB, labels=LABELS, **fields):
    """The card of a bundle that labels pixels."""
    card = {
        'name': name,
        'description': 'Random weights for tests.',
        'architecture': 'test-pixels',
        'architecture_kwargs': {'in_chans': len(bands), 'num_classes': len(labels)},
        'activation': 'softmax',
        'task': 'segmentation',
        'sensor': 'any',
        'processing_level': 'any',
        'bands': bands,
        'units': '8-bit',
        'gsd': (1.0, 30.0),
        'input_size': 32,
        'context': CONTEXT,
        'alignment': 2,
        'resampling': 'bilinear',
        'mean': (120.0,) * len(bands),
        'std': (60.0,) * len(bands),
        'labels': labels,
        'thresholds': None,
        'split_id': 'none',
        'training_data': [{'name': 'none', 'licence': 'none'}],
        'licence': 'CC0-1.0',
        'metrics': {},
    }
    return ModelCard(**(card | fields))


def pixel_network(bands=3, labels=3, seed=0):
    """A network of random weights whose labels differ from place to place."""
    torch.manual_seed(seed)
    network = models.create('test-pixels', in_chans=bands, num_classes=labels)
    with torch.no_grad():
        network.second.weight.mul_(5)
    return network.eval()


@pytest.fixture(scope='session')
def pixel_bundle(tmp_path_factory):
    """A bundle for red, green and blue that gives each pixel one of three labels."""
    folder = tmp_path_factory.mktemp('bundles') / 'tiny-pixels'
    return save_bundle(folder, pixel_network(), pixel_card())


@pytest.fixture(scope='session')
def onnx_bundle(tmp_path_factory):
    """The same network as an ONNX file."""
    pytest.importorskip('onnxruntime')
    folder = tmp_path_factory.mktemp('bundles')
    card = pixel_card('tiny-onnx', architecture='onnx', architecture_kwargs={})
    return save_bundle(folder / 'tiny-onnx', write_onnx(pixel_network(), folder / 'network.onnx'), card)


def write_onnx(network, path):
    """Write the network of `pixel_network` as an ONNX file, operator by operator."""
    import onnx

    helper = onnx.helper
    weights = {
        'w1': network.first.weight, 'b1': network.first.bias,
        'w2': network.second.weight, 'b2': network.second.bias,
    }  # fmt: skip
    tensors = [onnx.numpy_helper.from_array(one.detach().numpy(), name) for name, one in weights.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), 'twice'))
    nodes = [
        helper.make_node('Conv', ['images', 'w1', 'b1'], ['a'], pads=[1, 1, 1, 1]),
        helper.make_node('Relu', ['a'], ['b']),
        helper.make_node('AveragePool', ['b'], ['c'], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node('Conv', ['c', 'w2', 'b2'], ['d'], pads=[1, 1, 1, 1]),
        helper.make_node(
            'Resize', ['d', '', 'twice'], ['logits'], mode='nearest', nearest_mode='floor',
            coordinate_transformation_mode='asymmetric',
        ),
    ]  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ['n', channels, 'h', 'w'])
        for name, channels in (('images', 3), ('logits', 3))
    ]
    graph = helper.make_graph(nodes, 'pixels', ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)]), path)
    return path

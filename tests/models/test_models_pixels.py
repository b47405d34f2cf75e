import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx import save as save_onnx

from geores import errors as extras
from geores import models
from geores.errors import BundleError, UsageError
from geores.models.segmentation import measure_context
from geores.tasks.start import OnnxTeacher, start_from
from geores.weight_files import onnx_weights

from ..segmentation_fixtures import TEACHER

CONTEXT = 22
LABELS = [str(place) for place in range(9)]
BANDS = ['B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B11', 'B12']

pytestmark = pytest.mark.usefixtures('one_thread')


def small(**kwargs):
    torch.manual_seed(0)
    return models.create('dynamic_world', in_chans=2, num_classes=3, widths=[4, 5, 6, 3], **kwargs).eval()


def test_it_is_as_small_as_described():
    network = models.create('dynamic_world')
    assert sum(part.numel() for part in network.parameters()) == 219_817
    assert network(torch.zeros(1, 9, 6, 8)).shape == (1, 9, 6, 8)


@pytest.mark.parametrize('widths', [[1, 2, 3], [1, 2, 3, 0]])
def test_widths_are_four(widths):
    with pytest.raises(UsageError, match='widths'):
        models.create('dynamic_world', widths=widths)


def test_context_is_measured_and_nothing_beyond_it_counts():
    network = small()
    assert measure_context(network, 2, network.alignment, 96) == CONTEXT
    assert measure_context(network, 2, network.alignment, 32) is None
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 2, 96, 96, generator=generator)
    for place in (48, 49):
        other = torch.randn(1, 2, 96, 96, generator=generator)
        within = np.s_[:, :, place - CONTEXT : place + CONTEXT + 1, place - CONTEXT : place + CONTEXT + 1]
        other[within] = images[within]
        with torch.inference_mode():
            one, two = (network(part)[0, :, place, place] for part in (images, other))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_constant_in_constant_out_away_from_the_edges():
    network = small()
    with torch.inference_mode():
        inner = network(torch.full((1, 2, 64, 64), 0.4))[0, :, CONTEXT:-CONTEXT, CONTEXT:-CONTEXT]
    torch.testing.assert_close(inner, inner[:, :1, :1].expand_as(inner), rtol=0, atol=1e-5)


def test_a_window_moved_by_the_alignment_moves_the_answer():
    network = small()
    images = torch.randn(1, 2, 72, 72)
    with torch.inference_mode():
        whole, moved = network(images), network(images[:, :, 2:, 4:])
    inner = np.s_[:, :, CONTEXT + 4 : -CONTEXT, CONTEXT + 4 : -CONTEXT]
    torch.testing.assert_close(
        whole[inner], moved[:, :, CONTEXT + 2 : -CONTEXT, CONTEXT:-CONTEXT], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize('name', ['unet', 'fpn', 'deeplabv3plus'])
def test_resnets_with_a_decoder_answer_for_every_pixel(name):
    pytest.importorskip('segmentation_models_pytorch')
    network = models.create(name, encoder_name='resnet10t', in_chans=4, num_classes=3).eval()
    assert network(torch.zeros(1, 4, 40, 60)).shape == (1, 3, 40, 60)
    assert network.alignment in {16, 32}


@pytest.mark.parametrize('kwargs', [{'encoder_name': 'hf-hub:a/b'}, {'encoder_weights': 'imagenet'}])
def test_what_reaches_outside_is_refused(kwargs):
    with pytest.raises(UsageError, match=next(iter(kwargs))):
        models.create('unet', **kwargs)


def test_weights_of_onnx_are_taken_in_the_order_of_the_graph(tmp_path):
    """Also where the file has a kernel more, and lists its tensors in another order."""
    network, other = small(), models.create('dynamic_world', in_chans=2, num_classes=3, widths=[4, 5, 6, 3])
    tensors = [tensor.numpy() for tensor in network.state_dict().values()]
    tensors.insert(2, np.ones((4, 1, 4, 4), np.float32))  # a fixed filter
    names = [f't{place}' for place in range(len(tensors))]
    nodes, at = [], 0
    while at < len(tensors):
        taken = names[at : at + (1 if at == 2 else 2)]
        nodes.append(helper.make_node('Conv', ['x', *taken], [f'y{at}']))
        at += len(taken)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        'weights',
        [value('x', TensorProto.FLOAT, None)],
        [value('y0', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(one, name) for one, name in list(zip(tensors, names, strict=True))[::-1]],
    )
    path = tmp_path / 'weights.onnx'
    save_onnx(helper.make_model(graph), path)
    assert start_from(other, path, ['B03', 'B08']) == []
    for name, tensor in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    with pytest.raises(UsageError, match='of another architecture'):
        start_from(models.create('resnet10t', in_chans=2, num_classes=3), path)


def test_what_is_no_onnx_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / 'bad.onnx'
    path.write_text('no network')
    with pytest.raises(BundleError, match=r'bad\.onnx: the weights cannot be read'):
        onnx_weights(path)

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(extras, 'import_module', missing)
    with pytest.raises(UsageError, match='pip install "geores\\[onnx\\]"'):
        onnx_weights(path)


@pytest.fixture(scope='module')
def released():
    if not TEACHER.is_file():
        pytest.skip(f'{TEACHER} is not there')
    pytest.importorskip('onnxruntime')
    stated = {'path': str(TEACHER), 'labels': LABELS, 'bands': BANDS, 'log_scale': 0.005}
    stated |= {'mean': [2.0] * 9, 'std': [2.5] * 9}
    return (
        OnnxTeacher(**stated, squash=(5.0, -1.0)),
        OnnxTeacher(**stated, architecture='dynamic_world'),
    )


def test_it_computes_what_the_released_model_does(released):
    onnx, torched = released
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 9, 16, 24, generator=generator) * 4000
    images = torch.nn.functional.interpolate(coarse, scale_factor=8, mode='bilinear')
    one, two = onnx(images, BANDS), torched(images, BANDS)
    assert (one.argmax(1) == two.argmax(1)).float().mean() > 0.999
    torch.testing.assert_close(one.log(), two.log(), rtol=0, atol=1e-4)


def test_its_bfloat16_stays_near(released):
    network = released[1]._network
    images = torch.randn(1, 9, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = network(images)
        with torch.autocast('cpu', torch.bfloat16):
            half = network(images).float()
    assert torch.isfinite(half).all()
    assert (half.argmax(1) == whole.argmax(1)).float().mean() > 0.97

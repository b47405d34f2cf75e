"""Baselines that leave an encoder as it is, all of it or its first stages: 'kernel' and 'last'."""

# ruff: noqa: F811 - fixtures are arguments too

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import geores
from geores.errors import UsageError
from geores.models import create
from geores.protocol.features import deep_features, kernel_machine
from geores.protocol.last_stages import score_last, split_network, stage_maps, train_last
from geores.protocol.table import work_folder

from ..baselines_fixtures import CLASSES, encoder, images, write_images  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'lite.safetensors'
    save_file(create('tf_efficientnet_lite0', num_classes=0).state_dict(), path)
    return path


# --- a Gaussian kernel


def test_kernel_machine_solves_what_no_line_divides():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 240)
    classes = (angle // (np.pi / 2)).astype(np.int64) % 2  # opposite quarters of a circle
    features = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    answers = kernel_machine([features[:160]], classes[:160], [features[160:]])
    assert (answers.classes == classes[160:]).mean() > 0.9
    assert answers.setting.startswith('gamma=')


def test_kernel_machine_takes_several_encoders():
    draw = np.random.default_rng(1)
    classes = np.arange(60) % 4
    halves = [(classes // 2), (classes % 2)]  # either alone tells two classes apart
    features = [(np.eye(2)[half] * 5 + draw.normal(0, 0.5, (60, 2))).astype(np.float32) for half in halves]
    answers = kernel_machine([one[:40] for one in features], classes[:40], [one[40:] for one in features])
    assert (answers.classes == classes[40:]).all()


def test_kernel_machine_of_one_image_a_class():
    features = [np.eye(3, dtype=np.float32)]
    answers = kernel_machine(features, np.arange(3), features)
    assert answers == (pytest.approx(np.arange(3)), 'gamma=1, alpha=0.03')


# --- the last stages


@pytest.mark.parametrize('name', ['tf_efficientnet_lite0', 'resnet18'])
def test_parts_of_a_network_are_the_network(name):
    network = create(name, num_classes=0).eval()
    pixels = torch.rand(2, 3, 64, 64)
    trunk, tail = split_network(network)
    with torch.inference_mode():
        maps = trunk(pixels)
        torch.testing.assert_close(tail(maps), network(pixels))
    assert maps.ndim == 4


def test_other_networks_are_refused():
    with pytest.raises(UsageError, match='not of VisionTransformer'):
        split_network(create('vit_base_patch8_224', num_classes=0, img_size=16))


def test_last_stages_learn_and_leave_the_network_alone():
    torch.manual_seed(0)
    trunk, tail = split_network(create('tf_efficientnet_lite0', num_classes=0).eval())
    before = {name: one.clone() for name, one in tail.state_dict().items()}
    classes = np.arange(48) % 3
    draw = np.random.default_rng(0)
    pixels = (np.array([30, 128, 220])[classes, None, None, None] + draw.normal(0, 20, (48, 3, 32, 32))).clip(
        0, 255
    )
    maps = stage_maps(trunk, list(pixels.astype(np.uint8)), (127, 127, 127), (128, 128, 128))
    assert maps.dtype == np.float16
    trained = train_last(tail, maps, range(36), classes[:36], epochs=30)
    assert (score_last(trained, maps, range(36, 48)).argmax(1) == classes[36:]).mean() > 0.8
    assert all(torch.equal(one, before[name]) for name, one in tail.state_dict().items())
    again = train_last(tail, maps, range(36), classes[:36], epochs=30)
    assert all(torch.equal(*pair) for pair in zip(trained.parameters(), again.parameters(), strict=True))


# --- the command


def test_command(geores, images, encoder, weights, tmp_path):
    out = tmp_path / 'out'
    args = ('--ratios', 0.5, '--repeats', 1, '--epochs', 1, '--out', out, '--methods', 'kernel,last,deep')
    known = (
        '--encoder',
        'tf_efficientnet_lite0',
        '--weights',
        weights,
        '--size',
        32,
        '--more',
        encoder,
        '--mirrored',
    )
    answer = geores('baselines', images, *args, *known)
    assert answer.code == 0, answer
    held = json.loads((out / 'baselines.json').read_text())
    assert [one['name'] for one in held['further']] == ['tiny']
    names = {row['method']: row['name'] for row in held['summary']}
    assert names == {
        'kernel': 'tf_efficientnet_lite0 + tiny features + Gaussian kernel',
        'last': 'last stages of tf_efficientnet_lite0 fine-tuned',
        'deep': 'tf_efficientnet_lite0 features + linear SVM',
    }
    assert len(held['labels']) == len(CLASSES)


def test_features_of_both_sides():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    images = [np.random.default_rng(k).integers(0, 255, (3, 8, 8)).astype('uint8') for k in range(5)]
    turned = [np.ascontiguousarray(image[..., ::-1]) for image in images]
    scale = ([0.0] * 3, [255.0] * 3)
    one, other = (deep_features(network, each, *scale) for each in (images, turned))
    both = deep_features(network, images, *scale, mirrored=True)
    assert np.allclose(both, (one + other) / 2, atol=1e-6)
    assert np.allclose(both, deep_features(network, turned, *scale, mirrored=True), atol=1e-6)


def test_features_are_computed_once(images, encoder, tmp_path, monkeypatch):
    from geores.protocol import experiment

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(*_):
        raise Stopped

    options = {'methods': ('deep', 'kernel'), 'encoder': str(encoder), 'ratios': (0.5,), 'repeats': 1}
    monkeypatch.setattr(experiment, 'kernel_machine', stop)
    with pytest.raises(Stopped):
        geores.baselines(images, out=tmp_path / 'out', **options)
    kept = list(work_folder(tmp_path / 'out').glob('features-*.npy'))
    assert len(kept) == 1
    monkeypatch.undo()
    monkeypatch.setattr(experiment, 'deep_features', stop)
    table = geores.baselines(images, out=tmp_path / 'out', **options)
    assert set(table.frame['method']) == {'deep', 'kernel'}
    assert not work_folder(tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'more': ('tiny',)}, "for the method 'kernel'"),
        ({'methods': ('kernel',), 'more': ('tf_efficientnet_lite0',)}, 'need weights'),
        ({'methods': ('kernel',)}, "'kernel' needs weights"),
        ({'precision': 'int8'}, 'precision has to be'),
    ],
)
def test_refused(images, options, words):
    with pytest.raises(UsageError, match=words):
        geores.baselines(images, **options)

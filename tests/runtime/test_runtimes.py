"""Runtimes beside torch: the same answers, chosen where they are faster, and remembered."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import geores
from geores.errors import GeoresError, MissingExtraError, UsageError
from geores.runtime import choice, exported, nearness, predictor
from geores.runtime import choice as candidates
from geores.runtime.base import exact_float32
from geores.runtime.choice import Workload, fastest_runtime
from geores.runtime.eager import EagerRuntime
from geores.runtime.predictor import RUNTIME, Predictor, choose_predictor

from ..fixtures import write_scene

SHAPE = (3, 32, 32)
WORK = Workload(SHAPE, batch_size=16, tiles=10**6, workers=1)
OTHERS = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f'{name} is not installed'))
    for name in ('openvino', 'onnxruntime')
]
needs_openvino = pytest.mark.skipif(find_spec('openvino') is None, reason='openvino is not installed')


@pytest.fixture(scope='module')
def model(bundle):
    return geores.load_model(bundle)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('GEORES_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv(RUNTIME, raising=False)
    return tmp_path / 'cache'


def tiles(count, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize('name', OTHERS)
def test_another_runtime_answers_as_torch_does(model, name):
    made = choose_predictor(model, 'fp32', tiles(2), runtime=name, work=WORK)
    assert made.runtime.name == name
    assert any(name in note for note in made.notes)
    for count in (1, 5, 16):  # the network was traced with two
        exact = model.predict(tiles(count))
        assert np.abs(made(tiles(count))['scores'] - exact).max() < 1e-5


def test_slow_and_fast_rates_are_told(model):
    made = choice.Runtimes(model, tiles(1), nearness.LabelRule.of(model.card), None, compile=False)
    made._rates = {('openvino', 'fp32'): 0.4234, ('torch', 'fp32'): 1234.5}
    assert made.told('openvino', 'fp32') == ': 0.42 tiles a second a core here, torch 1,200'
    assert made.told('openvino', 'bf16') == ''


@needs_openvino
@torch.inference_mode()
def test_openvino_keeps_biases_in_float32():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 16, bias=False),
    ).eval()
    network[0].weight.zero_()
    network[0].weight[:, 0, 1, 1] = -10.0
    network[0].bias.copy_(10 + torch.linspace(0.01, 0.03, 16))  # in bfloat16 all of them are 10
    network[4].weight.copy_(torch.eye(16))
    found = exported.OpenVinoRuntime(network, SHAPE, 'bf16')(torch.ones(2, *SHAPE))
    assert torch.allclose(found, network(torch.ones(2, *SHAPE)), rtol=2**-7)


@needs_openvino
def test_a_network_is_converted_once(model, cache, monkeypatch):
    first = exported.OpenVinoRuntime(model.network, SHAPE, 'fp32')
    (kept,) = cache.rglob('*.xml')
    assert exported.is_kept(exported.digest_network(model.network), SHAPE, 'fp32')
    monkeypatch.setattr(exported, '_convert', lambda *_: pytest.fail('converted again'))
    again = exported.OpenVinoRuntime(model.network, SHAPE, 'fp32')
    images = torch.from_numpy(tiles(3)) / 255
    assert torch.equal(first(images), again(images))
    monkeypatch.undo()
    monkeypatch.setenv('GEORES_CACHE', str(cache))
    kept.write_text('<net')
    damaged = exported.OpenVinoRuntime(model.network, SHAPE, 'fp32')
    assert torch.equal(first(images), damaged(images))


SIGNALS = """
import os, signal, torch
from geores.runtime.exported import OpenVinoRuntime
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3)).eval()
made = [OpenVinoRuntime(network, (3, 32, 32), 'fp32') for _ in range(3)]
made[0](torch.zeros(3, 3, 32, 32))
while made:
    del made[0]
signal.signal(signal.SIGTERM, lambda *_: print('handled'))
os.kill(os.getpid(), signal.SIGTERM)
"""


@needs_openvino
def test_signals_are_handled_after_networks_were_dropped():
    command = [sys.executable, '-c', SIGNALS]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.strip()) == (0, 'handled'), answer.stderr


def test_other_weights_have_another_digest(model):
    before = exported.digest_network(model.network)
    other = geores.Model(model.card, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)))
    after = exported.digest_network(other.network)
    with torch.no_grad():
        other.network[1].bias[0] += 1
    assert len({before, after, exported.digest_network(other.network)}) == 3


class Timed:
    """A runtime of another name, whose rate is made up."""

    precision = 'fp32'

    def __init__(self, name, inner):
        self.name, self.inner = name, inner

    def __call__(self, images):
        return self.inner(images)


@pytest.fixture
def rates(model, monkeypatch):
    """Rates as they were measured; what is made is torch under another name."""
    given = {'torch': 100.0, 'openvino': 250.0, 'onnxruntime': 200.0}
    plain = EagerRuntime(model.network, 'fp32', torch.device('cpu'))
    measured = []

    def rate(runtime, work):
        measured.append(runtime.name)
        return given[runtime.name]

    def make(name, *_):
        if given[name] is None:
            raise GeoresError('cannot be converted')
        return Timed(name, plain)

    monkeypatch.setattr(choice, 'installed_runtimes', lambda: tuple(given))
    monkeypatch.setattr(choice, 'measure_rate', rate)
    monkeypatch.setattr(choice, 'make_exported', make)
    monkeypatch.setattr(candidates, 'make_exported', make)
    monkeypatch.setattr(predictor, 'package_version', lambda _: '1')
    return given, measured


def chosen(model, **work):
    made = choose_predictor(
        model,
        'fp32',
        tiles(2),
        runtime='auto',
        work=Workload(SHAPE, 16, **({'tiles': 10**6, 'workers': 1} | work)),
    )
    return made.runtime.name


def test_the_fastest_is_taken_and_remembered(model, rates, cache):
    given, measured = rates
    assert chosen(model) == 'openvino'
    assert measured == ['torch', 'openvino', 'onnxruntime']
    assert list(json.loads((cache / 'runtimes.json').read_text()).values()) == [given]
    assert chosen(model) == 'openvino'
    assert len(measured) == 3
    (cache / 'runtimes.json').write_text('[]')  # of something else: as good as none
    assert chosen(model) == 'openvino'
    assert len(measured) == 6


def test_little_work_is_left_to_torch(model, rates):
    assert chosen(model, tiles=100) == 'torch'
    assert not rates[1][1:]
    rates[0]['torch'] = 1e-3  # a busy machine: a run that is resumed keeps its runtime
    assert chosen(model, tiles=100) == 'torch'
    rates[0]['torch'] = 100.0
    assert chosen(model) == 'openvino'
    assert chosen(model, tiles=100) == 'torch'
    assert chosen(model, tiles=10**6, workers=10**6) == 'torch'


def test_a_small_gain_and_what_cannot_be_converted_are_left(model, rates):
    rates[0].update(openvino=None, onnxruntime=105.0)
    assert chosen(model) == 'torch'


def test_a_runtime_that_moves_the_answers_is_not_taken(model, rates, monkeypatch):
    monkeypatch.setattr(nearness, 'FP32_TOLERANCE', -1.0)
    made = choose_predictor(model, 'fp32', tiles(2), runtime='auto', work=WORK)
    assert made.runtime.name == 'torch'
    assert 'was not used' in made.notes[0]
    with pytest.raises(GeoresError, match='use --runtime torch'):
        choose_predictor(model, 'fp32', tiles(2), runtime='openvino', work=WORK)


def test_rates_are_measured(model):
    plain = EagerRuntime(model.network, 'fp32', torch.device('cpu'))
    assert choice.measure_rate(plain, WORK) > 0
    assert fastest_runtime(model.network, 'bf16', Workload(SHAPE, 16, 1, 1)) == ('torch', {})


def test_what_cannot_be_asked_for(model, monkeypatch):
    def choose(runtime, precision='fp32', **options):
        return choose_predictor(model, precision, tiles(1), runtime=runtime, work=WORK, **options)

    with pytest.raises(UsageError, match='unknown'):
        choose('tensorrt')
    with pytest.raises(UsageError, match='drop --runtime'):
        choose('openvino', compile=True)
    monkeypatch.setattr(predictor, 'installed_runtimes', lambda: ('torch', 'onnxruntime'))
    with pytest.raises(UsageError, match='fp32 alone'):
        choose('onnxruntime', 'bf16')
    monkeypatch.setitem(__import__('sys').modules, 'openvino', None)
    with pytest.raises(MissingExtraError, match=r'geores\[fast\]'):
        choose('openvino')
    monkeypatch.setenv(RUNTIME, 'torch')
    assert choose('auto').runtime.name == 'torch'


@pytest.mark.parametrize('name', OTHERS)
def test_a_scene_is_classified_by_it_and_it_is_said(tmp_path, model, name):
    scene = write_scene(tmp_path / 'scene.tif', blocks=64)
    ours = geores.classify(scene, model, runtime=name, precision='fp32')
    exact = geores.classify(scene, model, runtime='torch', precision='fp32')
    assert any(f'under {name}' in note for note in ours.info.notes)
    assert ours.info.key['runtime'].startswith(name)
    assert exact.info.key['runtime'].startswith('torch')
    window = [slice(0, count) for count in ours.plan.tiling.shape]
    found, wanted = (one.table.read('scores', *window) for one in (ours, exact))
    assert np.abs(found - wanted).max() < 1e-5
    assert (found.argmax(-1) == wanted.argmax(-1)).mean() >= 0.9995


class Overflowing(EagerRuntime):
    """Answers with infinity where a narrow type would overflow."""

    def __call__(self, images):
        answers = super().__call__(images)
        return answers if self.precision == 'fp32' else answers * torch.inf


def test_a_batch_that_overflows_is_computed_again_in_float32(model, monkeypatch):
    monkeypatch.setattr(candidates, 'EagerRuntime', Overflowing)
    made = Predictor(model, 'bf16')
    assert np.abs(made(tiles(3))['scores'] - model.predict(tiles(3))).max() < 1e-5
    monkeypatch.setattr(candidates, 'has_bfloat16', lambda: True)
    assert choose_predictor(model, 'auto', tiles(2)).precision == 'fp32'


def test_batches_are_filled_up_to_one_size(model):
    seen = []
    made = Predictor(model, full=8)
    inner = made.runtime
    made.runtime = lambda images: (seen.append(len(images)), inner(images))[1]
    made.runtime.precision = 'fp32'
    assert np.abs(made(tiles(3))['scores'] - model.predict(tiles(3))).max() < 1e-5
    assert made(tiles(8))['scores'].shape == (8, 3)
    assert seen == [8, 8]


def test_float32_is_not_tensorfloat_within_a_run():
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    with exact_float32():
        assert conv.fp32_precision == 'ieee'
    assert conv.fp32_precision == before

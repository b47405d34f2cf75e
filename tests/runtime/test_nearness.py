"""Tiles whose labels rounding could change: which they are, and that they are computed again."""

from dataclasses import replace
from importlib.util import find_spec
from math import inf

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import geores
from geores.classification.label_rule import assign_labels
from geores.errors import GeoresError, MissingExtraError, UsageError
from geores.inference import plan
from geores.runtime import choice as candidates
from geores.runtime import nearness
from geores.runtime.choice import Runtimes, Workload
from geores.runtime.eager import EagerRuntime
from geores.runtime.nearness import LabelRule, NearTies, measure_ties, turn_tiles
from geores.runtime.predictor import RUNTIME, Predictor, choose_predictor

from ..fixtures import write_scene

SHAPE = (3, 32, 32)
WORK = Workload(SHAPE, batch_size=16, tiles=10**6, workers=1)
needs_int8 = pytest.mark.skipif(
    any(find_spec(name) is None for name in ('onnx', 'onnxruntime', 'openvino')),
    reason='geores[fast] is not installed',
)


@pytest.fixture(scope='module')
def model(bundle):
    return geores.load_model(bundle)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('GEORES_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv(RUNTIME, raising=False)


def tiles(count, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, *SHAPE)).astype(np.float32)


numbers = st.floats(-6, 6, width=32)
rules = st.builds(
    LabelRule,
    st.booleans(),
    st.sampled_from([(0.0,) * 4, (0.5,) * 4, (0.2, 0.4, 0.6, 0.8)]),
    st.sampled_from([None, 1, 2]),
)


@example(LabelRule(False, (0.2, 0.4, 0.6, 0.8), 1), [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
@example(LabelRule(False, (0.2, 0.4, 0.6, 0.8), 1), [-1.4, -1.5, -1.6, -1.4], [0.0, 1.0, 0.0, 0.0])
@given(rules, st.lists(numbers, min_size=4, max_size=4), st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_within_its_margin_no_label_changes(rule, logits, moves):
    def scores(values):
        logits = torch.tensor([values], dtype=torch.float64)
        return logits.softmax(1) if rule.softmax else logits.sigmoid()

    def labels(values):
        found = scores(values).numpy()
        earned = assign_labels(found, np.array(rule.thresholds), rule.count)
        return (earned, found.argmax()) if rule.softmax else (earned, None)

    margin = float(rule.margins(scores(logits)))
    if margin < 1e-9:  # of the order of what float64 rounds
        return
    # A logit of softmax against a threshold moves by at most twice what single logits do.
    share = 0.4 * min(margin, 10.0)
    moved = [logit + share * move for logit, move in zip(logits, moves, strict=True)]
    (before, best), (after, best_after) = labels(logits), labels(moved)
    assert np.array_equal(before, after)
    assert best == best_after


def test_ties_are_found():
    softmax = LabelRule(softmax=True, thresholds=(0.0, 0.0, 0.0))
    scores = torch.tensor([[0.5, 0.49, 0.01], [0.9, 0.05, 0.05], [1.0, 0.0, 0.0]])
    assert NearTies(softmax, 0.1, 0.0).find(scores).tolist() == [True, False, False]
    assert NearTies(softmax, inf, 0.0).find(scores).all()
    third = replace(softmax, count=2)  # the second and the third are equal
    assert NearTies(third, 0.1, 0.0).find(scores).tolist() == [True, True, True]
    several = LabelRule(softmax=False, thresholds=(0.5, 0.2, 0.5))
    scores = torch.tensor([[0.9, 0.21, 0.1], [0.9, 0.9, 0.9], [0.0, 1.0, 0.6]])
    assert NearTies(several, 0.1, 0.0).find(scores).tolist() == [True, False, False]


class Noisy:
    """A runtime whose logits are off by noise."""

    name, precision = 'torch', 'bf16'

    def __init__(self, network, size):
        self.network, self.size = network, size

    def __call__(self, images):
        logits = self.network(images)
        return logits + self.size * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))


def test_the_bound_follows_the_error(model):
    rule, temperature = LabelRule.of(model.card), (model.card.calibration or {}).get('temperature', 1.0)
    exact = EagerRuntime(model.network, 'fp32', torch.device('cpu'))
    found = [measure_ties(model, rule, Noisy(exact, size), exact, tiles(4)) for size in (1e-3, 1e-1)]
    wanted = 0.1 / temperature * (3 * 2**0.5 if rule.softmax else 2)
    assert found[1].bound == pytest.approx(wanted, rel=0.3)
    assert found[0].bound == pytest.approx(found[1].bound / 100, rel=0.1)
    assert found[0].share <= found[1].share
    overflowing = measure_ties(model, rule, Noisy(exact, inf), exact, tiles(4))
    assert overflowing.bound == inf


def test_tiles_are_turned():
    probe = tiles(2)
    turned = turn_tiles(probe, 16)
    assert turned.shape == (16, *SHAPE)
    assert len(np.unique(turned.reshape(16, -1), axis=0)) == 16
    assert np.array_equal(turned[:2], probe)
    assert len(turn_tiles(probe, 1)) == 2
    assert turn_tiles(probe[..., :16], 32).shape == (8, 3, 32, 16)


def test_what_is_nearly_tied_is_computed_in_float32(model):
    exact = EagerRuntime(model.network, 'fp32', torch.device('cpu'))
    rule = LabelRule.of(model.card)
    ties = NearTies(rule, inf, 1.0)
    made = Predictor(model, 'bf16', runtime=Noisy(exact, 3.0), ties=ties, exact=exact)
    assert made.revises
    assert np.abs(made.revised(tiles(5))['scores'] - model.predict(tiles(5))).max() < 1e-5
    made.ties = NearTies(rule, 0.0, 0.0)
    assert np.abs(made.revised(tiles(5))['scores'] - model.predict(tiles(5))).max() > 0.1


def test_float16_has_its_ties_too(model):
    """As on CUDA, where `auto` takes it: the bound is far below that of bfloat16."""
    made = Runtimes(model, tiles(4), LabelRule.of(model.card), None, compile=False)
    half, brain = made.ties('torch', 'fp16'), made.ties('torch', 'bf16')
    assert 0 < half.bound < brain.bound / 3
    step = Predictor(
        model, 'fp16', runtime=made.get('torch', 'fp16'), ties=half, exact=made.get('torch', 'fp32')
    )
    some = tiles(40, seed=3)
    found, exact = step.revised(some.copy())['scores'], model.predict(some)
    rule = LabelRule.of(model.card)
    assert torch.equal(rule.labels(torch.from_numpy(found)), rule.labels(torch.from_numpy(exact)))


@pytest.fixture
def noisy(monkeypatch):
    """bf16 by torch is float32 with noise, which does not depend on the batch."""

    class Rough(EagerRuntime):
        def __call__(self, images):
            logits = super().__call__(images).float()
            return logits if self.precision == 'fp32' else logits + 0.3 * torch.sin(1e4 * logits)

    monkeypatch.setattr(candidates, 'EagerRuntime', Rough)
    monkeypatch.setattr(plan, 'CHUNK_PIXELS', 64)


def test_bits_do_not_depend_on_who_computes_the_others(noisy, model, bundle, tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', height=200, width=260, blocks=64)
    options = {'stride': 16, 'precision': 'bf16', 'runtime': 'torch', 'device': 'cpu'}
    one = geores.classify(scene, model, workers=1, **options)
    window = [slice(0, count) for count in one.plan.tiling.shape]
    scores = one.table.read('scores', *window)
    exact = geores.classify(scene, model, stride=16, precision='fp32', runtime='torch')
    near = np.abs(scores - exact.table.read('scores', *window)).max(axis=-1) < 1e-4
    assert 0.02 < near.mean() < 0.98  # some were computed again, and not all
    assert one.info.key['ties'][0] > 0
    assert any('nearly tied in bf16' in note for note in one.info.notes)
    other = geores.classify(scene, model, workers=3, **options)
    assert np.array_equal(scores, other.table.read('scores', *window))
    whole = geores.classify(scene, str(bundle), out=tmp_path / 'whole', **options)
    assert np.array_equal(scores, whole.table.read('scores', *window))
    for count in (1, 2, 4):
        out = tmp_path / str(count)
        for number in range(1, count + 1):
            (share,) = geores.classify_many(
                [scene], str(bundle), out=out, shard=f'{number}/{count}', **options
            )
            assert share.share
        list(geores.merge(out))
        name = 'scene_scores.tif'
        assert (out / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(noisy, model, tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', height=200, width=260, blocks=64)
    options = {'stride': 16, 'precision': 'bf16', 'runtime': 'torch', 'workers': 2}
    geores.classify(scene, model, out=tmp_path / 'whole', **options)

    class Stopped(Exception):  # noqa: N818
        pass

    finished = []

    def stop(tiles, of):
        finished.append(tiles)
        if sum(finished) > of / 2:
            raise Stopped

    with pytest.raises(Stopped):
        geores.classify(scene, model, out=tmp_path / 'out', progress=stop, **options)
    geores.classify(scene, model, out=tmp_path / 'out', **options)
    name = 'scene_scores.tif'
    assert (tmp_path / 'out' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_a_narrow_type_is_taken_where_it_pays_with_what_is_computed_again(model, monkeypatch):
    monkeypatch.setattr(candidates, 'has_bfloat16', lambda: True)
    rates = {'bf16': {'torch': 300.0, 'openvino': 500.0}, 'fp32': {'torch': 100.0, 'openvino': 250.0}}
    fastest = lambda network, kind, *_: (max(rates[kind], key=rates[kind].get), rates[kind])  # noqa: E731
    monkeypatch.setattr(candidates, 'fastest_runtime', fastest)
    made = {}

    def make(name, network, precision, shape):
        made[name] = made.get(name) or EagerRuntime(network, 'fp32', torch.device('cpu'))
        runtime = EagerRuntime(network, precision, torch.device('cpu'))
        runtime.name = name
        return runtime

    monkeypatch.setattr(candidates, 'make_exported', make)
    monkeypatch.setattr('geores.runtime.predictor.package_version', lambda _: '1')

    def chosen(share):
        measured = lambda model, rule, *_: NearTies(rule, 0.1, share)  # noqa: E731
        monkeypatch.setattr(candidates, 'measure_ties', measured)
        found = choose_predictor(model, 'auto', tiles(2), runtime='auto', work=WORK)
        return found.runtime.name, found.precision

    assert chosen(0.1) == ('openvino', 'bf16')
    assert chosen(0.6) == ('openvino', 'fp32')  # 2 ms and 0.6 times 4 ms are more than 4
    rates['bf16'], rates['fp32'] = {'torch': 300.0}, {'torch': 100.0}
    assert chosen(0.6) == ('torch', 'bf16')
    assert chosen(0.7) == ('torch', 'fp32')
    rates['bf16'] = {}  # nothing was timed
    fastest_torch = lambda *_: ('torch', {})  # noqa: E731
    monkeypatch.setattr(candidates, 'fastest_runtime', fastest_torch)
    assert chosen(0.3) == ('torch', 'bf16')
    assert chosen(0.5) == ('torch', 'fp32')
    few = choose_predictor(model, 'auto', tiles(2), work=replace(WORK, tiles=100))
    assert few.precision == 'fp32'


@needs_int8
def test_int8_is_near_and_made_once(model, monkeypatch):
    monkeypatch.setattr(nearness, 'INT8_FLIPS', {'tiles': 1.0, 'pixels': 1.0})
    made = choose_predictor(model, 'int8', tiles(4), runtime='auto', work=WORK)
    assert (made.precision, made.runtime.name) == ('int8', 'openvino')
    assert any('in int8' in note for note in made.notes)
    found, exact = made.revised(tiles(20, seed=1))['scores'], model.predict(tiles(20, seed=1))
    assert 0 < np.abs(found - exact).max() < 0.2
    monkeypatch.setattr('geores.runtime.exported.quantise', lambda *_: pytest.fail('quantised again'))
    again = choose_predictor(model, 'int8', tiles(4), runtime='auto', work=WORK)
    assert np.array_equal(again.revised(tiles(20, seed=1))['scores'], found)
    monkeypatch.setattr(nearness, 'INT8_FLIPS', {'tiles': -1.0, 'pixels': -1.0})
    with pytest.raises(GeoresError, match='int8 cannot be used'):
        choose_predictor(model, 'int8', tiles(4), runtime='auto', work=WORK)


@needs_int8
def test_what_int8_cannot_do_is_said(model, monkeypatch):
    def choose(probe=4, **options):
        return choose_predictor(model, 'int8', tiles(probe), work=WORK, **{'runtime': 'auto'} | options)

    for options in ({'runtime': 'torch'}, {'runtime': 'onnxruntime'}, {'compile': True}):
        with pytest.raises(UsageError, match='computed by OpenVINO'):
            choose(**options)
    with pytest.raises(UsageError, match='needs tiles'):
        choose(probe=0)
    monkeypatch.setitem(__import__('sys').modules, 'onnxruntime', None)
    with pytest.raises(MissingExtraError, match=r'pip install'):
        choose()

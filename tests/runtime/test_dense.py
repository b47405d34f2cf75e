"""Overlapping tiles whose features are computed once for a whole region."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import geores as package
from geores import models
from geores.errors import UsageError
from geores.runtime import choice, dense, predictor
from geores.runtime.dense import choose_dense_predictor, reduction_of
from geores.runtime.nearness import LabelRule, NearTies

from ..fixtures import write_scene
from ..pixel_fixtures import pixel_bundle  # noqa: F401

pytestmark = pytest.mark.usefixtures('one_thread')

TILE = 64


@pytest.fixture(scope='module')
def model(bundle):
    """A network of random weights that halves its image five times."""
    torch.manual_seed(0)
    kwargs = {'in_chans': 3, 'num_classes': 3}
    card = replace(
        package.load_model(bundle).card,
        architecture='efficientnet_lite0', architecture_kwargs=kwargs, input_size=TILE,
    )  # fmt: skip
    return package.Model(card, models.create('efficientnet_lite0', **kwargs).eval())


def region(height, width):
    return np.random.default_rng(0).uniform(0, 255, (3, height, width)).astype(np.float32)


def test_a_region_of_one_tile_is_that_tile(model):
    made = choose_dense_predictor(model, 'fp32', region(TILE, TILE)[None], TILE, 32)
    values = region(TILE, TILE)
    found = made.of_region(values, np.array([[0, 0]]))['scores']
    assert reduction_of(model) == 32
    assert np.abs(found - model.predict(values[None])).max() < 1e-5
    assert 'tile by tile' in made.notes[0]


def test_tiles_are_parts_of_the_map_or_computed_by_themselves(model):
    made = choose_dense_predictor(model, 'fp32', region(TILE, TILE)[None], TILE, 32)
    values = region(150, 170)
    places = np.array([[0, 0], [32, 64], [86, 106], [86, 32], [64, 96]])
    found = made.of_region(values, places)['scores']
    cut = np.stack([values[:, top : top + TILE, left : left + TILE] for top, left in places])
    exact = model.predict(cut)
    assert np.abs(found - exact)[2:4].max() < 1e-5
    with torch.inference_mode():
        images = model.normalise(torch.from_numpy(values[None, :, :128, :160]))
        maps = model.network.forward_features(images)
        places = places // 32  # tiles of two places of the map
        parts = [maps[:, :, top : top + 2, left : left + 2] for top, left in places[[0, 1, 4]]]
        pooled = model.activate(model.network.forward_head(torch.cat(parts))).numpy()
    assert np.abs(found[[0, 1, 4]] - pooled).max() < 1e-4
    assert np.abs(found - exact)[1].max() > 1e-3  # what lies around a tile is seen


def test_what_is_nearly_tied_is_computed_on_features_in_float32(model):
    values, places = region(150, 170), np.array([[0, 0], [32, 64], [86, 106], [64, 96]])
    probe = region(TILE, TILE)[None]
    exact = choose_dense_predictor(model, 'fp32', probe, TILE, 32)
    rough = choose_dense_predictor(model, 'bf16', probe, TILE, 32)
    assert exact.ties is None
    assert not rough.revises  # the engine computes tile by tile
    assert any('nearly tied in bf16' in note for note in rough.notes)
    wanted = exact.of_region(values, places)['scores']
    rough.ties = replace(rough.ties, bound=0.0)
    plain = rough.of_region(values, places)['scores']
    assert not np.array_equal(plain, wanted)
    margins = np.sort(rough.ties.rule.margins(torch.from_numpy(plain)).numpy())
    rough.ties = replace(rough.ties, bound=float(margins[1:3].mean()))
    found = rough.of_region(values, places)['scores']
    same = [
        (np.array_equal(one, a), np.array_equal(one, b))
        for one, a, b in zip(found, wanted, plain, strict=True)
    ]
    assert sorted(same) == [(False, True)] * 2 + [(True, False)] * 2


def test_auto_is_float32_where_the_probe_is_tied(model, monkeypatch):
    monkeypatch.setattr(choice, 'has_bfloat16', lambda: True)
    probe = region(TILE, TILE)[None]
    for share, wanted in ((0.0, 'bf16'), (0.1, 'fp32')):
        ties = NearTies(LabelRule.of(model.card), 0.1, share)
        monkeypatch.setattr(choice, 'measure_ties', lambda *_, ties=ties: ties)
        monkeypatch.setattr(predictor, 'is_near', lambda *_: True)
        assert choose_dense_predictor(model, 'auto', probe, TILE, 32).precision == wanted


def test_a_scene(model, tmp_path, monkeypatch):
    monkeypatch.setattr(dense, 'AGREEMENT', 0.0)  # random weights see in padding something else
    scene = write_scene(tmp_path / 'scene.tif', height=200, width=260, blocks=64)
    options = {'stride': 32, 'precision': 'fp32', 'device': 'cpu'}
    shared = package.classify(scene, model, dense=True, out=tmp_path / 'out', **options)
    exact = package.classify(scene, model, **options)
    window = [slice(0, count) for count in exact.plan.tiling.shape]
    found, wanted = (one.table.read('scores', *window) for one in (shared, exact))
    assert found.shape == wanted.shape
    assert np.abs(found[-1] - wanted[-1]).max() < 1e-5  # the last row is shifted back
    assert shared.info.key['dense']
    assert any('--dense' in note for note in shared.notes)
    with pytest.raises(UsageError, match='another dense'):
        package.classify(scene, model, out=tmp_path / 'out', **options)


def test_a_network_that_answers_otherwise_is_refused(model, tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', height=200, width=260)
    with pytest.raises(UsageError, match='moves the labels of model'):
        package.classify(scene, model, dense=True, stride=32)


def test_what_it_does_not_fit(geores, model, bundle, pixel_bundle, tmp_path):  # noqa: F811
    scene = write_scene(tmp_path / 'scene.tif', height=130, width=130)
    with pytest.raises(UsageError, match='multiple of 32 pixels'):
        package.classify(scene, model, dense=True, stride=16)
    with pytest.raises(UsageError, match='give --tile 96'):
        package.classify(scene, model, dense=True, tile=100)
    with pytest.raises(UsageError, match='drop --runtime'):
        package.classify(scene, model, dense=True, runtime='openvino')
    with pytest.raises(UsageError, match='labels pixels: drop --dense'):
        package.classify(scene, pixel_bundle, dense=True)
    strange = package.Model(replace(model.card, architecture='test-net'), torch.nn.Identity())
    with pytest.raises(UsageError, match='is test-net: drop --dense'):
        reduction_of(strange)
    args = ['classify', scene, '--model', bundle, '--out', tmp_path / 'out', '--dense', '--compile']
    answer = geores(*args, '--device', 'cpu')
    assert answer.code == 2
    assert 'drop --compile' in answer.err or '--dense needs' in answer.err

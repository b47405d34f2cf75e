"""A model that answers in values: from its card to files and words."""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

import geores as library
from geores import ModelCard
from geores.errors import BundleError, UsageError
from geores.model import Model
from geores.runtime.predictor import choose_predictor

from ..fixtures import tiny_bundle, write_scene

VALUES = ('height', 'cover')
FIELDS = {'labels': VALUES, 'task': 'regression', 'activation': 'identity', 'thresholds': None}


@pytest.fixture(scope='module')
def regression(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp('bundles') / 'heights', **FIELDS)


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif', height=100, width=130)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'activation': 'softmax'}, "'softmax', which does not fit 'regression'"),
        ({'thresholds': (0.5, 0.5)}, "'thresholds' has to be null for a regression"),
        ({'calibration': {'temperature': 2.0}}, "'calibration' has to be null for a regression"),
        ({'task': 'multi-label', 'thresholds': (0.5, 0.5)}, "'identity', which does not fit 'multi-label'"),
        ({'task': 'single-label'}, "'identity', which does not fit 'single-label'"),
        ({'task': 'ranking'}, "field 'task' is 'ranking'"),
    ],
)
def test_card(regression, change, words):
    card = json.loads((regression / 'card.json').read_text())
    assert ModelCard.from_dict(card).task == 'regression'
    with pytest.raises(BundleError) as error:
        ModelCard.from_dict(card | change)
    assert words in str(error.value)


@pytest.mark.parametrize('activation', ['identity', 'sigmoid'])
def test_values_follow_the_activation(regression, activation):
    loaded = library.load_model(regression)
    card = ModelCard.from_dict(loaded.card.to_dict() | {'activation': activation})
    logits = torch.tensor([[-300.0, 2.0]])
    expected = logits if activation == 'identity' else logits.sigmoid()
    assert torch.equal(Model(card, loaded.network).activate(logits), expected)


def test_values_of_any_size_are_not_rounded(regression):
    probe = np.zeros((1, 3, 32, 32), np.float32)
    assert choose_predictor(library.load_model(regression), 'auto', probe).precision == 'fp32'


def test_result(regression, scene):
    result = library.classify(scene, regression, min_valid=0.1)
    tiles = result.tiles
    assert 'labels' not in tiles
    assert (tiles['height'] < 0).any() or (tiles['height'] > 1).any()
    assert result.shares == {}
    area = tiles['area'].to_numpy()
    for value in VALUES:
        assert result.means[value] == pytest.approx(np.average(tiles[value], weights=area), rel=1e-5)
    images = np.stack([np.full((3, 32, 32), level) for level in (10, 200)])
    assert library.load_model(regression).predict(images).shape == (2, 2)


@pytest.mark.parametrize('option', [{'threshold': 0.3}, {'top_k': 1}])
def test_labels_cannot_be_chosen(regression, scene, tmp_path, option):
    with pytest.raises(UsageError, match='is a regression: leave it out'):
        library.classify(scene, regression, out=tmp_path / 'out', **option)
    assert not (tmp_path / 'out').exists()


def test_files_and_words(geores, regression, scene, tmp_path):
    answer = geores('classify', scene, '--model', regression, '--out', tmp_path / 'out')
    assert answer.code == 0
    assert 'mean of valid area' in answer.out
    assert 'label' not in answer.out
    record = geores('classify', scene, '--model', regression, '--out', tmp_path / 'two', '--json').records[0]
    assert 'labels' not in record
    assert list(record['means']) == list(VALUES)
    with rasterio.open(record['outputs']['scores']) as scores:
        assert scores.descriptions == VALUES
    tiles = gpd.read_parquet(record['outputs']['tiles'])
    assert list(tiles.columns) == ['row', 'col', *VALUES, 'valid_share', 'area', 'geometry']
    picture = np.asarray(Image.open(record['outputs']['map']))
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 20
    run = json.loads((tmp_path / 'two' / 'run.json').read_text())['scenes']['scene']
    assert run['means'] == pytest.approx(record['means'], abs=1e-6)


def test_nothing_classified(geores, regression, tmp_path):
    values = np.zeros((3, 64, 64), 'uint8')
    scene = write_scene(tmp_path / 'empty.tif', values=values, nodata=0)
    answer = geores('classify', scene, '--model', regression, '--out', tmp_path / 'out', '--json')
    assert (answer.code, answer.err) == (0, '')
    assert answer.records[0]['means'] == {'height': None, 'cover': None}
    json.loads((tmp_path / 'out' / 'run.json').read_text(), parse_constant=pytest.fail)
    assert geores('classify', scene, '--model', regression, '--out', tmp_path / 'two').code == 0

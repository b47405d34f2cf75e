"""Whether the linear start or the fine-tuned network is kept."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from shapely.geometry import box

import geores as package
from geores.datasets import SceneTiles, split_tiles
from geores.training.finetune_recipe import LEAST, clearly_better, hold_in

from ..fixtures import GRID, RGB, noise, write_scene

pytestmark = pytest.mark.usefixtures('one_thread')

OPTIONS = {'tile': 16, 'block_size': 320, 'min_tiles': 4, 'epochs': 2, 'device': 'cpu'}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A scene of 128 x 128 pixels in dark and light stripes, under noise, and their polygons."""
    folder = tmp_path_factory.mktemp('place')
    values = noise(3, 128, 128).astype(int) // 2
    values[:, :, 32:64] += 60
    values[:, :, 96:] += 60
    write_scene(folder / 'place.tif', values=values.astype('uint8'))
    (left, top), width = GRID @ (0, 0), 320
    stripes = [box(left + k * width, top - 1280, left + (k + 1) * width, top) for k in range(4)]
    gpd.GeoDataFrame({'light': ['night', 'day'] * 2}, geometry=stripes, crs='EPSG:32633').to_file(
        folder / 'labels.gpkg'
    )
    return folder


@pytest.fixture
def train(place, bundle):
    def finetune(**options):
        seen = []
        given = {'progress': lambda tiles, of: seen.append((tiles, of)), **OPTIONS, **options}
        result = package.finetune(place / 'place.tif', place / 'labels.gpkg', 'light', bundle, **given)
        ((count,),) = [{of for _, of in seen}]
        assert 0 < sum(tiles for tiles, _ in seen) <= count  # the last, smaller batch is left out
        return result

    return finetune


def kernels(model):
    """Weights that only fine-tuning changes."""
    found = {name: one for name, one in model.network.named_parameters() if not name.startswith('fc')}
    assert found
    return found


def features_are(model, bundle):
    base = kernels(package.load_model(bundle))
    return all(torch.equal(one, base[name]) for name, one in kernels(model).items())


@pytest.fixture(scope='module')
def tiles(place):
    return SceneTiles(
        place / 'place.tif', place / 'labels.gpkg', 'light', RGB, 16, stride=8, units='8-bit',
    )  # fmt: skip


@pytest.mark.parametrize('seed', range(4))
def test_tiles_held_in_lie_apart_inside_the_training_part(tiles, seed):
    outer = split_tiles(tiles, 0.2, seed, block_size=320)
    inner = hold_in(tiles, outer, block_size=320, seed=seed)
    assert len(inner.val) >= LEAST
    assert not set(inner.train) & set(inner.val)
    assert {*inner.train, *inner.val} <= set(outer.train)
    held = shapely.union_all([box(*tiles.bounds[place]) for place in inner.val])
    assert not any(box(*tiles.bounds[place]).intersection(held).area for place in inner.train)
    assert {tiles.strata[place] for place in inner.train} == set(tiles.labels)
    assert hold_in(tiles, outer, block_size=320, seed=seed) == inner


def test_too_few_tiles_hold_none_in(tiles):
    outer = split_tiles(tiles, 0.2, block_size=320)
    assert hold_in(tiles, outer, block_size=99999) is None
    assert hold_in(tiles, outer._replace(train=outer.train[: LEAST - 1])) is None


@pytest.mark.parametrize(
    ('won', 'lost', 'said'),
    [(0, 0, False), (1, 0, False), (2, 0, True), (12, 8, False), (13, 7, True), (7, 13, False)],
)
def test_clearly_better_is_above_a_standard_error_of_the_difference(won, lost, said):
    one = np.repeat([True, False, True, False], [won, lost, 30, 20])
    other = np.repeat([False, True, True, False], [won, lost, 30, 20])
    assert clearly_better(one, other) == said


def test_fine_tuning_that_does_harm_is_not_kept(train, bundle):
    result = train(learning_rate=3.0)
    (score,) = result.scores
    choice = score.choice
    assert (choice.kept, choice.tiles >= LEAST) == ('linear start', True)
    assert choice.tuned < choice.linear
    assert score.metrics['accuracy'] > 0.8
    assert features_are(result.model, bundle)
    assert 'linear start was clearly better' in choice.said
    assert choice.said in result.card.description
    report = result.report['splits']['blocks']
    assert report['kept'] == 'linear start'
    assert report['held_in'] == {
        'tiles': choice.tiles,
        'accuracy_linear_start': choice.linear,
        'accuracy_fine_tuned': choice.tuned,
    }


def test_fine_tuning_that_helps_is_kept(train, bundle, monkeypatch):
    monkeypatch.setattr('geores.training.finetune_recipe.fit_head', lambda *_, **__: True)  # a poor start
    result = train(learning_rate=0.003, epochs=4)
    choice = result.scores[0].choice
    assert choice.kept == 'fine-tuned'
    assert choice.tuned > choice.linear
    assert 'was not clearly better' in choice.said
    assert not features_are(result.model, bundle)


@pytest.mark.parametrize('why', ['few tiles', 'no linear head'])
def test_what_cannot_be_compared_is_fine_tuned(train, bundle, monkeypatch, why):
    if why == 'no linear head':
        monkeypatch.setattr('geores.training.finetune_recipe.fit_head', lambda *_, **__: False)
    result = train(stride=16 if why == 'few tiles' else 8)  # 64 tiles, or 180
    choice = result.scores[0].choice
    assert (choice.kept, choice.tiles, choice.tuned) == ('fine-tuned', 0, None)
    assert why in choice.said
    assert not features_are(result.model, bundle)
    assert result.report['splits']['blocks']['held_in']['accuracy_fine_tuned'] is None

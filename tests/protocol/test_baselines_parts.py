"""What baselines are made of: features, protocol and figures."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from geores.errors import DatasetError
from geores.models import create
from geores.protocol.compare import draw_splits
from geores.protocol.features import colour_histogram, deep_features, linear_svm
from geores.protocol.table import BaselineRun
from geores.splits.stratified import split_seed

pytestmark = pytest.mark.usefixtures('one_thread')


# --- features


@settings(deadline=None, max_examples=25)
@given(arrays(np.uint8, (3, 5, 7)))
def test_colour_histogram_is_that_of_numpy(pixels):
    expected = [np.histogram(channel, bins=32, range=(0, 256))[0] for channel in pixels]
    found = colour_histogram(pixels)
    np.testing.assert_allclose(found, np.concatenate(expected) / pixels.size, rtol=1e-6)
    assert found.sum() == pytest.approx(1)


def test_deep_features_are_the_network_of_normalised_images():
    network = create('resnet10t', num_classes=0).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32)).astype(np.uint8)
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    with torch.inference_mode():
        normal = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
        expected = network(torch.tensor(normal, dtype=torch.float32))
    found = deep_features(network, list(pixels), mean, std, batch_size=2)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_linear_svm():
    draw = np.random.default_rng(0)
    classes = np.arange(40) % 4
    features = (np.eye(4)[classes] * 1000 + draw.normal(0, 100, (40, 4))).astype(np.float32)
    answers = linear_svm(features[:24], classes[:24], features[24:])
    assert (answers.classes == classes[24:]).all()
    assert answers.setting.startswith('C=')
    assert linear_svm(features[:24], classes[:24], features[24:], c=0.5).setting == 'C=0.5'
    alone = linear_svm(features[:4], classes[:4], features[4:])
    assert alone.setting == 'C=1'
    assert (alone.classes == classes[4:]).all()


# --- protocol


def test_ratios_are_those_of_resisc45():
    names = [f'{scene}/{index}' for scene in 'abc' for index in range(700)]
    scenes = [name[0] for name in names]
    splits = draw_splits(names, scenes, (0.1, 0.2), 2, seed=0)
    for (ratio, _), split in splits.items():
        trained = Counter(scenes[index] for index in split.train)
        assert trained == dict.fromkeys('abc', round(700 * ratio))
        assert sorted(split.train + split.val) == list(range(2100))
    assert set(splits[0.1, 0].train) < set(splits[0.2, 0].train)
    assert splits[0.1, 0].train != splits[0.1, 1].train


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(30)), st.integers(0, 5))
def test_draws_depend_on_seed_and_names_alone(order, seed):
    names = [f'{"ab"[index % 2]}/{index}' for index in range(30)]
    shuffled = [names[index] for index in order]
    plain, other = (
        draw_splits(these, [name[0] for name in these], (0.2,), 1, seed) for these in (names, shuffled)
    )
    assert {names[i] for i in plain[0.2, 0].train} == {shuffled[i] for i in other[0.2, 0].train}


def test_seeds_share_no_draw():
    assert len({split_seed(seed, repeat) for seed in range(3) for repeat in range(1000)}) == 3000


@pytest.mark.parametrize(('counts', 'named'), [({'a': 50, 'b': 3}, 'b'), ({'a': 1, 'b': 50}, 'a')])
def test_classes_too_small_are_named(counts, named):
    scenes = [scene for scene, count in counts.items() for _ in range(count)]
    with pytest.raises(DatasetError, match=f"class '{named}' has {counts[named]} image.* 0.1"):
        draw_splits([str(index) for index in range(len(scenes))], scenes, (0.1, 0.5), 1, 0)


# --- figures


def run(answers, truth=(0, 0, 1, 1, 2, 2), **about):
    fields = {'method': 'colour', 'ratio': 0.1, 'repeat': 0, 'train': 3, 'setting': '', 'seconds': 0.0}
    return BaselineRun.score(np.array(truth), np.array(answers), 3, **(fields | about))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_figures_are_those_of_scikit_learn(answers):
    truth = np.arange(12) % 3
    scored = run(answers, truth)
    assert scored.accuracy == pytest.approx(reference.accuracy_score(truth, answers))
    assert scored.kappa == pytest.approx(reference.cohen_kappa_score(truth, answers))
    assert scored.f1_macro == pytest.approx(
        reference.f1_score(truth, answers, average='macro', zero_division=0)
    )
    np.testing.assert_array_equal(
        scored.confusion, reference.confusion_matrix(truth, answers, labels=range(3))
    )


def test_figures_by_hand():
    scored = run([0, 1, 1, 1, 2, 0])
    assert scored.accuracy == pytest.approx(4 / 6)
    assert scored.kappa == pytest.approx((4 / 6 - 1 / 3) / (1 - 1 / 3))
    assert scored.f1_macro == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert scored.confusion == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]

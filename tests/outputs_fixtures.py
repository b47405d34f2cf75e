"""A model, a scene with a corner of nodata, and what classifying it gave."""

import pytest

from geores import classify, load_model

from .fixtures import LABELS, noise, tiny_bundle, write_scene


@pytest.fixture(scope='module')
def multi(tmp_path_factory):
    """A bundle whose tiles may have several labels."""
    return load_model(
        tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny-multi', task='multi-label', seed=2)
    )


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """A scene with a corner of nodata."""
    values = noise(3, 205, 270)
    values[:, :90, :90] = 0
    return write_scene(tmp_path_factory.mktemp('scenes') / 'scene.tif', values=values, nodata=0)


@pytest.fixture(scope='module')
def saved(path, multi, tmp_path_factory):
    """A result, and the paths of its files."""
    result = classify(path, multi, stride=16, precision='fp32')
    return result, result.save(tmp_path_factory.mktemp('saved') / 'out')


def shares_of(table):
    """Shares of area by the table alone."""
    known = table[table[LABELS[0]].notna()]
    area = known['area']
    return {
        label: area[[label in labels for labels in known['labels']]].sum() / area.sum() for label in LABELS
    }

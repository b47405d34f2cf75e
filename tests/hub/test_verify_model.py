"""`geores verify-model`: what it says of files that match, of files that do not, and of figures on reBEN."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score

import geores as library
from geores.datasets import ReBEN
from geores.errors import UsageError
from geores.hub.verify_model import TEST_PATCHES, verify_model
from geores.weight_files import sha256_of

from .test_published import write_snapshot

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def snapshot(tmp_path_factory):
    return write_snapshot(tmp_path_factory.mktemp('hub'), 'resnet10t', 'all')[0]


@pytest.fixture(scope='module')
def patches():
    """24 real pairs of patches in an LMDB, with their metadata."""
    if find_spec('configilm') is None:
        pytest.skip('configilm, which holds real patches of reBEN, is absent')
    place = Path(find_spec('configilm').submodule_search_locations[0]) / 'extra/mock_data/BENv2'
    return place / 'BigEarthNet-V2-LMDB'


def test_files_that_match(geores, snapshot):
    answer = geores('verify-model', snapshot, '--json')
    assert answer.code == 0, answer.err
    (found,) = answer.records
    assert found['sha256'] == sha256_of(snapshot / 'model.safetensors')
    assert found['prefix'] == 'model.vision_encoder.'
    assert found['matched'] == len(load_file(snapshot / 'model.safetensors'))
    assert found['bands'][:3] == ['VV', 'VH', 'B02']
    assert found['agrees'] is None
    told = geores('verify-model', snapshot).out
    assert 'all match' in told
    assert 'passed: tensors match; give --data to measure' in told


def test_files_that_do_not_match(geores, tmp_path, snapshot):
    folder = write_snapshot(tmp_path)[0]
    path = folder / 'model.safetensors'
    tensors = load_file(path)
    tensors['model.vision_encoder.head.weight'] = tensors.pop('model.vision_encoder.fc.weight')
    save_file(tensors, path)
    answer = geores('verify-model', folder)
    assert answer.code == 1
    for text in ('missing: fc.weight', 'unexpected: head.weight', 'NOT a match', 'failed'):
        assert text in answer.out


def test_a_bundle_can_be_looked_at_too(geores, bundle):
    answer = geores('verify-model', bundle, '--json')
    assert (answer.code, answer.records[0]['keys_match']) == (0, True)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_figures_are_those_of_scikit_learn(patches, snapshot, split):
    model = library.load_model(snapshot)
    data = ReBEN(patches, split, model.card.bands)
    if not len(data):
        pytest.skip('no patches of this part')
    seen = []
    found = verify_model(
        snapshot, patches, split=split, batch_size=3, progress=lambda done, of: seen.append(done)
    )
    assert found.patches == sum(seen) == len(data)
    scores = model.predict(torch.stack([data[index]['image'] for index in range(len(data))]))
    target = data.targets
    there = target.any(0)
    macro = average_precision_score(target[:, there], scores[:, there], average='macro')
    assert found.measured['ap_macro'] == pytest.approx(macro, abs=1e-5)
    assert found.measured['ap_micro'] == pytest.approx(
        average_precision_score(target.ravel(), scores.ravel()), abs=1e-5
    )
    assert set(found.orders) == {'0.2.0', '0.1.1'}
    assert found.orders['0.2.0'] == found.measured['ap_macro']
    assert found.agrees is None  # a sample is not the test split


def test_figures_are_shown(geores, patches, snapshot):
    answer = geores('verify-model', snapshot, '--data', patches, '--split', 'train')
    assert answer.code == 0, answer.err
    assert 'ap_macro' in answer.out
    assert 'order of bands of 0.1.1' in answer.out


def test_agreement_is_within_a_tolerance(snapshot):
    published = {'ap_macro': 0.7, 'ap_micro': 0.86}
    whole = replace(verify_model(snapshot), patches=TEST_PATCHES, split='test', published=published)
    assert replace(whole, measured={'ap_macro': 0.7049, 'ap_micro': 0.8555}).agrees is True
    off = replace(whole, measured={'ap_macro': 0.7051, 'ap_micro': 0.86})
    assert off.agrees is False
    assert not off.passed
    assert replace(off, split='val').agrees is None


def test_refusals(geores, tmp_path, snapshot, patches, bundle):
    assert geores('verify-model', snapshot, '--split', 'all').code == 2
    assert geores('verify-model', tmp_path / 'nowhere').code == 2
    with pytest.raises(UsageError, match='no reBEN patches here'):
        verify_model(snapshot, tmp_path)
    with pytest.raises(UsageError):
        verify_model(bundle, patches)
    assert np.isfinite(verify_model(snapshot).matched)

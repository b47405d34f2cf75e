"""Bundles are written and read whole, and what they give."""

# ruff: noqa: F811 - fixtures are arguments too
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from geores import card as card_module
from geores.bundle import list_models, load_model, save_bundle
from geores.card import ModelCard
from geores.errors import BundleError, ModelNotFoundError, OutputError, UsageError

from .bundle_fixtures import (  # noqa: F401 - fixtures
    CARD,
    SIZE,
    bundle,
    change,
    change_weights,
    fails,
    images,
    tiny,
)

# --- bundles


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_round_trip(tmp_path, dtype):
    network = tiny()
    folder = save_bundle(tmp_path / 'deep' / 'tiny', network, CARD, dtype)
    model = load_model(folder)
    assert sorted(path.name for path in folder.iterdir()) == ['card.json', 'model.safetensors']
    assert replace(model.card, sha256='', geores_version='') == CARD
    assert model.name == 'tiny'
    assert len(model.sha256) == 64
    assert model.device.type == 'cpu'
    assert not model.network.training
    assert all(part.dtype == torch.float32 for part in model.network.parameters())
    network.eval()
    normal = (torch.from_numpy(images()) - torch.tensor([100.0, 200.0]).view(2, 1, 1)) / (
        torch.tensor([10.0, 20.0]).view(2, 1, 1)
    )
    with torch.no_grad():
        expected = network(normal).sigmoid().numpy()
    np.testing.assert_allclose(model.predict(images()), expected, atol=2e-3, rtol=0)
    if dtype == torch.float32:
        np.testing.assert_allclose(model.predict(images()), expected, atol=1e-6, rtol=0)


def test_wrong_shape_names_tensor_and_both_shapes(bundle):
    change_weights(bundle, lambda tensors: tensors.update({'conv.weight': torch.zeros(4, 3, 3, 3)}))
    fails(bundle, "'conv.weight'", '(4, 3, 3, 3)', '(4, 2, 3, 3)')


def test_missing_and_unexpected_tensors(bundle):
    change_weights(bundle, lambda tensors: tensors.update(extra=torch.zeros(1)))
    fails(bundle, "'extra'")
    change_weights(bundle, lambda tensors: tensors.pop('head.bias'))
    fails(bundle, "'head.bias'", 'missing')


def test_values_that_are_not_finite(bundle):
    change_weights(bundle, lambda tensors: tensors['head.bias'].fill_(torch.nan))
    fails(bundle, "'head.bias'", 'finite')


def test_labels_have_to_fit_the_head(bundle):
    change(bundle, labels=['a', 'b'], thresholds=[0.5, 0.5])
    fails(bundle, '(1, 3)', 'labels are 2')


def test_bands_have_to_fit_the_network(bundle):
    change(bundle, bands=['a', 'b', 'c'], mean=[0, 0, 0], std=[1, 1, 1])
    fails(bundle, '(1, 3, 8, 8)')


def test_huge_networks_take_no_memory(bundle):
    change(bundle, architecture_kwargs={'in_chans': 2, 'num_classes': 10**12})
    fails(bundle, "'head.weight'", '(1000000000000, 4)')


def test_other_weights_than_the_card_says(bundle):
    change_weights(bundle, lambda tensors: tensors['head.bias'].add_(1))
    fails(bundle, 'SHA-256', "'sha256'")


@pytest.mark.parametrize('keep', [0, 5, 100, -4])
def test_truncated_weights(bundle, keep):
    path = bundle / 'model.safetensors'
    path.write_bytes(path.read_bytes()[:keep])
    fails(bundle, 'model.safetensors', 'not safetensors')


class Mine:
    def __reduce__(self):
        return os.mkdir, ('unpickled',)


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
@pytest.mark.parametrize('place', ['model.safetensors', 'model.pt', None])
def test_pickles_are_never_read(bundle, tmp_path, monkeypatch, protocol, place):
    monkeypatch.chdir(tmp_path)
    (bundle / 'model.safetensors').unlink()
    path = tmp_path / 'model.ckpt' if place is None else bundle / place
    path.write_bytes(pickle.dumps(Mine(), protocol))
    named = path if place is None else bundle
    fails(named, path.name, 'safetensors')
    assert not (tmp_path / 'unpickled').exists()


def test_torch_files_are_refused(bundle, tmp_path):
    torch.save(tiny().state_dict(), tmp_path / 'weights')
    fails(tmp_path / 'weights', 'geores reads safetensors only')
    shutil.copy(tmp_path / 'weights', bundle / 'model.safetensors')
    fails(bundle, 'geores reads safetensors only')


def test_folders_and_files_that_are_no_bundles(bundle, tmp_path):
    (tmp_path / 'empty').mkdir()
    fails(tmp_path / 'empty', 'not a bundle')
    fails(bundle / 'card.json', 'a bundle is a folder')
    (bundle / 'card.json').unlink()
    fails(bundle, 'no card.json')


def test_unknown_names_suggest_the_nearest():
    fails('sentinal2', "did you mean 'sentinel2'", kind=ModelNotFoundError)
    fails('', kind=ModelNotFoundError)


def test_saving_refuses_what_would_not_load(tmp_path):
    with pytest.raises(BundleError, match=r"'head\.weight'"):
        save_bundle(
            tmp_path / 'x',
            tiny(),
            replace(CARD, architecture_kwargs={'in_chans': 2, 'num_classes': 4}),
        )
    assert not list(tmp_path.iterdir())


def test_overwriting_is_asked_for(bundle):
    other = replace(CARD, description='Another.')
    with pytest.raises(OutputError, match='exists already'):
        save_bundle(bundle, tiny(), other)
    save_bundle(bundle, tiny(), other, overwrite=True)
    assert load_model(bundle).card.description == 'Another.'
    assert [path.name for path in bundle.parent.iterdir()] == ['tiny']


def test_a_folder_that_is_no_bundle_is_never_overwritten(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').touch()
    with pytest.raises(OutputError):
        save_bundle(tmp_path / 'mine', tiny(), CARD, overwrite=True)
    assert (tmp_path / 'mine' / 'thesis.txt').exists()


def test_nothing_is_left_where_writing_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(ModelCard, 'save', fail)
    with pytest.raises(OutputError, match='No space left'):
        save_bundle(tmp_path / 'x', tiny(), CARD)
    assert not list(tmp_path.iterdir())


# --- models


@pytest.mark.parametrize(
    'wrong',
    [
        np.zeros((2, SIZE, SIZE)),
        np.zeros((1, 3, SIZE, SIZE)),
        np.zeros((1, 2, SIZE, SIZE + 1)),
        np.full((1, 2, SIZE, SIZE), np.nan),
        np.full((1, 2, SIZE, SIZE), np.inf),
        np.zeros((1, 2, SIZE, SIZE), complex),
        'text',
    ],
)
def test_images_that_do_not_fit_the_card(bundle, wrong):
    with pytest.raises(UsageError) as error:
        load_model(bundle).predict(wrong)
    assert '\n' not in str(error.value)


def test_prediction_of_other_types_and_none(bundle):
    model = load_model(bundle)
    whole = images().astype(np.uint16)
    expected = model.predict(whole.astype(np.float32))
    assert expected.dtype == np.float32
    assert expected.shape == (5, 3)
    np.testing.assert_array_equal(model.predict(whole), expected)
    np.testing.assert_array_equal(model.predict(torch.from_numpy(whole.astype(float))), expected)
    assert model.predict(images(0)).shape == (0, 3)
    np.testing.assert_allclose(model.predict(whole, batch_size=2), expected, atol=1e-6)
    with pytest.raises(UsageError, match='batch_size'):
        model.predict(whole, batch_size=0)


def test_fractions_in_place_of_the_units_are_warned_of(bundle):
    change(bundle, units='8-bit', mean=[150.0, 150.0], std=[20.0, 20.0])
    model = load_model(bundle)
    with pytest.warns(UserWarning, match='above 1, and .* wants 8-bit: multiply .* by 255') as told:
        model.predict(images() / images().max())
    assert told[0].filename == __file__
    change(bundle, units='reflectance*10000', mean=[800.0, 2000.0])
    with pytest.warns(UserWarning, match='by 10,000'):
        load_model(bundle).predict(torch.full((1, 2, SIZE, SIZE), 0.3))


@pytest.mark.parametrize(
    ('value', 'kind', 'mean'),
    [(0, 'float32', 150.0), (1, 'uint8', 150.0), (0.5, 'float32', 0.4), (-0.5, 'float32', -12.0)],
)
def test_black_images_whole_numbers_and_other_units_are_not_warned_of(bundle, value, kind, mean):
    change(bundle, units='8-bit' if mean > 0 else 'dB', mean=[mean, mean])
    load_model(bundle).predict(np.full((2, 2, SIZE, SIZE), value, kind))


def test_calibration_divides_logits(bundle):
    change(bundle, calibration={'temperature': 2.0})
    logits = torch.tensor([[2.0, 0.0, -4.0]], dtype=torch.bfloat16)
    scores = load_model(bundle).activate(logits)
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.0, -2.0]]).sigmoid())


def test_unknown_devices(bundle):
    with pytest.raises(UsageError, match='abacus'):
        load_model(bundle, device='abacus')


def test_shipped_models_load_and_are_small():
    cards = list_models()
    for shipped in cards:
        model = load_model(shipped.name)
        shape = (1, len(shipped.bands), shipped.input_size, shipped.input_size)
        images = np.broadcast_to(np.reshape(shipped.fill, (1, -1, 1, 1)), shape)
        if shipped.task == 'vqa':
            (answer,) = model.answer(images[0], ['Is there a road?'])
            assert answer.text in {'yes', 'no'}
        else:
            pixels = shape[2:] if shipped.task == 'segmentation' else ()
            assert model.predict(images).shape == (1, len(shipped.labels), *pixels)
        assert (card_module.WEIGHTS / shipped.name / 'model.safetensors').stat().st_size < 25e6
        assert shipped.metrics

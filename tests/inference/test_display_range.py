"""16-bit bands before a model of 8-bit images whose card says which reflectances those show."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from geores import load_model
from geores.errors import BundleError
from geores.inference.units import unit_transforms
from geores.scenes import open_scene

from ..fixtures import tiny_bundle

BANDS = ('red', 'green', 'blue')
RANGE = (0.0, 4096.0)
STORED = np.array([[0, 1000, 2048], [4096, 5000, 20]])
SHOWN = np.array([[0, 62.26, 127.5], [255, 255, 1.245]])


@pytest.fixture(scope='module')
def card(tmp_path_factory):
    bundle = tiny_bundle(tmp_path_factory.mktemp('range') / 'tiny-rgb')
    return dataclasses.replace(load_model(bundle).card, display_range=RANGE)


def scene_of(values, names=BANDS, **attributes):
    planes = np.broadcast_to(values, (3, *values.shape[-2:]))
    array = xr.DataArray(planes, dims=('band', 'y', 'x'), coords={'band': list(names)}, attrs=attributes)
    return open_scene(array)


def shown(scene, card, values):
    """What the model sees of the red band, and the notes."""
    sample = np.broadcast_to(values.astype(np.float32), (1, 3, *values.shape[-2:]))
    found, notes = unit_transforms(scene, card, BANDS, sample, np.ones((1, *values.shape[-2:]), bool))
    pixels = values.astype(np.float32)
    if 'red' in found:
        found['red'].apply(pixels)
    return pixels, notes


@pytest.mark.parametrize(
    ('values', 'attributes', 'told'),
    [
        (STORED.astype('uint16'), {}, ''),
        ((STORED + 1000).astype('uint16'), {'scale_factor': 1e-4, 'add_offset': -0.1}, ''),
        (STORED.astype('uint16'), {'scale_factor': 1e-4, 'add_offset': 0.0}, ''),
        ((STORED / 1e4).astype('float32'), {}, 'reflectance from 0 to 1'),
        (STORED.astype('float32'), {}, 'reflectance times 10,000'),
    ],
)
def test_one_reflectance_is_one_brightness_however_it_is_stored(card, values, attributes, told):
    pixels, notes = shown(scene_of(values, **attributes), card, values)
    np.testing.assert_allclose(pixels, SHOWN, atol=0.05)
    assert any('between 0 and 4096 of reflectance times 10,000' in note for note in notes)
    assert any(told in note for note in notes)


def test_the_range_does_not_look_at_the_scene(card):
    """Percentiles would make a dark scene as bright as a bright one."""
    dark = (STORED // 4).astype('uint16')
    pixels, _ = shown(scene_of(dark), card, dark)
    np.testing.assert_allclose(pixels, dark * (255 / 4096), atol=0.05)
    stretched, notes = shown(scene_of(dark), dataclasses.replace(card, display_range=None), dark)
    assert stretched.max() == pytest.approx(255)
    assert any('percentiles' in note for note in notes)


def test_a_range_that_does_not_start_at_zero(card):
    values = STORED.astype('uint16')
    pixels, _ = shown(scene_of(values), dataclasses.replace(card, display_range=(1000.0, 3000.0)), values)
    np.testing.assert_allclose(pixels, ((STORED - 1000) / 2000 * 255).clip(0, 255), atol=0.05)


def test_8_bit_scenes_stay_as_they_are(card):
    values = np.array([[0, 7, 255]], np.uint8)
    pixels, notes = shown(scene_of(values), card, values)
    assert pixels.tolist() == [[0, 7, 255]]
    assert notes == ()


@pytest.mark.parametrize('limits', [(4096.0, 0.0), (5.0, 5.0), (-1.0, 5.0), (0.0, float('nan'))])
def test_a_card_takes_no_range_that_is_none(card, limits):
    with pytest.raises(BundleError, match='display_range'):
        dataclasses.replace(card, display_range=limits)

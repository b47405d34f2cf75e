"""The 120 official test patches of reBEN at hand, in the layout of the release under invented ids."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geores.bigearthnet.labels import CLC, IGNORED, UNLABELLED, classes_of_map, labels_in, labels_of_map
from geores.datasets import ReBEN, ReBENMapsDataModule
from geores.errors import DatasetError

ROOT = Path(__file__).resolve().parents[2]
MAPS = ROOT.parent / 'data' / 'reben-maps' / 'reben-maps.npz'
needs_maps = pytest.mark.skipif(not MAPS.is_file(), reason=f'{MAPS} is absent')
pytestmark = needs_maps


@pytest.fixture(scope='module')
def walk():
    """The script that lays them out."""
    spec = importlib.util.spec_from_file_location('reben19', ROOT / 'benchmarks' / 'reben19.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def held():
    with np.load(MAPS, allow_pickle=False) as file:
        return file['images'], file['clc'], file['bands'].tolist()


@pytest.fixture(scope='module')
def root(walk, tmp_path_factory):
    folder = tmp_path_factory.mktemp('maps')
    walk.lay_out(MAPS, folder)
    return folder


def test_pixels_come_back_as_they_are(root, held):
    """Decibels as float32 to the last bit, digital numbers as whole numbers, bands in the order asked for."""
    images, _, bands = held
    data = ReBEN(root, 'test', ['B08', 'VH', 'B02', 'VV'])
    assert len(data) == 120
    order = [bands.index(band) for band in data.bands]
    for index in (0, 59, 119):
        np.testing.assert_array_equal(
            data[index]['image'].numpy(), images[index][..., order].transpose(2, 0, 1)
        )
    whole = data.read_batch(range(120))
    assert (whole[:, 1] < 25).all()
    assert -25 < whole[:, 1].mean() < -10  # VH in dB
    assert (whole[:, 0] % 1 == 0).all()


def test_sentinel_1_alone_and_a_band_that_is_not_there(root):
    assert ReBEN(root, 'test', 's1')[7]['image'].shape == (2, 120, 120)
    with pytest.raises(DatasetError, match='B05'):
        ReBEN(root, 'test', 's2')


def test_labels_are_those_of_the_maps(root, walk):
    """A label is there exactly where one pixel of its CORINE codes is, counted by the table of codes."""
    data = ReBEN(root, 'test', 's1', maps=True)
    names = labels_in('lexicographic')
    for index, (_, codes) in enumerate(walk.read_patches(MAPS)):
        wanted = {CLC[int(code)][1] for code in np.unique(codes)} - {None}
        assert {names[at] for at in np.flatnonzero(data.targets[index])} == wanted
    mask = data[3]['mask'].numpy()
    assert set(np.unique(mask)) <= {*range(19), IGNORED}


def test_all_patches_keep_to_the_rule_if_999_is_read_as_pastures(walk, held):
    """In 8 bits 231 and 999 are one code; patches with a quarter of unlabelled pixels are in no release."""
    assert UNLABELLED % 256 == walk.PASTURES
    kept = [labels_of_map(codes).is_kept for _, codes in walk.read_patches(MAPS)]
    assert all(kept)
    assert sum(not labels_of_map(codes).is_kept for codes in held[1]) == 14


def test_per_pixel_classes_for_training(root):
    module = ReBENMapsDataModule(
        str(root), bands=['VV', 'VH'], train_split='test', val_split='test', test_split='test'
    )
    counts = module.class_counts
    assert counts.sum() > 120 * 120 * 100
    assert counts[module.labels.index('Pastures')] > 0


def test_one_scene_of_each_sensor(root, walk, tmp_path):
    walk.make_scene(root, tmp_path)
    data = ReBEN(root, 'test', ['B02', 'VV'])
    for name, count, place, band in (('s2', 4, 0, 0), ('s1', 2, 0, 1)):
        with rasterio.open(tmp_path / f'{name}.tif') as file:
            assert (file.count, file.shape, file.res) == (count, (1200, 1440), (10, 10))
            found = file.read(place + 1, window=rasterio.windows.Window(120, 240, 120, 120))
        np.testing.assert_array_equal(found, data[2 * 12 + 1]['image'][band].numpy())


def test_codes_of_the_release_are_all_known(walk):
    codes = np.unique(np.stack([codes for _, codes in walk.read_patches(MAPS)]))
    assert classes_of_map(codes[None]).shape == (1, len(codes))

"""The checks for authors: ours pass them, and each broken rule of a bundle is told."""

import csv
import json
import shutil
import warnings

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from torch import nn

from geores import ModelCard, save_bundle
from geores.card import shipped_models
from geores.datasets import GeoTIFFPatches, GeoTIFFPatchesDataModule, SceneFolder, SceneFolderDataModule
from geores.models import register
from geores.tasks import SceneClassification
from geores.testing import check_bundle, check_dataset, check_task

from ..fixtures import LABELS, RGB, SENTINEL2, tiny_bundle
from ..testing_fixtures import fails

SMALL = {'stem_width': 8, 'channels': [8, 16, 32, 64]}

pytestmark = pytest.mark.usefixtures('one_thread')


# --- ours


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Scenes in folders, with a table of labels."""
    root = tmp_path_factory.mktemp('scenes')
    draw = np.random.default_rng(0)
    rows = [['name', 'scene', 'dark', 'red']]
    for scene, level in (('night', 30), ('day', 200)):
        (root / 'images' / scene).mkdir(parents=True)
        for index in range(6):
            pixels = draw.normal(level, 10, (32, 32, 3))
            pixels[..., 0] += 40 * (index % 2)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / 'images' / scene / f'{scene}{index}.png')
            rows.append([f'{scene}{index}', scene, int(scene == 'night'), index % 2])
    with (root / 'multilabels.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    return root


@pytest.fixture(scope='module')
def patches(tmp_path_factory):
    """GeoTIFFs with a table of labels."""
    root = tmp_path_factory.mktemp('patches')
    (root / 'images').mkdir()
    draw = np.random.default_rng(0)
    rows = [['file', 'label']]
    profile = {'driver': 'GTiff', 'dtype': 'uint16', 'count': 4, 'height': 32, 'width': 32}
    for index in range(12):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            with rasterio.open(root / 'images' / f'{index}.tif', 'w', **profile) as file:
                file.write(draw.normal((300, 3000)[index % 2], 50, (4, 32, 32)).astype('uint16'))
                file.descriptions = SENTINEL2
        rows.append([f'{index}.tif', ('Lake', 'Forest')[index % 2]])
    with (root / 'labels.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    return root


def test_our_datasets(folder, patches):
    check_dataset(SceneFolder(folder))
    check_dataset(SceneFolder(folder, mode='multi-label'))
    check_dataset(GeoTIFFPatches(patches))
    held = GeoTIFFPatches(patches, unlabelled=True)
    held.images.load()
    check_dataset(held, samples=3)


@pytest.mark.parametrize('mode', ['scene', 'multi-label', 'patches'])
def test_our_task(folder, patches, mode):
    if mode == 'patches':
        data = GeoTIFFPatchesDataModule(str(patches), size=32, batch_size=8)
    else:
        data = SceneFolderDataModule(str(folder), mode=mode, size=32, batch_size=8)
    check_task(SceneClassification(data.labels, data.bands, data.task, 'resnet10t', SMALL), data, steps=20)


@pytest.mark.parametrize('name', [card.name for card in shipped_models()])
def test_our_bundles(name):
    check_bundle(name, max_mb=25)


# --- bundles


@register('test-testing-mixed')
class Mixed(nn.Module):
    """Answers with what the whole batch has in common."""

    def __init__(self, mixes=True, power=1.0, same=False):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.mixes, self.power, self.same = mixes, power, same

    def forward(self, images):
        features = self.layer(images.mean((2, 3)))
        if self.mixes:
            features = features - features.mean(0, keepdim=True)
        return (0 * features if self.same else features) ** self.power


def odd_bundle(path, **kwargs):
    torch.manual_seed(0)
    card = json.loads((tiny_bundle(path.with_name('plain'), RGB, LABELS) / 'card.json').read_text())
    change = {'architecture': 'test-testing-mixed', 'architecture_kwargs': kwargs}
    return save_bundle(path, Mixed(**kwargs), ModelCard.from_dict(card | change))


@pytest.mark.parametrize('task', ['single-label', 'multi-label'])
def test_a_sound_bundle(tmp_path, task):
    check_bundle(tiny_bundle(tmp_path / 'sound', task=task))


@pytest.mark.parametrize(
    ('kwargs', 'words', 'remedy'),
    [
        ({'mixes': True}, 'with the images that share the batch', 'let no layer mix images'),
        ({'mixes': False, 'power': 0.5}, 'NaN or infinite scores', 'division or logarithm'),
        ({'mixes': False, 'same': True}, 'the same scores to the last bit', 'mean and std'),
    ],
)
def test_odd_answers_are_told(tmp_path, kwargs, words, remedy):
    fails(check_bundle, odd_bundle(tmp_path / 'odd', **kwargs), words=words, remedy=remedy)


@pytest.mark.parametrize(
    ('name', 'content'), [('old.ckpt', b''), ('more/model.PT', b'x'), ('weights', b'PK\x03\x04rest')]
)
def test_pickles_are_told(bundle, tmp_path, name, content):
    copy = shutil.copytree(bundle, tmp_path / 'copy')
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(content)
    fails(check_bundle, copy, words=f'{name} is or may be a pickle', remedy='model.safetensors alone')


def test_what_cannot_be_loaded_is_told(bundle, tmp_path):
    fails(check_bundle, tmp_path / 'nowhere', words='cannot be loaded', remedy='geores.save_bundle')
    copy = shutil.copytree(bundle, tmp_path / 'copy')
    (copy / 'model.safetensors').write_bytes(b'\x80\x04pickled')
    fails(check_bundle, copy, words='is or may be a pickle')
    shutil.copy(bundle / 'model.safetensors', copy)
    card = json.loads((copy / 'card.json').read_text())
    (copy / 'card.json').write_text(json.dumps(card | {'mean': [1.0]}))
    fails(check_bundle, copy, words="field 'mean' has 1 values for 3 bands", remedy='geores.save_bundle')


def test_size_is_told(bundle):
    fails(check_bundle, bundle, 0.01, words='more than 0.01 MB', remedy='float16')

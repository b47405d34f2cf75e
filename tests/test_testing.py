"""The checks for authors: ours pass them, and each broken rule is told."""

import csv
import json
import shutil
import warnings

import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from geores import ModelCard, save_bundle
from geores.card import shipped_models
from geores.datasets import GeoTIFFPatches, GeoTIFFPatchesDataModule, SceneFolder, SceneFolderDataModule
from geores.models import create, register
from geores.tasks import SceneClassification
from geores.testing import check_bundle, check_dataset, check_task

from .fixtures import LABELS, RGB, SENTINEL2, tiny_bundle

SMALL = {'stem_width': 8, 'channels': [8, 16, 32, 64]}


pytestmark = pytest.mark.usefixtures('one_thread')


def fails(check, *args, words, remedy=''):
    with pytest.raises(AssertionError) as error:
        check(*args)
    message = str(error.value)
    assert words in message
    assert remedy in message
    assert '\n' not in message


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


# --- datasets


class Good:
    """A dataset that breaks no rule: 5 images of two bands, each with two values."""

    task = 'regression'
    bands = ('VV', 'VH')
    labels = ('height', 'cover')

    def __init__(self):
        draw = np.random.default_rng(0)
        self.images = torch.from_numpy(draw.normal(-12, 3, (5, 2, 8, 8)).astype(np.float32))
        self.ids = [f'tile{index}' for index in range(5)]

    def __len__(self):
        return len(self.images)

    def image(self, index):
        return self.images[index].clone()

    def label(self, index):
        return torch.tensor([float(index), 0.5])

    def __getitem__(self, index):
        return {
            'image': self.image(index),
            'label': self.label(index),
            'id': self.ids[index],
            'bands': self.bands,
        }


class NoLength:
    pass


class Empty(Good):
    def __len__(self):
        return 0


class NoBands(Good):
    bands = None


class BandsTwice(Good):
    bands = ('VV', 'VV')


class BandsText(Good):
    bands = 'VV'


class NoIds(Good):
    def __init__(self):
        super().__init__()
        del self.ids


class FewIds(Good):
    def __init__(self):
        super().__init__()
        self.ids.pop()


class SameIds(Good):
    def __init__(self):
        super().__init__()
        self.ids = ['tile'] * 5


class NumberIds(Good):
    def __init__(self):
        super().__init__()
        self.ids = list(range(5))


class Pair(Good):
    def __getitem__(self, index):
        return self.image(index), self.label(index)


class NoImage(Good):
    def __getitem__(self, index):
        return {'label': self.label(index)}


class Array(Good):
    def image(self, index):
        return super().image(index).numpy()


class Double(Good):
    def image(self, index):
        return super().image(index).double()


class Flat(Good):
    def image(self, index):
        return super().image(index).flatten()


class LastBand(Good):
    def image(self, index):
        return super().image(index).permute(1, 2, 0)


class Gap(Good):
    def image(self, index):
        return torch.full((2, 8, 8), float('nan'))


class Standard(Good):
    def image(self, index):
        return (super().image(index) + 12) / 3


class Scaled(Good):
    bands = ('B04', 'B08')

    def image(self, index):
        return super().image(index).abs() / 1000


class Unlabelled(Good):
    def __getitem__(self, index):
        return {'image': self.image(index)}


class OtherId(Good):
    def __getitem__(self, index):
        return super().__getitem__(index) | {'id': 'another'}


class OtherBands(Good):
    def __getitem__(self, index):
        return super().__getitem__(index) | {'bands': ('VH', 'VV')}


class NoTask(Good):
    task = None


class NoLabels(Good):
    labels = ()


class FloatLabel(Good):
    def label(self, index):
        return 0.5


class OneValue(Good):
    def label(self, index):
        return torch.tensor([0.5])


class LostValue(Good):
    def label(self, index):
        return torch.tensor([0.5, float('inf')])


class ShortClass(Good):
    task = 'single-label'

    def label(self, index):
        return torch.tensor(1, dtype=torch.int32)


class HighClass(Good):
    task = 'single-label'

    def label(self, index):
        return torch.tensor(2)


class WholeLabels(Good):
    task = 'multi-label'

    def label(self, index):
        return torch.tensor([0, 1])


class SoftLabels(Good):
    task = 'multi-label'


class SmallMask(Good):
    task = 'segmentation'

    def __getitem__(self, index):
        return {'image': self.image(index), 'mask': torch.zeros(4, 4, dtype=torch.int64)}


class OddMask(Good):
    task = 'segmentation'

    def __getitem__(self, index):
        return {'image': self.image(index), 'mask': torch.full((8, 8), 7)}


class NoAnswer(Good):
    def __getitem__(self, index):
        return {'image': self.image(index), 'question': 'Is there water?', 'answer': ''}


class Random(Good):
    def image(self, index):
        return super().image(index) + torch.rand(2, 8, 8)


class View(Good):
    def image(self, index):
        return self.images[index]


class Lambda(Good):
    def __init__(self):
        super().__init__()
        self.read = lambda index: self.images[index]


class Sizes(Good):
    def image(self, index):
        return super().image(index)[:, : 8 - index]


BROKEN = [
    (NoLength, 'NoLength has no __len__', 'write that method'),
    (Empty, 'is empty', 'raise a DatasetError'),
    (NoBands, "NoBands has no attribute 'bands'", 'tuple of different names'),
    (BandsTwice, 'holds a name twice', 'tuple of different names'),
    (BandsText, "BandsText.bands is 'VV'", 'tuple'),
    (NoIds, "no attribute 'ids'", 'one name a sample'),
    (FewIds, '4 ids for 5 samples', 'one name a sample'),
    (SameIds, "id 'tile' stands for 5 samples", 'one name a sample'),
    (NumberIds, 'not all text', 'one name a sample'),
    (Pair, 'sample 0 (tile0) is a tuple', 'return a dict'),
    (NoImage, "'image' is NoneType", 'torch.Tensor'),
    (Array, "'image' is ndarray", 'torch.Tensor'),
    (Double, "'image' is torch.float64", 'torch.float32'),
    (Flat, "'image' has shape (128,)", '(bands, height, width)'),
    (LastBand, "'image' has shape (8, 8, 2), and there are 2 bands", 'put the bands first'),
    (Gap, 'NaN or infinite', 'leave such samples out'),
    (Standard, 'mean 0 and standard deviation 1', 'the task normalises'),
    (Scaled, 'images of B04, B08 lie between 0 and 1', 'the task normalises'),
    (Unlabelled, 'nothing to learn', "add 'label'"),
    (OtherId, "'id' is 'another', and the dataset has 'tile0'", 'ids[index]'),
    (OtherBands, "'bands' is ('VH', 'VV')", "the dataset's own bands"),
    (NoTask, 'NoTask.task is None', "'multi-label', 'single-label'"),
    (NoLabels, 'NoLabels.labels is ()', 'labels or names of values'),
    (FloatLabel, "'label' is float", 'torch.float32 of shape (2,)'),
    (OneValue, "'label' is torch.float32 of shape (1,)", 'of shape (2,)'),
    (LostValue, "'label' is [0.5, inf]", 'leave samples without a value out'),
    (ShortClass, "'label' is torch.int32 of shape ()", 'torch.int64 of shape ()'),
    (HighClass, "'label' is 2", '-1 where unknown'),
    (WholeLabels, "'label' is torch.int64", 'torch.float32 of shape (2,)'),
    (SoftLabels, "'label' is [0.0, 0.5]", 'give 1 for each label'),
    (SmallMask, "'mask' is torch.int64 of shape (4, 4)", '(8, 8)'),
    (OddMask, "'mask' holds [7]", '255 for no class'),
    (NoAnswer, "'answer' is ''", 'text that is not empty'),
    (Random, 'another one when it is asked for again', 'augmentation belongs to the task'),
    (View, "changed after its 'image' was changed", '.clone()'),
    (Lambda, 'cannot go to a worker process', 'keep no lambdas'),
    (Sizes, 'cannot be stacked to a batch', 'bring images to one size'),
]


def test_a_good_dataset():
    check_dataset(Good())
    check_dataset(Good(), samples=1)


@pytest.mark.parametrize(('kind', 'words', 'remedy'), BROKEN, ids=[kind.__name__ for kind, *_ in BROKEN])
def test_each_rule_of_a_dataset_is_told(kind, words, remedy):
    fails(check_dataset, kind(), words=words, remedy=remedy)


# --- tasks


class Data(LightningDataModule):
    def __init__(self, count=8):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        images = 100 + 50 * torch.randn(count, 3, 32, 32, generator=draw)
        self.samples = [{'image': image, 'label': image.mean((1, 2))[:1] / 100} for image in images]

    def train_dataloader(self):
        return DataLoader(self.samples, 4, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.samples, 4)


class Fine(LightningModule):
    """A regression that breaks no rule."""

    rate = 1e-2
    activation = 'identity'
    size = 32
    mean = 100.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.kwargs = SMALL | {'in_chans': 3, 'num_classes': 1}
        self.network = create('resnet10t', **self.kwargs)

    def forward(self, images):
        return self.network((images - 100) / 50)

    def loss(self, batch):
        return functional.mse_loss(self(batch['image']), batch['label'])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log('val/loss', self.loss(batch), batch_size=4)

    def configure_optimizers(self):
        return torch.optim.Adam(self.network.parameters(), self.rate)

    def export_bundle(self, folder):
        card = ModelCard(
            name='fine', description='x', architecture='resnet10t', architecture_kwargs=self.kwargs,
            activation=self.activation, task='regression', sensor='x', processing_level='x', bands=RGB,
            units='x', gsd=(1, 1), input_size=self.size, resampling='nearest', mean=(self.mean,) * 3,
            std=(50.0,) * 3, labels=('mean',), thresholds=None, split_id='x', training_data='x',
            licence='x', metrics={},
        )  # fmt: skip
        save_bundle(folder, self.network, card)


class NoStep(Fine):
    def configure_optimizers(self):
        return torch.optim.Adam(self.network.parameters(), 0.0)


class Frozen(Fine):
    def __init__(self):
        super().__init__()
        self.requires_grad_(requires_grad=False)


class Idle(Fine):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Diverges(Fine):
    def loss(self, batch):
        return super().loss(batch) * float('inf')


class NoLoss(Fine):
    def training_step(self, batch, batch_idx):
        return None


class Learnless(Fine):
    rate = 1e-9


class Silent(Fine):
    def validation_step(self, batch, batch_idx):
        pass


class LostFigure(Fine):
    def validation_step(self, batch, batch_idx):
        self.log('val/loss', torch.tensor(float('nan')), batch_size=4)


class NoValidation(Fine):
    def validation_step(self, batch, batch_idx):
        raise RuntimeError('no such key')


class NoExport(Fine):
    export_bundle = property()


class WrongMean(Fine):
    mean = 0.0


class WrongActivation(Fine):
    activation = 'sigmoid'


class WrongSize(Fine):
    size = 64


class WrongCard(Fine):
    activation = 'softmax'


class Transposed(Fine):
    def scores(self, logits):
        return logits.T


TASKS = [
    (NoStep, 'changes no weights', 'configure_optimizers'),
    (Frozen, 'no weights to train', 'requires_grad'),
    (Idle, 'does not depend on spare.weight, spare.bias', 'use them'),
    (Diverges, 'in step 1', 'look for a division'),
    (NoLoss, 'training_step gives NoneType', 'return the loss'),
    (Learnless, 'does not fall on one batch', 'learning rate'),
    (Silent, 'validation logs nothing', "'val/loss'"),
    (LostFigure, 'validation logs val/loss = nan', 'look at the loss'),
    (NoValidation, 'validation fails (RuntimeError: no such key)', 'validation_step'),
    (NoExport, 'cannot be exported, for it has no architecture', 'export_bundle(folder)'),
    (WrongMean, "scores differ from the task's", 'mean, std'),
    (WrongActivation, "scores differ from the task's", 'activation'),
    (WrongSize, 'input_size is 64, and images of the data are 32 x 32', 'export the size'),
    (WrongCard, "cannot be exported: field 'activation'", 'does not fit'),
    (Transposed, 'with shape (4, 1), and the task with (1, 4)', 'one column'),
]


def test_a_fine_task():
    check_task(Fine(), Data(), steps=20)


@pytest.mark.parametrize(('kind', 'words', 'remedy'), TASKS, ids=[kind.__name__ for kind, *_ in TASKS])
def test_each_rule_of_a_task_is_told(kind, words, remedy):
    fails(check_task, kind(), Data(), 20, words=words, remedy=remedy)


def test_data_that_a_task_cannot_learn_from():
    few = Data(3)
    fails(check_task, Fine(), few, words='training ended after 0 of 40 steps', remedy='at least one batch')
    pairs = Data()
    pairs.samples = [(sample['image'], sample['label']) for sample in pairs.samples]
    fails(check_task, Fine(), pairs, words='a batch of the data is list', remedy='check_dataset')


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

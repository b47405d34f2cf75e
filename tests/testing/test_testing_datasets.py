"""The check of data sets: each broken rule is told."""

import numpy as np
import pytest
import torch

from geores.testing import check_dataset

from ..testing_fixtures import fails

pytestmark = pytest.mark.usefixtures('one_thread')


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

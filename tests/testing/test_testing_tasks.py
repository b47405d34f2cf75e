"""The check of tasks: each broken rule is told."""

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from geores import ModelCard, save_bundle
from geores.models import create
from geores.testing import check_task

from ..fixtures import RGB
from ..testing_fixtures import fails

SMALL = {'stem_width': 8, 'channels': [8, 16, 32, 64]}

pytestmark = pytest.mark.usefixtures('one_thread')


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
            units='other', gsd=(1, 1), input_size=self.size, resampling='nearest', mean=(self.mean,) * 3,
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

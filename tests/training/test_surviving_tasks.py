"""Other tasks, and other people's: questions, loaders and samplers of their own, schedules by figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset
from torchmetrics import MeanMetric

from geores.cli.training import train
from geores.tasks import VisualQuestionAnswering

from ..fixtures import tiny_bundle
from ..rsvqa_fixtures import write_split
from ..surviving_fixtures import bundle_of, same
from ..tasks.test_task_vqa import HEAD, LATENTS
from .test_surviving import elsewhere, kill, killed  # noqa: F401

pytestmark = pytest.mark.usefixtures('one_thread', 'elsewhere')


class Stream(IterableDataset):
    """Numbers that are drawn while they are read."""

    def __iter__(self):
        for _ in range(12):
            yield torch.rand(3) + float(np.random.rand())  # noqa: NPY002


def rows(some):
    return torch.stack([one for (one,) in some])


class ForeignData(LightningDataModule):
    """Of another package: knows nothing of geores."""

    def __init__(self, kind: str = 'generator'):
        super().__init__()
        self.kind = kind

    def train_dataloader(self):
        numbers = TensorDataset(torch.arange(36.0).reshape(12, 3) / 36)
        if self.kind == 'stream':
            return DataLoader(Stream(), 2)
        if self.kind == 'several':
            return [DataLoader(numbers, 2, shuffle=True, collate_fn=rows), DataLoader(Stream(), 2)]
        sampler = RandomSampler(numbers, generator=torch.Generator().manual_seed(3))
        return DataLoader(numbers, 2, sampler=sampler, collate_fn=rows)

    def val_dataloader(self):
        return DataLoader(torch.rand(6, 3), 3)


class ForeignTask(LightningModule):
    """Of another package: a schedule by figures, a metric over the epoch, dropout."""

    def __init__(self, stop: bool = False):
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(), torch.nn.Linear(8, 1))
        self.mean = MeanMetric()

    def training_step(self, batch, batch_idx):
        parts = batch if isinstance(batch, list) else [batch]
        loss = sum((self.layer(part) - part.sum(1, keepdim=True)).square().mean() for part in parts)
        self.mean.update(loss.detach())
        return loss

    def on_train_epoch_end(self):
        self.log('mean', self.mean.compute())
        self.mean.reset()

    def validation_step(self, batch, batch_idx):
        self.log('val/loss', self.layer(batch).square().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.01, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': schedule, 'monitor': 'mean'}}

    def export_bundle(self, folder):
        Path(folder).mkdir()
        state = {'rate': self.trainer.optimizers[0].param_groups[0]['lr'], **self.state_dict()}
        state['figures'] = {name: float(one) for name, one in self.trainer.callback_metrics.items()}
        torch.save(state, Path(folder) / 'state.pt')


def foreign(kind, **trainer):
    settings = {
        'data': {'class_path': f'{__name__}.ForeignData', 'init_args': {'kind': kind}},
        'model': {'class_path': f'{__name__}.ForeignTask'},
        'trainer': {'max_epochs': 4, 'accelerator': 'cpu', **trainer},
    }
    Path('foreign.yaml').write_text(yaml.safe_dump(settings))
    return ['--config', 'foreign.yaml', '--checkpoint_steps', '1']


def state(version):
    return torch.load(f'runs/foreign/version_{version}/bundle/state.pt')


@pytest.mark.filterwarnings('ignore:.*IterableDataset', 'ignore:.*does not have many workers')
@pytest.mark.parametrize('step', [4, 13, 15, 24])
@pytest.mark.parametrize('kind', ['generator', 'stream', 'several'])
def test_a_foreign_task(kill, kind, step):  # noqa: F811
    args = foreign(kind)
    train(args)
    expected = state(0)
    kill(step, 'training_step', ForeignTask)
    killed(args)
    train(args)
    found = state(max(int(path.name.split('_')[1]) for path in Path('runs/foreign').iterdir()))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected if name.startswith('layer'))
    assert (found['rate'], found['figures']) == (expected['rate'], expected['figures'])


def test_a_training_that_stopped_early_does_not_go_on(kill):  # noqa: F811
    stop = {
        'class_path': 'lightning.pytorch.callbacks.EarlyStopping',
        'init_args': {'monitor': 'val/loss', 'patience': 1, 'mode': 'max', 'stopping_threshold': 0.0},
    }
    args = foreign('generator', callbacks=[stop])
    train(args)
    expected = state(0)
    kill(1, 'export_bundle', ForeignTask)
    killed(args)
    train(args)
    assert all(torch.equal(state(1)[name], expected[name]) for name in expected if name.startswith('layer'))


@pytest.mark.parametrize('options', [{}, LATENTS], ids=['fusion', 'latents'])
def test_questions(tmp_path, kill, options):  # noqa: F811
    write_split(tmp_path / 'rsvqa')
    tiny_bundle(tmp_path / 'tiny-rgb')
    model = {'encoder': 'tiny-rgb', 'head_kwargs': {**HEAD, 'dropout': 0.3}, 'grid': 1, 'learning_rate': 0.01}
    data = {'root': 'rsvqa', 'batch_size': 2, 'turning': 'words', 'by_image': False}
    settings = {
        'data': {'class_path': 'geores.datasets.RSVQADataModule', 'init_args': data},
        'model': {'class_path': 'geores.tasks.VisualQuestionAnswering', 'init_args': model | options},
        'trainer': {'max_epochs': 2, 'accelerator': 'cpu'},
    }
    Path('small.yaml').write_text(yaml.safe_dump(settings))
    args = ['--config', 'small.yaml', '--checkpoint_steps', '1']
    train(args)
    kill(5, 'training_step', VisualQuestionAnswering)
    killed(args)
    train([*args, '--data.num_workers', '1'])
    assert same(bundle_of('runs/small/version_1'), bundle_of('runs/small/version_0'))

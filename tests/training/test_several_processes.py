"""Training in several processes: synchronised norms, VQA with its twin, folds, shares of questions."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from timm.layers.norm_act import BatchNormAct2d
from torch import distributed, nn

from geores import models
from geores.datasets._rsvqa_loading import QuestionSampler
from geores.errors import UsageError
from geores.tasks.schedule import NormSync, freeze_parts, sync_whole_norms
from geores.training.trainer import Fitting

from ..fixtures import tiny_bundle
from ..rsvqa_fixtures import write_split

MAIN = """
import json, sys, warnings
from lightning.pytorch import Trainer, seed_everything
from geores.datasets import RSVQADataModule
from geores.tasks import VisualQuestionAnswering

warnings.simplefilter('ignore')
if __name__ == '__main__':
    devices = int(sys.argv[1])
    seed_everything(0, verbose=False)
    data = RSVQADataModule('../rsvqa', batch_size=2)
    head = {'text_kwargs': {'width': 8, 'embedding': 4}, 'fusion': 'attention', 'fusion_kwargs': {'width': 8},
            'hidden': 8}
    task = VisualQuestionAnswering(encoder='../tiny-rgb', head_kwargs=head, cache='cache', learning_rate=0.0)
    trainer = Trainer(
        accelerator='cpu', devices=devices, strategy='ddp' if devices > 1 else 'auto', max_epochs=2,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, datamodule=data)
    if trainer.is_global_zero:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        figures['questions'] = len(task.predictions.answers)
        figures['steps'] = trainer.global_step
        open('figures.json', 'w').write(json.dumps(figures))
"""


@pytest.mark.slow
def test_a_twin_trains_in_two_processes_and_all_questions_count_once(tmp_path):
    write_split(tmp_path / 'rsvqa')
    tiny_bundle(tmp_path / 'tiny-rgb')
    (tmp_path / 'main.py').write_text(MAIN)
    found = {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        answer = subprocess.run(
            [sys.executable, '../main.py', str(devices)], cwd=folder, capture_output=True, text=True,
            timeout=600, check=False, env=os.environ | {'OMP_NUM_THREADS': '1'},
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr[-3000:]
        found[devices] = json.loads((folder / 'figures.json').read_text())
    one, two = found[1], found[2]
    assert one.keys() == two.keys()
    assert two['questions'] == one['questions']
    assert 0 < two['steps'] < one['steps']
    # Nothing is learnt at a rate of 0, so that the figures of validation have to be the same.
    # The loss is a mean of batches, of which one process has fewer and larger ones.
    for name in one.keys() - {'train/loss', 'val/loss', 'steps'}:
        assert two[name] == pytest.approx(one[name], abs=1e-5), name


def activations(network):
    return sum(isinstance(module, nn.ReLU | nn.ReLU6 | nn.SiLU) for module in network.modules())


@pytest.mark.parametrize('name', ['tf_efficientnet_lite0', 'resnet18'])
@torch.inference_mode()
def test_synchronised_norms_keep_their_activations(name):
    network = models.create(name, in_chans=3, num_classes=4).eval()
    images, kept = torch.randn(2, 3, 64, 64), activations(network)
    before = network(images)
    converted = NormSync().apply(deepcopy(network)).eval()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    assert activations(converted) == kept > 0
    assert torch.allclose(converted(images), before, rtol=1e-5, atol=1e-5 * float(before.abs().max()))
    assert NormSync().revert(converted) is converted
    assert converted.state_dict().keys() == network.state_dict().keys()
    norm = next(
        key for key, part in network.named_modules() if isinstance(part, nn.BatchNorm2d | BatchNormAct2d)
    )
    assert freeze_parts(converted, [norm])[0] is converted.get_submodule(norm)


def test_a_trainer_is_told_to_keep_them():
    options = {
        'accelerator': 'cpu',
        'devices': 2,
        'strategy': 'ddp',
        'logger': False,
        'enable_progress_bar': False,
    }
    trainer = Trainer(sync_batchnorm=True, enable_checkpointing=False, **options)
    sync_whole_norms(trainer)
    assert isinstance(trainer.strategy._layer_sync, NormSync)
    alone = Trainer(enable_checkpointing=False, **options)
    sync_whole_norms(alone)
    assert alone.strategy._layer_sync is None


def test_folds_take_one_process():
    cli = SimpleNamespace(trainer=SimpleNamespace(world_size=2), claimed=None)
    with pytest.raises(UsageError, match='one process'):
        Fitting(cli, lambda export: None)._run()


@pytest.mark.parametrize('processes', [2, 3])
@pytest.mark.parametrize('by_image', [True, False])
def test_processes_share_batches_of_questions(monkeypatch, processes, by_image):
    counts = [3, 0, 5, 1, 2, 4, 1]
    ends = np.cumsum([0, *counts])
    some = [list(range(low, high)) for low, high in pairwise(ends)]
    shares: dict[bool, list[list[list[int]]]] = {False: [], True: []}
    for rank in range(processes):
        monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
        monkeypatch.setattr(distributed, 'get_world_size', lambda *_: processes)
        monkeypatch.setattr(distributed, 'get_rank', lambda *_, rank=rank: rank)
        torch.manual_seed(rank)  # what else a process has drawn must not matter
        for shuffle, kept in shares.items():
            sampler = QuestionSampler(some, 2, by_image=by_image, shuffle=shuffle)
            sampler.set_epoch(3)
            kept.append(list(sampler))
            assert len(kept[-1]) == len(sampler)
    seen = [index for share in shares[False] for batch in share for index in batch]
    assert sorted(seen) == list(range(sum(counts)))
    assert len({len(share) for share in shares[True]}) == 1
    trained = [index for share in shares[True] for batch in share for index in batch]
    assert len(trained) == len(set(trained))

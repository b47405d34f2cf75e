"""Two processes (DDP, gloo) say what one says: no sample counts twice, and training sees the same batches."""

import csv
import math
import os
import subprocess
import sys

import pytest
import torch
import yaml
from torch import distributed

from geores import models
from geores.bundle import load_model
from geores.datasets._sampling import ProcessSampler

from ..reben_fixtures import make_reben

COUNT = 11  # of samples in each part: not divisible by two
BANDS = ['B02', 'B03', 'VV']
MAIN = """
import atexit, os, pathlib
from torch import distributed
from geores.cli import main

atexit.register(lambda: pathlib.Path(f'in_group_{os.getpid()}').write_text(str(distributed.is_initialized())))
main()
"""


def norms():
    """Names of the batch norms of the network, whose statistics would differ between processes."""
    network = models.create('resnet18', in_chans=len(BANDS), num_classes=19)
    return [name for name, part in network.named_modules() if isinstance(part, torch.nn.BatchNorm2d)]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The same training by one process, in batches of 4, and by two, in batches of 2 each."""
    folder = tmp_path_factory.mktemp('ddp')
    make_reben(folder / 'data', 3 * COUNT, bands=BANDS, maps=False)
    config = {
        'seed_everything': 3,
        'data': {
            'class_path': 'geores.datasets.ReBENDataModule',
            'init_args': {'root': str(folder / 'data'), 'bands': BANDS},
        },
        'model': {
            'class_path': 'geores.tasks.SceneClassification',
            'init_args': {'architecture': 'resnet18', 'freeze': norms(), 'learning_rate': 1e-3},
        },
        'trainer': {'max_epochs': 3, 'accelerator': 'cpu'},
        'export': {
            'class_path': 'geores.tasks.ExportBundle',
            'init_args': {
                'name': 'ddp',
                'description': 'For a test.',
                'sensor': 'both',
                'processing_level': 'L2A',
                'units': 'reflectance*10000, dB',
                'gsd': [10, 10],
                'training_data': 'generated',
                'licence': 'MIT',
                'monitor': 'val/ap_macro',
                'dtype': 'float32',
            },
        },
    }
    (folder / 'recipe.yaml').write_text(yaml.safe_dump(config))
    # Lightning starts the other process by the name of the script.
    (folder / 'main.py').write_text(MAIN)
    for devices in (1, 2):
        run = folder / str(devices)
        run.mkdir()
        command = [sys.executable, '../main.py', 'train', '--config', '../recipe.yaml']
        command += [f'--data.batch_size={4 // devices}', f'--trainer.devices={devices}']
        command += ['--trainer.strategy=ddp'] if devices > 1 else []
        environment = os.environ | {'OMP_NUM_THREADS': '1'}
        answer = subprocess.run(
            command, cwd=run, capture_output=True, text=True, timeout=600, check=False, env=environment
        )
        assert answer.returncode == 0, answer.stderr[-3000:]
        (run / 'out.txt').write_text(answer.stdout)
        (run / 'err.txt').write_text(answer.stderr)
    return folder


def figures(folder):
    (path,) = folder.rglob('metrics.csv')
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


@pytest.mark.slow
def test_figures_of_two_processes_are_those_of_one(runs):
    one, two = (figures(runs / str(devices)) for devices in (1, 2))
    assert [row.keys() for row in one] == [row.keys() for row in two]
    compared = set()
    for first, second in zip(one, two, strict=True):
        for name, value in first.items():
            assert math.isclose(value, second[name], rel_tol=1e-6, abs_tol=1e-6), (name, value, second[name])
            compared.add(name)
    assert {'train/loss', 'val/loss', 'val/ap_macro', 'val/ap_micro', 'val/f1_macro'} <= compared
    assert one[0] != one[-1]


@pytest.mark.slow
def test_both_write_the_same_bundle_once(runs):
    first, second = (load_model(next((runs / str(n)).rglob('ddp'))) for n in (1, 2))
    images = torch.randn(3, len(BANDS), 120, 120) * 500 + 1000
    assert torch.allclose(first.network(images), second.network(images), rtol=1e-4, atol=1e-3)
    assert first.card.metrics['reBEN']['split'].startswith(f'{COUNT} validation images')
    assert first.card.metrics == second.card.metrics
    for devices in ('1', '2'):
        assert (runs / devices / 'out.txt').read_text().count('bundle written') == 1
        assert (runs / devices / 'err.txt').read_text().count('epoch 1/3') == 1


@pytest.mark.slow
def test_processes_leave_their_group(runs):
    # Gloo's threads abort a process that ends within its group, now and then.
    at_exit = [path.read_text() for path in (runs / '2').glob('in_group_*')]
    assert at_exit == ['False', 'False']


@pytest.mark.parametrize('processes', [1, 2, 3, 5])
@pytest.mark.parametrize('count', [0, 1, 2, 7, 12])
def test_shares_cover_every_sample_once(monkeypatch, processes, count):
    shares, trained = [], []
    for rank in range(processes):
        monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
        monkeypatch.setattr(distributed, 'get_world_size', lambda *_: processes)
        monkeypatch.setattr(distributed, 'get_rank', lambda *_, rank=rank: rank)
        sampler = ProcessSampler(count, shuffle=False)
        shares += list(sampler)
        assert len(list(sampler)) == len(sampler)
        train = ProcessSampler(count, shuffle=True, seed=5)
        train.set_epoch(2)
        assert len(list(train)) == len(train) == count // processes
        trained.append(list(train))
    assert sorted(shares) == list(range(count))
    alone = torch.randperm(count, generator=torch.Generator().manual_seed(7)).tolist()
    kept = count - count % processes
    assert [one for step in zip(*trained, strict=True) for one in step] == alone[:kept]

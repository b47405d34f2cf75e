"""Folders of runs, signals, and what ends up on a card that nobody wrote."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from geores.bundle import load_model
from geores.cli.training import train
from geores.errors import UsageError
from geores.tasks import SceneClassification
from geores.training.run_folders import claim, fingerprints

from ..surviving_fixtures import BATCHES, bundle_of, recipe, same, write_images
from .test_surviving import Killed, elsewhere, kill, killed, place, uninterrupted, whole  # noqa: F401

pytestmark = pytest.mark.usefixtures('one_thread', 'elsewhere')
PATIENCE = 600  # seconds; a machine may have more to do
MAIN = 'from geores.cli import main; main()'
SIGNALLED = """
import os, signal
from geores.tasks import SceneClassification
given, steps = SceneClassification.training_step, []
def step(self, batch, index):
    steps.append(index)
    if len(steps) == 6:  # the second of the second epoch
        os.kill(os.getpid(), signal.SIG{})
    return given(self, batch, index)
SceneClassification.training_step = step
from geores.cli import main
main()
"""


@contextmanager
def started(args, code=MAIN):
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': ''}
    command = [sys.executable, '-P', '-c', code, 'train', *args]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(('number', 'code'), [('KILL', -9), ('TERM', 143), ('INT', 130)])
def test_signals(place, whole, number, code):  # noqa: F811
    args = [*recipe(place), '--trainer.max_epochs', '3']
    often = ['--checkpoint_steps', '1'] if number == 'KILL' else []
    expected = whole(args)
    log = Path('runs/small/version_0/checkpoints')
    with started([*args, *often], SIGNALLED.format(number)) as process:
        said = process.stderr.read()
        assert process.wait(PATIENCE) == code, said
    if number != 'KILL':
        assert 'geores: stopped' in said.splitlines()[-1]
    assert list(log.glob('*.ckpt'))
    train(args)
    assert same(bundle_of('runs/small/version_0'), expected)


def test_settings_that_changed_begin_a_new_run(place, kill, capsys):  # noqa: F811
    args = [*recipe(place), '--checkpoint_steps', '1', '--trainer.max_epochs', '1']
    kill(3)
    killed(args)
    capsys.readouterr()
    train([*args, '--model.learning_rate', '0.02'])
    assert 'other settings (model.init_args.learning_rate): a new run' in capsys.readouterr().err
    train([*args, '--no-resume'])
    assert 'continues' not in capsys.readouterr().err
    train([*args, '--trainer.log_every_n_steps', '5'])  # changes no weight
    assert 'continues runs/small/version_0 from epoch 1, step 2' in capsys.readouterr().err
    states = {
        path.parent.name: json.loads(path.read_text())['state'] for path in Path('runs').rglob('run.json')
    }
    assert states == dict.fromkeys(['version_0', 'version_1', 'version_2'], 'finished')


def test_a_run_that_is_going_on_is_left_alone(place, kill, capsys):  # noqa: F811
    args = [*recipe(place), '--checkpoint_steps', '1', '--trainer.max_epochs', '1']
    kill(3)
    killed(args)
    capsys.readouterr()
    with FileLock('runs/small/version_0/.lock'):
        train(args)
    assert 'version_0 is being trained by another process' in capsys.readouterr().err
    assert (Path('runs/small/version_1/small') / 'card.json').is_file()


def test_two_at_the_same_time(place):  # noqa: F811
    args = recipe(place)
    with started(args) as one, started(args) as other:
        for process in (one, other):
            said = process.stderr.read()
            assert process.wait(PATIENCE) == 0, said
    assert same(bundle_of('runs/small/version_0'), bundle_of('runs/small/version_1'))


def test_data_that_changed(tmp_path, kill):  # noqa: F811
    write_images(tmp_path / 'images')
    args = [*recipe(tmp_path), '--checkpoint_steps', '1']
    kill(3)
    killed(args)
    for path in sorted((tmp_path / 'images' / 'day').iterdir())[:6]:
        path.unlink()
    with pytest.raises(UsageError, match='the data have changed since; --no-resume'):
        train(args)


def test_no_checkpoints_where_none_are_wanted(place, kill):  # noqa: F811
    trainer = {'enable_checkpointing': False, 'max_epochs': 1}
    kill(BATCHES)
    killed([*recipe(place, trainer=trainer), '--checkpoint_steps', '1'])
    assert not list(Path().rglob('*.ckpt'))
    train([*recipe(place, trainer=trainer), '--checkpoint_steps', '1'])
    assert list(Path().rglob('card.json'))


def test_ones_own_checkpoints_stay(place):  # noqa: F811
    own = {'class_path': 'lightning.pytorch.callbacks.ModelCheckpoint', 'init_args': {'dirpath': 'mine'}}
    train(recipe(place, trainer={'callbacks': [own], 'max_epochs': 1}))
    assert list(Path('mine').glob('*.ckpt'))


def test_the_log_goes_on(place, kill):  # noqa: F811
    args = [*recipe(place), '--checkpoint_steps', '1', '--trainer.log_every_n_steps', '1']
    kill(2 * BATCHES + 3)
    killed(args)
    train(args)
    lines = Path('runs/small/version_0/metrics.csv').read_text().splitlines()
    names = lines[0].split(',')
    rows = [dict(zip(names, line.split(','), strict=True)) for line in lines[1:]]
    assert [row['epoch'] for row in rows if row['val/loss']] == ['0', '1', '2']


def test_folds_are_continued(place, kill, capsys):  # noqa: F811
    trainer = {'max_epochs': 1}
    args = [*recipe(place, trainer=trainer), '--checkpoint_steps', '1', '--folds', '2', '--out']
    train([*args, 'alone'])
    kill(2)  # of the first fold
    killed([*args, 'cv'])
    capsys.readouterr()
    train([*args, 'cv'])
    assert 'continues runs/small/version_3' in capsys.readouterr().err
    for name in ('fold1', 'fold2', 'all'):
        assert same(bundle_of('cv', name), bundle_of('alone', name))
    assert {path.name for path in Path('cv').iterdir()} == {path.name for path in Path('alone').iterdir()}


def test_a_bundle_without_an_export(place, capsys):  # noqa: F811
    args = recipe(place, name='mine', export=None, trainer={'max_epochs': 1})
    train(args)
    card = load_model('runs/mine/version_0/mine').card
    assert (card.units, card.processing_level, card.gsd) == ('8-bit', '8-bit true colour', (1e-3, 1e6))
    assert card.name == 'mine'
    assert [str(source) for source in card.training_data] == ['images (unknown: say it in export)']
    assert card.metrics['images']['split'].startswith('4 validation images')
    said = capsys.readouterr().err
    assert 'of the card, unknown: sensor, gsd, training_data, licence (say it in export)' in said
    assert 'GEORES_CHECKPOINT' not in os.environ  # where another training of this process would find it


def test_a_bundle_without_an_export_and_without_figures(place):  # noqa: F811
    train([*recipe(place, export=None, trainer={'max_epochs': 1}), '--data.val_share', '0'])
    card = load_model('runs/small/version_0/small').card
    assert (card.metrics, card.split_id) == ({}, 'everything')


def test_what_a_checkpoint_must_not_hold_is_said_at_once(place, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(
        SceneClassification,
        'on_save_checkpoint',
        lambda self, kept: kept.update(own=Path('x')),
        raising=False,
    )
    train([*recipe(place, trainer={'max_epochs': 1}), '--checkpoint_steps', '1'])
    said = capsys.readouterr().err
    assert said.count('this run cannot be continued') == 1
    assert 'pathlib' in said


def test_fingerprints_leave_out_what_changes_nothing():
    one = fingerprints(
        {'data': {'init_args': {'num_workers': 0, 'size': 3}}, 'trainer': {'logger': {'a': 1}}}
    )
    assert sorted(one) == [
        'data.init_args.size',
        *(f'the version of {p}' for p in ('geores', 'lightning', 'torch')),
    ]


def test_folders_are_claimed_once(tmp_path):
    runs = [claim(tmp_path / 'runs', {'a': '1'}) for _ in range(3)]
    assert [run.number for run in runs] == [0, 1, 2]
    runs[1].release()
    assert claim(tmp_path / 'runs', {'a': '1'}).number == 1
    (tmp_path / 'runs' / 'version_9').mkdir()
    (tmp_path / 'runs' / 'version_9' / 'run.json').write_text('[1')
    assert claim(tmp_path / 'runs', {'a': '2'}).number == 10

import os
from pathlib import Path

import pytest

from geores.cli.training import train
from geores.tasks import SceneClassification
from geores.training import run_folders

from ..surviving_fixtures import BATCHES, EPOCHS, STEPS, bundle_of, recipe, same, write_images

pytestmark = pytest.mark.usefixtures('one_thread')


class Killed(Exception):  # noqa: N818
    """Ends a run as a kill does: nothing of it is asked to clean up."""


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('surviving')
    write_images(folder / 'images')
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['geores', 'train', '--config', 'x.yaml'])
    monkeypatch.delenv('GEORES_CHECKPOINT', raising=False)


@pytest.fixture(scope='module')
def uninterrupted():
    """Bundles of uninterrupted runs by what was trained."""
    return {}


@pytest.fixture
def whole(place, tmp_path, uninterrupted):
    """Train uninterrupted, somewhere else; once for all tests of the same training."""

    def run(args, kind='plain'):
        if kind not in uninterrupted:
            here = tmp_path / 'uninterrupted'
            here.mkdir()
            os.chdir(here)
            train(args)
            os.chdir(tmp_path)
            uninterrupted[kind] = bundle_of(here / 'runs/small/version_0')
        return uninterrupted[kind]

    return run


@pytest.fixture
def kill(monkeypatch):
    """Have the n-th call of a method end the run, once."""

    def at(number, method='training_step', owner=SceneClassification):
        given, calls = getattr(owner, method), []

        def counted(*args, **kwargs):
            calls.append(1)
            if len(calls) == number:
                raise Killed
            return given(*args, **kwargs)

        monkeypatch.setattr(owner, method, counted)

    return at


def killed(args):
    with pytest.raises(Killed):
        train(args)


@pytest.mark.parametrize('step', [2, BATCHES + 1, BATCHES + 3, STEPS])
@pytest.mark.parametrize('often', [['--checkpoint_steps', '1'], []], ids=['each step', 'epochs'])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(place, whole, kill, capsys, step, often):
    args = [*recipe(place), *often]
    expected = whole(args)
    kill(step)
    killed(args)
    capsys.readouterr()
    train(args)
    (folder,) = [path.parents[1] for path in Path('runs').rglob('card.json')]
    assert same(bundle_of(folder), expected)
    said = capsys.readouterr().err
    if often:
        at = (step - 1) // BATCHES + 1
        assert f'continues runs/small/version_0 from epoch {at}, step {step - 1};' in said
    assert not (folder / 'checkpoints').exists()


@pytest.mark.parametrize('number', [1, EPOCHS])
def test_killed_in_a_validation(place, whole, kill, number):
    args = [*recipe(place), '--checkpoint_steps', '1']
    expected = whole(args)
    kill(number, 'validation_step')
    killed(args)
    train(args)
    assert same(bundle_of('runs/small/version_0'), expected)


def test_killed_again_and_again(place, whole, kill, monkeypatch):
    args = [*recipe(place), '--checkpoint_steps', '2']
    expected = whole(args)
    for _ in range(4):
        with monkeypatch.context() as patch:
            given, calls = SceneClassification.training_step, []

            def counted(self, batch, index, given=given, calls=calls):
                calls.append(1)
                if len(calls) == 4:
                    raise Killed
                return given(self, batch, index)

            patch.setattr(SceneClassification, 'training_step', counted)
            killed(args)
    train(args)
    assert same(bundle_of('runs/small/version_0'), expected)


@pytest.mark.parametrize('workers', ['1', '2'])
def test_other_numbers_of_reading_processes_change_nothing(place, whole, kill, workers):
    args = [*recipe(place), '--checkpoint_steps', '1']
    expected = whole(args)
    kill(BATCHES + 3)
    killed(args)
    train([*args, '--data.num_workers', workers])
    assert same(bundle_of('runs/small/version_0'), expected)


def test_the_best_weights_so_far_are_kept(place, whole, kill):
    model = {'learning_rate': 0.3}  # so that the first epochs are the best
    args = [*recipe(place, model=model), '--export.monitor', 'val/accuracy', '--checkpoint_steps', '1']
    args += ['--trainer.max_epochs', '4']
    expected = whole(args, 'best')
    kill(3 * BATCHES + 2)
    killed(args)
    train(args)
    assert same(bundle_of('runs/small/version_0'), expected)


def test_accumulated_gradients_and_validation_within_an_epoch(place, whole, kill):
    trainer = {'accumulate_grad_batches': 2, 'val_check_interval': 2}
    args = [*recipe(place, trainer=trainer), '--data.batch_size', '2', '--checkpoint_steps', '1']
    expected = whole(args, 'accumulated')
    kill(2 * BATCHES + 6)
    killed(args)
    train(args)
    assert same(bundle_of('runs/small/version_0'), expected)


def test_steps_instead_of_epochs(place, whole, kill):
    trainer = {'max_epochs': -1, 'max_steps': STEPS - 2}
    args = [*recipe(place, trainer=trainer), '--checkpoint_steps', '1']
    expected = whole(args, 'steps')
    for number in (BATCHES + 1, 2):
        kill(number)
        killed(args)
    train(args)
    assert same(bundle_of('runs/small/version_0'), expected)


@pytest.mark.parametrize('damage', ['cut', 'changed', 'empty'])
def test_a_damaged_checkpoint_is_left_for_the_one_before(place, whole, kill, capsys, damage):
    args = [*recipe(place), '--checkpoint_steps', '1']
    expected = whole(args)
    kill(BATCHES + 3)
    killed(args)
    _, last = sorted(os.listdir('runs/small/version_0/checkpoints'))
    path = f'runs/small/version_0/checkpoints/{last}'
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes({'cut': data[: len(data) // 2], 'changed': data, 'empty': b''}[damage])
    capsys.readouterr()
    train(args)
    said = capsys.readouterr().err
    assert f'{path} is damaged and left out' in said
    assert f'step {BATCHES + 1};' in said
    assert same(bundle_of('runs/small/version_0'), expected)


@pytest.mark.parametrize('moment', ['before', 'behind'])
def test_killed_while_the_bundle_is_written(place, whole, kill, capsys, moment):
    from geores.tasks import export

    args = recipe(place)
    expected = whole(args)
    if moment == 'before':
        kill(1, 'save_bundle', export)
    else:
        kill(1, 'finish', run_folders.TrainingRun)
    killed(args)
    capsys.readouterr()
    train(args)
    assert 'from its export' in capsys.readouterr().err
    assert same(bundle_of('runs/small/version_0'), expected)
    assert not os.path.exists('runs/small/version_1')
    train(args)
    assert os.path.exists('runs/small/version_1/small/card.json')

import json

import geopandas as gpd
import pytest
from safetensors.numpy import load_file
from shapely.geometry import box

from geores.tasks import SceneClassification

from ..fixtures import GRID, noise, write_scene

pytestmark = pytest.mark.usefixtures('one_thread')


class Killed(BaseException):
    """Ends a run as a kill does: nothing of it is asked to clean up."""


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('place')
    values = noise(3, 128, 128).astype(int) // 2
    values[:, :, 32:64] += 60
    values[:, :, 96:] += 60
    write_scene(folder / 'place.tif', values=values.astype('uint8'))
    (left, top), width = GRID @ (0, 0), 320
    stripes = [box(left + k * width, top - 1280, left + (k + 1) * width, top) for k in range(4)]
    gpd.GeoDataFrame({'light': ['night', 'day'] * 2}, geometry=stripes, crs='EPSG:32633').to_file(
        folder / 'labels.gpkg'
    )
    return folder


@pytest.fixture
def run(geores, place, bundle, tmp_path):
    def finetune(*options):
        given = ['--labels', place / 'labels.gpkg', '--column', 'light', '--base', bundle, '--device', 'cpu']
        quick = [
            '--tile',
            '16',
            '--block-size',
            '320',
            '--min-tiles',
            '4',
            '--epochs',
            '3',
            '--split',
            'both',
        ]
        out = ['--out', tmp_path / 'mine']
        return geores('finetune', place / 'place.tif', *given, *quick, *out, *options)

    return finetune


def found(folder):
    card = json.loads((folder / 'card.json').read_text())
    report = json.loads((folder / 'report.json').read_text())
    return load_file(folder / 'model.safetensors'), card, report


def test_killed_at_any_place_it_ends_as_if_left_alone(run, tmp_path, monkeypatch):
    """Both splits, each with a trial and a training on everything: four trainings."""
    monkeypatch.setattr('geores.training.checkpoints.SHARE', 1e9)  # a checkpoint each epoch
    given, calls, at = SceneClassification.training_step, [], set()

    def step(self, batch, index):
        calls.append(1)
        if len(calls) in at:
            raise Killed
        return given(self, batch, index)

    monkeypatch.setattr(SceneClassification, 'training_step', step)
    assert run().code == 0
    (tmp_path / 'mine').rename(tmp_path / 'alone')
    steps = len(calls)
    calls.clear()
    # Counted over all runs, of which each takes some steps again.
    at |= {int(steps * share) for share in (0.05, 0.2, 0.45, 0.7, 0.95)}
    kills = 0
    while kills < len(at):
        with pytest.raises(Killed):
            run()
        kills += 1
        assert not (tmp_path / 'mine').exists()
    answer = run()
    assert answer.code == 0, answer.err
    assert 'goes on from epoch' in answer.err
    assert {path.name for path in tmp_path.iterdir()} == {'mine', 'alone'}
    weights, card, report = found(tmp_path / 'mine')
    expected, other_card, other_report = found(tmp_path / 'alone')
    assert all((weights[name] == expected[name]).all() for name in expected)
    assert card == other_card
    assert report == other_report


def test_another_training_begins_anew_when_asked_to(run, tmp_path, monkeypatch):
    monkeypatch.setattr('geores.training.checkpoints.SHARE', 1e9)
    given, calls = SceneClassification.training_step, []

    def step(self, batch, index):
        calls.append(1)
        if len(calls) == 12:
            raise Killed
        return given(self, batch, index)

    monkeypatch.setattr(SceneClassification, 'training_step', step)
    with pytest.raises(Killed):
        run()
    assert (tmp_path / '.mine.training').is_dir()
    answer = run('--epochs', '1')
    assert answer.code == 2
    assert 'another about.options.epochs' in answer.err
    assert '--no-resume' in answer.err
    assert (tmp_path / '.mine.training').is_dir(), 'hours of training are not dropped unasked'
    answer = run('--epochs', '1', '--no-resume')
    assert answer.code == 0, answer.err
    assert 'unfinished work is dropped' in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ['mine']

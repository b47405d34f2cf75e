"""Baselines on folders of images: the table, the command, and going on."""

# ruff: noqa: F811 - fixtures are arguments too

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import geores
from geores.errors import JournalError, UsageError
from geores.models import create
from geores.protocol.encoder import choose_encoder, seen_in_training
from geores.protocol.table import work_folder
from geores.tasks import SceneClassification

from ..baselines_fixtures import CLASSES, encoder, images, write_images  # noqa: F401 - fixtures
from ..fixtures import hold_files, tiny_bundle

pytestmark = pytest.mark.usefixtures('one_thread')


# --- the table


@pytest.fixture(scope='module')
def table(images, encoder):
    return geores.baselines(
        images, ratios=(0.2, 0.5), repeats=3, finetune_repeats=2, encoder=str(encoder), epochs=2
    )


def test_every_method_ratio_and_repeat_has_a_run(table):
    runs = Counter((run.method, run.ratio) for run in table.runs)
    assert runs == {
        (method, ratio): 2 if method == 'finetune' else 3
        for method in ('colour', 'deep', 'finetune')
        for ratio in (0.2, 0.5)
    }
    assert set(zip(table.frame['ratio'], table.frame['train'], table.frame['test'], strict=True)) == {
        (0.2, 6, 24),
        (0.5, 15, 15),
    }


def test_summary_is_mean_and_deviation_over_repeats(table):
    for _, row in table.summary.iterrows():
        runs = table.frame[(table.frame['method'] == row['method']) & (table.frame['ratio'] == row['ratio'])]
        assert row['repeats'] == len(runs)
        for figure in ('accuracy', 'kappa', 'f1_macro'):
            assert row[f'{figure}_mean'] == pytest.approx(np.mean(runs[figure]))
            assert row[f'{figure}_std'] == pytest.approx(np.std(runs[figure], ddof=1))


def test_confusion_is_summed_over_repeats(table):
    summed = table.confusion('colour', 0.2)
    assert list(summed.index) == list(summed.columns) == list(CLASSES)
    assert summed.to_numpy().sum(1).tolist() == [3 * 8] * 3
    mean = table.summary.set_index(['method', 'ratio']).loc[('colour', 0.2), 'accuracy_mean']
    assert np.trace(summed.to_numpy()) / 72 == pytest.approx(mean)
    with pytest.raises(UsageError, match=r'ratio 0\.7'):
        table.confusion('colour', 0.7)


def test_colours_are_learned(table):
    accuracy = table.summary.set_index(['method', 'ratio'])['accuracy_mean']
    assert accuracy['colour', 0.5] > 0.6


def test_the_same_again(table, images, encoder):
    torch.manual_seed(5)  # whatever came before
    again = geores.baselines(images, ratios=(0.2,), repeats=1, encoder=str(encoder), epochs=2)
    frame = table.frame[(table.frame['ratio'] == 0.2) & (table.frame['repeat'] == 0)]
    pd.testing.assert_frame_equal(
        again.frame.drop(columns='seconds'), frame.drop(columns='seconds').reset_index(drop=True)
    )


def test_a_single_repeat_has_no_deviation(images):
    table = geores.baselines(images, ratios=(0.3,), repeats=1, methods=('colour',))
    assert table.records()[0]['accuracy_std'] is None


# --- the command


def test_command(geores, images, encoder, tmp_path):
    out = tmp_path / 'out'
    args = ('--ratios', '0.2,0.5', '--repeats', 2, '--encoder', encoder, '--epochs', 1, '--out', out)
    answer = geores('baselines', images, *args)
    assert answer.code == 0, answer
    assert '±' in answer.out
    assert 'fine-tuned tiny' in ' '.join(answer.out.split())
    assert hold_files(out) == {
        'baselines.csv',
        'baselines.json',
        'baselines.png',
        'baselines_confusion.png',
    }
    runs = pd.read_csv(out / 'baselines.csv')
    held = json.loads((out / 'baselines.json').read_text())
    assert len(runs) == len(held['runs']) == 12
    assert held['data']['classes'] == dict.fromkeys(CLASSES, 10)
    assert held['encoder']['sha256']
    assert held['versions']['geores']
    for name in ('baselines.png', 'baselines_confusion.png'):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300

    again = geores('baselines', images, *args)
    assert again.code == 2
    assert '--overwrite' in again.err
    fewer = geores('baselines', images, '--methods', 'colour', '--out', out, '--overwrite', '--json')
    assert fewer.code == 0, fewer
    assert fewer.err == ''
    assert [record['ratio'] for record in fewer.records] == [0.1, 0.2]
    assert len(pd.read_csv(out / 'baselines.csv')) == 10


def test_without_weights_nothing_is_random_in_silence(geores, images):
    answer = geores(
        'baselines', images, '--encoder', 'resnet10t', '--size', 32, '--epochs', 1, '--repeats', 1
    )
    assert answer.code == 0, answer
    assert "'deep' is left out" in answer.err
    assert 'resnet10t from scratch' in answer.out
    assert 'features' not in answer.out
    alone = geores('baselines', images, '--methods', 'deep')
    assert alone.code == 2
    assert '--weights' in alone.err


def test_weights_of_a_file(images, tmp_path):
    network = create('resnet10t', in_chans=3, num_classes=7)
    save_file(network.state_dict(), tmp_path / 'weights.safetensors')
    table = geores.baselines(
        images,
        methods=('deep',),
        repeats=1,
        encoder='resnet10t',
        weights=tmp_path / 'weights.safetensors',
        size=32,
    )
    assert table.rows == {'deep': 'resnet10t features + linear SVM'}
    assert table.info['encoder']['mean'] == pytest.approx([123.675, 116.28, 103.53])
    own = choose_encoder('resnet10t', tmp_path / 'weights.safetensors', 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    assert own.mean == (127.5, 127.5, 127.5)
    loaded = own.network().state_dict()
    assert all(torch.equal(loaded[name], network.state_dict()[name]) for name in loaded)


def test_encoders_that_know_the_images_are_named(geores, images, tmp_path):
    bundle = tiny_bundle(tmp_path / 'seen', training_data=[{'name': 'Ground', 'licence': 'public domain'}])
    answer = geores('baselines', images, '--methods', 'colour,deep', '--repeats', 1, '--encoder', bundle)
    assert answer.code == 0, answer
    assert 'not honest' in answer.err
    assert 'trained on these' in ' '.join(answer.out.split())


@pytest.mark.parametrize(
    ('folder', 'names', 'seen'),
    [
        ('ucmerced', ('UC Merced Land Use', 'UC Merced', 'AID'), True),
        ('UCMerced_LandUse/Images', ('UC Merced Land Use',), True),
        ('UCMerced_LandUse/Images', ('ucmerced',), False),
        ('aid', ('paid with the aid of others',), False),
        ('NWPU-RESISC45', ('NWPU-RESISC45', 'RESISC45'), True),
        ('aerial-images', ('Aerial images of Berlin',), False),
        ('eurosat', (), False),
    ],
)
def test_training_data_is_recognised(folder, names, seen, tmp_path):
    assert seen_in_training(names, tmp_path / folder) is seen


# --- going on

QUICK = {'methods': ('colour',), 'svm_c': 1.0}


class StoppedError(Exception):
    """Ends a command half way."""


def stop_after(count):
    def progress(_run, done, _total):
        if done == count:
            raise StoppedError

    return progress


def stopped(images, out, **options):
    with pytest.raises(StoppedError):
        geores.baselines(images, **QUICK, out=out, progress=stop_after(3), **options)


def test_finished_runs_are_kept(images, tmp_path):
    out, done = tmp_path / 'out', []
    stopped(images, out)
    assert hold_files(out) == {'.baselines.partial/journal.jsonl'}
    with (work_folder(out) / 'journal.jsonl').open('a') as file:
        file.write('{"method": "col')  # a kill in the middle of a line
    table = geores.baselines(images, **QUICK, out=out, progress=lambda run, *_: done.append(run.key))
    assert len(table.runs) == 10
    assert len(done) == 7
    assert hold_files(out) == {'baselines.csv', 'baselines.json', 'baselines.png', 'baselines_confusion.png'}
    whole = geores.baselines(images, **QUICK)
    pd.testing.assert_frame_equal(
        table.frame.drop(columns='seconds'), whole.frame.drop(columns='seconds'), check_exact=True
    )


def test_runs_stopped_twice(images, tmp_path):
    out = tmp_path / 'out'
    stopped(images, out)
    with (work_folder(out) / 'journal.jsonl').open('a') as file:
        file.write('{"method": "col')
    with pytest.raises(StoppedError):
        geores.baselines(images, **QUICK, out=out, progress=stop_after(5))
    assert len(geores.baselines(images, **QUICK, out=out).runs) == 10


def test_unfinished_work_of_other_options(images, tmp_path):
    out = tmp_path / 'out'
    stopped(images, out)
    with pytest.raises(JournalError, match=r'another seed: .*--no-resume'):
        geores.baselines(images, **QUICK, out=out, seed=1)
    table = geores.baselines(images, **QUICK, out=out, seed=1, resume=False)
    assert len(table.runs) == 10
    assert table.info['options']['seed'] == 1


def test_damaged_work(images, tmp_path):
    out = tmp_path / 'out'
    stopped(images, out)
    path = work_folder(out) / 'journal.jsonl'
    path.write_text(path.read_text().replace('"kappa"', '"kapa"'))
    with pytest.raises(JournalError, match='damaged'):
        geores.baselines(images, **QUICK, out=out)


def test_stopping_in_the_middle_of_fine_tuning(geores, images, encoder, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SceneClassification, 'training_step', interrupt)
    answer = geores(
        'baselines',
        images,
        '--methods',
        'colour,finetune',
        '--svm-c',
        1,
        '--encoder',
        encoder,
        '--out',
        tmp_path / 'out',
    )
    assert answer.code == 130
    assert 'run again to continue' in answer.err
    assert len((tmp_path / 'out/.baselines.partial/journal.jsonl').read_text().splitlines()) == 11

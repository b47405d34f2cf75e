"""Baselines on folders of images: features, protocol, the table, and the command."""

import json
import os
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors.torch import save_file
from sklearn import metrics as reference

import geores
from geores.errors import DatasetError, JournalError, UsageError
from geores.models import create
from geores.pipelines.baselines.encoder import choose_encoder, seen_in_training
from geores.pipelines.baselines.features import colour_histogram, deep_features, linear_svm
from geores.pipelines.baselines.options import BaselineOptions, draw_splits, split_seed
from geores.pipelines.baselines.runs import Run, work_folder
from geores.tasks import SceneClassification

from .fixtures import SENTINEL2, hold_files, tiny_bundle

CLASSES = {'field': (150, 120, 60), 'forest': (30, 90, 40), 'water': (30, 60, 130)}


pytestmark = pytest.mark.usefixtures('one_thread')


def write_images(folder, count=10, classes=CLASSES, side=32):
    """Noisy images of a colour a class; the noise is wide enough for errors."""
    draw = np.random.default_rng(0)
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.array(colour) + draw.normal(0, 45, 3) + draw.normal(0, 20, (side, side, 3))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / name / f'{name}_{index:03}.png')
    return folder


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data') / 'ground')


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny')


# --- features


@settings(deadline=None, max_examples=25)
@given(arrays(np.uint8, (3, 5, 7)))
def test_colour_histogram_is_that_of_numpy(pixels):
    expected = [np.histogram(channel, bins=32, range=(0, 256))[0] for channel in pixels]
    found = colour_histogram(pixels)
    np.testing.assert_allclose(found, np.concatenate(expected) / pixels.size, rtol=1e-6)
    assert found.sum() == pytest.approx(1)


def test_deep_features_are_the_network_of_normalised_images():
    network = create('resnet10t', num_classes=0).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32)).astype(np.uint8)
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    with torch.inference_mode():
        normal = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
        expected = network(torch.tensor(normal, dtype=torch.float32))
    found = deep_features(network, list(pixels), mean, std, batch_size=2)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_linear_svm():
    draw = np.random.default_rng(0)
    classes = np.arange(40) % 4
    features = (np.eye(4)[classes] * 1000 + draw.normal(0, 100, (40, 4))).astype(np.float32)
    answers = linear_svm(features[:24], classes[:24], features[24:])
    assert (answers.classes == classes[24:]).all()
    assert answers.setting.startswith('C=')
    assert linear_svm(features[:24], classes[:24], features[24:], c=0.5).setting == 'C=0.5'
    alone = linear_svm(features[:4], classes[:4], features[4:])
    assert alone.setting == 'C=1'
    assert (alone.classes == classes[4:]).all()


# --- protocol


def test_ratios_are_those_of_resisc45():
    names = [f'{scene}/{index}' for scene in 'abc' for index in range(700)]
    scenes = [name[0] for name in names]
    splits = draw_splits(names, scenes, (0.1, 0.2), 2, seed=0)
    for (ratio, _), split in splits.items():
        trained = Counter(scenes[index] for index in split.train)
        assert trained == dict.fromkeys('abc', round(700 * ratio))
        assert sorted(split.train + split.val) == list(range(2100))
    assert set(splits[0.1, 0].train) < set(splits[0.2, 0].train)
    assert splits[0.1, 0].train != splits[0.1, 1].train


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(30)), st.integers(0, 5))
def test_draws_depend_on_seed_and_names_alone(order, seed):
    names = [f'{"ab"[index % 2]}/{index}' for index in range(30)]
    shuffled = [names[index] for index in order]
    plain, other = (
        draw_splits(these, [name[0] for name in these], (0.2,), 1, seed) for these in (names, shuffled)
    )
    assert {names[i] for i in plain[0.2, 0].train} == {shuffled[i] for i in other[0.2, 0].train}


def test_seeds_share_no_draw():
    assert len({split_seed(seed, repeat) for seed in range(3) for repeat in range(1000)}) == 3000


@pytest.mark.parametrize(('counts', 'named'), [({'a': 50, 'b': 3}, 'b'), ({'a': 1, 'b': 50}, 'a')])
def test_classes_too_small_are_named(counts, named):
    scenes = [scene for scene, count in counts.items() for _ in range(count)]
    with pytest.raises(DatasetError, match=f"class '{named}' has {counts[named]} image.* 0.1"):
        draw_splits([str(index) for index in range(len(scenes))], scenes, (0.1, 0.5), 1, 0)


# --- figures


def run(answers, truth=(0, 0, 1, 1, 2, 2), **about):
    fields = {'method': 'colour', 'ratio': 0.1, 'repeat': 0, 'train': 3, 'setting': '', 'seconds': 0.0}
    return Run.score(np.array(truth), np.array(answers), 3, **(fields | about))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_figures_are_those_of_scikit_learn(answers):
    truth = np.arange(12) % 3
    scored = run(answers, truth)
    assert scored.accuracy == pytest.approx(reference.accuracy_score(truth, answers))
    assert scored.kappa == pytest.approx(reference.cohen_kappa_score(truth, answers))
    assert scored.f1_macro == pytest.approx(
        reference.f1_score(truth, answers, average='macro', zero_division=0)
    )
    np.testing.assert_array_equal(
        scored.confusion, reference.confusion_matrix(truth, answers, labels=range(3))
    )


def test_figures_by_hand():
    scored = run([0, 1, 1, 1, 2, 0])
    assert scored.accuracy == pytest.approx(4 / 6)
    assert scored.kappa == pytest.approx((4 / 6 - 1 / 3) / (1 - 1 / 3))
    assert scored.f1_macro == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert scored.confusion == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]


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
    bundle = tiny_bundle(tmp_path / 'seen', training_data='Ground (public domain) and others')
    answer = geores('baselines', images, '--methods', 'colour,deep', '--repeats', 1, '--encoder', bundle)
    assert answer.code == 0, answer
    assert 'not honest' in answer.err
    assert 'trained on these' in ' '.join(answer.out.split())


@pytest.mark.parametrize(
    ('folder', 'words', 'seen'),
    [
        ('ucmerced', 'UC Merced Land Use (USGS) and AID', True),
        ('UCMerced_LandUse/Images', 'UC Merced Land Use', True),
        ('UCMerced_LandUse/Images', 'ucmerced', True),
        ('aid', 'paid with the aid of others', True),  # better one warning too many
        ('aid', 'paid work', False),
        ('NWPU-RESISC45', 'RESISC45 alone', True),
        ('aerial-images', 'Aerial images of Berlin', False),
        ('my-labels', 'labels of UC Merced', False),
        ('eurosat', '', False),
    ],
)
def test_training_data_is_recognised(folder, words, seen, tmp_path):
    assert seen_in_training(words, tmp_path / folder) is seen
    assert seen_in_training(None, tmp_path / folder) is False


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
    assert hold_files(out) == {'.baselines.partial/runs.jsonl'}
    with (work_folder(out) / 'runs.jsonl').open('a') as file:
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
    with (work_folder(out) / 'runs.jsonl').open('a') as file:
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
    path = work_folder(out) / 'runs.jsonl'
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
    assert len((tmp_path / 'out/.baselines.partial/runs.jsonl').read_text().splitlines()) == 11


# --- bad input


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--ratios', '0'], 'above 0 and below 1, not 0'),
        (['--ratios', '0.1,1'], 'above 0 and below 1, not 1'),
        (['--ratios', 'nan'], 'not nan'),
        (['--ratios', 'a'], "--ratios takes numbers separated by commas, not 'a'"),
        (['--ratios', ','], 'at least one training ratio'),
        (['--ratios', '0.01'], "class 'field' has 10 images, too few"),
        (['--repeats', '0'], 'repeats has to be from 1 to 1000, not 0'),
        (['--finetune-repeats', '0'], 'finetune repeats'),
        (['--methods', 'color'], "did you mean 'colour'?"),
        (['--methods', ''], 'at least one'),
        (['--encoder', 'resnet1O'], 'did you mean'),
        (['--encoder', 'aerial-rbg'], "did you mean 'aerial-rgb'?"),
        (['--encoder', 'resnet18', '--weights', 'none.pth'], 'none.pth: no such file'),
        (['--encoder', 'aerial-rgb', '--weights', 'none.pth'], 'of its own'),
        (['--encoder', 'resnet18', '--mean', '0.5,0.5'], 'both, or neither'),
        (['--encoder', 'resnet18', '--mean', '1,2,3', '--std', '1,1,1'], 'mean has to be three values'),
        (['--encoder', 'resnet18', '--mean', '0,0,0', '--std', '1,0,1'], 'std has to be three values'),
        (['--epochs', '0'], 'epochs'),
        (['--size', '8'], 'size has to be from 16 to 1024'),
        (['--svm-c', '-1'], 'C of the SVM'),
        (['--device', 'tpu'], 'tpu'),
    ],
)
def test_bad_options_leave_nothing(geores, images, tmp_path, args, message):
    out = tmp_path / 'out'
    answer = geores('baselines', images, *args, '--out', out)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count('\n') == 1
    assert not out.exists()


def refuse(geores, folder, tmp_path, *args):
    out = tmp_path / 'out'
    answer = geores('baselines', folder, '--repeats', 1, *args, '--out', out)
    assert answer.code == 2
    assert answer.err.startswith('geores: error: ')
    assert answer.err.count('\n') == 1
    assert not out.exists()
    return answer.err


def test_bad_folders(geores, tmp_path):
    assert 'no such folder' in refuse(geores, tmp_path / 'none', tmp_path)
    (tmp_path / 'empty' / 'a').mkdir(parents=True)
    assert 'no images' in refuse(geores, tmp_path / 'empty', tmp_path)
    one = write_images(tmp_path / 'one', 4, {'water': (0, 0, 99)})
    assert "one class only, 'water'" in refuse(geores, one, tmp_path)
    (one / 'forest').mkdir()
    Image.new('RGB', (8, 8)).save(one / 'forest' / 'a.png')
    assert "class 'forest' has 1 image, too few" in refuse(geores, one, tmp_path, '--ratios', '0.5')


@pytest.mark.parametrize('method', ['colour', 'deep', 'finetune'])
def test_images_that_cannot_be_read(geores, tmp_path, encoder, method):
    folder = write_images(tmp_path / 'data', 4)
    (folder / 'water' / 'water_003.png').write_bytes(b'no image')
    error = refuse(geores, folder, tmp_path, '--ratios', '0.5', '--methods', method, '--encoder', encoder)
    assert 'water_003.png' in error


def test_weights_that_do_not_fit(geores, images, tmp_path):
    weights = tmp_path / 'weights.safetensors'
    save_file(create('resnet10t', num_classes=3).state_dict(), weights)
    message = refuse(geores, images, tmp_path, '--encoder', 'resnet50', '--weights', weights)
    assert 'another architecture' in message
    part = create('resnet10t', num_classes=3).state_dict()
    del part['layer4.0.conv1.weight']
    save_file(part, weights)
    message = refuse(geores, images, tmp_path, '--encoder', 'resnet10t', '--weights', weights)
    assert "no fitting tensor 'layer4.0.conv1.weight'" in message
    save_file(
        {name: tensor * torch.nan for name, tensor in create('resnet10t').state_dict().items()}, weights
    )
    assert 'not finite' in refuse(geores, images, tmp_path, '--encoder', 'resnet10t', '--weights', weights)
    weights.write_bytes(b'no weights')
    assert 'cannot be read' in refuse(
        geores, images, tmp_path, '--encoder', 'resnet10t', '--weights', weights
    )


def test_bundles_of_other_bands(geores, images, tmp_path):
    bundle = tiny_bundle(tmp_path / 'bundle', bands=SENTINEL2)
    assert 'takes B02, B03, B04, B08' in refuse(geores, images, tmp_path, '--encoder', bundle)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_cannot_be_written(geores, images, tmp_path):
    tmp_path.chmod(0o500)
    assert 'cannot be written' in refuse(geores, images, tmp_path)


def test_a_file_in_the_way(geores, images, tmp_path):
    (tmp_path / 'file').touch()
    answer = geores('baselines', images, '--methods', 'colour', '--out', tmp_path / 'file')
    assert answer.code == 2
    assert 'cannot be written' in answer.err


def test_results_among_the_images(geores, images):
    for out in (images / 'out', images / 'water'):
        answer = geores('baselines', images, '--methods', 'colour', '--out', out)
        assert answer.code == 2
        assert 'among the images' in answer.err
    assert not (images / 'out').exists()


def test_unknown_options_in_python(images):
    with pytest.raises(UsageError, match="'epoch' is unknown"):
        geores.baselines(images, epoch=3)
    assert BaselineOptions(ratios=[0.2, 0.1, 0.2]).ratios == (0.1, 0.2)

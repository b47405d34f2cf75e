import csv
import importlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from geores.bundle import load_model
from geores.cli.training import train
from geores.errors import BundleError, OutputError, UsageError

CONFIGS = Path(__file__).parents[2] / 'configs'
SIZE = 32


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Lightning warns of arguments when pytest has some too; `train` has to cope.
    monkeypatch.setattr('sys.argv', ['geores', 'train', '--config', 'x.yaml'])


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def scenes(tmp_path):
    rng = np.random.default_rng(0)
    for source in ('one', 'two'):
        rows = [['name', 'scene', 'dark', 'red']]
        for scene, level in (('night', 30), ('day', 200)):
            folder = tmp_path / source / 'images' / scene
            folder.mkdir(parents=True)
            for index in range(10):
                pixels = rng.normal(level, 10, (SIZE, SIZE, 3))
                pixels[..., 0] += 40 * (index % 2)
                name = f'{scene}{index}'
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / f'{name}.png')
                rows.append([name, scene, int(scene == 'night'), index % 2])
        with (tmp_path / source / 'multilabels.csv').open('w', newline='') as file:
            csv.writer(file).writerows(rows)
    return f'[{tmp_path}/one, {tmp_path}/two]'


@pytest.fixture
def patches(tmp_path):
    folder = tmp_path / 'patches' / 'images'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    bands = yaml.safe_load((CONFIGS / 'sentinel2.yaml').read_text())['data']['init_args']['bands']
    rows = [['file', 'label']]
    monkey = {'driver': 'GTiff', 'dtype': 'uint16', 'height': SIZE, 'width': SIZE}
    for index in range(20):
        level = (300, 3000)[index % 2]
        values = rng.normal(level, 50, (len(bands), SIZE, SIZE)).astype(np.uint16)
        write_patch(folder / f'{index}.tif', values, bands, monkey)
        rows.append([f'{index}.tif', ('SeaLake', 'Forest')[index % 2]])
    with (folder.parent / 'labels.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    return str(folder.parent)


def write_patch(path, values, bands, profile):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(path, 'w', count=len(bands), **profile) as target:
            target.write(values)
            target.descriptions = bands


def config(name, **data):
    """A shipped configuration, made small."""
    settings = yaml.safe_load((CONFIGS / f'{name}.yaml').read_text())
    settings['data']['init_args'] |= {'size': SIZE, 'batch_size': 8} | data
    model = settings['model']['init_args']
    for option in ('architecture_kwargs', 'start', 'freeze', 'mean', 'std', 'mixup'):
        model.pop(option, None)
    model |= {'architecture': 'resnet10t', 'learning_rate': 0.003}
    del settings['trainer']['callbacks']  # averages of so few steps lag behind
    settings['trainer'] |= {'max_epochs': 8, 'check_val_every_n_epoch': 4, 'accelerator': 'cpu'}
    Path(f'{name}.yaml').write_text(yaml.safe_dump(settings))
    return ['--config', f'{name}.yaml']


def fails(args, *parts, kind=UsageError):
    with pytest.raises(kind) as error:
        train(args)
    message = str(error.value)
    for part in parts:
        assert part in message
    assert '\n' not in message


def test_multi_label_from_images_to_bundle(scenes, capsys, tmp_path):
    args = config('aerial-rgb')
    train([*args, '--data.root', scenes])
    run = tmp_path / 'runs' / 'aerial-rgb' / 'version_0'
    assert {path.name for path in run.iterdir()} >= {'aerial-rgb', 'config.yaml', 'metrics.csv'}
    assert not (tmp_path / 'lightning_logs').exists()
    out, err = capsys.readouterr()
    assert str(Path('runs/aerial-rgb/version_0/aerial-rgb')) in out
    assert [line.split()[:2] for line in err.splitlines()] == [['epoch', '4/8'], ['epoch', '8/8']]

    model = load_model(run / 'aerial-rgb')
    card = model.card
    assert (card.task, card.labels, card.bands) == (
        'multi-label',
        ('dark', 'red'),
        ('red', 'green', 'blue'),
    )
    assert (card.input_size, card.units, len(card.thresholds)) == (SIZE, '8-bit', 2)
    assert set(card.metrics) == {'one', 'two', 'all'}
    assert card.metrics['all']['split'].startswith('8 validation images')
    assert 'thresholds' in card.metrics['all']['split']
    assert card.metrics['all']['ap_macro'] > 0.7
    assert card.limits['figure'] == 'f1'
    assert set(card.limits['worst']) <= set(card.labels)
    assert card.limits['measured_on'] == card.metrics['all']['split']
    dark = model.predict(np.full((1, 3, SIZE, SIZE), 30.0))[0, 0]
    light = model.predict(np.full((1, 3, SIZE, SIZE), 200.0))[0, 0]
    assert dark > light


def test_single_label_from_patches_to_bundle(patches, tmp_path):
    args = config('sentinel2')
    path = str(tmp_path / 'mine')
    best = ['--export.monitor', 'val/accuracy']
    train([*args, '--data.root', patches, '--export.path', path, *best])
    card = load_model(path).card
    assert (card.task, card.activation, card.thresholds) == ('single-label', 'softmax', None)
    assert card.labels == ('Forest', 'SeaLake')
    assert card.metrics['patches']['accuracy'] == 1.0
    assert card.metrics['patches']['split'].endswith('which also chose the epoch and the temperature')
    assert card.metrics['patches']['f1_Forest'] == card.metrics['patches']['accuracy_SeaLake'] == 1.0
    assert card.calibration['temperature'] > 0
    assert card.metrics['patches']['ece'] <= card.metrics['patches']['ece_uncalibrated']
    assert load_model(path).predict(np.full((1, 10, SIZE, SIZE), 300.0)).argmax() == 1

    assert [source.name for source in card.training_data] == [
        'EuroSAT',
        's2-l2a',
        'ImageNet',
    ]  # as configured
    assert (card.split.method, card.split.val_share) == ('stratified', 0.2)

    # What the export would refuse at the end is refused at the start.
    common = [*args, '--data.root', patches]
    fails([*common, '--export.path', path], 'exists already', kind=OutputError)
    fails([*common, '--export.gsd', '[12, 8]'], "'gsd'", kind=BundleError)


def test_cross_validation_speaks_for_the_model_trained_on_everything(scenes, tmp_path, capsys):
    args = [*config('aerial-rgb'), '--data.root', scenes, '--trainer.max_epochs', '2']
    args += ['--trainer.check_val_every_n_epoch', '2', '--export.name', 'of-{fold}']
    train([*args, '--folds', '2', '--out', 'cv'])
    out = tmp_path / 'cv'
    kept = {'fold1_scores.safetensors', 'fold2_scores.safetensors'}
    assert {path.name for path in out.iterdir()} == {'all', 'crossval.json', 'fold1', 'fold2', *kept}
    record = json.loads((out / 'crossval.json').read_text())
    card = load_model(out / 'all').card
    assert card.name == 'of-all'
    assert load_model(out / 'fold2').card.name == 'of-fold2'
    assert list(card.thresholds) == pytest.approx(record['thresholds'])
    assert record['metrics'] == dict(card.metrics)
    whole = card.metrics['all']
    assert whole['split'] == '2-fold cross-validation on 40 images, thresholds tuned on the other folds'
    assert 0 <= whole['ap_macro'] <= 1
    assert whole['ap_macro_std'] >= 0
    assert 'ap_macro' in capsys.readouterr().out
    splits = {load_model(out / name).card.split_id for name in ('fold1', 'fold2')}
    assert len(splits) == 2

    # Stopped before the end and run again, it goes on; by other options it does not.
    shutil.rmtree(out / 'all')
    before = (out / 'fold1' / 'card.json').stat().st_mtime_ns
    train([*args, '--folds', '2', '--out', 'cv'])
    assert (out / 'fold1' / 'card.json').stat().st_mtime_ns == before
    assert json.loads((out / 'crossval.json').read_text()) == record
    other = [*args, '--model.learning_rate', '0.01', '--folds', '2', '--out', 'cv']
    fails(other, 'other options', kind=OutputError)

    fails([*args, '--folds', '2'], '--out')
    fails([*args, '--folds', 'x', '--out', 'cv'], '--folds')
    fails([*args, '--folds', '1', '--out', 'cv'], 'folds')
    fails([*args, '--data.val_share', '0'], 'nothing to measure')
    fails([*args, '--export', 'null', '--folds', '2', '--out', 'other'], 'no export')


def test_an_average_that_scored_best_is_exported(patches, tmp_path):
    args = [*config('sentinel2'), '--data.root', patches, '--trainer.max_epochs', '2']
    args += ['--trainer.check_val_every_n_epoch', '1', '--export.monitor', 'val/loss']
    args += ['--export.dtype', 'float32']
    average = '{class_path: lightning.pytorch.callbacks.EMAWeightAveraging, init_args: {decay: 1.0}}'
    train([*args, '--export.path', str(tmp_path / 'still'), '--model.learning_rate', '1e-30'])
    train([*args, '--export.path', str(tmp_path / 'average'), '--trainer.callbacks', f'[{average}]'])
    still, averaged = (
        dict(load_model(tmp_path / name).network.named_parameters()) for name in ('still', 'average')
    )
    # The average is that after the first step, whose rate is a hundredth of the full one.
    assert all(torch.allclose(still[name], averaged[name], atol=1e-4) for name in still)


def test_unknown_monitor(patches):
    args = [*config('sentinel2'), '--data.root', patches, '--trainer.max_epochs', '1']
    fails([*args, '--trainer.check_val_every_n_epoch', '1', '--export.monitor', 'x'], "'x'")


def test_without_export(patches, tmp_path, capsys):
    args = [*config('sentinel2'), '--data.root', patches, '--export', 'null']
    train([*args, '--trainer.max_epochs', '1', '--trainer.logger', 'false'])
    (path,) = tmp_path.glob('**/card.json')
    assert path.parent.relative_to(tmp_path) == Path('runs/sentinel2/version_0/sentinel2')
    card = load_model(path.parent).card
    assert (card.sensor, card.units) == ('Sentinel-2 MSI', 'reflectance*10000')
    assert card.metrics['patches']['split'] == '4 validation images, which also chose the temperature'
    said = capsys.readouterr().err
    assert 'guessed from the bands: sensor Sentinel-2 MSI' in said
    assert 'unknown: processing_level, training_data, licence' in said


def test_bad_configurations(tmp_path, patches):
    args = config('sentinel2')
    fails(['--config', 'none.yaml'], 'none.yaml')
    fails([*args, '--data.root', str(tmp_path / 'nowhere')], 'nowhere')
    fails([*args, '--data.root', patches, '--model.archtecture', 'x'], 'archtecture')
    fails([*args, '--data.root', patches, '--model.architecture', 'resnet1'], 'resnet1')
    fails([*args, '--data.root', patches, '--data.bands', '[B99]'], 'B99')
    fails([*args, '--model', 'geores.tasks.NoSuchTask'], 'NoSuchTask')
    fails([], 'model')
    (tmp_path / 'broken.yaml').write_text('model: [')
    fails(['--config', 'broken.yaml'], 'broken.yaml')


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.yaml')), ids=lambda path: path.stem)
def test_shipped_configurations_hold_no_machine_paths(path):
    settings = yaml.safe_load(path.read_text())
    roots = settings['data']['init_args']['root']
    for root in [roots] if isinstance(roots, str) else roots:
        assert root.startswith('data/')
    for part in (settings['data'], settings['model'], settings['export']):
        module, _, name = part['class_path'].rpartition('.')
        assert hasattr(importlib.import_module(module), name)

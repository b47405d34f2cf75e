"""Baselines on input that cannot be used."""

# ruff: noqa: F811 - fixtures are arguments too

import os

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import geores
from geores.errors import UsageError
from geores.models import create
from geores.protocol.options import BaselineOptions

from ..baselines_fixtures import encoder, images, write_images  # noqa: F401 - fixtures
from ..fixtures import SENTINEL2, tiny_bundle

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--ratios', '0'], 'above 0 and below 1, not 0'),
        (['--ratios', '0.1,1'], 'above 0 and below 1, not 1'),
        (['--ratios', 'nan'], 'not nan'),
        (['--ratios', 'a'], "--ratios takes numbers separated by commas, such as 0.1,0.2, not 'a'"),
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

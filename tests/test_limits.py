"""What cards, options and files may ask for: a bound, and one line where it is passed."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch

from geores.bundle import load_model
from geores.classification.options import ClassifyOptions
from geores.errors import BundleError, GeoresError, UsageError
from geores.runtime.predictor import Predictor

from .bundle_fixtures import change
from .fixtures import noise, tiny_bundle, write_scene
from .vqa_fixtures import tiny_vqa

DEEP = 100_000


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif', height=64, width=96)


def one_line(answer, *said):
    assert answer.code in (1, 2), answer
    assert answer.err.count('\n') == 1, answer.err
    assert 'a fault of geores' not in answer.err
    for text in said:
        assert text in answer.err


@pytest.mark.parametrize('field', [
    {'input_size': 2**63}, {'input_size': 4097}, {'alignment': 10**30}, {'context': 10**9},
    {'mean': [10**400, 1, 1]}, {'std': [1, 1, -(10**5000 // 3)]},
    {'labels': [f'l{i}' for i in range(10_001)]},
    {'gsd': [1, 10**400]}, {'bands': [f'b{i}' for i in range(20_000)]}, {'labels': ['\udfff', 'b']},
    {'training_data': 'a\ud83d'}, {'thresholds': [1e999, 0.5]}, {'display_range': [0, 10**60]},
])  # fmt: skip
def test_cards_that_ask_for_too_much(tmp_path, field):
    """Refused from the card alone: the weights are not even looked at."""
    bundle = tiny_bundle(tmp_path / 'b')
    (bundle / 'model.safetensors').write_bytes(b'')
    sys.set_int_max_str_digits(0)
    try:
        text = json.dumps(json.loads((bundle / 'card.json').read_text()) | field)
    finally:
        sys.set_int_max_str_digits(4300)
    (bundle / 'card.json').write_text(text)
    with pytest.raises(BundleError, match=r'card\.json') as raised:
        load_model(bundle)
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()


@pytest.mark.parametrize('where', ['whole', 'field'])
def test_cards_that_nest_deeply(tmp_path, where):
    bundle = tiny_bundle(tmp_path / 'b')
    deep = '[' * DEEP + ']' * DEEP
    card = json.loads((bundle / 'card.json').read_text()) | {'architecture_kwargs': 0}
    held = json.dumps(card).replace('"architecture_kwargs": 0', f'"architecture_kwargs": {deep}')
    text = deep if where == 'whole' else held
    (bundle / 'card.json').write_text(text)
    with pytest.raises(BundleError, match='the card cannot be read'):
        load_model(bundle)


@pytest.mark.parametrize('ending', ['.geojson', '.json'])
def test_areas_that_nest_deeply(geores, scene, bundle, tmp_path, ending):
    path = tmp_path / f'a{ending}'
    path.write_text('{"type": "FeatureCollection", "features": ' + '[' * DEEP + ']' * DEEP + '}')
    one_line(geores('classify', scene, '--model', bundle, '--aoi', path, '--out', tmp_path / 'o'), str(path))


@pytest.mark.parametrize('ending', ['.json', '.yaml'])
def test_colours_that_nest_deeply(tmp_path, ending):
    from geores.cartography.colours import read_colours

    path = tmp_path / f'c{ending}'
    path.write_text('[' * 20_000 + ']' * 20_000)
    with pytest.raises(UsageError, match='cannot be read'):
        read_colours(path)


def test_records_that_nest_deeply(tmp_path):
    """Records of earlier runs: as good as none."""
    from geores.io.journal import read_record

    (tmp_path / 'run.json').write_text('{"scenes": ' + '[' * DEEP + ']' * DEEP + '}')
    assert read_record(tmp_path / 'run.json') is None


@pytest.mark.parametrize(
    'text', ['[' * 20_000 + ']' * 20_000, 'rules: 2001-99-99', 'rules: !!python/name:os.system']
)
def test_mappings_that_are_none(tmp_path, text):
    from geores.osm import load_mapping

    path = tmp_path / 'm.yaml'
    path.write_text(text)
    with pytest.raises(UsageError, match=r'm\.yaml is not YAML'):
        load_mapping(path)


@pytest.mark.parametrize('option', ['--aoi', '--mask', '--colours'])
def test_named_pipes_are_not_waited_for(geores, scene, bundle, tmp_path, option):
    pipe = tmp_path / 'pipe.geojson'
    os.mkfifo(pipe)
    one_line(geores('classify', scene, '--model', bundle, option, pipe, '--out', tmp_path / 'o'), str(pipe))


def test_a_named_pipe_is_no_scene_and_no_card(geores, bundle, tmp_path):
    os.mkfifo(tmp_path / 'scene.tif')
    one_line(geores('info', tmp_path / 'scene.tif'), 'scene.tif')
    (tmp_path / 'b').mkdir()
    os.mkfifo(tmp_path / 'b' / 'card.json')
    one_line(geores('models', tmp_path / 'b'))


@pytest.mark.parametrize('resolution', [1e9, 1e300, 5000.0])
def test_pixels_larger_than_the_scene(geores, scene, bundle, tmp_path, resolution):
    answer = geores('classify', scene, '--model', bundle, '--resolution', resolution, '--out', tmp_path / 'o')
    one_line(answer, 'is larger than the whole of scene')


@pytest.mark.parametrize(('tile', 'most'), [(64, 16), (362, 16), (1024, 2), (2048, 1), (4000, 1)])
def test_large_tiles_go_in_small_batches(bundle, tmp_path, tile, most):
    """A batch holds about as many pixels whatever the tile: 16 tiles of 4,000 pixels would take 3 GB."""
    from geores.inference.prepared import prepare_scene
    from geores.scenes import open_scene

    scene = open_scene(write_scene(tmp_path / 'large.tif', height=64, width=64))
    options = ClassifyOptions(tile=tile, workers=1)
    plan = prepare_scene(scene, load_model(bundle).card, options, device='cpu').plan
    assert plan.batch_size == most
    asked = ClassifyOptions(tile=tile, workers=1, batch_size=3)
    assert prepare_scene(scene, load_model(bundle).card, asked, device='cpu').plan.batch_size == 3


@pytest.mark.parametrize('name', ['itself', 'each other'])
def test_an_encoder_that_asks_for_an_encoder(tmp_path, name):
    """A bundle whose encoder is itself, or two that name each other, would be loaded without end."""
    tiny_bundle(tmp_path / 'tiny-rgb')
    first = tiny_vqa(tmp_path / 'first', tmp_path / 'tiny-rgb')
    encoder = json.loads((first / 'card.json').read_text())
    if name == 'itself':
        change(first, encoder=encoder['encoder'] | {'name': 'first', 'sha256': encoder['sha256']})
    else:
        shutil.copytree(first, tmp_path / 'second')
        for one, other in (('first', 'second'), ('second', 'first')):
            change(tmp_path / one, encoder=encoder['encoder'] | {'name': other, 'sha256': encoder['sha256']})
    with pytest.raises(BundleError, match='answers questions itself'):
        load_model(first)


class _Gives(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        return torch.full((len(images), 2), self.value)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_nan_of_a_network_is_said_as_such(bundle, value):
    from geores.model import Model

    broken = Model(load_model(bundle).card, _Gives(value))
    with pytest.raises(GeoresError, match='NaN or numbers that are not finite'):
        Predictor(broken)(np.asarray(noise(3, 32, 32), np.float32)[None])

"""The real files: ConfigILM's excerpt of the official release, and the sample beside the checkout."""

from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from scipy.spatial.distance import cdist

from geores.bundle import load_model
from geores.cli.training import train
from geores.datasets import RSVQA, RSVQADataModule
from geores.datasets._rsvqa_split import close_groups, image_bounds, near_any
from geores.testing import check_dataset
from geores.vqa.answers import AnswerEncoding

SHARED = Path(__file__).resolve().parents[3] / 'shared' / 'data'
FOLDERS = {'lr': 'RSVQA-LR', 'hr': 'RSVQA-HR'}
CONFIGS = Path(__file__).parents[2] / 'configs'
STATED = {
    'lr': {'train': (3, 300), 'val': (5, 500), 'test': (4, 400)},
    'hr': {'train': (4, 400), 'val': (3, 300), 'test': (3, 300), 'test_phili': (2, 201)},
}

needs_configilm = pytest.mark.skipif(
    find_spec('configilm') is None,
    reason='configilm is not installed: pip install --no-deps configilm==0.7.1',
)
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f'{SHARED} is absent')


def configilm(variant):
    found = find_spec('configilm').submodule_search_locations
    return Path(found[0]) / 'extra' / 'mock_data' / FOLDERS[variant]


def folders(variant):
    mark = {'configilm': needs_configilm, 'shared': needs_shared}
    return [pytest.param(variant, kind, marks=mark[kind]) for kind in mark]


def folder(variant, kind):
    return configilm(variant) if kind == 'configilm' else SHARED / f'rsvqa-{variant}'


@needs_configilm
@pytest.mark.parametrize('variant', FOLDERS)
def test_official_splits_have_the_sizes_that_they_state(variant):
    for split, stated in STATED[variant].items():
        data = RSVQA(configilm(variant), variant, split)
        assert (len(data.entries), len(data)) == stated
    check_dataset(RSVQA(configilm(variant), variant))


@needs_configilm
@pytest.mark.parametrize('variant', FOLDERS)
def test_positions_are_the_tie_points_of_the_files(variant):
    data = RSVQA(configilm(variant), variant)
    assert len(data.entries) == 12
    for number, entry in enumerate(data.entries):
        with rasterio.open(entry.path) as source:
            assert source.crs.to_epsg() == 3857
            assert tuple(data.bounds[number]) == tuple(source.bounds)
            corner = (entry.fields['upperleft_map_x'], entry.fields['upperleft_map_y'])
            assert corner == (source.bounds.left, source.bounds.bottom)
            assert np.array_equal(data.images[number], source.read())


@needs_configilm
@pytest.mark.parametrize(('variant', 'off'), [('lr', 0.009), ('hr', 0.001)])
def test_places_reckoned_from_the_json_are_those_of_the_files(variant, off, tmp_path):
    """As where only PNGs are there: sides come from resolution and latitude."""
    data = RSVQA(configilm(variant), variant)
    for entry, bounds in zip(data.entries, data.bounds, strict=True):
        bare = tmp_path / 'bare.png'
        size = 256 if variant == 'lr' else 512
        Image.new('RGB', (size, size)).save(bare)
        reckoned = image_bounds(replace(entry, path=bare))
        assert reckoned == pytest.approx(bounds, abs=off * (bounds[2] - bounds[0]))


def reference(style, variant, kind, raw):
    """Spec 2.6, from the number itself."""
    low = 0 if style == 'official' else 1
    if kind == 'area' or (kind == 'count' and variant == 'lr'):
        unit = 'm2' if kind == 'area' else ''
        number = int(raw.removesuffix('m2'))
        edges = [(0, 0), (1, 10), (11, 100), (101, 1000)]
        for first, last in edges[1:]:
            if first <= number <= last:
                return f'between {first - 1 + low}{unit} and {last}{unit}'
        return f'0{unit}' if number == 0 else f'more than 1000{unit}'
    return raw


@pytest.mark.parametrize(('variant', 'kind'), [*folders('lr'), *folders('hr')])
def test_encodings_are_those_of_the_spec_on_every_answer(variant, kind):
    for style in ('official', 'paper'):
        data = RSVQA(folder(variant, kind), variant, answers=style)
        assert data.encoding == AnswerEncoding(style, variant)
        wanted = [reference(style, variant, one.type, one.answer) for one in data.questions]
        assert data.answers == wanted
        for question, text in zip(data.questions, data.answers, strict=True):
            if question.type in {'count', 'area'}:
                low, high = data.encoding.bounds(text)
                assert low <= int(question.answer.removesuffix('m2')) <= high
    if variant == 'lr':
        assert len(set(data.answers)) == 9


@needs_shared
@pytest.mark.parametrize(('variant', 'questions', 'places'), [('lr', 4003, 38), ('hr', 4001, 39)])
def test_neighbours_of_the_sample_stay_on_one_side(variant, questions, places):
    root = SHARED / f'rsvqa-{variant}'
    data = RSVQA(root, variant)
    assert (len(data), len(data.entries)) == (questions, 40)
    corners, side = data.bounds[:, :2], (data.bounds[:, 2] - data.bounds[:, 0]).max()
    touching = np.argwhere(cdist(corners, corners, 'chebyshev') < 1.05 * side)
    groups = close_groups(data.bounds)
    assert len(set(groups)) == places
    assert all(groups[one] == groups[other] for one, other in touching)
    for seed, fold in product(range(2), (1, 4)):
        module = RSVQADataModule(str(root), variant, split='location', folds=5, fold=fold, seed=seed)
        held = set(module.split.val)
        assert all((one in held) == (other in held) for one, other in touching)
        assert len(module.split.train) + len(held) == 40


@needs_configilm
@needs_shared
@pytest.mark.parametrize(('variant', 'apart'), [('lr', 2_400), ('hr', 300)])
def test_the_excerpt_and_the_sample_are_of_other_places(variant, apart):
    """So that the one can judge what the other has trained."""
    excerpt, sample = RSVQA(configilm(variant), variant), RSVQA(SHARED / f'rsvqa-{variant}', variant)
    assert not near_any(excerpt.bounds, sample.bounds, buffer=apart).any()


@needs_configilm
def test_types_are_those_of_the_release():
    counts = {variant: Counter(RSVQA(configilm(variant), variant).question_types) for variant in FOLDERS}
    assert set(counts['lr']) == {'rural_urban', 'presence', 'count', 'comp'}
    assert counts['lr']['rural_urban'] == 12
    assert set(counts['hr']) == {'presence', 'count', 'comp', 'area'}


@needs_configilm
@pytest.mark.usefixtures('one_thread')
@pytest.mark.parametrize('variant', FOLDERS)
def test_the_published_models_configuration_trains_and_exports(variant, tmp_path, monkeypatch):
    """With another encoder and a narrow reader of questions, for the time of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['geores', 'train'])
    train(
        [
            '--config', str(CONFIGS / f'rsvqa-{variant}.yaml'),
            '--data.root', str(configilm(variant)),
            '--data.size', '64',
            '--model.architecture', 'resnet10t',
            '--model.architecture_kwargs={stem_width: 8, channels: [8, 16, 32, 64]}',
            '--model.head_kwargs.text_kwargs={width: 16, embedding: 8}',
            '--trainer.max_steps', '2',
            '--trainer.accelerator', 'cpu',
            '--export.path', 'bundle',
        ]
    )  # fmt: skip
    model = load_model(tmp_path / 'bundle')
    figures = model.card.metrics[FOLDERS[variant]]
    val = STATED[variant]['val']
    assert figures['split'].startswith(f'{val[1]} questions on {val[0]} validation images (official)')
    assert figures.keys() >= {'majority_accuracy', 'question_only_accuracy', 'accuracy'}
    assert model.card.architecture_kwargs['fusion'] == 'product'
    data = RSVQA(configilm(variant), variant, 'val', size=64)
    (answer,) = model.answer(data.image(0), [data.questions[0].text])
    assert answer.text in model.card.labels


@needs_configilm
def test_rsvqaxben_of_configilm_is_read():
    folder = configilm('lr').parent / 'VQA_RSVQAxBEN'
    data = RSVQA(folder, 'xben', reader=blank)
    assert Counter(data.image_splits[number] for number in data.image_numbers) == dict.fromkeys(
        ('train', 'val', 'test'), 10
    )
    assert set(data.question_types) == {'presence', 'LC'}
    assert data.answers == [question.answer for question in data.questions]
    check_dataset(data)


def blank(name):
    return np.full((3, 120, 120), 40 + len(name), np.uint8)

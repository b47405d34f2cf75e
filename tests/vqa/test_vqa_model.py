import json
import shutil

import numpy as np
import pytest
import torch

from geores import ModelCard, load_model, save_bundle
from geores.card import FORMAT_VERSION
from geores.errors import BundleError, ModelNotFoundError, UsageError
from geores.vqa.comparison import fitting, forms_of, kind_of
from geores.vqa.model import VQAModel
from geores.vqa.network import shared_encoder

from ..fixtures import tiny_bundle
from ..vqa_fixtures import ANSWERS, QUESTIONS, tiny_vqa, vqa_card

pytestmark = pytest.mark.usefixtures('one_thread')

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, bundle):
    """A VQA bundle with its encoder beside it."""
    shutil.copytree(bundle, tmp_path / 'tiny-rgb')
    return tiny_vqa(tmp_path / 'tiny-vqa', tmp_path / 'tiny-rgb')


def test_a_bundle_answers_in_its_own_words(folder):
    model = load_model(folder)
    assert isinstance(model, VQAModel)
    answers = model.answer(IMAGES[0], QUESTIONS)
    assert [one.question_type for one in answers] == ['presence', 'count', 'rural_urban']
    for one in answers:
        assert one.text in ANSWERS[1:]
        assert one.probability == pytest.approx(max(one.probabilities.values()))
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert one.probabilities.keys() == set(ANSWERS[1:])
        assert one.probabilities[one.text] == one.probability


def test_an_image_is_encoded_once_for_any_number_of_questions(folder):
    model = load_model(folder)
    seen = []
    model.network.encoder.register_forward_hook(lambda *args: seen.append(len(args[2])))
    features = model.encode(IMAGES)
    together = model.answer_features(features, QUESTIONS * 5)
    assert seen == [3]
    assert [len(one) for one in together] == [15] * 3
    alone = [model.answer(image, QUESTIONS) for image in IMAGES]
    for many, few in zip(together, alone, strict=True):
        for one, other in zip(many, few * 5, strict=True):
            assert one.text == other.text
            assert one.probability == pytest.approx(other.probability, abs=1e-5)
    assert model.answer_features(features, []) == [[], [], []]
    assert model.answer_features(model.encode(IMAGES[:0]), QUESTIONS) == []


def test_the_encoder_is_not_stored_twice(folder):
    from safetensors import safe_open

    with safe_open(folder / 'model.safetensors', framework='pt') as file:
        assert all(name.startswith('head.') for name in file.keys())  # noqa: SIM118
    encoder = json.loads((folder / 'card.json').read_text())['encoder']
    assert encoder['sha256'] == load_model(folder.parent / 'tiny-rgb').sha256


def test_a_changed_encoder_is_refused(folder, tmp_path):
    shutil.rmtree(tmp_path / 'tiny-rgb')
    with pytest.raises(BundleError, match=r"'tiny-rgb' .* is not here"):
        load_model(folder)
    tiny_bundle(tmp_path / 'tiny-rgb', seed=1)
    with pytest.raises(BundleError, match='has changed'):
        load_model(folder)


def test_an_encoder_inside_the_bundle_is_found_first(folder, tmp_path):
    shutil.move(tmp_path / 'tiny-rgb', folder / 'tiny-rgb')
    tiny_bundle(tmp_path / 'tiny-rgb', seed=1)
    assert load_model(folder).answer(IMAGES[0], QUESTIONS[:1])


def test_an_encoder_of_its_own_is_stored(tmp_path):
    from geores.vqa.network import build

    spec = {
        'architecture': 'resnet10t',
        'architecture_kwargs': {'stem_width': 8, 'channels': [8, 16, 32, 64]},
        'grid': 2,
    }

    class Nobody:
        name, sha256 = 'nobody', '0' * 64

    card = vqa_card(Nobody, encoder=spec)
    torch.manual_seed(0)
    network = build(card, None).eval()
    model = load_model(save_bundle(tmp_path / 'own', network, card, torch.float32))
    with torch.inference_mode():
        expected = network.encode(model.normalise(torch.tensor(IMAGES).float()))
    torch.testing.assert_close(model.encode(IMAGES), expected)


# --- bad input


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (IMAGES, r'\(3, 3, 64, 64\)'),
        (IMAGES[0, :2], r'\(1, 2, 64, 64\)'),
        (IMAGES[0, :, :32, :32], 'shape'),
        (IMAGES[0].transpose(1, 2, 0), 'shape'),
        (IMAGES[0].astype(complex), 'complex'),
        (IMAGES[0].astype(object), 'object'),
        (np.full((3, 64, 64), np.nan), 'NaN'),
        (IMAGES[0].astype(float) * 20, '0 to 255'),
        (IMAGES[0].astype(float) - 20, '0 to 255'),
        ('image.png', 'shape'),
    ],
)
def test_what_is_no_image_is_refused(folder, image, message):
    with pytest.raises(UsageError, match=message):
        load_model(folder).answer(image, QUESTIONS)


@pytest.mark.parametrize(
    'questions',
    [
        [''],
        ['road ' * 10_000],
        [None],
        'Is there a road?',
        [b'road'],
        None,
        iter(QUESTIONS),
        {'road'},
        ['???'],
    ],
)
def test_what_is_no_question_is_refused(folder, questions):
    with pytest.raises(UsageError):
        load_model(folder).answer(IMAGES[0], questions)


def test_other_languages_and_unknown_words_get_some_answer(folder):
    answers = load_model(folder).answer(IMAGES[0], ['Gibt es hier Wasser?', '你好吗', 'Is there a unicorn?'])
    assert all(one.text in ANSWERS[1:] for one in answers)


def test_without_a_question_there_is_no_answer(folder):
    with pytest.raises(UsageError, match='answers questions'):
        load_model(folder).predict(IMAGES)


def test_features_of_another_model_are_refused(folder):
    with pytest.raises(UsageError, match='features'):
        load_model(folder).answer_features(torch.zeros(1, 5, 2, 2), QUESTIONS)


@pytest.mark.parametrize('features', [torch.zeros(64, 2, 2), np.zeros((1, 64, 2, 2)), None])
def test_features_that_are_none_are_refused(folder, features):
    with pytest.raises(UsageError, match='features have to be'):
        load_model(folder).answer_features(features, QUESTIONS)


@pytest.mark.parametrize(
    'question', ['What is the area covered by roads?', 'Which classes does the image show?']
)
def test_a_kind_without_an_answer_is_refused(folder, question):
    model = load_model(folder)
    features = model.encode(IMAGES[:1])
    for ask in (
        lambda asked: model.answer(IMAGES[0], asked),
        lambda asked: model.answer_features(features, asked),
    ):
        with pytest.raises(UsageError, match='count, presence, rural_urban'):
            ask([*QUESTIONS, question])


# --- kinds of answers


def test_answers_are_of_the_kind_that_is_asked():
    allowed = fitting(ANSWERS, forms_of([*QUESTIONS, 'Are there more roads than buildings?', 'What?']))
    assert [[ANSWERS[place] for place in row.nonzero()[:, 0]] for row in allowed] == [
        ['yes', 'no'],
        ['0', 'between 0 and 10'],
        ['rural', 'urban'],
        ['yes', 'no'],
        list(ANSWERS[1:]),
    ]
    assert fitting(('<unknown>', 'yes'), forms_of(QUESTIONS[1:2])).tolist() == [[False, True]]
    assert [kind_of(one) for one in ('yes', 'urban', '89', 'more than 1000', '0m2', 'water and forest')] == [
        'presence', 'rural_urban', 'count', 'count', 'area', 'LC',
    ]  # fmt: skip


# --- bands of the encoder


def test_colours_take_the_places_of_their_bands(tmp_path):
    """RGB at its own mean and spread is the encoder's input at its mean and spread."""
    bands = ('B02', 'B03', 'B04', 'B08')
    mean, std = (400.0, 600.0, 500.0, 2000.0), (100.0, 200.0, 300.0, 900.0)
    encoder = load_model(
        tiny_bundle(tmp_path / 'tiny-s2', bands, units='reflectance*10000', mean=mean, std=std)
    )
    places = {'red': 'B04', 'green': 'B03', 'blue': 'B02'}
    model = load_model(tiny_vqa(tmp_path / 'vqa', tmp_path / 'tiny-s2', bands=places))
    deviations = (torch.tensor(IMAGES[:1]).float() - 120) / 60
    reflectance = torch.tensor(mean).view(1, 4, 1, 1).repeat(1, 1, 64, 64)
    for place, colour in ((2, 0), (1, 1), (0, 2)):
        reflectance[:, place] += std[place] * deviations[:, colour]
    with torch.inference_mode():
        expected = encoder.network.forward_features(encoder.normalise(reflectance))
    torch.testing.assert_close(model.encode(IMAGES[:1]), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    'places',
    [{}, {'red': 'red', 'green': 'green', 'blue': 'B8'}, dict.fromkeys(('red', 'green', 'blue'), 'red')],
)
def test_places_that_are_none_are_refused(bundle, places):
    with pytest.raises(UsageError, match='bands'):
        shared_encoder(load_model(bundle), places, ('red', 'green', 'blue'), None)


# --- cards


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'tokenizer': None}, "'tokenizer'"),
        ({'encoder': None}, "'encoder'"),
        ({'answer_encoding': {'style': 'mine', 'variant': 'lr'}}, "'answer_encoding'"),
        ({'encoder': {'name': 'x'}}, "'encoder'"),
        ({'encoder': {'name': 'x', 'sha256': '', 'bands': {}, 'grid': None}}, 'SHA-256'),
        ({'encoder': {'name': '../x', 'sha256': '0' * 64, 'bands': {}, 'grid': None}}, "'encoder'"),
        ({'encoder': {'name': 'x', 'sha256': '0' * 64, 'bands': {}, 'grid': 1, 'scale': 0}}, 'scale'),
        ({'encoder': {'name': 'x', 'sha256': '0' * 64, 'bands': {}, 'grid': 1, 'looks': 1}}, 'looks'),
        (
            {'encoder': {'architecture': 'a', 'architecture_kwargs': {'pretrained': True}, 'grid': 1}},
            'pretrained',
        ),
        ({'thresholds': (0.5,) * len(ANSWERS)}, "'thresholds'"),
        ({'activation': 'sigmoid'}, "'activation'"),
    ],
)
def test_cards_that_contradict_themselves(bundle, fields, message):
    with pytest.raises(BundleError, match=message):
        vqa_card(load_model(bundle), **fields)


def test_other_tasks_have_no_tokenizer(bundle):
    card = load_model(bundle).card
    assert card.format_version == FORMAT_VERSION
    with pytest.raises(BundleError, match="'tokenizer' has to be null"):
        ModelCard.from_dict(card.to_dict() | {'tokenizer': {}})


def test_a_card_of_the_first_version_is_upgraded(bundle):
    fields = load_model(bundle).card.to_dict() | {'format_version': 1}
    for name in ('tokenizer', 'answer_encoding', 'encoder'):
        fields.pop(name)
    card = ModelCard.from_dict(fields)
    assert (card.format_version, card.encoder) == (FORMAT_VERSION, None)


@pytest.mark.parametrize(
    'change',
    [
        {'architecture': 'resnet10t', 'architecture_kwargs': {}},
        {'labels': ANSWERS[:-1]},
        {'input_size': 16},
        {'tokenizer': {'definition': {}, 'max_tokens': 4}},
        {'architecture_kwargs': {'features': 9, 'grid': 2, 'vocabulary': 5, 'num_classes': 7}},
    ],
)
def test_a_card_that_does_not_build_the_network_is_refused(folder, change):
    fields = json.loads((folder / 'card.json').read_text()) | change
    if change.get('input_size'):
        fields['encoder']['grid'] = None
        fields['architecture_kwargs']['fusion'] = 'product'
    (folder / 'card.json').write_text(json.dumps(fields))
    with pytest.raises(BundleError) as caught:
        load_model(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_vqa_model_does_not_classify(folder, tmp_path, geores):
    from ..fixtures import write_scene

    answer = geores(
        'classify', write_scene(tmp_path / 'scene.tif'), '--model', folder, '--out', tmp_path / 'out'
    )
    assert answer.code == 2
    assert 'questions' in answer.err
    assert not (tmp_path / 'out').exists()


def test_names_that_are_none(tmp_path):
    with pytest.raises(ModelNotFoundError):
        load_model(tmp_path / 'vqa-nothing')

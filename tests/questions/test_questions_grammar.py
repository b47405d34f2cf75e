"""Wordings: what is phrased is read back, released questions read to the letter, English is right."""

import json
import random
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.questions import (
    Area,
    Comparison,
    Count,
    LabelPresence,
    Objects,
    Presence,
    QuestionError,
    Relation,
)
from geores.questions.grammar import MAX_LENGTH, parse, phrase, read, wordings
from geores.questions.suggest import suggest, what_is_known
from geores.questions.vocabulary import CATEGORIES, MASS, PHRASES

from .test_questions_forms import forms

SHARED = Path(__file__).parents[3] / 'shared' / 'data'
STYLES = ('english', 'released')


@given(form=forms, data=st.data())
@settings(max_examples=300)
def test_every_wording_is_read_back(form, data):
    style = data.draw(st.sampled_from(STYLES))
    wording = data.draw(st.sampled_from(list(wordings(form, style))))
    text = phrase(form, wording)
    assert parse(text) == form
    assert phrase(*read(text)) == text


@given(form=forms, seed=st.integers(0, 99), style=st.sampled_from(STYLES))
def test_a_drawn_wording_is_one_of_the_forms_and_repeats_with_its_seed(form, seed, style):
    one, other = (random.Random(seed) for _ in range(2))  # noqa: S311
    text = phrase(form, style, one)
    assert text == phrase(form, style, other)
    assert parse(text) == form


@pytest.mark.parametrize('category', [*CATEGORIES, *MASS, *PHRASES])
def test_every_known_category_is_read_back_in_every_wording(category):
    things = Objects(category, 'small', None, Relation('left', Objects(category)))
    for style in STYLES:
        for form in (Presence(Objects(category)), Presence(things), Count(things), Area(Objects(category))):
            for wording in wordings(form, style):
                assert parse(phrase(form, wording)) == form


@given(form=forms)
def test_case_spaces_and_the_mark_are_forgiven(form):
    text = phrase(form)
    assert parse(f'  {text.upper().replace(" ", "   ").rstrip("?")} ') == form
    assert parse(text.lower() + ' ?!') == form


def _released(folder):
    """Type and text of every question of a folder in the official layout."""
    for path in sorted(folder.glob('*questions.json')):
        for record in json.loads(path.read_text())['questions']:
            if record.get('active'):
                yield record['type'], record['question']


def _samples():
    folders = [SHARED / name for name in ('rsvqa-lr', 'rsvqa-hr')]
    found = find_spec('configilm')
    if found is not None and found.submodule_search_locations:
        mock = Path(found.submodule_search_locations[0]) / 'extra' / 'mock_data'
        folders += [mock / name for name in ('RSVQA-LR', 'RSVQA-HR')]
    return [folder for folder in folders if folder.is_dir()]


def test_every_released_question_is_read_and_phrased_to_the_letter():
    if not _samples():
        pytest.skip('needs ../shared/data/rsvqa-* or the package configilm')
    for folder in _samples():
        questions = list(_released(folder))
        assert len(questions) > 1000
        for kind, text in questions:
            assert parse(text).type == kind
        for text in sorted({text for _, text in questions}):
            assert phrase(*read(text)) == text


@pytest.mark.parametrize(
    ('text', 'form'),
    [
        ('Is a  island present?', Presence(Objects('island'))),
        ('Is it a rural or an urban area', None),
        ('What is the amount of cemeterys?', Count(Objects('cemetery'))),
        ('How many churchs are there in the image?', Count(Objects('church'))),
        (
            'Is there a road on the left of the  residential area?',
            Presence(Objects('road', relation=Relation('left', Objects('residential area')))),
        ),
        (
            'Are there less buildings than square roads in the image?',
            Comparison('less', Objects('building'), Objects('road', None, 'square')),
        ),
        (
            'Are there agricultural areas or wetlands and water bodies in the scene?',
            LabelPresence((('agricultural areas',), ('wetlands', 'water bodies'))),
        ),
        ('Are there some broad-leaved forest in the scene?', LabelPresence((('broad-leaved forest',),))),
    ],
)
def test_wordings_of_the_releases(text, form):
    assert form is None or parse(text) == form
    assert parse(text).type in {'presence', 'count', 'comp', 'rural_urban'}


@pytest.mark.parametrize(
    ('form', 'text'),
    [
        (Presence(Objects('island')), 'Is there an island?'),
        (Presence(Objects('university')), 'Is there a university?'),
        (Presence(Objects('grass')), 'Is there any grass?'),
        (Presence(Objects('farmland', 'large')), 'Is there a large area of farmland?'),
        (Count(Objects('cemetery')), 'How many cemeteries are there?'),
        (Count(Objects('beach')), 'How many beaches are there?'),
        (Count(Objects('place of worship')), 'How many places of worship are there?'),
        (Area(Objects('farmland')), 'What is the area covered by farmland?'),
        (
            Comparison('less', Objects('church'), Objects('grass', None, 'square')),
            'Are there fewer churches than square patches of grass?',
        ),
    ],
)
def test_english_is_correct(form, text):
    assert phrase(form) == text


@pytest.mark.parametrize(
    'text',
    [
        '',
        '   ',
        '???',
        'x' * (MAX_LENGTH + 1),
        None,
        7,
        b'Is there a road?',
        'What?',
        'Is there a?',
        'Wo ist der Wald?',
        'Is there a road and a lake?',
        '\0',
        '🙂',
    ],
)
def test_what_is_no_question_is_refused_on_one_line(text):
    with pytest.raises(QuestionError) as caught:
        parse(text)
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        form = parse(text)
    except QuestionError:
        return
    assert parse(phrase(form, next(style for style in STYLES if any(wordings(form, style))))) is not None


@pytest.mark.parametrize(
    ('asked', 'meant'),
    [
        ('any rivers here?', 'Is there a river?'),
        ('how much of it is forest', 'What is the area covered by forests?'),
        ('are there houses', 'Is there a house?'),
        ('is this a city?', 'Is it a rural or an urban area?'),
        ('number of lakes', 'How many lakes are there?'),
        ('can you see a forrest anywhere', 'Is there a forest?'),
        ('more roads than houses?', 'Are there more roads than houses?'),
        ('how many big buildings', 'How many large buildings are there?'),
        ('houses to the left of the river', 'Is there a house on the left of a river?'),
    ],
)
def test_everyday_questions_are_understood(asked, meant):
    found = suggest(asked)
    assert found is not None
    assert found.text == meant
    assert parse(found.text) == found.form


@pytest.mark.parametrize(
    'asked',
    [
        'what is the capital of France',
        'gibt es hier Wald?',
        'who owns this house?',
        'where is the forest',
        '',
        '🙂',
        'are there no houses',
        'how many red cars',
        'how many people live here',
        None,
        'Is there a red car?',
        'x' * 2000,
    ],
)
def test_nothing_is_suggested_for_another_question(asked):
    assert suggest(asked) is None


def test_suggestions_keep_to_what_a_model_knows():
    known = ('water area', 'residential building', 'grass area')
    assert suggest('any rivers here?', known).text == 'Is there a water area?'
    assert suggest('Is there a big lake?', known).text == 'Is there a large water area?'
    assert suggest('are there houses', known).form == Presence(Objects('residential building'))
    assert suggest('an airplane?', known) is None
    assert suggest('number of lakes', known, types=('presence',)) is None
    assert 'water area' in what_is_known(known)


@pytest.mark.parametrize(
    ('asked', 'same'),
    [
        ('How many water areas are next to a road?', 'How many water areas next to a road are there?'),
        ('How many roads are there at the top of a lake?', 'How many roads at the top of a lake are there?'),
        (
            'how many small buildings are on the left of a road in the image',
            'How many small buildings on the left of a road are there in the image?',
        ),
        (
            'Is a cemetery present on the right of a building?',
            'Is there a cemetery on the right of a building?',
        ),
        ('Are roads present next to a lake in this picture?', 'Are there any roads next to a lake?'),
    ],
)
def test_a_place_may_come_last(asked, same):
    assert parse(asked) == parse(same)


@pytest.mark.parametrize(
    'asked', ['How many roads are next to?', 'Is present next to a road?', 'How many are there?']
)
def test_a_place_alone_is_no_question(asked):
    with pytest.raises(QuestionError):
        parse(asked)

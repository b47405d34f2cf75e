"""Everyday questions about a map of land cover: which are understood, and what is said of the others."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.asking.understand import Known, nearest_questions, understand
from geores.questions.everyday import CannotTell, MapQuestion, read_map_question
from geores.questions.forms import QuestionError
from geores.questions.land_cover import COVERS, covers_of
from geores.questions.vocabulary import AREAS, CATEGORIES

from ..pixel_fixtures import LAND_COVER as LABELS

WORDS = covers_of(LABELS)


@pytest.mark.parametrize(
    ('question', 'kind', 'cover', 'unit'),
    [
        ('How much of the area is forest?', 'share', 'forest', None),
        ('What percentage of the scene is covered by trees', 'share', 'forest', None),
        ('how many percent of the area is water?', 'share', 'water', None),
        ('Where is the water?', 'where', 'water', None),
        ('How many lakes are larger than 10 hectares?', 'count', 'water', None),
        ('What is the largest lake?', 'largest', 'water', None),
        ('Is there more forest than cropland?', 'comp', 'forest', None),
        ('Is there water within 500 m of buildings?', 'presence', 'water', None),
        ('How far is the nearest forest from houses?', 'distance', 'forest', None),
        ('How many square kilometres of grassland are there?', 'area', 'grass', 'km2'),
        ('How large is the forest in hectares?', 'area', 'forest', 'ha'),
        ('Can you tell me how much snow there is?', 'area', 'snow', None),
        ('Does the image show a wetland?', 'presence', 'wetland', None),
        ('Are there any lakes of 2 ha or more in this scene?', 'presence', 'water', None),
        ('is there forrest', 'presence', 'forest', None),
        ('Is it a rural or an urban area?', 'rural_urban', None, None),
        ('Is it mostly rural?', 'rural_urban', None, None),
        ('What percentage of the land is used for agriculture?', 'share', 'crops', None),
        ('How many separate forest patches larger than 50 ha are there?', 'count', 'forest', None),
        ('Where are the largest forests?', 'where', 'forest', None),
        ('Is there a lake of more than 10 ha?', 'presence', 'water', None),
        ('What does the scene show?', 'covers', None, None),
    ],
)
def test_everyday_questions_are_understood(question, kind, cover, unit):
    found = read_map_question(question, WORDS)
    assert (found.type, found.unit) == (kind, unit)
    assert (found.thing.cover if found.thing else None) == cover


@pytest.mark.parametrize(
    ('question', 'kind', 'side', 'limit'),
    [
        ('Is half of it forest?', 'share', 'least', 50),
        ('Is more than a third of the scene forest?', 'share', 'more', 100 / 3),
        ('Is at least 30 % of the area cropland?', 'share', 'least', 30),
        ('Is less than 5 % of the area built-up?', 'share', 'less', 5),
        ('Is most of the scene farmland?', 'share', 'more', 50),
        ('Is the scene mostly covered by forest?', 'share', 'more', 50),
        ('Does forest cover no more than three quarters of the area?', 'share', 'most', 75),
        ('Is the share of forest above 30 percent?', 'share', 'more', 30),
        ('Is exactly half of it forest?', 'share', 'exactly', 50),
        ('Is there more than 10 km² of forest?', 'area', 'more', 1e7),
        ('Is there at least 5 square kilometres of water?', 'area', 'least', 5e6),
        ('Is less than 5 ha of the area forest?', 'area', 'less', 5e4),
        ('Is the area of forest larger than 2 acres?', 'area', 'more', 2 * AREAS['acres']),
        ('Is the total water area larger than 3 ha?', 'area', 'more', 3e4),
        ('Is the area covered by water more than 3 ha?', 'area', 'more', 3e4),
        ('Is more than 10 km² forest?', 'area', 'more', 1e7),
        ('Are there 0 lakes?', 'count', 'exactly', 0),
        ('Is 0 % of it forest?', 'share', 'exactly', 0),
        ('Is half of it a forest?', 'share', 'least', 50),
        ('Are there more than 5 lakes?', 'count', 'more', 5),
        ('Are there at least five lakes within 1 km of houses?', 'count', 'least', 5),
        ('Are there 5 or more lakes?', 'count', 'least', 5),
        ('Are there fewer than 10 lakes larger than 10 hectares?', 'count', 'less', 10),
        ('Are there more lakes than 5?', 'count', 'more', 5),
        ('Is the number of lakes above 5?', 'count', 'more', 5),
    ],
)
def test_limits_are_understood(question, kind, side, limit):
    found = read_map_question(question, WORDS)
    assert (found.type, found.kind, found.limit.side) == (kind, 'limit', side)
    assert found.limit.value == pytest.approx(limit)
    assert found.limit.said == ('half of it' not in question or 'exactly' in question)


@pytest.mark.parametrize(
    'question',
    [
        'Does any lake cover more than 1 ha?',
        'Does a single lake cover more than 5 %?',
        'Is half of all land forest?',
        'Is less than 10 % of the scene forest or water?',
        'Did less than 10 % of the forest burn?',
        'Are most lakes larger than 1 ha?',
        'Is most of the water within 500 m of forest?',
        'Is all forest within 500 m of water?',
    ],
)
def test_what_is_asked_of_each_or_of_most_is_not_answered_otherwise(question):
    assert read_map_question(question, WORDS) is None


@pytest.mark.parametrize(
    'question',
    [
        'Is the area of water more than 3 ha and less than 3.5 ha?',
        'Is there more than 5 km² and less than 10 km² of forest?',
        'Is there less than 0 km² of forest?',
    ],
)
def test_limits_that_cannot_be_are_refused(question):
    with pytest.raises(QuestionError):
        read_map_question(question, WORDS)


@pytest.mark.parametrize(
    ('question', 'place'),
    [
        ('Which land cover is the most common?', 1),
        ('Which cover is the most common?', 1),
        ('What is most of the scene?', 1),
        ('What is the largest land cover?', 1),
        ('What is the dominant land cover?', 1),
        ('What is the second most common land cover?', 2),
        ('Which cover is the least common?', -1),
        ('What share of the scene is which cover?', 0),
        ('What is in the image?', 0),
        ('Which land covers are there?', 0),
    ],
)
def test_questions_about_all_covers_are_understood(question, place):
    assert read_map_question(question, WORDS) == MapQuestion('covers', place=place)


@pytest.mark.parametrize(
    ('question', 'about'),
    [
        ('Are there at least 5 rivers?', 'rivers'),
        ('Are there more than 100 buildings?', 'no single buildings'),
        ('Is there a river?', 'rivers'),
        ('Is there a village green?', 'village greens'),
        ('Is there an orchard?', 'orchards'),
        ('How many buildings are there?', 'no single buildings'),
        ('Is there a large lake?', "'large'"),
    ],
)
def test_what_a_map_cannot_tell_is_not_claimed(question, about):
    found = read_map_question(question, WORDS)
    assert isinstance(found, CannotTell)
    assert about in found.reason


@pytest.mark.parametrize(
    'question',
    [
        'Wo ist das Wasser?',
        'Who owns this forest?',
        'Is there an island?',
        'Will the water rise?',
        'forest or not',
        'Is about half of it forest?',
        'Is half of the forest near water?',
        'How much of the lakes is frozen?',
        'How many land cover classes are there?',
        'Is there more than 5 kg of forest?',
    ],
)
def test_what_is_not_understood_is_not_guessed(question):
    assert read_map_question(question, WORDS) is None


@pytest.mark.parametrize(
    ('question', 'why'),
    [
        ('How many lakes are larger than -5 hectares?', "'-5 ha' is no area"),
        ('How many lakes are larger than 10 kilograms?', "'10 kilograms' is no area"),
        ('How many lakes are larger than 10 metres?', "'10 m' is no area"),
        ('How many lakes are larger than 10?', 'is no area'),
        ('Is there water within 500 hectares of buildings?', "'500 ha' is no distance"),
        ('Is there water within -5 m of buildings?', 'is no distance'),
        ('Is there water within 5 of buildings?', 'is no distance'),
        ('How many lakes are larger than nan ha?', 'is no area'),
        ('How many lakes larger than 5 ha and smaller than 2 ha?', 'sizes that exist'),
        ('Is more than 130 % of it forest?', '"more than 130 %" is no share'),
        ('Is more than 100 % of it forest?', 'is no share'),
        ('Is -5 % of it forest?', 'is no share'),
        ('Is less than 0 % of it water?', 'is no share'),
        ('Is half of half of it forest?', "'half of half' is no share"),
        ('Are there more than -5 lakes?', 'is no number of areas'),
        ('Are there more than 2.5 lakes?', 'is no number of areas'),
        ('Are there at least nan lakes?', 'is no number of areas'),
        ('Are there fewer than 0 lakes?', 'is no number of areas'),
        ('Is there more than -3 km² of forest?', "'-3 km2' is no area"),
    ],
)
def test_sizes_that_cannot_be_are_refused(geores, tmp_path, question, why):
    with pytest.raises(QuestionError, match=re.escape(why)) as caught:
        understand(question, Known((), (), cover=WORDS))
    assert '\n' not in str(caught.value)
    answer = geores('ask', tmp_path / 'nothing.tif', question)
    assert (answer.code, len(answer.err.strip().splitlines())) == (2, 1)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(
        sorted({name for cover in COVERS for name in (*cover.names, *cover.kinds)} | set(CATEGORIES))
    )
)
def test_the_word_that_was_asked_for_is_no_suggestion(word):
    known = Known(('presence', 'count', 'comp'), CATEGORIES, cover=WORDS)
    found = understand(f'Who painted the {word}?', known)
    assert found.form is None
    listed = re.split(r'[,.] ', found.reason.partition('They can be about: ')[2].rstrip('.'))
    assert word not in listed


@pytest.mark.parametrize(
    ('question', 'nearest'),
    [
        ('How much water is in the north?', 'Where is the water?'),
        ('What are the three largest lakes?', 'What is the largest lake?'),
        ('Is about half of it forest?', 'How much of the area is forest?'),
        (
            'How far is the nearest lake from the nearest town?',
            'How far is the nearest lake from built-up land?',
        ),
        ('How many villages are there?', 'How many areas of built-up land are there?'),
        ('How many people live here?', 'What share of the scene is which cover?'),
    ],
)
def test_what_is_not_understood_names_the_nearest_that_is(question, nearest):
    found = understand(question, Known((), (), cover=WORDS))
    assert found.form is None
    assert f'Nearest that is understood: {nearest}' in found.reason


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(
    ('how', 'many', 'much', 'lakes', 'forest', 'town', 'in the north', 'more', 'than', 'largest', 'near', '5')
)).map(' '.join))  # fmt: skip
def test_what_is_nearest_can_always_be_asked(text):
    nearest = nearest_questions(text, WORDS)
    assert nearest
    assert all(isinstance(read_map_question(one, WORDS), MapQuestion) for one in nearest)

"""Forms of questions: plain JSON, equality in other words, and what they refuse."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.errors import UsageError
from geores.questions import (
    Area,
    Comparison,
    Count,
    LabelPresence,
    LandCover,
    Objects,
    Presence,
    QuestionError,
    Relation,
    RuralUrban,
    form_from_dict,
)
from geores.questions.forms import PLACES, SHAPES, SIZES
from geores.questions.vocabulary import CATEGORIES, MASS, PHRASES

# Nouns that no list holds, with a plural that rules find: "dop", "kibat field".
free_nouns = st.from_regex(
    r'[bdfgklmprt][aeiou][bdgklmnpt]([aeiou][bdgkmnpt])?( field| plant)?', fullmatch=True
)
categories = st.sampled_from((*CATEGORIES, *MASS, *PHRASES)) | free_nouns.filter(
    lambda noun: noun.split()[0] not in {'not', 'by', 'do'}
)
plain_objects = st.builds(
    Objects, categories, st.none() | st.sampled_from(SIZES), st.none() | st.sampled_from(SHAPES)
)
relations = st.builds(Relation, st.sampled_from(PLACES), plain_objects)
objects = st.builds(
    Objects,
    categories,
    st.none() | st.sampled_from(SIZES),
    st.none() | st.sampled_from(SHAPES),
    st.none() | relations,
)
classes = st.sampled_from(
    (
        'forests',
        'water bodies',
        'transitional woodland/shrub',
        'bare soil',
        'beaches, dunes, sands',
        'pastures',
    )
)
forms = st.one_of(
    st.builds(Presence, objects),
    st.builds(Count, objects),
    st.builds(Area, objects),
    st.builds(Comparison, st.sampled_from(('less', 'more', 'equal')), objects, objects),
    st.just(RuralUrban()),
    st.builds(
        LabelPresence,
        st.lists(st.lists(classes, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        LandCover, st.sampled_from(('', 'L1', 'L2')), st.lists(classes, max_size=2, unique=True).map(tuple)
    ),
)
ROAD, LAKE = Objects('road'), Objects('lake')


@given(form=forms)
def test_a_form_survives_json(form):
    again = form_from_dict(json.loads(json.dumps(form.to_dict())))
    assert again == form
    assert hash(again) == hash(form)
    assert again.key == form.key


@given(several=st.lists(forms, max_size=6))
@settings(max_examples=30)
def test_forms_are_ordered_the_same_whatever_the_order_they_come_in(several):
    backwards = several[::-1]
    assert sorted(several) == sorted(backwards)


def test_types_are_the_official_ones():
    made = (Presence(ROAD), Count(ROAD), Area(ROAD), Comparison('less', ROAD, LAKE), RuralUrban())
    assert [form.type for form in made] == ['presence', 'count', 'area', 'comp', 'rural_urban']
    assert LabelPresence((('forests',),)).type == 'presence'
    assert LandCover().type == 'LC'


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (Comparison('less', ROAD, LAKE), Comparison('more', LAKE, ROAD)),
        (Comparison('equal', ROAD, LAKE), Comparison('equal', LAKE, ROAD)),
        (LabelPresence((('a',), ('b', 'c'))), LabelPresence((('c', 'b'), ('a',)))),
        (LandCover('L1', ('b', 'c')), LandCover('L1', ('c', 'b'))),
    ],
)
def test_the_same_question_in_other_words_has_one_key(one, other):
    if isinstance(one, LabelPresence):
        one = LabelPresence((('ponds',), ('fields', 'roads')))
        other = LabelPresence((('roads', 'fields'), ('ponds',)))
    assert one.key == other.key
    assert one != other


def test_different_questions_have_different_keys():
    made = [
        Presence(ROAD),
        Count(ROAD),
        Presence(LAKE),
        Presence(Objects('road', 'small')),
        Presence(Objects('road', None, 'square')),
        Presence(Objects('road', None, None, Relation('top', LAKE))),
        Presence(Objects('road', None, None, Relation('next', LAKE))),
        Comparison('less', ROAD, LAKE),
        Comparison('less', LAKE, ROAD),
        Comparison('equal', ROAD, LAKE),
    ]
    assert len({form.key for form in made}) == len(made)


@pytest.mark.parametrize(
    'category',
    [
        '',
        ' road',
        'road ',
        'two  spaces',
        'Road',
        'small road',
        'the road',
        'road present',
        'a',
        3,
        None,
        ['road'],
        'roads and lakes',
        'road\n',
        '?',
        '12',
    ],
)
def test_a_category_that_could_not_be_read_back_is_refused(category):
    with pytest.raises(QuestionError):
        Objects(category)


def test_parts_of_a_wrong_kind_are_refused():
    with pytest.raises(QuestionError, match='size must be one of small, medium, large'):
        Objects('road', 'huge')
    with pytest.raises(QuestionError, match='place'):
        Relation('above', LAKE)
    with pytest.raises(QuestionError, match='relation of their own'):
        Relation('top', Objects('road', relation=Relation('top', LAKE)))
    with pytest.raises(QuestionError):
        Presence('road')
    with pytest.raises(QuestionError, match='join classes'):
        LabelPresence((('sea and ocean',),))
    with pytest.raises(QuestionError):
        LandCover('level 1')
    assert issubclass(QuestionError, UsageError)


@pytest.mark.parametrize(
    'record',
    [
        {},
        {'form': 'weather'},
        {'form': 'presence'},
        {'form': 'presence', 'objects': 'road'},
        {'form': ['x']},
        {'form': 'comp', 'choice': 'most', 'first': {'category': 'road'}, 'second': {'category': 'lake'}},
        None,
        'road',
    ],
)
def test_what_is_no_form_is_refused(record):
    with pytest.raises(QuestionError):
        form_from_dict(record)

"""What is made of questions, those that nobody can answer among them."""

import pytest

from geores.asking.understand import Known, clean_question, known_categories, known_types, understand
from geores.questions.forms import Area, Count, Objects, Presence, QuestionError
from geores.vqa.network import Tokenizer

THINGS = ('building', 'forest', 'road', 'water area')
KNOWN = Known(('presence', 'count', 'area', 'comp', 'rural_urban'), THINGS, ('water area', 'forest'))


@pytest.mark.parametrize(
    ('text', 'form'),
    [
        ('Is there a water area?', Presence(Objects('water area'))),
        ('  how MANY  forests are there', Count(Objects('forest'))),
        ('What is the area covered by forests?', Area(Objects('forest'))),
    ],
)
def test_questions_of_the_grammar_are_taken_as_they_stand(text, form):
    found = understand(text, KNOWN)
    assert (found.form, found.understood_as, found.reason) == (form, None, None)


@pytest.mark.parametrize(
    ('text', 'form'),
    [
        ('any rivers here?', Presence(Objects('water area'))),
        ('how much of it is forest', Area(Objects('forest'))),
        ('Is there a lake?', Presence(Objects('water area'))),
    ],
)
def test_others_are_taken_for_the_nearest_one_which_is_said(text, form):
    found = understand(text, KNOWN)
    assert found.form == form
    assert found.understood_as


@pytest.mark.parametrize(
    'text',
    [
        'Gibt es hier Wasser?',
        'Y a-t-il une forêt ?',
        '这里有水吗',
        'Is there an airport?',
        'Is there a unicorn?',
        'Who owns this forest?',
        'Is there a road next to a unicorn?',
        'Will it rain tomorrow?',
    ],
)
def test_what_lies_outside_is_not_guessed(text):
    found = understand(text, KNOWN)
    assert found.form is None
    assert found.reason.startswith("I don't know")
    assert 'water area' in found.reason


@pytest.mark.parametrize(
    ('text', 'samples'),
    [
        ('Where is the water?', ('Is there a water area?', 'Are there more water areas than buildings?')),
        (
            'How far is the forest from the road?',
            ('Is there a forest?', 'Are there more forests than roads?'),
        ),
        ('asdf qwer', ('Is there a building?', 'Are there more buildings than forests?')),
    ],
)
def test_samples_are_about_what_was_asked_for(text, samples):
    found = understand(text, Known(('presence', 'count', 'comp'), THINGS))
    assert found.form is None
    assert all(sample in found.reason for sample in samples)


def test_samples_are_questions_that_are_answered():
    known = Known(('presence', 'count', 'comp'), THINGS, labels=('airplane',), blind={'comp': 'blind'})
    found = understand('How many airplanes are there?', known)
    assert found.form is None
    assert found.reason.startswith(
        "I don't know: of 'airplane' it is told whether there is one, and no more. "
    )
    samples = found.reason.partition('such as: ')[2].partition(' They')[0]
    assert samples == 'Is there an airplane? How many buildings are there?'


def test_areas_of_other_things_cannot_be_measured():
    found = understand('What is the area covered by roads?', KNOWN)
    assert found.form is None
    assert found.reason == 'cannot measure that area: areas can be measured of: forest, water area'
    assert found.meant == 'area'
    found = understand('What is the area covered by roads?', Known(('presence',), THINGS))
    assert found.reason == 'cannot measure that area: no bundle makes a class map of this scene'


@pytest.mark.parametrize(
    ('text', 'why'), [('', 'empty'), (' \n?', 'empty'), ('word ' * 10_000, '50,000 char')]
)
def test_empty_and_endless_questions_are_refused(text, why):
    with pytest.raises(QuestionError, match=why):
        understand(text, KNOWN)


def test_a_question_is_a_text():
    with pytest.raises(QuestionError, match='int'):
        clean_question(7)


def test_types_follow_from_the_answers():
    assert known_types(('<unknown>', 'yes', 'no')) == ('presence',)
    assert known_types(('yes', 'no', '0', 'between 0 and 10')) == ('presence', 'count', 'comp')
    assert known_types(('rural', 'urban', '0m2')) == ('area', 'rural_urban')


def test_categories_follow_from_the_words_of_training():
    words = Tokenizer.from_questions(['Is there a water area?', 'How many residential buildings are there?'])
    found = known_categories(words.definition)
    assert 'water area' in found
    assert 'water' not in found  # the area stands for both
    assert 'residential building' not in found  # never in the singular
    words = Tokenizer.from_questions(['Is there a residential building?', 'Is a building present?'])
    assert set(known_categories(words.definition)) == {'building', 'residential building'}

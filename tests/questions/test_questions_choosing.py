"""Which question is asked of which tile: the answers of each come equally often."""

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.question_sets.make import make_questions
from geores.question_sets.options import MakeOptions
from geores.questions.choosing import choose_questions
from geores.questions.facts import ANSWERS, QuestionBalance, answer_class
from geores.questions.forms import Area, Comparison, Objects, Presence, RuralUrban
from geores.questions.tile_questions import TileSurvey, Vocabulary, draw_pool

from ..osm_fixtures import lines, objects, write_scene


def draws(seed=0):
    return Random(seed)  # noqa: S311


VOCABULARY = Vocabulary(
    ('building', 'forest', 'road', 'wood'), frozenset({'road'}), frozenset({('wood', 'forest')})
)
POOL = draw_pool(VOCABULARY, [('building', 'road'), (), ('forest', 'wood', 'road')], 5, draws())


def surveys(tiles, seed, empty=0.5):
    """What random tiles hold; the first is all empty."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(tiles):
        size = len(POOL.objects)
        seen = rng.integers(1, 200, size) * (rng.random(size) >= (1 if number == 0 else empty))
        counted = np.minimum(seen, rng.integers(0, 300, size))
        found.append(TileSurvey(counted, seen, (seen > 0) * rng.integers(1, 5, size), rng.random(size) < 0.9))
    return found


def answer(form, survey):
    """The class of a tile's answer; None where there is none to give."""
    place = {one: index for index, one in enumerate(POOL.objects)}
    if isinstance(form, RuralUrban):
        return 'urban' if survey.counted[place[Objects('building')]] > 76.3 else 'rural'
    if isinstance(form, Comparison):
        first, second = (int(survey.counted[place[one]]) for one in form.parts())
        holds = {'less': first < second, 'more': first > second, 'equal': first == second}[form.choice]
        return ('yes' if holds else 'no') if first or second else None
    index = place[form.objects]
    if not survey.sensible[index]:
        return None
    if isinstance(form, Presence):
        hidden = survey.seen[index] and not survey.counted[index]
        return None if hidden else 'yes' if survey.counted[index] else 'no'
    if isinstance(form, Area):
        return ANSWERS['area'][survey.areas[index]]
    return answer_class('count', str(survey.counted[index]))


@settings(deadline=None, max_examples=25)
@given(
    tiles=st.integers(1, 25),
    seed=st.integers(0, 9),
    count=st.integers(1, 40),
    level=st.sampled_from([0.3, 0.9]),
)
def test_answers_come_equally_often_in_each_question_and_in_each_tile(tiles, seed, count, level):
    found = surveys(tiles, seed, level)
    balance = QuestionBalance(place=count > 1)
    asked = choose_questions(POOL, found, [1.0] * tiles, count, balance, draws(seed))
    of_form = defaultdict(Counter)
    for survey, questions in zip(found, asked, strict=True):
        assert len(questions) <= count
        assert len({one.form.key for one in questions}) == len(questions)
        leaning = Counter()
        for one in questions:
            given_answer = answer(one.form, survey)
            assert given_answer is not None
            of_form[one.form][given_answer] += 1
            leaning[one.form.type] += 1 if given_answer not in ('no', '0', 'rural') else -1
        assert all(abs(difference) <= 2 for difference in leaning.values())
    for answers in of_form.values():
        assert 2 * max(answers.values()) <= answers.total() + 1


def test_one_seed_gives_one_choice():
    first, again, other = (
        choose_questions(POOL, surveys(9, 1), [1.0] * 9, 20, QuestionBalance(), draws(n)) for n in (4, 4, 5)
    )
    assert first == again != other


def test_a_tile_by_itself_is_asked_as_many_questions_as_have_answers_of_both_kinds():
    (asked,) = choose_questions(POOL, surveys(2, 3)[1:], [1.0], 20, QuestionBalance(), draws())
    assert Counter(one.form.type for one in asked) == dict.fromkeys(('presence', 'count', 'comp', 'area'), 5)


def test_types_have_their_shares_and_what_one_lacks_goes_to_the_others():
    found = surveys(20, 1)[1:]
    asked = choose_questions(
        POOL, found, [1.0] * 19, 12, QuestionBalance({'presence': 2.0, 'count': 1.0}), draws()
    )
    types = Counter(one.form.type for one in asked for one in one)
    assert types['presence'] == pytest.approx(2 * types['count'], abs=4)
    for survey in found:
        survey.areas[:] = 0  # all areas are 0: none can be balanced
    asked = choose_questions(
        POOL, found, [1.0] * 19, 12, QuestionBalance({'area': 1.0, 'count': 1.0}), draws()
    )
    types = Counter(one.form.type for one in asked for one in one)
    assert types['count'] > 19 * 9


def test_lines_have_no_area_and_kinds_are_not_compared_with_what_they_are_a_kind_of():
    asked = choose_questions(POOL, surveys(30, 2), [1.0] * 30, 40, QuestionBalance(), draws())
    forms = {one.form for one in asked for one in one}
    assert not [form for form in forms if isinstance(form, Area) and form.objects.category == 'road']
    pairs = [{one.category for one in form.parts()} for form in forms if isinstance(form, Comparison)]
    assert pairs
    assert {'wood', 'forest'} not in pairs


def test_a_pool_asks_of_every_category_size_and_shape_and_of_what_lies_together():
    plain = {one for one in POOL.objects if one.relation is None}
    assert {one.category for one in plain} == set(VOCABULARY.categories)
    assert len(plain) == 3 * 7 + 1
    for one in POOL.objects:
        if one.relation is not None:
            pair = {one.category, one.relation.other.category}
            assert pair <= {'building', 'road'} or pair <= {'forest', 'wood', 'road'}
    assert draw_pool(VOCABULARY, [()], 5, draws()).comparisons == ()
    assert draw_pool(Vocabulary(('road',), frozenset({'road'})), [('road',)], 5, draws()).comparisons == ()


def test_a_survey_is_read_back():
    survey = surveys(2, 0)[1]
    again = TileSurvey.from_dict(survey.to_dict())
    for one, other in zip(asdict(survey).values(), asdict(again).values(), strict=True):
        assert (one == other).all()
        assert one.dtype == other.dtype


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scene')
    objects(300).to_file(folder / 'osm.gpkg')
    return str(write_scene(folder / 'scene.tif')), [str(folder / 'osm.gpkg')]


def commonest(dataset, key):
    """Accuracy of the commonest answer of each question."""
    answers = defaultdict(Counter)
    for line in lines(dataset):
        answers[key(line)][answer_class(line['type'], line['answer'])] += 1
    return sum(max(one.values()) for one in answers.values()) / sum(one.total() for one in answers.values())


def test_the_words_of_a_question_tell_little_of_the_answer(scene, tmp_path):
    for level in ('questions', 'answers'):
        options = MakeOptions(tile=32, questions=20, fractions=(1.0,), balance=level)
        make_questions([scene[0]], scene[1], tmp_path / level, options)
    assert commonest(tmp_path / 'questions', lambda line: line['question']) < 0.56
    assert commonest(tmp_path / 'questions', lambda line: str(line['form'])) < 0.53
    assert commonest(tmp_path / 'answers', lambda line: str(line['form'])) > 0.7
    assert len(lines(tmp_path / 'questions')) > 0.9 * len(lines(tmp_path / 'answers'))


def test_parts_are_balanced_by_themselves(scene, tmp_path):
    options = MakeOptions(tile=32, questions=20, block_size=640.0, buffer=0.0)
    make_questions([scene[0]], scene[1], tmp_path / 'out', options)
    tiles = json.loads((tmp_path / 'out' / 'manifest.json').read_text())['tiles']
    parts = {tile['id']: tile['part'] for tile in tiles}
    assert set(parts.values()) == {'train', 'val', 'test'}
    answers = defaultdict(Counter)
    for line in lines(tmp_path / 'out'):
        key = (parts[line['img_id']], line['type'], str(line['form']))
        answers[key][answer_class(line['type'], line['answer'])] += 1
    assert all(2 * max(one.values()) <= one.total() + 1 for one in answers.values())

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, mean_absolute_error, median_absolute_error

from geores.errors import UsageError
from geores.metrics.vqa import (
    majority_answers,
    majority_baseline,
    numeric_error,
    paired_difference,
    vqa_scores,
)
from geores.vqa.answers import UNKNOWN, AnswerEncoding

BOUNDS = AnswerEncoding('official', 'hr').bounds
texts = st.sampled_from(['yes', 'no', '0', '3'])
asked = st.lists(st.tuples(texts, texts, st.sampled_from(['count', 'presence', 'comp'])), min_size=1)


@given(asked)
def test_accuracy_is_that_of_scikit_learn_by_type_and_in_all(rows):
    predictions, answers, types = map(list, zip(*rows, strict=True))
    scores = vqa_scores(predictions, answers, types)
    assert scores.overall == pytest.approx(accuracy_score(answers, predictions))
    for kind, value in scores.by_type.items():
        mine = [place for place, one in enumerate(types) if one == kind]
        of_type = accuracy_score([answers[one] for one in mine], [predictions[one] for one in mine])
        assert value == pytest.approx(of_type)
        assert scores.counts[kind] == len(mine)
    assert scores.average == pytest.approx(np.mean(list(scores.by_type.values())))
    assert sum(scores.counts.values()) == len(rows)


def test_an_answer_that_training_never_gave_stays_in_and_is_wrong():
    scores = vqa_scores([UNKNOWN, '3'], ['17', '3'], ['count', 'count'])
    assert scores.overall == 0.5


@given(st.lists(st.tuples(st.integers(0, 10**5), st.integers(0, 10**5)), min_size=1))
def test_error_of_exact_numbers_is_that_of_scikit_learn(pairs):
    said, true = (list(side) for side in zip(*pairs, strict=True))
    error = numeric_error(list(map(str, said)), list(map(str, true)), BOUNDS)
    assert error.mean == pytest.approx(mean_absolute_error(true, said))
    assert error.median == pytest.approx(median_absolute_error(true, said))
    assert error.log == pytest.approx(
        mean_absolute_error(np.log10(np.add(true, 1)), np.log10(np.add(said, 1)))
    )
    assert error.inside == pytest.approx(accuracy_score(true, said))


def test_a_range_is_off_by_the_distance_to_its_nearer_end():
    said = [
        'between 10 and 100',
        'between 10 and 100',
        'between 10 and 100',
        'more than 1000',
        '0',
        'more than 1000',
    ]
    true = ['50', '5', '250', '99999', '4', '3']
    error = numeric_error(said, true, BOUNDS)
    distances = [0, 11 - 5, 250 - 100, 0, 4, 1001 - 3]
    assert error.mean == pytest.approx(np.mean(distances))
    assert error.inside == pytest.approx(2 / 6)
    assert error.log == pytest.approx(
        np.mean([0, math.log10(12 / 6), math.log10(251 / 101), 0, math.log10(5), math.log10(1002 / 4)])
    )
    assert numeric_error(['0m2'], ['812m2'], BOUNDS).mean == 812


def test_answers_that_are_no_numbers_are_counted_apart():
    error = numeric_error(['yes', '4', '2'], ['3', '3', 'no'], BOUNDS)
    assert (error.asked, error.answered, error.mean) == (2, 1, 1)
    nothing = numeric_error(['yes'], ['3'], BOUNDS)
    assert (nothing.asked, nothing.answered) == (1, 0)
    assert math.isnan(nothing.mean)
    assert numeric_error(['yes'], ['no'], BOUNDS).asked == 0


@given(st.lists(st.tuples(texts, st.sampled_from(['count', 'presence'])), min_size=1))
def test_majority_by_type_is_scikit_learns_most_frequent(rows):
    answers, types = map(list, zip(*rows, strict=True))
    said = majority_baseline(answers, types, types)
    for kind in set(types):
        mine = [answer for answer, one in rows if one == kind]
        dummy = DummyClassifier(strategy='most_frequent').fit([[0]] * len(mine), mine)
        assert said[types.index(kind)] == dummy.predict([[0]])[0]  # it takes the first by text, too


def test_a_type_that_training_lacks_gets_the_most_frequent_answer_of_all():
    assert majority_baseline(['yes', 'yes', '0'], ['comp', 'comp', 'count'], ['count', 'area']) == [
        '0',
        'yes',
    ]
    assert majority_answers(['b', 'a'], ['x', 'x']) == {'x': 'a'}


def test_paired_difference_counts_questions_and_draws_images():
    images = np.repeat(np.arange(30), 10)
    generator = np.random.default_rng(1)
    better = generator.random(300) < 0.9
    worse = generator.random(300) < 0.6
    gain = paired_difference(better, worse, images.tolist())
    assert gain.mean == pytest.approx(better.mean() - worse.mean())
    assert 0 < gain.low < gain.mean < gain.high
    assert paired_difference(better, better, images.tolist()) == (0, 0, 0)
    assert paired_difference(better, worse, images.tolist()) == gain
    # Questions of one image that go the same way say as little as one question.
    same = np.repeat(generator.random(30) < 0.6, 10)
    clustered = paired_difference(same, np.zeros(300, bool), images.tolist())
    single = paired_difference(same, np.zeros(300, bool), list(range(300)))
    assert clustered.high - clustered.low > 2 * (single.high - single.low)


def test_lengths_and_options_are_checked():
    for call in (
        lambda: vqa_scores([], [], []),
        lambda: vqa_scores(['yes'], ['yes', 'no'], ['comp']),
        lambda: numeric_error(['1'], [], BOUNDS),
        lambda: majority_baseline([], [], ['count']),
        lambda: majority_answers(['a'], []),
        lambda: paired_difference([True], [True], ['a', 'b']),
        lambda: paired_difference([True], [True], ['a'], level=1),
        lambda: paired_difference([True], [True], ['a'], draws=0),
    ):
        with pytest.raises(UsageError):
            call()

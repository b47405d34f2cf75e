import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geores.errors import DatasetError, UsageError
from geores.vqa.answers import UNKNOWN, AnswerEncoding, AnswerVocabulary

NAMES = {
    'official': ['0', 'between 0 and 10', 'between 10 and 100', 'between 100 and 1000', 'more than 1000'],
    'paper': ['0', 'between 1 and 10', 'between 11 and 100', 'between 101 and 1000', 'more than 1000'],
}
EDGES = [0, 1, 10, 11, 100, 101, 1000, 1001, 16050]
BINS = [0, 1, 1, 2, 2, 3, 3, 4, 4]
styles = st.sampled_from(['official', 'paper'])
variants = st.sampled_from(['lr', 'hr'])


@pytest.mark.parametrize('style', NAMES)
def test_counts_at_low_resolution_and_areas_have_the_bins_of_the_release(style):
    low, high = AnswerEncoding(style, 'lr'), AnswerEncoding(style, 'hr')
    assert [low.encode('count', str(number)) for number in EDGES] == [NAMES[style][one] for one in BINS]
    areas = [high.encode('area', f'{number}m2') for number in EDGES]
    assert areas == [low.encode('area', f'{number}m2') for number in EDGES]
    assert [text.replace('m2', '') for text in areas] == [NAMES[style][one] for one in BINS]
    assert areas[:2] == ['0m2', 'between 0m2 and 10m2' if style == 'official' else 'between 1m2 and 10m2']
    assert low.name == f'{style}-lr'


def test_counts_at_high_resolution_are_exact_and_words_stay():
    encoding = AnswerEncoding('official', 'hr')
    assert [encoding.encode('count', text) for text in ('0', ' 89', '007')] == ['0', '89', '7']
    assert encoding.encode('presence', 'yes') == 'yes'
    assert encoding.encode('rural_urban', 'urban') == 'urban'
    assert (
        AnswerEncoding('paper', 'xben').encode('LC', 'pastures and water bodies')
        == 'pastures and water bodies'
    )


@given(styles, variants, st.sampled_from([('count', ''), ('area', 'm2')]), st.integers(0, 10**7))
def test_bounds_of_a_class_hold_the_number_and_encode_to_the_same_class(style, variant, kind, number):
    encoding = AnswerEncoding(style, variant)
    question_type, unit = kind
    text = encoding.encode(question_type, f'{number}{unit}')
    low, high = encoding.bounds(text)
    assert low <= number <= high
    for end in (low, high if np.isfinite(high) else low + 5):
        assert encoding.encode(question_type, f'{int(end)}{unit}') == text
    assert encoding.encode(question_type, text) == text
    # The bins are the same whatever they are called.
    other = AnswerEncoding('paper' if style == 'official' else 'official', variant)
    assert other.bounds(other.encode(question_type, text)) == (low, high)


def test_numpy_bins_the_same_numbers_alike():
    encoding = AnswerEncoding('official', 'lr')
    numbers = range(1200)
    reference = np.digitize(numbers, [0, 10, 100, 1000], right=True)
    assert [encoding.encode('count', str(one)) for one in numbers] == [
        NAMES['official'][one] for one in reference
    ]


def test_what_is_no_number_has_no_bounds():
    encoding = AnswerEncoding()
    assert [encoding.bounds(text) for text in ('yes', '', UNKNOWN, '-3', '1.5', 'between 3 and 5')] == [
        None
    ] * 6


@pytest.mark.parametrize(
    ('kind', 'answer'),
    [
        ('count', 'many'),
        ('count', '-1'),
        ('count', '3.5'),
        ('count', '12m2'),
        ('count', '9' * 16),
        ('count', 'more than 1000m2'),
        ('area', '12'),
        ('area', ''),
        ('presence', 'maybe'),
        ('presence', 'Yes'),
        ('comp', '3'),
        ('rural_urban', 'yes'),
        ('LC', '  '),
        ('LC', ''),
    ],
)
def test_an_answer_that_a_question_cannot_have_is_refused(kind, answer):
    with pytest.raises(DatasetError, match=kind):
        AnswerEncoding().encode(kind, answer)


def test_a_range_is_no_exact_count():
    with pytest.raises(DatasetError, match='exact'):
        AnswerEncoding('official', 'hr').encode('count', 'between 0 and 10')


def test_an_encoding_is_plain_json_and_refuses_what_is_none():
    encoding = AnswerEncoding('paper', 'hr')
    assert AnswerEncoding.from_dict(encoding.to_dict()) == encoding
    for fields in (
        {},
        {'style': 'paper'},
        {'style': 'ours', 'variant': 'lr'},
        {'style': 'paper', 'variant': []},
        3,
    ):
        with pytest.raises(UsageError):
            AnswerEncoding.from_dict(fields)


def test_a_vocabulary_is_the_training_answers_by_frequency_whatever_their_order():
    answers = ['no', 'yes', '0', 'yes', 'no', 'yes']
    vocabulary = AnswerVocabulary.from_training(answers)
    assert vocabulary.answers == (UNKNOWN, 'yes', 'no', '0')
    assert AnswerVocabulary.from_training(reversed(answers)) == vocabulary
    assert AnswerVocabulary.from_training(['b', 'a']).answers == (UNKNOWN, 'a', 'b')
    assert AnswerVocabulary.from_training(answers, size=2).answers == (UNKNOWN, 'yes', 'no')
    assert [vocabulary[one] for one in vocabulary.indices(['0', 'yes'])] == ['0', 'yes']


def test_unknown_answers_are_the_first_class_and_are_counted():
    vocabulary = AnswerVocabulary.from_training(['yes', 'no'])
    held = ['yes', '17', 'no', '17', '3']
    assert vocabulary.indices(held) == [vocabulary.index('yes'), 0, vocabulary.index('no'), 0, 0]
    assert vocabulary.unknown(held) == {'17': 2, '3': 1}
    assert 'yes' in vocabulary
    assert '17' not in vocabulary
    assert UNKNOWN not in vocabulary


def test_a_vocabulary_refuses_what_is_none():
    for answers in ([], ['yes'], [UNKNOWN, 'yes', 'yes']):
        with pytest.raises(UsageError):
            AnswerVocabulary(answers)
    with pytest.raises(UsageError, match='one answer'):
        AnswerVocabulary.from_training([])
    with pytest.raises(UsageError, match='one answer'):
        AnswerVocabulary.from_training(['yes'], size=0)

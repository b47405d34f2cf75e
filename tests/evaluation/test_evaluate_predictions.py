"""Answers of any system on questions: `geores evaluate DATA --predictions FILE`."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from geores.datasets import RSVQA
from geores.errors import UsageError
from geores.evaluation import blind
from geores.evaluation.answer_report import conventions
from geores.evaluation.prediction_file import read_answer
from geores.evaluation.predictions import MISSING, UNREADABLE, evaluate_predictions, hash_questions
from geores.questions.grammar import parse
from geores.vqa.answers import AnswerEncoding

from ..fixtures import hold_files
from ..rsvqa_fixtures import QUESTIONS, write_json, write_plain, write_split

pytestmark = pytest.mark.usefixtures('one_thread')

OFFICIAL = Path(__file__).resolve().parents[3] / 'data' / 'rsvqa-lr-official'
needs_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f'{OFFICIAL} is absent')


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    """The question-only model learns twenty questions anew in each fold."""
    monkeypatch.setattr(blind, 'EPOCHS', 1)
    monkeypatch.setattr(blind, 'STEPS', 1)


@pytest.fixture
def asked(tmp_path):
    """Twenty questions about five images."""
    write_plain(tmp_path / 'lr')
    return tmp_path / 'lr'


@pytest.fixture
def say(tmp_path):
    """Write a file of answers: objects, or pairs of id and answer."""

    def write(*records, name='system.jsonl'):
        whole = [
            one if isinstance(one, dict) else {'question_id': one[0], 'answer': one[1]} for one in records
        ]
        path = tmp_path / name
        path.write_text('\n'.join(map(json.dumps, whole)) + '\n')
        return path

    return write


def truth(folder):
    """Raw answers by the id of the question."""
    return {int(one.id): one.answer for one in RSVQA(folder).questions}


# --- answers in free text


@pytest.mark.parametrize(
    ('kind', 'text', 'read', 'by_first_word'),
    [
        ('presence', 'Yes.', 'yes', False),
        ('presence', 'Yes, there is a road', 'yes', True),
        ('presence', 'There is one', None, False),
        ('presence', '', None, False),
        ('rural_urban', 'Urban area', 'urban', True),
        ('count', '449', 'between 100 and 1000', False),
        ('count', '1,234', 'more than 1000', False),
        ('count', '14.0', 'between 10 and 100', False),
        ('count', '14 buildings', 'between 10 and 100', True),
        ('count', 'between 11 and 100', 'between 10 and 100', False),
        ('count', '10-100', None, False),
        ('count', '10 to 100', None, False),
        ('count', '14.5', None, False),
        ('count', 'yes', None, False),
        ('area', '10632 m²', 'more than 1000m2', False),
        ('area', '0', '0m2', False),
    ],
)
def test_reading_an_answer(kind, text, read, by_first_word):
    assert read_answer(AnswerEncoding('official', 'lr'), kind, text) == (read, by_first_word)


@given(
    st.integers(0, 10**6),
    st.sampled_from(['lr', 'hr']),
    st.sampled_from(['count', 'area']),
    st.sampled_from(['{}', ' {} ', '{}.', '{}!']),
)
def test_numbers_and_their_classes_are_read_alike(number, variant, kind, frame):
    encoding = AnswerEncoding('official', variant)
    raw = f'{number}{"m2" if kind == "area" else ""}'
    known = encoding.encode(kind, raw)
    assert read_answer(encoding, kind, frame.format(raw)) == (known, False)
    assert read_answer(encoding, kind, frame.format(known.upper())) == (known, False)
    assert read_answer(encoding, kind, f'{number:,}') == (known, False)


# --- figures


def test_figures_are_those_of_the_answers(asked, say):
    given = truth(asked) | {0: 'urban', 1: 'No'}  # both are wrong
    found = evaluate_predictions(say(*given.items()), asked, bootstrap=50)
    rows = found.predictions
    assert len(found) == len(rows) == 5 * len(QUESTIONS)
    assert found.metrics['accuracy'] == pytest.approx(accuracy_score(rows['answer'], rows['predicted']))
    assert found.metrics['accuracy'] == 18 / 20
    assert found.metrics['accuracy_mean'] == pytest.approx((0.8 + 0.8 + 1 + 1) / 4)
    assert found.metrics['accuracy_without_count'] == found.metrics['accuracy_closed'] == 13 / 15
    assert found.metrics['accuracy_mean_closed'] == pytest.approx((0.8 + 0.8 + 1) / 3)
    for column in ('majority_of_type', 'majority', 'question_only'):
        right = accuracy_score(rows['answer'], rows[column])
        assert found.metrics[f'{column}_accuracy'] == pytest.approx(right)
    low, high = found.intervals['accuracy']
    assert low < 0.9 < high
    assert found.intervals['accuracy_count'] == (1, 1)
    assert not found.warnings


def test_the_majority_learns_from_other_images_alone(tmp_path, say):
    """Each of two images has an answer of its own, which the other cannot teach."""
    parts = write_plain(tmp_path / 'two', columns=(0, 2))
    parts['answers'][1]['answer'] = 'no'
    write_json(tmp_path / 'two', '', parts)
    found = evaluate_predictions(say((1, 'no')), tmp_path / 'two', bootstrap=0)
    assert found.metrics['majority_of_type_accuracy_presence'] == 0
    assert found.metrics['majority_accuracy_comp'] == 1
    assert 'other images' in found.notes[-1]


def test_parts_of_the_files(tmp_path, say):
    """The baselines learn from the training part; images need not be there."""
    write_split(tmp_path / 'official')
    for image in (tmp_path / 'official/Images_LR').iterdir():
        image.unlink()
    ids = [int(one.id) for one in RSVQA(tmp_path / 'official', split='val', reader=str).questions]
    found = evaluate_predictions(
        say(*((one, 'no') for one in ids)), tmp_path / 'official', split='val', bootstrap=0
    )
    assert len(found) == len(ids) == 8
    assert '12 questions on 3 images of the training part' in found.notes[-1]
    assert found.provenance['questions_per_type'] == {kind: 2 for kind, *_ in QUESTIONS}


def test_a_bundle_s_own_predictions_get_its_figures(asked, tmp_path):
    """The table that `geores evaluate` writes is a file of predictions."""
    dataset = RSVQA(asked, reader=str)
    frame = pd.DataFrame({'id': dataset.ids, 'answer': dataset.answers, 'predicted': 'no'})
    frame.to_parquet(tmp_path / 'bundle_predictions.parquet')
    found = evaluate_predictions(tmp_path / 'bundle_predictions.parquet', asked, bootstrap=0)
    assert (found.predictions['predicted'] == 'no').sum() == 10  # elsewhere no question can have that answer
    assert found.metrics['accuracy_comp'] == 1


def test_missing_and_unreadable_answers_are_wrong_and_said(asked, say):
    given = {one: answer for one, answer in truth(asked).items() if one > 3}
    found = evaluate_predictions(say(*(given | {4: 'neither'}).items(), (999, 'yes')), asked, bootstrap=20)
    assert found.predictions['predicted'].value_counts()[[MISSING, UNREADABLE]].tolist() == [4, 1]
    assert found.metrics['accuracy'] == 15 / 20
    assert found.metrics['answered'] == 16 / 20
    assert any('4 of 20 questions have no answer' in one for one in found.warnings)
    assert any("'neither'" in one for one in found.warnings)
    assert any('1 answers are left out' in one and '999' in one for one in found.notes)


def test_paraphrases(asked, say):
    records = [{'question_id': one, 'prediction': text} for one, text in truth(asked).items()]
    other = {'question': 'Can a road be seen?', 'paraphrase': 1}
    records += [
        {'question_id': 1, 'prediction': 'yes'} | other,
        {'question_id': 5, 'prediction': 'no'} | other,
    ]
    found = evaluate_predictions(say(*records), asked, bootstrap=50)
    assert found.metrics['accuracy'] == 1
    assert found.metrics['paraphrase_agreement'] == found.metrics['paraphrase_accuracy'] == 0.5
    assert found.intervals['paraphrase_agreement'] == (0, 1)
    assert found.rewordings['wordings'].tolist() == [2, 2]
    assert found.per_type.loc['presence', 'paraphrase_agreement'] == 0.5


def test_conventions_that_differ():
    assert conventions(['comp', 'presence']) == {'': ['comp', 'presence']}
    found = conventions(['area', 'comp', 'count'])
    assert found['without_count'] == ['area', 'comp']
    assert found['closed'] == ['comp']


def test_the_hash_is_of_the_questions_alone(asked, tmp_path, say):
    first = evaluate_predictions(say((0, 'rural')), asked, bootstrap=0)
    asked.rename(tmp_path / 'elsewhere')
    second = evaluate_predictions(say((1, 'yes')), tmp_path / 'elsewhere', bootstrap=0)
    assert first.provenance['split_sha256'] == second.provenance['split_sha256']
    rows = first.predictions
    assert hash_questions(rows.sample(frac=1, random_state=0)) == first.provenance['split_sha256']
    assert hash_questions(rows.assign(raw_answer='no')) != first.provenance['split_sha256']


# --- questions for a system


def test_listed_questions_come_back_as_predictions(geores, asked, tmp_path):
    """Every line with an answer is a prediction; other wordings ask the same."""
    file = tmp_path / 'questions.jsonl'
    answer = geores('questions', 'list', asked, '--out', file, '--paraphrases', 3)
    assert answer.code == 0, answer.err
    records = [json.loads(line) for line in file.read_text().splitlines()]
    own = [one for one in records if 'paraphrase' not in one]
    assert len(own) == 20
    assert len(records) > 2 * len(own)
    asks = {one['question_id']: parse(one['question']) for one in own}
    texts = [(one['question_id'], one['question'].lower()) for one in records]
    assert len(set(texts)) == len(texts)
    assert all(parse(one['question']) == asks[one['question_id']] for one in records)
    said = truth(asked)
    lines = [json.dumps(one | {'answer': said[int(one['question_id'])]}) for one in records]
    file.write_text('\n'.join(lines))
    found = evaluate_predictions(file, asked, bootstrap=0)
    assert found.metrics['accuracy'] == found.metrics['paraphrase_accuracy'] == 1
    refused = geores('questions', 'list', asked, '--out', file)
    assert (refused.code, refused.err.count('\n')) == (2, 1)


# --- command line, files


def test_command(geores, asked, say, tmp_path):
    file, out = say(*truth(asked).items()), tmp_path / 'out'
    answer = geores('evaluate', asked, '--predictions', file, '--bootstrap', 20, '--out', out)
    assert answer.code == 0, answer.err
    for text in ('sha256', 'question-only', 'without counts (AA)', 'official-lr'):
        assert text in answer.out + answer.err
    assert max(map(len, answer.out.splitlines())) <= 140
    assert len(hold_files(out)) == 8
    told = json.loads((out / 'system_metrics.json').read_text())
    assert told['metrics']['accuracy'] == 1
    again = geores('evaluate', asked, '--predictions', file, '--bootstrap', 0, '--json')
    (record,) = again.records
    assert record['split_sha256'] == told['split_sha256']
    assert record['metrics']['question_only_accuracy'] == told['metrics']['question_only_accuracy']


@pytest.mark.parametrize(
    ('lines', 'options', 'told'),
    [
        (['not JSON'], (), 'line 1 is no JSON'),
        (['[1]'], (), 'line 1 is no object'),
        (['{"answer": "yes"}'], (), 'line 1 has no question_id'),
        (['{"question_id": 1}'], (), 'line 1 has no answer'),
        ([''], (), 'holds no predictions'),
        (['{"id": 77, "answer": "yes"}'], (), 'answers none of the questions'),
        (['{"id": 1, "answer": "yes"}'] * 2, (), 'two answers to question 1'),
        (['{"id": 1, "answer": "yes", "question": "Is it wet?"}'], (), 'another version of the data'),
        (['{"id": 1, "answer": "yes"}'], ('--variant', 'mr'), 'variant has to be one of lr, hr, xben'),
        (['{"id": 1, "answer": "yes"}'], ('--split', 'dev'), 'split has to be one of'),
        (['{"id": 1, "answer": "yes"}'], ('--column', 'kind'), '--column goes with a bundle'),
    ],
)
def test_refused(geores, asked, tmp_path, lines, options, told):
    (tmp_path / 'bad.jsonl').write_text('\n'.join(lines))
    before = hold_files(tmp_path)
    answer = geores(
        'evaluate', asked, '--predictions', tmp_path / 'bad.jsonl', '--out', tmp_path / 'out', *options
    )
    assert (answer.code, answer.out, answer.err.count('\n')) == (2, '', 1), answer
    assert told in answer.err
    assert 'fault of geores' not in answer.err
    assert hold_files(tmp_path) == before


def test_the_variant_is_asked_for_where_nothing_tells_it(tmp_path, say):
    parts = write_plain(tmp_path / 'odd')
    for one in parts['images']:
        del one['res_x']
    write_json(tmp_path / 'odd', '', parts)
    with pytest.raises(UsageError, match='--variant'):
        evaluate_predictions(say((1, 'yes')), tmp_path / 'odd')
    assert evaluate_predictions(say((1, 'yes')), tmp_path / 'odd', variant='hr', bootstrap=0).name == 'system'


def test_a_model_or_predictions(geores, asked):
    answer = geores('evaluate', asked)
    assert answer.code == 2
    assert 'DATA' in answer.err


# --- real questions


@needs_official
def test_majority_of_the_official_files(say):
    """The majority by type of the training part, counted here, gets the figure of the baseline."""
    train, val = (RSVQA(OFFICIAL, split=part, reader=str) for part in ('train', 'val'))
    frame = pd.DataFrame({'type': train.question_types, 'answer': train.answers})
    most = frame.groupby('type')['answer'].agg(lambda answers: answers.value_counts().index[0])
    pairs = [(int(one.id), most[one.type]) for one in val.questions]
    found = evaluate_predictions(say(*pairs), OFFICIAL, split='val', bootstrap=0)
    assert (len(found), found.provenance['images']) == (1601, 16)
    assert found.metrics['accuracy'] == pytest.approx(922 / 1601)
    for name in ('accuracy', 'accuracy_mean', 'accuracy_closed'):
        assert found.metrics[name] == found.metrics[f'majority_of_type_{name}']

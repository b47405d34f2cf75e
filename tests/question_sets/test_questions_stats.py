"""Figures of sets of questions, and the official files they are read from."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.errors import DatasetError, OutputError, UsageError
from geores.question_sets.stats import describe_questions, plot_stats, question_stats
from geores.questions.official import answer_record, image_record, question_record, write_official
from geores.questions.question_files import ImageEntry, QuestionEntry, QuestionFolder, read_question_folder

SHARED = Path(__file__).parents[3] / 'shared' / 'data'


def _records(rows, resolution=''):
    """Official records of (image, type, text, answer)."""
    images = [
        image_record(one, f'{one}.png', [i for i, row in enumerate(rows) if row[0] == one], sensor='S2',
                     resolution=resolution)
        for one in sorted({row[0] for row in rows})
    ]  # fmt: skip
    questions = [question_record(i, *row[:3]) for i, row in enumerate(rows)]
    return images, questions, [answer_record(i, i, row[3]) for i, row in enumerate(rows)]


def _held(rows, name='set'):
    """What is read of these rows, where images are not looked for."""
    images = [ImageEntry(str(one), Path(str(one)), '') for one in sorted({row[0] for row in rows})]
    asked = [QuestionEntry(str(i), str(row[0]), *row[1:]) for i, row in enumerate(rows)]
    return QuestionFolder(name, images, asked)


def _read(folder):
    return read_question_folder(folder, find=Path)


ROWS = [
    (0, 'presence', 'Is there a road?', 'yes'),
    (0, 'presence', 'Is there a lake?', 'no'),
    (1, 'presence', 'Is there a  road?', 'yes'),
    (1, 'presence', 'Is there a lake?', 'yes'),
    (2, 'presence', 'is there a road?', 'no'),
    (2, 'count', 'How many roads are there?', '7'),
]


def test_figures_worked_out_by_hand():
    stats = question_stats(_held(ROWS))
    assert (stats.images, stats.questions, stats.texts, stats.per_image) == (3, 6, 3, (2, 2.0, 2))
    presence = stats.types['presence']
    assert list(stats.types) == ['presence', 'count']
    assert presence.answers == {'yes': 3, 'no': 2}
    assert presence.share == pytest.approx(5 / 6)
    # Of the type: yes, 3 of 5. Left out: of image 0 a no is right; 1 has no, wrong twice; 2 has yes, wrong.
    assert presence.bias.type_resubstitution == pytest.approx(3 / 5)
    assert presence.bias.type_left_out == pytest.approx(1 / 5)
    # Roads: yes, yes, no: 2 right. Lakes: no and yes tie: 1 right.
    assert presence.bias.text_resubstitution == pytest.approx(3 / 5)
    # Roads: others of 0 are yes, no: no by name, wrong; of 1 the same; of 2 yes: wrong. Lakes: both wrong.
    assert presence.bias.text_left_out == 0
    # The only count: nothing is left to answer with.
    assert stats.types['count'].bias.text_resubstitution == 1
    assert stats.types['count'].bias.text_left_out == 0
    assert stats.mean_bias.text_resubstitution == pytest.approx((3 / 5 + 1) / 2)


rows = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from('ab'),
        st.sampled_from(('x', 'y', 'z')),
        st.sampled_from(('1', '2', '3')),
    ),
    min_size=1,
    max_size=25,
)


@given(rows=rows)
@settings(deadline=None)
def test_left_out_figures_agree_with_counting_anew_for_each_question(rows):
    def commonest(answers):
        return min(Counter(answers).items(), key=lambda item: (-item[1], item[0]), default=(None,))[0]

    right = 0
    for image, kind, text, answer in rows:
        others = [row for row in rows if row[0] != image and row[1] == kind]
        same = [row[3] for row in others if row[2] == text]
        right += commonest(same or [row[3] for row in others]) == answer
    stats = question_stats(_held(rows))
    assert stats.bias.text_left_out == pytest.approx(right / len(rows))
    assert sum(one.questions for one in stats.types.values()) == len(rows)
    assert stats.bias.text_left_out <= stats.bias.text_resubstitution + 1e-9
    assert stats.bias.type_resubstitution <= stats.bias.text_resubstitution + 1e-9


@given(rows=rows)
@settings(max_examples=20, deadline=None)
def test_written_files_are_read_back(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp('official')
    write_official(folder, *_records(rows))
    assert _read(folder) == _held(rows, folder.name)
    first = [path.read_bytes() for path in sorted(folder.iterdir())]
    write_official(folder, *_records(rows))
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == first


def test_files_follow_the_official_schema(tmp_path):
    images, questions, answers = _records(ROWS)
    paths = write_official(tmp_path, images[1:], questions[2:], answers[2:], prefix='LR_split_val_')
    assert [path.name for path in paths] == [
        'LR_split_val_images.json', 'LR_split_val_questions.json', 'LR_split_val_answers.json']  # fmt: skip
    read = {path.name.split('_')[-1][:-5]: json.loads(path.read_text()) for path in paths}
    assert [list(one) for one in read.values()] == [['images'], ['questions'], ['answers']]
    assert read['questions']['questions'][:2] == [{'id': 0, 'active': False}, {'id': 1, 'active': False}]
    assert list(read['questions']['questions'][2]) == [
        'id', 'date_added', 'img_id', 'people_id', 'type', 'question', 'answers_ids', 'active']  # fmt: skip
    assert list(read['images']['images'][1]) == [
        'id', 'date_added', 'original_name', 'sensor', 'upperleft_map_x', 'upperleft_map_y', 'res_x', 'res_y',
        'people_id', 'type', 'questions_ids', 'active']  # fmt: skip
    assert list(read['answers']['answers'][2]) == [
        'id', 'date_added', 'question_id', 'people_id', 'answer', 'active']  # fmt: skip
    assert [one.id for one in _read(tmp_path).questions] == ['2', '3', '4', '5']


def test_ids_that_do_not_rise_leave_no_file(tmp_path):
    images, questions, answers = _records(ROWS)
    with pytest.raises(OutputError, match='rise'):
        write_official(tmp_path, images, questions[::-1], answers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'broken',
    [
        '',
        '[]',
        '{"questions": 3}',
        '{"questions": [3]}',
        '{"questions": [{"id": []}]}',
        '{"questions": [{"id": 0, "type": "presence"}]}',
    ],
)
def test_what_is_not_in_the_layout_is_refused(tmp_path, broken):
    write_official(tmp_path, *_records(ROWS[:1]))
    (tmp_path / 'questions.json').write_text(broken)
    with pytest.raises(DatasetError, match=r'questions\.json'):
        _read(tmp_path)


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r'holds no questions\.json'):
        _read(tmp_path)
    images, questions, answers = _records(ROWS)
    write_official(tmp_path, images[:1], questions, answers)
    with pytest.raises(DatasetError, match=r'which images\.json does not hold'):
        _read(tmp_path)
    write_official(tmp_path, images, questions, answers[:3])
    with pytest.raises(DatasetError, match='no answer'):
        _read(tmp_path)
    (tmp_path / 'answers.json').unlink()
    with pytest.raises(DatasetError, match='no such file'):
        _read(tmp_path)
    with pytest.raises(DatasetError, match='no such folder'):
        _read(tmp_path / 'nowhere')


def test_no_question_has_no_figures(tmp_path):
    write_official(tmp_path, [], [], [])
    with pytest.raises(DatasetError, match='no active question'):
        describe_questions(tmp_path)


def test_numbers_are_counted_in_the_bins_of_the_resolution(tmp_path):
    rows = [(0, 'count', 'How many roads are there?', '7'), (1, 'count', 'How many roads are there?', '9')]
    for resolution, counted, answers in (
        ('10m', 'lr', {'between 0 and 10': 2}),
        ('.1524m', 'hr', {'7': 1, '9': 1}),
        ('', 'raw', {'7': 1, '9': 1}),
    ):
        write_official(tmp_path, *_records(rows, resolution))
        stats, encoding = describe_questions(tmp_path)
        assert encoding == counted
        assert stats.types['count'].answers == answers
    with pytest.raises(UsageError, match='encoding'):
        describe_questions(tmp_path, 'paper')


def test_the_command_prints_figures_and_draws_them(tmp_path, geores):
    folder = tmp_path / 'set'
    write_official(folder, *_records(ROWS))
    done = geores('questions', 'stats', folder, '--json')
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record['types']['presence']['answers'] == {'yes': 3, 'no': 2}
    assert record['encoding'] == 'raw'
    done = geores('questions', 'stats', folder, '--plot', tmp_path / 'plot.png')
    assert done.code == 0, done.err
    assert '20.0%' in done.out
    assert (tmp_path / 'plot.png').read_bytes().startswith(b'\x89PNG')
    assert geores('questions', 'stats', folder, '--plot', tmp_path / 'plot.xyz').code == 2
    assert geores('questions', 'stats', tmp_path / 'nowhere').code == 2


def test_an_unwritable_plot_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match='cannot be written'):
        plot_stats(question_stats(_held(ROWS)), tmp_path / 'nowhere' / 'plot.png')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('name', 'number', 'yes'), [('rsvqa-lr', 4003, 0.74), ('rsvqa-hr', 4001, 0.38)])
def test_on_the_real_samples(name, number, yes):
    if not (SHARED / name).is_dir():
        pytest.skip('needs ../shared/data')
    stats, encoding = describe_questions(SHARED / name)
    assert encoding == name[-2:]
    assert (stats.questions, stats.images) == (number, 40)
    presence = stats.types['presence']
    assert presence.answers['yes'] / presence.questions == pytest.approx(yes, abs=0.01)
    assert stats.bias.type_left_out < stats.bias.text_left_out < stats.bias.text_resubstitution

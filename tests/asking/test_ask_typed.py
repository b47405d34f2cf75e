"""Questions to `geores ask` from files, from standard input, and as they are typed."""

# ruff: noqa: F811 - fixtures are arguments too
import io
import os
import sys

import pytest

from ..ask_fixtures import (  # noqa: F401 - fixtures
    asked,
    cells,
    oracle,
    scene,
)

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.parametrize(
    ('data', 'why'),
    [
        (b'', 'holds no question'),
        (b'\n \n', 'holds no question'),
        (b'\xff\xfe\x00\x01', 'no text'),
        (b'Is there\0 a forest?', 'no text'),
        (b'Is there a forest?\n' + b'x' * 2000, 'question 2 of'),
    ],
)
def test_files_of_questions_that_are_none(geores, oracle, scene, tmp_path, data, why):
    (tmp_path / 'q.txt').write_bytes(data)
    answer = geores('ask', scene, '--questions', tmp_path / 'q.txt', '--model', oracle)
    assert answer.code == 2
    assert why in answer.err


def test_questions_of_a_file(asked, tmp_path):
    (tmp_path / 'q.txt').write_text(
        '\n'.join(['\ufeffIs there a forest?', '', 'How many forests are there?\r'])
    )
    assert [one['question_type'] for one in asked('--questions', tmp_path / 'q.txt')] == ['presence', 'count']


def test_questions_of_standard_input(geores, oracle, scene, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'Is there a forest?\n')))
    answer = geores('ask', scene, '--questions', '-', '--model', oracle, '--json')
    assert [one['answer'] for one in answer.records] == ['yes']


@pytest.mark.parametrize('args', [[], ['--questions', '-']])
@pytest.mark.parametrize('kind', ['none', 'closed', 'broken'])
def test_closed_standard_input(geores, oracle, scene, monkeypatch, args, kind):
    stream = io.TextIOWrapper(io.BytesIO(b''))
    if kind == 'closed':
        stream.close()
    if kind == 'broken':
        stream = open(os.devnull, 'w')  # noqa: SIM115 - closed below
    monkeypatch.setattr(sys, 'stdin', None if kind == 'none' else stream)
    answer = geores('ask', scene, *args, '--model', oracle)
    stream.close()
    assert answer.code == 2
    assert len(answer.err.strip().splitlines()) == 1


def test_a_second_scene_is_no_question(geores, oracle, scene, tmp_path):
    answer = geores('ask', scene, scene, 'Is there a forest?', '--model', oracle, '--out', tmp_path / 'out')
    assert (answer.code, answer.out, len(answer.err.strip().splitlines())) == (2, '', 1)
    assert 'one scene at a time' in answer.err
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def terminal(monkeypatch):
    """Take bytes as what is typed."""

    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    return lambda typed: monkeypatch.setattr(sys, 'stdin', Terminal(io.BytesIO(typed)))


def test_questions_can_be_typed(geores, oracle, scene, terminal):
    terminal(b'Is there a forest?\n' + b'x' * 2000 + b'\nHow many forests are there?\n\nnever read\n')
    answer = geores('ask', scene, '--model', oracle)
    assert answer.code == 0
    assert 'Is there a forest?' in answer.out
    assert 'about' in answer.out
    assert '1,000' in answer.err
    assert 'never read' not in answer.out


def test_what_is_typed_again_in_other_words_takes_the_place_of_its_own_files_alone(
    geores, oracle, scene, tmp_path, terminal
):
    out = tmp_path / 'out'
    terminal(b'any forests?\nIs there a forest?\nany forests?\n\n')
    answer = geores('ask', scene, '--model', oracle, '--out', out)
    assert (answer.code, answer.out.count('evidence:')) == (0, 3)
    assert 'exists' not in answer.err
    terminal(b'any forests?\n\n')
    answer = geores('ask', scene, '--model', oracle, '--out', out)
    assert (answer.code, answer.out) == (0, '')
    assert 'exists: give --overwrite' in answer.err

"""The journal of a run: what is finished stays, what is of another run is never mixed in."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from geores.errors import InputChangedError, JournalError, OutputError
from geores.io.journal import JOURNAL_FILE, Journal

from ..fixtures import hold_files

KEYS = ({'scene': 'a', 'stride': 1}, {'scene': 'a', 'stride': 2}, {'scene': 'b'})
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


class Runs(RuleBasedStateMachine):
    """Runs of three keys, one after the other, that add records, stop, are killed at any byte, and finish."""

    @initialize()
    def begin(self):
        self.place = Path(tempfile.mkdtemp())
        self.folder = self.place / '.out.partial'
        self.journal, self.kept, self.key = None, [], None

    def teardown(self):
        if self.journal is not None:
            self.journal.close()
        shutil.rmtree(self.place)

    @precondition(lambda self: self.journal is None)
    @rule(key=st.sampled_from(KEYS), resume=st.booleans(), overwrite=st.booleans())
    def start(self, key, resume, overwrite):
        if self.key not in (None, key) and resume and not overwrite:
            with pytest.raises(JournalError, match=r'stride|scene'):
                Journal(self.folder, key)
            return
        if self.key != key or not resume:
            self.kept = []
        self.journal, self.key = Journal(self.folder, key, resume=resume, overwrite=overwrite), key
        assert self.journal.records == self.kept

    @precondition(lambda self: self.journal is not None)
    @rule(record=PLAIN)
    def add(self, record):
        self.journal.add(record)
        self.kept.append(record)

    @precondition(lambda self: self.journal is not None and self.kept)
    @rule()
    def take_back(self):
        self.journal.drop_last()
        self.kept.pop()

    @precondition(lambda self: self.journal is not None)
    @rule()
    def another_process_is_refused(self):
        with pytest.raises(OutputError, match='another run is at work'):
            Journal(self.folder, self.key)

    @precondition(lambda self: self.journal is not None)
    @rule()
    def stop(self):
        self.journal.close()
        self.journal = None
        if not self.kept:
            self.key = None
            assert not self.folder.exists()

    @precondition(lambda self: self.journal is not None)
    @rule(share=st.floats(0, 1))
    def kill(self, share):
        """As a kill does in the middle of a write: the lock is free, and the last line is cut anywhere."""
        self.journal._lock._lock.release(force=True)
        path, self.journal = self.folder / JOURNAL_FILE, None
        content = path.read_bytes()
        start = content[:-1].rfind(b'\n') + 1
        cut = start + round(share * (len(content) - start))
        path.write_bytes(content[:cut])
        if cut < len(content):
            if self.kept:
                self.kept.pop()
            else:
                self.key = None

    @precondition(lambda self: self.journal is not None)
    @rule()
    def finish(self):
        self.journal.remove()
        self.journal, self.kept, self.key = None, [], None

    @invariant()
    def nothing_else_is_left(self):
        if hasattr(self, 'place') and self.journal is None:
            assert {path.name for path in self.place.iterdir()} <= {'.out.partial', '.out.partial.lock'}


Runs.TestCase.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
TestRuns = Runs.TestCase


@pytest.fixture
def folder(tmp_path):
    return tmp_path / '.out.partial'


def left(folder, key, *records):
    with Journal(folder, key) as journal:
        for record in records:
            journal.add(record)


def test_what_differs_is_named(folder):
    left(folder, {'a': 1, 'b': 2}, 'x')
    with pytest.raises(JournalError, match='another a, c: give --no-resume or --overwrite'):
        Journal(folder, {'a': 2, 'b': 2, 'c': 3})
    with Journal(folder, {'a': 1, 'b': 2}) as journal:
        assert journal.records == ['x']


def test_a_run_that_kept_nothing_leaves_nothing(folder, tmp_path):
    left(folder, {'a': 1})
    assert list(tmp_path.iterdir()) == []


def test_files_beside_the_journal_are_kept(folder):
    with Journal(folder, {}) as journal:
        (journal.folder / 'chunk').write_text('')
    assert hold_files(folder) == {JOURNAL_FILE, 'chunk'}


def test_input_that_changed_drops_the_work(folder, tmp_path):
    def run():
        with Journal(folder, {}) as journal:
            journal.add(1)
            raise InputChangedError('scene.tif was changed')

    with pytest.raises(InputChangedError):
        run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'content', ['{}\n', '[1]\n', '"x"\n', 'not JSON\n', '\0\0\0\n', '{"format": 2}\n', '[' * 9999 + '\n']
)
def test_damage_is_said_and_nothing_is_dropped_unasked(folder, content):
    folder.mkdir()
    (folder / JOURNAL_FILE).write_text(content)
    (folder / 'chunk').write_text('')
    with pytest.raises(JournalError, match='damaged: give --no-resume or --overwrite'):
        Journal(folder, {'a': 1})
    assert hold_files(folder) == {JOURNAL_FILE, 'chunk'}
    for options in ({'resume': False}, {'overwrite': True}):
        folder.mkdir(exist_ok=True)
        (folder / JOURNAL_FILE).write_text(content)
        with Journal(folder, {'a': 1}, **options) as journal:
            assert journal.records == []


def test_damage_between_records(folder):
    left(folder, {'a': 1}, 'one', 'two')
    path = folder / JOURNAL_FILE
    path.write_text(path.read_text().replace('"one"', '"one'))
    with pytest.raises(JournalError, match='damaged'):
        Journal(folder, {'a': 1})


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('journal.json', '{"scene": "abc"}'),
        ('runs.jsonl', '{"seed": 0}\n{"method": "colour"}\n'),
        ('key.json', '{"key": "abc"}'),
        (JOURNAL_FILE, '{"source": "x", "format": "lmdb"}\n'),
        (JOURNAL_FILE, '{"format": 9, "key": {"a": 1}}\n'),
    ],
)
def test_work_of_another_version_is_dropped_and_said(folder, caplog, name, content):
    folder.mkdir()
    (folder / name).write_text(content)
    with caplog.at_level(logging.WARNING, 'geores'), Journal(folder, {'a': 1}) as journal:
        assert journal.records == []
        assert hold_files(folder) == {JOURNAL_FILE}
    assert 'another version of geores' in caplog.text


@pytest.mark.skipif(os.name != 'posix', reason='links take rights that users of Windows lack')
def test_links_are_not_followed(folder, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    left(tmp_path / 'elsewhere' / 'work', {'a': 1}, 'theirs')
    before = (tmp_path / 'elsewhere' / 'work' / JOURNAL_FILE).read_bytes()
    folder.symlink_to(tmp_path / 'elsewhere' / 'work')
    left(folder, {'a': 1}, 'mine')
    assert not folder.is_symlink()
    (folder / JOURNAL_FILE).unlink()
    (folder / JOURNAL_FILE).symlink_to(tmp_path / 'elsewhere' / 'work' / JOURNAL_FILE)
    left(folder, {'a': 1}, 'mine')
    assert (tmp_path / 'elsewhere' / 'work' / JOURNAL_FILE).read_bytes() == before


@pytest.mark.skipif(os.name != 'posix', reason='rights are of POSIX')
def test_the_folder_is_for_this_user_alone(folder):
    with Journal(folder, {}):
        assert folder.stat().st_mode & 0o077 == 0


KILLED = """
import os, random, signal, sys
from pathlib import Path
from geores.io.journal import Journal
folder, draw = Path(sys.argv[1]), random.Random(5)
with Journal(folder, {'a': 1}):  # so that everything is imported before the first fork
    pass
seen = 0
for _ in range(40):
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        with Journal(folder, {'a': 1}) as journal:
            while True:
                journal.add([len(journal.records), 'x' * 5000])
                os.write(tell, b'.')
    os.close(tell)
    for _ in range(draw.randint(0, 3)):
        assert os.read(told, 1) == b'.'
    os.kill(child, signal.SIGKILL)  # while it writes the next one
    os.waitpid(child, 0)
    os.close(told)
    with Journal(folder, {'a': 1}) as journal:
        assert [number for number, _ in journal.records] == list(range(len(journal.records)))
        assert len(journal.records) >= seen, 'a finished record is lost'
        seen = len(journal.records)
assert seen > 20, seen
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='SIGKILL is of POSIX')
def test_killed_at_random_points_no_record_is_lost(folder):
    subprocess.run([sys.executable, '-c', KILLED, folder], check=True)


def test_the_journal_of_a_killed_process_is_free(folder):
    code = 'import sys; from pathlib import Path; from geores.io.journal import Journal\n'
    code += 'journal = Journal(Path(sys.argv[1]), {}); journal.add(1)\n'
    code += 'print("held", flush=True); sys.stdin.read()'
    process = subprocess.Popen(
        [sys.executable, '-c', code, folder], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout.readline() == b'held\n'
    with pytest.raises(OutputError, match='another run is at work'):
        Journal(folder, {})
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Journal(folder, {}) as journal:
        assert journal.records == [1]
        journal.remove()
    assert list(folder.parent.iterdir()) == []


def test_the_first_line_says_the_key(folder):
    left(folder, {'a': (1, 2)}, {'b': 3})
    lines = (folder / JOURNAL_FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{'format': 2, 'key': {'a': [1, 2]}}, {'b': 3}]

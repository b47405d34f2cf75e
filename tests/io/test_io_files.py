"""Files and folders that appear whole or not at all, whatever ends the run or lies in its way."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.errors import OutputError, WriteError
from geores.io.journal import read_record, update_record
from geores.io.whole_files import (
    PathLock,
    check_folder_free,
    check_free,
    lock_beside,
    put_folder,
    remove_tree,
    whole_files,
    whole_folder,
    write_whole,
)

from ..fixtures import hold_files

needs_links = pytest.mark.skipif(os.name != 'posix', reason='links take rights that users of Windows lack')


@pytest.fixture
def names(tmp_path):
    return [tmp_path / 'out' / name for name in ('a.xml', 'a.qml', 'a.tif')]


def put(paths, text):
    with whole_files(paths) as partial:
        for path in partial:
            path.write_text(text)


def contents(folder):
    return {name: (folder / name).read_text() for name in hold_files(folder)}


def test_files_take_their_names_together(names):
    with whole_files(names) as partial:
        assert [path.name for path in partial] == [path.name for path in names]
        for path in partial:
            path.write_text(path.name)
            assert not any(name.exists() for name in names)
    assert contents(names[0].parent) == {'a.xml': 'a.xml', 'a.qml': 'a.qml', 'a.tif': 'a.tif'}


@pytest.mark.parametrize('error', [ValueError, OSError(28, 'No space left on device'), KeyboardInterrupt])
def test_an_error_leaves_what_stood_there(names, tmp_path, error):
    given = error if isinstance(error, BaseException) else error('in the block')

    def write():
        with whole_files(names) as partial:
            partial[0].write_text('half')
            raise given

    expected = WriteError if isinstance(given, OSError) else type(given)
    with pytest.raises(expected):
        write()
    assert list(tmp_path.iterdir()) == [], 'folders that were made do not stay empty'
    put(names, 'old')
    with pytest.raises(expected):
        write()
    assert set(contents(names[0].parent).values()) == {'old'}


def test_a_full_disk_is_named(names, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    put(names, 'old')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(WriteError, match='the disk is full'):
        put(names, 'new')
    assert set(contents(names[0].parent).values()) == {'old'}


def test_files_besides_those_asked_for_are_removed(names):
    with whole_files(names[:1]) as (partial,):
        partial.write_text('data')
        partial.with_name(f'{partial.name}-wal').write_text('a log of a database')
    assert contents(names[0].parent) == {'a.xml': 'data'}


def test_what_is_written_may_be_read_as_usual(tmp_path):
    """The private folder is for this user alone; the files that leave it are as the user's mask says."""
    (tmp_path / 'usual').write_text('')
    (tmp_path / 'folder').mkdir()
    write_whole(tmp_path / 'file', 'x')
    with whole_folder(tmp_path / 'whole') as part:
        assert part.parent.stat().st_mode & 0o077 == 0
    assert (tmp_path / 'file').stat().st_mode == (tmp_path / 'usual').stat().st_mode
    assert (tmp_path / 'whole').stat().st_mode == (tmp_path / 'folder').stat().st_mode


def test_temporary_names_cannot_be_guessed(tmp_path):
    seen = set()
    for _ in range(20):
        with whole_files([tmp_path / 'a']) as (partial,):
            partial.write_text('')
            seen.add(partial.parent.name)
    assert len(seen) == 20


@needs_links
@pytest.mark.parametrize('name', ['a.tif', '.a.tif.lock', '.a.partial.tif', '.a.tif.writing'])
def test_planted_links_are_not_followed(names, tmp_path, name):
    victim = tmp_path / 'victim'
    victim.write_text('precious')
    names[0].parent.mkdir()
    (names[0].parent / name).symlink_to(victim)
    put(names, 'new')
    assert victim.read_text() == 'precious'
    assert all(path.read_text() == 'new' and not path.is_symlink() for path in names)


@needs_links
def test_a_link_that_leads_nowhere_is_taken_too(tmp_path):
    (tmp_path / 'a').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(OutputError, match='--overwrite'):
        check_free([tmp_path / 'a'], overwrite=False)
    check_free([tmp_path / 'a'], overwrite=True)
    write_whole(tmp_path / 'a', 'new')
    assert not (tmp_path / 'elsewhere').exists()
    assert not (tmp_path / 'a').is_symlink()


@needs_links
@pytest.mark.parametrize('target', ['folder', 'nowhere'])
def test_a_folder_replaces_a_link_and_not_its_target(tmp_path, target):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'thesis').write_text('precious')
    (tmp_path / 'out').symlink_to(tmp_path / target)
    with whole_folder(tmp_path / 'out') as part:
        (part / 'new').write_text('new')
    assert not (tmp_path / 'out').is_symlink()
    assert contents(tmp_path / 'folder') == {'thesis': 'precious'}
    assert contents(tmp_path / 'out') == {'new': 'new'}
    assert {path.name for path in tmp_path.iterdir()} == {'folder', 'out'}


def test_a_folder_appears_whole(tmp_path):
    out = tmp_path / 'deep' / 'out'

    def stop():
        with whole_folder(out) as part:
            (part / 'one').write_text('half')
            raise ValueError('stop')

    with pytest.raises(ValueError, match='stop'):
        stop()
    assert list(tmp_path.iterdir()) == []
    for text in ('first', 'second'):
        with whole_folder(out) as part:
            (part / text).write_text(text)
        assert contents(out) == {text: text}
    with whole_folder(out, keep=True) as part:
        (part / 'third').write_text('third')
    assert contents(out) == {'second': 'second'}, 'kept, since it was there first'
    assert [path.name for path in out.parent.iterdir()] == ['out']


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'old').write_text('old')
    replace = os.replace

    def failing(source, target):
        if Path(target).name == 'out' and Path(source).name == 'out':
            raise OSError(5, 'Input/output error')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', failing)
    with pytest.raises(WriteError, match='Input/output'), whole_folder(tmp_path / 'out') as part:
        (part / 'new').write_text('new')
    assert contents(tmp_path) == {'out/old': 'old'}


def test_a_folder_is_put_back_where_a_kill_came_before_the_new_one_took_its_name(tmp_path):
    stale = tmp_path / '.out.abcd1234.writing'
    (stale / 'out.old').mkdir(parents=True)
    (stale / 'out.old' / 'old').write_text('old')
    (stale / '.lock').write_text('')
    write_whole(tmp_path / 'another', '')
    assert contents(tmp_path) == {'out/old': 'old', 'another': ''}


def test_only_leftovers_of_processes_that_are_gone_are_removed(tmp_path):
    """A process that lives holds the lock; names that are not quite of this kind are nobody's leftovers."""
    names = (
        '.a.0123abcd.writing',
        '.b.0123abcd.writing',
        '.c.0123abcd.writing',
        '.mine.writing',
        'd.writing',
    )
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / 'data').write_text('')
    (tmp_path / names[0] / '.lock').write_text('')
    held = PathLock(tmp_path / names[1] / '.lock')
    assert held.acquire()
    write_whole(tmp_path / 'file', '')
    held.release()
    assert {path.name for path in tmp_path.iterdir()} == {names[1], '.mine.writing', 'd.writing', 'file'}


@pytest.mark.parametrize('locking', [False, True])
def test_a_folder_that_another_process_took_for_a_leftover_is_made_again(tmp_path, monkeypatch, locking):
    """It may do so between the making of a private folder and its lock, which makes the folder again."""
    (tmp_path / 'out').mkdir()
    make, acquire, made = tempfile.mkdtemp, PathLock.acquire, []

    def take(folder):
        if len(made) == 1:
            os.rename(folder, tmp_path / 'taken')

    def taken_when_made(*args):
        made.append(make(*args))
        if not locking:
            take(made[-1])
        return made[-1]

    def taken_when_locked(self, seconds=0.0):
        if locking and self.path.parent.name.endswith('.writing'):
            take(self.path.parent)
        return acquire(self, seconds)

    monkeypatch.setattr(tempfile, 'mkdtemp', taken_when_made)
    monkeypatch.setattr(PathLock, 'acquire', taken_when_locked)
    write_whole(tmp_path / 'out' / 'file', 'text')
    assert len(made) == 2
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['file']


def test_folders_are_replaced_only_by_their_own_kind(tmp_path):
    out = tmp_path / 'out'
    check = {'kind': 'bundle', 'marks': ['card.json']}
    check_folder_free(out, overwrite=False, **check)
    out.mkdir()
    check_folder_free(out, overwrite=False, **check)
    (out / 'thesis.txt').write_text('mine')
    for overwrite, said in ((False, '--overwrite'), (True, 'is no bundle')):
        with pytest.raises(OutputError, match=said):
            check_folder_free(out, overwrite=overwrite, **check)
    (out / 'card.json').write_text('')
    check_folder_free(out, overwrite=True, **check)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='is a file'):
        check_folder_free(tmp_path / 'file', overwrite=True, **check)


@pytest.mark.skipif(os.name != 'posix', reason='rights are of POSIX')
def test_a_read_only_folder(tmp_path):
    """As root may write anywhere, the folder is one that nobody may: it is not a folder, or of the kernel."""
    folder = Path('/proc') if os.geteuid() == 0 else tmp_path
    if folder == tmp_path:
        folder.chmod(0o500)
    if not folder.is_dir():
        pytest.skip('this system has no folder that root may not write to')
    with pytest.raises(WriteError, match='cannot write to'):
        write_whole(folder / 'file', '')
    with pytest.raises(WriteError, match='cannot write to'), whole_folder(folder / 'out'):
        pass


RUN = """
import sys
from functools import partial
from pathlib import Path
from random import Random
from geores.io.whole_files import whole_files, whole_folder, write_whole
from kill_at import Child, finish

kind, out, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def write(out, text):
    if kind == 'files':
        with whole_files([out / name for name in ('a', 'b', 'c')]) as partial:
            for path in partial:
                path.write_text(text)
    else:
        with whole_folder(out / 'set') as part:
            for name in ('a', 'b', 'c'):
                (part / name).write_text(text)

def write_on(first):
    turn = 0
    while True:
        turn += 1
        write(out, f'{first}{turn}' * 500)

elsewhere = out.with_name('elsewhere')
write(elsewhere, '')  # so that everything is imported before the first fork
events = finish(partial(write, elsewhere, ''))
draw, stood = Random(3), 0
place = out if kind == 'files' else out / 'set'
for _ in range(kills):
    # Each is killed within its first four turns, by itself or with the other one.
    one = Child(partial(write_on, 'x'), draw.randint(1, 4 * events))
    other = Child(partial(write_on, 'y'), draw.randint(1, 4 * events), draw.choice([one, None]))
    for child in (one, other):
        child.start()
    for child in (one, other):
        assert child.wait() == -9
    if (place / 'c').exists():
        stood += 1
        assert len({(place / name).read_text() for name in 'abc'}) == 1
assert stood > 3, stood
write(out, 'end')
assert {path.read_text() for path in place.iterdir() if path.name in 'abc'} == {'end'}
print(*sorted(path.name for path in out.iterdir()))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != 'posix', reason='SIGKILL is of POSIX')
@pytest.mark.parametrize('kind', ['files', 'folder'])
def test_killed_at_random_points_and_written_by_two(kind, tmp_path):
    """Two processes write the same set again and again, and both are killed: what stands is of one turn."""
    (tmp_path / 'out').mkdir()
    args = [sys.executable, '-c', RUN, kind, tmp_path / 'out', '25']
    environment = os.environ | {'PYTHONPATH': str(Path(__file__).parents[1])}
    done = subprocess.run(args, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    left = set(done.stdout.split()) - {'a', 'b', 'c', 'set'}
    assert not left, 'what killed runs left is removed by the next one'


@pytest.mark.skipif(os.name != 'posix', reason='limits are of POSIX')
def test_a_file_that_may_not_grow(tmp_path):
    """As near to a full disk as a test may go without one: no file may grow beyond 4 kB."""
    code = """
import resource, signal, sys
from pathlib import Path
from geores.errors import WriteError
from geores.io.journal import Journal
from geores.io.whole_files import whole_folder, write_whole
out = Path(sys.argv[1])
write_whole(out / 'file', 'old')
journal = Journal(out / '.work.partial', {'a': 1})
journal.add('x' * 3000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
def folder():
    with whole_folder(out / 'set') as part:
        (part / 'a').write_bytes(bytes(5000))
for work in (lambda: write_whole(out / 'file', bytes(5000)), folder, lambda: journal.add('y' * 3000)):
    try:
        work()
    except WriteError:
        continue
    sys.exit('no error')
journal.add('z')
journal.close()
with Journal(out / '.work.partial', {'a': 1}) as journal:
    print(journal.records[1:])
"""
    done = subprocess.run([sys.executable, '-c', code, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout == "['z']\n", done.stderr
    assert contents(tmp_path)['file'] == 'old'
    assert hold_files(tmp_path) == {'file', '.work.partial/journal.jsonl'}


def test_a_lock_is_for_one(tmp_path):
    one, other = lock_beside(tmp_path / 'a'), lock_beside(tmp_path / 'a')
    assert one.acquire()
    assert not other.acquire()
    one.release()
    one.release()
    assert other.acquire()
    other.release()
    assert list(tmp_path.iterdir()) == []


@needs_links
def test_a_lock_does_not_follow_a_link(tmp_path):
    (tmp_path / 'victim').write_text('precious')
    (tmp_path / '.a.lock').symlink_to(tmp_path / 'victim')
    with lock_beside(tmp_path / 'a'):
        assert not (tmp_path / '.a.lock').is_symlink()
    assert contents(tmp_path) == {'victim': 'precious'}


def test_a_killed_process_lets_go_of_its_lock(tmp_path):
    code = 'import sys; from pathlib import Path; from geores.io.whole_files import PathLock\n'
    code += 'lock = PathLock(Path(sys.argv[1])); assert lock.acquire()\n'
    code += 'print("held", flush=True); sys.stdin.read()'
    process = subprocess.Popen(
        [sys.executable, '-c', code, tmp_path / 'lock'], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout.readline() == b'held\n'
    assert not PathLock(tmp_path / 'lock').acquire()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with PathLock(tmp_path / 'lock'):
        pass


def test_records_of_many_are_all_kept(tmp_path):
    code = """
import sys
from pathlib import Path
from geores.io.journal import update_record
for turn in range(20):
    with update_record(Path(sys.argv[1])) as scenes:
        scenes[f'{sys.argv[2]}{turn}'] = {}
"""
    runs = [subprocess.Popen([sys.executable, '-c', code, tmp_path / 'run.json', name]) for name in 'ab']
    assert [run.wait() for run in runs] == [0, 0]
    assert len(read_record(tmp_path / 'run.json')) == 40
    assert hold_files(tmp_path) == {'run.json'}
    with update_record(tmp_path / 'run.json') as scenes:
        scenes.clear()
    assert json.loads((tmp_path / 'run.json').read_text())['scenes'] == {}


@given(st.lists(st.sampled_from(['file', 'folder', 'link', 'nothing']), max_size=4))
@settings(deadline=None, max_examples=25)
def test_whatever_stands_there_a_folder_replaces_it(tmp_path_factory, kinds):
    place = tmp_path_factory.mktemp('place')
    for number, kind in enumerate([*kinds, 'folder']):
        out = place / 'out'
        remove_tree(out)
        if kind == 'file':
            out.write_text('')
        elif kind == 'folder':
            (out / 'below').mkdir(parents=True)
        elif kind == 'link' and os.name == 'posix':
            out.symlink_to(place)
        (place / 'part').mkdir()
        (place / 'part' / 'n').write_text(str(number))
        put_folder(place / 'part', out)
        assert contents(place) == {'out/n': str(number)}

"""The journal of a run, and the record of all runs in a folder.

A journal is unfinished work in a folder, which a later run of the same key continues. The folder belongs to
one process at a time. Its file `journal.jsonl` says in the first line what decides the results, the key,
and holds one finished record in each further line. Larger pieces of work lie beside it. The record is one
JSON file with one entry per scene, to which every run adds.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from geores.errors import InputChangedError, JournalError, OutputError
from geores.io.whole_files import failing, lock_beside, remove_tree, write_whole

__all__ = [
    'JOURNAL_FILE',
    'Journal',
    'check_record',
    'differing',
    'holds_work',
    'read_key',
    'read_record',
    'update_record',
]


def check_record(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError`, before any work is done, where a file that is no record would be lost."""
    if not overwrite and read_record(path) is None:
        raise OutputError(f'{path} is no record of geores: give --overwrite to replace it, or another --out')


@contextmanager
def update_record(path: Path) -> Iterator[dict[str, Any]]:
    """Entries by scene, to add to while no other process does; written at the end of the block.

    Raises:
        WriteError: if writing failed, as on a full disk; the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with failing(path.parent), lock_beside(path):
        scenes = read_record(path) or {}
        yield scenes
        text = json.dumps({'geores_version': version('geores'), 'scenes': scenes}, indent=1)
        write_whole(path, f'{text}\n')


def read_record(path: Path) -> dict[str, Any] | None:
    """Entries by scene; none where there is no file, and None where it is no record."""
    try:
        scenes = json.loads(path.read_text())['scenes']
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    known = isinstance(scenes, dict) and all(isinstance(entry, dict) for entry in scenes.values())
    return scenes if known else None


_logger = logging.getLogger(__name__)

JOURNAL_FILE = 'journal.jsonl'
FORMAT = 2
"""Number of the format; journals of another one are dropped, which is said."""
_FORMER = ('journal.json', 'runs.jsonl', 'key.json')
"""Files of journals before format 2."""
_SHOWN = 6
"""Differences that a message names."""
_FLAGS = os.O_WRONLY | os.O_APPEND | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_BINARY', 0)


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names under which two keys, or sets of options, hold different values; sorted."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class Journal:
    """Unfinished work of a run, locked by this process.

    As a context manager it is closed at the end: work is kept for a later run, except where the input changed
    while it was read, since that work would be a mixture.

    Args:
        folder: made where absent, with those above it, for this user alone. A link there is removed.
        key: everything that decides the results, as plain values.
        resume: continue work of the same key; otherwise what is there is dropped.
        overwrite: drop work of another key instead of refusing it.

    Attributes:
        folder: folder of the work.
        records: finished records, in the order in which they were added.

    Raises:
        JournalError: if the folder holds work of another run, and says what differs; or is damaged.
        OutputError: if another process is at work there.
        WriteError: if the folder cannot be written.
    """

    def __init__(
        self, folder: Path, key: Mapping[str, Any], *, resume: bool = True, overwrite: bool = False
    ) -> None:
        self.folder = folder
        self.records: list[Any] = []
        self._path = folder / JOURNAL_FILE
        self._key: dict[str, Any] = json.loads(json.dumps(dict(key)))
        self._lock = lock_beside(folder)
        self._made = [one for one in folder.parents if not one.exists()]
        with failing(folder, kept=True):
            folder.parent.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                raise OutputError(
                    f'{folder}: another run is at work there: wait for it, or choose another destination'
                )
            try:
                if resume:
                    self._load(overwrite=overwrite)
                elif os.path.lexists(folder):
                    self._drop()
                self._start()
            except BaseException:
                self._release()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, InputChangedError):
            self.remove()
        self.close()

    def add(self, record: Any) -> None:  # noqa: ANN401 - any plain value
        """Keep a finished record, which is on the disk when this returns.

        Raises:
            WriteError: if it cannot be written; earlier records stay.
        """
        with failing(self.folder, kept=True):
            self._append(record)
        self.records.append(record)

    def drop_last(self) -> None:
        """Remove the last record, which was written before its work was and whose work is not there."""
        self.records.pop()
        lines = self._path.read_bytes().splitlines(keepends=True)
        os.truncate(self._path, sum(map(len, lines[: len(self.records) + 1])))

    def close(self) -> None:
        """Let go of the folder, and remove it if nothing was kept in it."""
        if self._lock.held:
            files = (path for path in self.folder.rglob('*') if path != self._path)
            if not self.records and not any(path.is_symlink() or path.is_file() for path in files):
                remove_tree(self.folder)
            self._release()

    def remove(self) -> None:
        """Remove the folder, since the results stand elsewhere now, and let go of it."""
        if self._lock.held:
            remove_tree(self.folder)
            self._release()

    def _release(self) -> None:
        """Unlock the folder; folders above it that were made and are empty do not stay."""
        self._lock.release()
        for folder in self._made:
            with suppress(OSError):  # it holds the work, or results
                folder.rmdir()

    def _load(self, *, overwrite: bool) -> None:
        """Read what the folder holds, or drop it where it is of no use."""
        if self.folder.is_symlink() or self._path.is_symlink() or not self._path.exists():
            # Of a removal that was interrupted, or of an earlier version; through links nothing is read.
            self._drop(former=any((self.folder / name).exists() for name in _FORMER))
            return
        content = self._path.read_bytes()
        whole = content[: content.rfind(b'\n') + 1]  # a kill cut the rest short
        if not whole:
            self._drop()
            return
        try:
            header, *records = (json.loads(line) for line in whole.splitlines())
            if not header:
                raise ValueError('the first line says nothing')
            former = header.get('format') != FORMAT
            held = {} if former else dict(header['key'])
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            if not overwrite:
                raise JournalError(
                    f'{self._path} is damaged: give --no-resume or --overwrite to start anew'
                ) from error
            self._drop()
            return
        if former:
            self._drop(former=True)
            return
        differs = differing(held, self._key)
        if differs and not overwrite:
            shown = ', '.join(differs[:_SHOWN]) + (' and more' if len(differs) > _SHOWN else '')
            raise JournalError(
                f'{self.folder} holds unfinished work of a run with another {shown}: give --no-resume or '
                '--overwrite to start anew, or repeat that run to finish it'
            )
        if differs:
            self._drop()
            return
        os.truncate(self._path, len(whole))
        self.records = records

    def _drop(self, *, former: bool = False) -> None:
        if former:
            _logger.warning(
                f'{self.folder}: unfinished work of another version of geores is dropped, and begun anew'
            )
        elif self._path.is_file():
            _logger.info(f'{self.folder}: unfinished work is dropped, and begun anew')
        remove_tree(self.folder)

    def _start(self) -> None:
        if not self._path.exists():
            self.folder.mkdir(mode=0o700)
            self._append({'format': FORMAT, 'key': self._key}, os.O_CREAT | os.O_EXCL)

    def _append(self, record: Any, flags: int = 0) -> None:  # noqa: ANN401
        descriptor = os.open(self._path, _FLAGS | flags, 0o600)
        try:
            size, left = os.fstat(descriptor).st_size, json.dumps(record).encode() + b'\n'
            try:
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            except OSError:
                # Or the next record would continue a line that the full disk cut short.
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def read_key(folder: Path) -> dict[str, Any] | None:
    """The key of the work that a folder holds; None where it holds none that can be continued."""
    path = folder / JOURNAL_FILE
    if not holds_work(folder) or path.is_symlink():
        return None
    try:
        with path.open(encoding='utf-8') as lines:
            header = json.loads(lines.readline())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or header.get('format') != FORMAT:
        return None
    key = header.get('key')
    return dict(key) if isinstance(key, dict) else None


def holds_work(folder: Path) -> bool:
    """Whether unfinished work may lie in a folder, which is not so behind a link."""
    return folder.is_dir() and not folder.is_symlink()

"""Results of finished chunks: in memory, or in a folder that outlives a killed process.

The folder is the journal of a run. `journal.json` says what the run is; each finished chunk is one
safetensors file that appears whole or not at all.
"""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from geores.errors import JournalError, WriteError

__all__ = ['Arrays', 'ChunkStore', 'FolderStore', 'MemoryStore']

Arrays = Mapping[str, NDArray[Any]]


class ChunkStore(Protocol):
    """Named arrays of finished chunks, by chunk index."""

    def done(self) -> set[int]:
        """List the indices of the chunks that are finished."""

    def put(self, index: int, arrays: Arrays) -> None:
        """Keep a finished chunk."""

    def get(self, index: int) -> Arrays:
        """Give a finished chunk."""


class MemoryStore:
    """Chunks held in memory."""

    def __init__(self) -> None:
        self._chunks: dict[int, Arrays] = {}

    @classmethod
    def copy_of(cls, store: ChunkStore) -> Self:
        """Copy all that another store holds."""
        copy = cls()
        for index in store.done():
            copy.put(index, store.get(index))
        return copy

    def done(self) -> set[int]:
        """List the indices of the chunks that are finished."""
        return set(self._chunks)

    def put(self, index: int, arrays: Arrays) -> None:
        """Keep a finished chunk."""
        self._chunks[index] = arrays

    def get(self, index: int) -> Arrays:
        """Give a finished chunk."""
        return self._chunks[index]


class FolderStore:
    """Chunks as files in a folder, under a journal that says which run they belong to.

    Args:
        folder: created where absent; its parent must exist.
        key: everything that decides the results: scene, weights, grid, options, version.
        resume: continue what the folder holds, else begin anew.

    Raises:
        JournalError: if the folder holds work of another run; says what differs.
        WriteError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], *, resume: bool = True) -> None:
        self.folder = folder
        journal = folder / 'journal.json'
        with _writing(folder):
            # Chunks without a journal are what is left of a folder whose removal was interrupted.
            if folder.exists() and not (resume and journal.exists()):
                shutil.rmtree(folder)
        if journal.exists():
            _check(journal, key)
        with _writing(folder):
            folder.mkdir(exist_ok=True)
            if not journal.exists():
                _replace(journal, lambda path: path.write_text(json.dumps(key, indent=1)))

    def done(self) -> set[int]:
        """List the indices of the chunks whose files are whole."""
        return {
            int(path.stem)
            for path in sorted(self.folder.glob('*.safetensors'))
            if path.stem.isdecimal() and _whole(path)
        }

    def put(self, index: int, arrays: Arrays) -> None:
        """Write a finished chunk."""
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with _writing(self.folder):
            stated = {'crc32': _checksum(contiguous)}
            _replace(self._path(index), lambda path: save_file(contiguous, path, stated))

    def get(self, index: int) -> Arrays:
        """Read a finished chunk."""
        arrays: Arrays = load_file(self._path(index))
        return arrays

    def remove(self) -> None:
        """Delete the folder: the results stand elsewhere now."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f'{index:08d}.safetensors'


def _whole(path: Path) -> bool:
    """Whether a file holds what was written: a power cut can leave an empty one."""
    try:
        with safe_open(path, 'numpy') as file:
            stated = (file.metadata() or {}).get('crc32')
        return bool(stated == _checksum(load_file(path)))
    except (SafetensorError, OSError):
        return False


def _checksum(arrays: Arrays) -> str:
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), total))
    return f'{total:08x}'


def _check(journal: Path, key: Mapping[str, Any]) -> None:
    """Refuse to mix results of two runs."""
    try:
        held = json.loads(journal.read_text())
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise JournalError(f'{journal} is damaged: start over with --no-resume')
    wanted = json.loads(json.dumps(key))
    differs = sorted(name for name in held.keys() | wanted if held.get(name) != wanted.get(name))
    if differs:
        raise JournalError(
            f'{journal.parent} holds unfinished work of a run with another {", ".join(differs)}: '
            'start over with --no-resume, or repeat that run to finish it'
        )


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write under another name, flush to disk, and give the file its own name."""
    partial = path.with_suffix('.tmp')
    write(partial)
    with partial.open('rb') as file:
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn errors of the file system into a `WriteError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        what = 'the disk is full' if full or 'No space' in str(error) else str(error)
        raise WriteError(
            f'cannot write to {path}: {what}; finished work is kept, run again to continue'
        ) from error

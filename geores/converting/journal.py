"""State of a conversion on disk: the journal of finished chunks, the work folder and its lock.

A conversion that was killed resumes after the last chunk in its journal.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from geores.bigearthnet.patch_id import modality
from geores.converting.sources import Fault
from geores.errors import JournalError, OutputError
from geores.io.whole_files import check_writable

__all__ = ['Chunk', 'Journal', 'check_destination', 'check_space', 'locked', 'work_folder']


@dataclass
class Chunk:
    """Patches that are worked on together.

    Attributes:
        number: from 0, in the order of all names.
        sums: checksum by name of the patches that were read.
        faults: problems with the patches that could not be read.
        values: encoded patches for the parent to write, if workers do not write; not kept in the journal.
    """

    number: int
    sums: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)


class Journal:
    """Chunks that are finished, in their order.

    Args:
        path: the file, made if it is not there.
        key: identity of the work (source, format, names). A file with another key is refused.

    Raises:
        JournalError: if the file is of other work.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path = path
        self.chunks: list[Chunk] = []
        if path.exists():
            self._read(key)
        if not path.exists():
            self._append(key)

    def add(self, chunk: Chunk) -> None:
        """Note that a chunk is finished.

        Args:
            chunk: the next.
        """
        self._append({
            'number': chunk.number,
            'sums': chunk.sums,
            'faults': [asdict(fault) for fault in chunk.faults],
        })  # fmt: skip
        self.chunks.append(chunk)

    def drop_last(self) -> None:
        """Forget the last chunk, which was noted and not written."""
        self.chunks.pop()
        lines = self.path.read_bytes().splitlines(keepends=True)
        os.truncate(self.path, sum(map(len, lines[: len(self.chunks) + 1])))

    @property
    def sums(self) -> dict[str, int]:
        """Checksums of all patches written, in their order."""
        return {name: value for chunk in self.chunks for name, value in chunk.sums.items()}

    @property
    def entries(self) -> int:
        """Patches written so far."""
        return sum(len(chunk.sums) for chunk in self.chunks)

    def _append(self, record: dict[str, Any]) -> None:
        with self.path.open('ab') as file:
            file.write(json.dumps(record).encode() + b'\n')
            file.flush()
            os.fsync(file.fileno())

    def _read(self, key: dict[str, Any]) -> None:
        """Read finished lines; a line that a kill cut short is taken off."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b'\n') + 1]
        if not whole:
            self.path.unlink()
            return
        os.truncate(self.path, len(whole))
        first, *lines = whole.splitlines()
        if json.loads(first) != key:
            raise JournalError(
                f'{self.path.parent} holds unfinished work on another source, list of patches or format: '
                'give --overwrite to start anew, or another destination'
            )
        for line in lines:
            record = json.loads(line)
            faults = [Fault(**fault) for fault in record['faults']]
            self.chunks.append(Chunk(record['number'], record['sums'], faults))


_BYTES = {'s2': 160_832, 's1': 115_344, 'map': 28_872}
"""Of a patch of each kind in an LMDB; other layouts add no more to the pixels than `_SPARE`."""
_SPARE = 1.04


def work_folder(folder: Path) -> Path:
    """Where unfinished work is kept.

    Args:
        folder: the destination.
    """
    return folder.with_name(f'.{folder.name}.partial')


def check_destination(folder: Path, source: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` where the result could not be put, before any work is done.

    Args:
        folder: the destination.
        source: path that is read.
        overwrite: whether what stands there may be replaced.
    """
    if folder.resolve() == source.resolve() or folder.resolve() in source.resolve().parents:
        raise OutputError(f'{folder}: is or holds the source {source}; name another destination')
    check_writable(folder, folder.absolute().parent)
    if folder.is_file():
        raise OutputError(f'{folder} is a file: name a folder')
    if folder.exists() and not overwrite:
        raise OutputError(f'{folder} exists: give --overwrite to replace it, or another destination')


def check_space(folder: Path, names: list[str]) -> None:
    """Raise `OutputError` where the disk is too small, counting what unfinished work takes already.

    Args:
        folder: the work folder.
        names: names of all patches.
    """
    needed = int(_SPARE * sum(_BYTES[modality(name)] for name in names))
    taken = sum(path.stat().st_blocks * 512 for path in folder.glob('store/*') if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + taken < needed:
        raise OutputError(
            f'{folder.parent}: the result takes {needed / 2**30:,.1f} GiB, and '
            f'{free / 2**30:,.1f} GiB of the disk are free'
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second conversion away from the same work.

    Args:
        folder: the work folder.

    Raises:
        OutputError: if one is under way.
    """
    lock = FileLock(folder.with_name(f'{folder.name}.lock'))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f'{folder}: another conversion is at work there; wait for it') from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def counts_of(names: 'list[str] | Mapping[str, int]') -> dict[str, int]:
    """Number of patches of each kind.

    Args:
        names: names of patches.
    """
    counts: dict[str, int] = {}
    for name in names:
        counts[modality(name)] = counts.get(modality(name), 0) + 1
    return counts

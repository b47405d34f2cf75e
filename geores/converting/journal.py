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

__all__ = [
    'Journal',
    'PatchChunk',
    'check_destination',
    'check_space',
    'count_by_kind',
    'locked',
    'partial_folder',
]

_BYTES = {'s2': 160_832, 's1': 115_344, 'map': 28_872}
"""Bytes per patch of each kind in an LMDB; other layouts exceed them by less than `_OVERHEAD`."""
_OVERHEAD = 1.04


@dataclass
class PatchChunk:
    """Result of converting one chunk of patches.

    Attributes:
        number: number of the chunk, from 0, in the order of patch names.
        sums: checksums of the patches read, by name.
        faults: problems with the patches that could not be read.
        values: encoded patches for the parent to write, if workers do not write; not kept in the journal.
    """

    number: int
    sums: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)


class Journal:
    """Append-only file of finished chunks, one JSON line per chunk.

    Args:
        path: path of the file, which is created if missing.
        key: identity of the work (source, format, names). A file with another key is refused.

    Raises:
        JournalError: if the file has another key.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path = path
        self.chunks: list[PatchChunk] = []
        if path.exists():
            self._read(key)
        if not path.exists():
            self._append(key)

    def add(self, chunk: PatchChunk) -> None:
        """Record that a chunk is finished.

        Args:
            chunk: the next chunk.
        """
        self._append({
            'number': chunk.number,
            'sums': chunk.sums,
            'faults': [asdict(fault) for fault in chunk.faults],
        })  # fmt: skip
        self.chunks.append(chunk)

    def drop_last(self) -> None:
        """Remove the last chunk, which was recorded but not written."""
        self.chunks.pop()
        lines = self.path.read_bytes().splitlines(keepends=True)
        os.truncate(self.path, sum(map(len, lines[: len(self.chunks) + 1])))

    @property
    def sums(self) -> dict[str, int]:
        """Checksums of all patches written, in order."""
        return {name: value for chunk in self.chunks for name, value in chunk.sums.items()}

    @property
    def entries(self) -> int:
        """Number of patches written so far."""
        return sum(len(chunk.sums) for chunk in self.chunks)

    def _append(self, record: dict[str, Any]) -> None:
        with self.path.open('ab') as file:
            file.write(json.dumps(record).encode() + b'\n')
            file.flush()
            os.fsync(file.fileno())

    def _read(self, key: dict[str, Any]) -> None:
        """Read the finished lines, and truncate a line that a kill cut short."""
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
            self.chunks.append(PatchChunk(record['number'], record['sums'], faults))


def partial_folder(folder: Path) -> Path:
    """Folder of unfinished work, beside the destination.

    Args:
        folder: destination folder.
    """
    return folder.with_name(f'.{folder.name}.partial')


def check_destination(folder: Path, source: Path, *, overwrite: bool) -> None:
    """Check that the result can be written, before any work is done.

    Args:
        folder: destination folder.
        source: path that is read.
        overwrite: whether an existing folder may be replaced.

    Raises:
        OutputError: if the destination exists, is a file, holds the source, or cannot be written.
    """
    if folder.resolve() == source.resolve() or folder.resolve() in source.resolve().parents:
        raise OutputError(f'{folder}: is or holds the source {source}; name another destination')
    check_writable(folder, folder.absolute().parent)
    if folder.is_file():
        raise OutputError(f'{folder} is a file: name a folder')
    if folder.exists() and not overwrite:
        raise OutputError(f'{folder} exists: give --overwrite to replace it, or another destination')


def check_space(folder: Path, names: list[str]) -> None:
    """Check that the result fits on the disk, counting the space that unfinished work takes already.

    Args:
        folder: the work folder.
        names: names of all patches.

    Raises:
        OutputError: if there is too little free space.
    """
    needed = int(_OVERHEAD * sum(_BYTES[modality(name)] for name in names))
    taken = sum(path.stat().st_blocks * 512 for path in folder.glob('store/*') if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + taken < needed:
        raise OutputError(
            f'{folder.parent}: the result takes {needed / 2**30:,.1f} GiB, and '
            f'{free / 2**30:,.1f} GiB of the disk are free'
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the work folder against a second conversion.

    Args:
        folder: the work folder.

    Raises:
        OutputError: if another conversion holds the lock.
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


def count_by_kind(names: 'list[str] | Mapping[str, int]') -> dict[str, int]:
    """Count patches per kind.

    Args:
        names: names of patches.
    """
    counts: dict[str, int] = {}
    for name in names:
        counts[modality(name)] = counts.get(modality(name), 0) + 1
    return counts

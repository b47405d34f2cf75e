"""What worker processes of a conversion do with chunks of patches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from geores.bigearthnet.opening import checksum
from geores.bigearthnet.stores import PatchStore
from geores.converting.journal import PatchChunk
from geores.converting.sources import Fault, TarStore, read_patch
from geores.converting.writers import Writer
from geores.errors import DatasetError

__all__ = [
    'CHUNK',
    'CheckChunk',
    'ChunkTask',
    'ConvertChunk',
    'Progress',
    'chunk_count',
    'chunk_of',
    'chunk_tasks',
]

Item = TypeVar('Item')
Result = TypeVar('Result')
CHUNK = 128
"""Patches per chunk: about 18 MB, one LMDB transaction."""

Progress = Callable[[int, int], None]
"""Called with the number of patches done since the last call, and the total."""


@dataclass(frozen=True)
class ChunkTask:
    """The work on one chunk of patches.

    Attributes:
        number: number of the chunk.
        names: names of its patches.
        sums: known checksums of the patches.
        store: store to read from, if the worker has none of its own.
    """

    number: int
    names: tuple[str, ...]
    sums: Mapping[str, int] | None = None
    store: PatchStore | None = None


def chunk_count(names: Sequence[str]) -> int:
    """Number of chunks that patches are divided into.

    Args:
        names: names of all patches.
    """
    return -(-len(names) // CHUNK)


def chunk_of(names: Sequence[str], number: int) -> Sequence[str]:
    """The patches of a chunk.

    Args:
        names: names of all patches.
        number: number of the chunk.
    """
    return names[number * CHUNK : (number + 1) * CHUNK]


def chunk_tasks(
    names: Sequence[str], store: PatchStore, *, first: int = 0, sums: Mapping[str, int] | None = None
) -> Iterator[ChunkTask]:
    """Yield the tasks of all chunks from `first` on.

    Args:
        names: names of all patches.
        store: store to read from. A task on tar archives gets only its part of their index.
        first: number of the first chunk.
        sums: known checksums by patch name.
    """
    for number in range(first, chunk_count(names)):
        part = tuple(chunk_of(names, number))
        known = None if sums is None else {name: sums[name] for name in part if name in sums}
        own = store.part(part) if isinstance(store, TarStore) else None
        yield ChunkTask(number, part, known, own)


@dataclass(frozen=True)
class ConvertChunk:
    """Convert the patches of a chunk, in a worker process.

    Attributes:
        store: store to read from; None if each task brings its own.
        writer: writer of the destination layout.
    """

    store: PatchStore | None
    writer: Writer

    def __call__(self, task: ChunkTask) -> PatchChunk:
        """Return checksums, faults, and encoded patches that the parent has to write."""
        chunk = PatchChunk(task.number)
        store = task.store or self.store
        if store is None:
            raise DatasetError(f'chunk {task.number} comes without a store, and none is shared')
        for name in task.names:
            arrays, faults = read_patch(store, name)
            chunk.faults += faults
            if faults:
                continue
            value = self.writer.write(name, arrays)
            chunk.sums[name] = checksum(name, arrays)
            if value is not None:
                chunk.values[name] = value
        self.writer.flush()
        return chunk


@dataclass(frozen=True)
class CheckChunk:
    """Read the patches of a chunk and compare their checksums, in a worker process.

    Attributes:
        store: store to read from.
    """

    store: PatchStore

    def __call__(self, task: ChunkTask) -> tuple[int, list[Fault]]:
        """Return the number of patches and their faults."""
        found: list[Fault] = []
        for name in task.names:
            arrays, faults = read_patch(self.store, name)
            found += faults
            known = None if task.sums is None else task.sums.get(name)
            if not faults and known is not None and checksum(name, arrays) != known:
                found.append(Fault(name, 'its pixels are not those that were written: the checksum differs'))
        return len(task.names), found

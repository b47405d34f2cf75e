"""Chunks that are computed when they are asked for."""

from threading import Lock

from geores.inference.engine import ChunkWork
from geores.inference.store import Arrays, MemoryStore

__all__ = ['LazyStore']


class LazyStore(MemoryStore):
    """Holds each chunk in memory once it has been asked for; safe to read from many threads.

    Args:
        work: reads and computes a chunk.
    """

    def __init__(self, work: ChunkWork) -> None:
        super().__init__()
        self._work = work
        self._locks = [Lock() for _ in range(len(work.plan))]

    def get(self, index: int) -> Arrays:
        """A chunk, computed where it is not held."""
        with self._locks[index]:
            if index not in self.done():
                chunk = self._work.plan.chunk(*divmod(index, self._work.plan.shape[1]))
                self.put(index, self._work.whole(chunk))
            return super().get(index)

"""Decoded blocks of source rasters, shared by all reading threads and bounded in memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

__all__ = ['Block', 'BlockCache']


@dataclass(frozen=True)
class Block:
    """Pixels of some bands: values (bands, h, w), and validity (h, w) or None where all are valid."""

    values: NDArray[np.generic]
    valid: NDArray[np.bool_] | None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.values.nbytes + (0 if self.valid is None else self.valid.nbytes)


class BlockCache:
    """Blocks that are still needed, the most recently used of them, at most ``max_bytes``.

    Two threads that want one block decode it once: the second waits for the first. A block that
    failed is forgotten, and every thread that waited for it gets its error.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = Lock()
        self._blocks: OrderedDict[Hashable, Future[Block]] = OrderedDict()
        self._left: dict[Hashable, int] = {}
        self.held_bytes = 0

    def get(self, key: Hashable, load: Callable[[], Block], uses: int = 0) -> Block:
        """The block of ``key``, from ``load()`` where it is not held.

        Args:
            key: which block.
            load: decodes it.
            uses: how often it will be asked for in all, this time included; after that it is let go
                at once. 0 where nobody knows.
        """
        block = self._hold(key, load)
        if uses:
            self._count_down(key, uses)
        return block

    def is_awaited(self, key: Hashable) -> bool:
        """Whether another thread is decoding the block just now."""
        with self._lock:
            future = self._blocks.get(key)
            return future is not None and not future.done()

    def _hold(self, key: Hashable, load: Callable[[], Block]) -> Block:
        with self._lock:
            future = self._blocks.get(key)
            if future is not None:
                self._blocks.move_to_end(key)
            else:
                mine = self._blocks[key] = Future()
        if future is not None:
            return future.result()
        try:
            block = load()
        except BaseException as error:
            with self._lock:
                del self._blocks[key]
            mine.set_exception(error)
            raise
        mine.set_result(block)
        self._trim(block.nbytes)
        return block

    def _count_down(self, key: Hashable, uses: int) -> None:
        """Let go of a block that has been asked for as often as it will be."""
        with self._lock:
            left = self._left.pop(key, uses) - 1
            if left > 0:
                self._left[key] = left
            elif key in self._blocks and self._blocks[key].done():
                self.held_bytes -= self._blocks.pop(key).result().nbytes

    def _trim(self, added: int) -> None:
        """Count a new block and let go of the oldest finished ones past the bound."""
        with self._lock:
            self.held_bytes += added
            for key in list(self._blocks):
                if self.held_bytes <= self.max_bytes:
                    break
                future = self._blocks[key]
                if future.done():
                    self.held_bytes -= future.result().nbytes
                    del self._blocks[key]

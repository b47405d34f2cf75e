"""One raster brought onto the target grid, window by window, the same whatever the windows are."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from geores.inference.blocks import Block, BlockCache
from geores.scenes import Raster

__all__ = ['BLOCK_PIXELS', 'Layer', 'Pixels']

BLOCK_PIXELS = 512

Pixels = tuple[NDArray[np.float32], NDArray[np.bool_] | None]
"""Values (bands, h, w), and validity (h, w) or None where all are valid."""


class Layer(ABC):
    """Bands of one raster on a target grid.

    Subclasses give the raster in blocks on some grid (`block_shape`, `shape`) with `_load`, and bring
    a window of the target out of them with `read`.
    """

    block_shape: tuple[int, int]
    shape: tuple[int, int]

    def __init__(self, raster: Raster, indexes: Sequence[int], cache: BlockCache) -> None:
        self.raster = raster
        self.indexes = list(indexes)
        self._cache = cache
        self._uses: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def expect(self, rows: Sequence[slice], cols: Sequence[slice]) -> None:
        """Say which windows will be read, so that blocks are let go after their last use.

        Args:
            rows: the windows' rows; each will be read with each of ``cols``.
            cols: the windows' columns.
        """
        for axis, windows in enumerate((rows, cols)):
            counts: Counter[int] = Counter()
            for window in windows:
                counts.update(block.start for block in self._blocks(window, axis))
            self._uses[axis].update(counts)

    @abstractmethod
    def _span(self, window: slice, axis: int) -> slice:
        """What a window of the target takes of the block grid, along one axis."""

    @abstractmethod
    def read(self, rows: slice, cols: slice) -> Pixels:
        """Values (bands, h, w) and validity (h, w), or None, in a window of the target grid."""

    def is_awaited(self, rows: slice, cols: slice) -> bool:
        """Whether another thread is decoding a block of a window of the target grid just now."""
        blocks = product(self._blocks(rows, 0), self._blocks(cols, 1))
        return any(self._cache.is_awaited(self._key(*block)) for block in blocks)

    @abstractmethod
    def _load(self, rows: slice, cols: slice) -> Block:
        """Decode one block."""

    def _window(self, rows: slice, cols: slice) -> Pixels:
        """A window of the block grid put together from blocks; invalid where it reaches outside."""
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        inside_rows, inside_cols = self._inside(rows, 0), self._inside(cols, 1)
        whole = (inside_rows, inside_cols) == (rows, cols)
        values = (np.empty if whole else np.zeros)((len(self.indexes), *shape), np.float32)
        valid = None if whole else np.zeros(shape, bool)
        # What another thread is decoding comes last: until it is there, other blocks are decoded.
        parts = sorted(
            product(self._parts(inside_rows, 0), self._parts(inside_cols, 1)),
            key=lambda part: self._cache.is_awaited(self._key(part[0][1], part[1][1])),
        )
        for (part_rows, block_rows), (part_cols, block_cols) in parts:
            block = self._block(block_rows, block_cols)
            source = (_within(part_rows, block_rows), _within(part_cols, block_cols))
            put = (_within(part_rows, rows), _within(part_cols, cols))
            values[:, *put] = block.values[:, *source]
            if block.valid is not None and valid is None:
                valid = np.ones(shape, bool)
            if valid is not None:
                valid[put] = True if block.valid is None else block.valid[source]
        if valid is not None:
            values[:, ~valid] = 0  # NaN must not spread into neighbours
        return values, valid

    def _block(self, rows: slice, cols: slice) -> Block:
        uses = self._uses[0].get(rows.start, 0) * self._uses[1].get(cols.start, 0)
        return self._cache.get(self._key(rows, cols), lambda: self._load(rows, cols), uses)

    def _blocks(self, window: slice, axis: int) -> list[slice]:
        """The blocks that a window of the target takes pixels of, along one axis."""
        return [block for _, block in self._parts(self._inside(self._span(window, axis), axis), axis)]

    def _key(self, rows: slice, cols: slice) -> tuple[int, int, int]:
        return id(self), rows.start, cols.start

    def _inside(self, window: slice, axis: int) -> slice:
        """The part of a window that the raster covers, empty where it lies beside it."""
        start = min(max(window.start, 0), self.shape[axis])
        return slice(start, max(start, min(window.stop, self.shape[axis])))

    def _parts(self, window: slice, axis: int) -> list[tuple[slice, slice]]:
        """A window cut along the blocks it meets: (its part in the block, the block)."""
        step, size = self.block_shape[axis], self.shape[axis]
        parts: list[tuple[slice, slice]] = []
        if window.start == window.stop:
            return parts
        for start in range(window.start // step * step, window.stop, step):
            block = slice(start, min(start + step, size))
            parts.append((slice(max(start, window.start), min(block.stop, window.stop)), block))
        return parts


def _within(window: slice, outer: slice) -> slice:
    return slice(window.start - outer.start, window.stop - outer.start)

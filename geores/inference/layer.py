"""One raster brought onto a target grid, window by window, the same whatever the windows are.

A `Layer` puts windows together from decoded blocks of the raster. Blocks are held in a `BlockCache` that all
reading threads share and whose memory is bounded.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from threading import Lock
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geores.scenes import Raster

__all__ = [
    'BLOCK_PIXELS',
    'FAINTEST',
    'SENT_AS_STORED',
    'Block',
    'BlockCache',
    'Layer',
    'Pixels',
    'Stored',
    'StoredWindow',
    'UnitTransform',
]

BLOCK_PIXELS = 512
"""Pixels along each side of a block, about."""

FAINTEST = np.float32(1e-5)
"""Least backscatter on a linear scale, -50 dB: Sentinel-1's noise lies above -30 dB."""

SENT_AS_STORED = ('uint8', 'int8', 'int16', 'uint16', 'int32', 'uint32', 'float32')
"""Types that a `StoredWindow` holds; other ones become float32, as they do for every reader."""

K = TypeVar('K', bound=Hashable)

Pixels = tuple[NDArray[np.float32], NDArray[np.bool_] | None]
"""Values (bands, h, w), and validity (h, w) or None where all are valid."""


@dataclass(frozen=True)
class Block:
    """Pixels of some bands: values (bands, h, w), and validity (h, w) or None where all are valid."""

    values: NDArray[np.generic]
    valid: NDArray[np.bool_] | None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.values.nbytes + (0 if self.valid is None else self.valid.nbytes)


@dataclass(frozen=True)
class Stored:
    """Pixels of a raster as they are stored, enough of them for a window of the target grid.

    Attributes:
        values: (bands, h, w), 0 where invalid.
        valid: (h, w), or None where all are valid.
        zoom: target pixels to a stored pixel along an axis: 1, a whole number, or 1 over one.
        margin: stored pixels about the window that only their neighbours need, where they are interpolated.
        cut: rows and columns of the window among the pixels of the target that come out.
    """

    values: NDArray[np.generic]
    valid: NDArray[np.bool_] | None
    zoom: float = 1.0
    margin: int = 0
    cut: tuple[slice, slice] = (slice(None), slice(None))

    def valid_on_target(self) -> NDArray[np.bool_] | None:
        """Which pixels of the window are valid, (h, w), or None where all are: averages need one pixel."""
        if self.valid is None or self.zoom == 1:
            return self.valid
        if self.zoom < 1:
            steps = round(1 / self.zoom)
            cells = [np.s_[row::steps, col::steps] for row in range(steps) for col in range(steps)]
            return np.asarray(np.logical_or.reduce([self.valid[cell] for cell in cells]), bool)
        core = self.valid[1:-1, 1:-1] if self.margin else self.valid
        steps = round(self.zoom)
        return core.repeat(steps, 0).repeat(steps, 1)[*self.cut]


@dataclass(frozen=True)
class UnitTransform:
    """How stored numbers become a model's units: ``clip(number * gain + bias, low, high)``.

    With ``decibels`` that is a power on a linear scale, of which 10 log10 is taken in the end.
    """

    gain: float = 1.0
    bias: float = 0.0
    low: float | None = None
    high: float | None = None
    decibels: bool = False

    def apply(self, values: NDArray[np.float32]) -> None:
        """Convert in place."""
        if self.gain != 1:
            values *= np.float32(self.gain)
        if self.bias != 0:
            values += np.float32(self.bias)
        if self.low is not None or self.high is not None:
            np.clip(values, self.low, self.high, out=values)
        if self.decibels:
            np.maximum(values, FAINTEST, out=values)  # 0 stands for less than can be measured
            np.log10(values, out=values)
            values *= np.float32(10)


@dataclass(frozen=True)
class StoredWindow:
    """A window of the target grid before anything is computed of it, in as few bytes as it is stored in.

    Attributes:
        layers: pixels of each source, and the positions of its bands among those that were asked for.
        transforms: how each band's numbers become the model's units.
        valid: which pixels of the window are valid, (h, w).
    """

    layers: Sequence[tuple[Stored, Sequence[int]]]
    transforms: Sequence[UnitTransform]
    valid: NDArray[np.bool_]

    @classmethod
    def of(cls, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> Self:
        """A window that was brought to the model's units already: values (bands, h, w), validity (h, w)."""
        return cls(((Stored(values, None), range(len(values))),), [UnitTransform()] * len(values), valid)


FREE_BYTES, LEAST_BYTES = 96 * 2**20, 2**16
"""Most memory that is kept for windows to come, and least size of a piece: smaller ones cost nothing anew."""

_free: deque[NDArray[np.uint8]] = deque()


class _Loan:
    """Memory of an array, kept for others when the array and all that shares it are gone."""

    def __init__(self, memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._memory = memory
        about = {'shape': shape, 'typestr': dtype.str, 'data': (memory.ctypes.data, False), 'version': 3}
        self.__array_interface__ = about

    def __del__(self) -> None:
        """Keep the memory."""
        _free.append(self._memory)
        with suppress(IndexError, RuntimeError):  # another thread, or garbage collection, came in between
            while sum(memory.nbytes for memory in tuple(_free)) > FREE_BYTES:
                _free.popleft()


def lent(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Make an array of any numbers, in memory that was used before where there is some of about its size.

    What is new the operating system has to clear first, which takes as long as to fill a window.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < LEAST_BYTES:
        return np.empty(shape, kind)
    for _ in range(len(_free)):
        try:
            memory = _free.popleft()
        except IndexError:
            break
        if size <= memory.nbytes <= 2 * size:
            return np.asarray(_Loan(memory, shape, kind))
        _free.append(memory)
    return np.asarray(_Loan(np.empty(size, np.uint8), shape, kind))


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
        """Give the block of ``key``, from ``load()`` where it is not held.

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

    def fill(self, keys: Iterable[K], load: Callable[[Sequence[K]], Iterable[Block]]) -> None:
        """Hold those blocks of some that are not held, nor decoded by another thread just now.

        Args:
            keys: which blocks.
            load: decodes several at once, in their order.
        """
        with self._lock:
            mine = {key: Future[Block]() for key in keys if key not in self._blocks}
            for key, future in mine.items():
                self._blocks[key] = future
        try:
            blocks = list(load(list(mine))) if mine else []
        except BaseException as error:
            with self._lock:
                for key in mine:
                    del self._blocks[key]
            for future in mine.values():
                future.set_exception(error)
            raise
        for future, block in zip(mine.values(), blocks, strict=True):
            future.set_result(block)
            self._trim(block.nbytes)

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


class Layer(ABC):
    """Bands of one raster on a target grid.

    Subclasses give the raster in blocks on some grid (`block_shape`, `shape`) with `_load`, say which stored
    pixels a window of the target needs (`stored`), and make the window of them (`read`).
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
        """Span of the block grid that a window of the target needs, along one axis."""

    @abstractmethod
    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read values (bands, h, w) and validity (h, w), or None, in a window of the target grid."""

    @abstractmethod
    def stored(self, rows: slice, cols: slice, dtype: DTypeLike = np.float32) -> Stored:
        """Read the stored pixels that a window of the target grid is made of, as numbers of some type."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type that holds what the blocks hold."""
        return np.dtype(self.raster.dtype)

    def is_awaited(self, rows: slice, cols: slice) -> bool:
        """Whether another thread is decoding a block of a window of the target grid just now."""
        blocks = product(self._blocks(rows, 0), self._blocks(cols, 1))
        return any(self._cache.is_awaited(self._key(*block)) for block in blocks)

    @abstractmethod
    def _load(self, rows: slice, cols: slice) -> Block:
        """Decode one block."""

    def _prepare(self, blocks: Sequence[tuple[slice, slice]]) -> None:  # noqa: B027 - few can
        """Decode blocks that are wanted next together, where that costs less than one by one."""

    def _window(
        self, rows: slice, cols: slice, dtype: DTypeLike
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Put a window of the block grid together from blocks; it is invalid where it reaches outside."""
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        inside_rows, inside_cols = self._inside(rows, 0), self._inside(cols, 1)
        whole = (inside_rows, inside_cols) == (rows, cols)
        values = (lent if whole else np.zeros)((len(self.indexes), *shape), dtype)
        valid = None if whole else np.zeros(shape, bool)
        parts = list(product(self._parts(inside_rows, 0), self._parts(inside_cols, 1)))
        self._prepare([(block_rows, block_cols) for (_, block_rows), (_, block_cols) in parts])
        # What another thread is decoding comes last: until it is there, other blocks are decoded.
        parts.sort(key=lambda part: self._cache.is_awaited(self._key(part[0][1], part[1][1])))
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
        """List the blocks that a window of the target takes pixels of, along one axis."""
        return [block for _, block in self._parts(self._inside(self._span(window, axis), axis), axis)]

    def _key(self, rows: slice, cols: slice) -> tuple[int, int, int]:
        return id(self), rows.start, cols.start

    def _inside(self, window: slice, axis: int) -> slice:
        """The part of a window that the raster covers, empty where it lies beside it."""
        start = min(max(window.start, 0), self.shape[axis])
        return slice(start, max(start, min(window.stop, self.shape[axis])))

    def _parts(self, window: slice, axis: int) -> list[tuple[slice, slice]]:
        """Cut a window along the blocks it meets: (its part in the block, the block)."""
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

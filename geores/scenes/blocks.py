"""Blocks of GeoTIFFs: which of them a file has, whether those are whole, and which are held to be used again.

A block that DEFLATE compressed ends with the Adler-32 of its pixels (RFC 1950, section 2.2). GDAL's reader
stops as soon as it has the pixels that it wants, so that it never looks at that sum, and takes what damaged
bytes decode to for pixels. Here each block is decoded to its end once, and compared.

What is looked at of a remote file before a run is held for it (`HeldBlocks`): GDAL's own cache belongs to the
handle of one thread, so that the run would fetch it again.
"""

import os
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count, product
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from rasterio import DatasetReader
from rasterio.windows import Window

__all__ = ['HELD_BYTES', 'BlockSums', 'HeldBlocks', 'held_pixels', 'holding_blocks', 'rectangles']

HELD_BYTES: Final = 256 * 2**20
"""Most bytes of decoded blocks that are held, of all remote files together."""

_CHECKED: Final = frozenset({'DEFLATE'})
"""Compressions of GeoTIFFs whose checksum GDAL leaves out; that of LERC it compares itself."""


class _Place(NamedTuple):
    number: int
    offset: int
    size: int


class BlockSums:
    """Compares the checksums of a GeoTIFF's blocks, each once; safe for many threads.

    Of a compression without checksum (none, LZW, ZSTD, JPEG, WebP, LZMA as GDAL writes it) nothing is
    compared, nor of masks and of overviews in files of their own.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._whole = bytearray()  # of each block, whether its sum was right

    def check(self, dataset: DatasetReader, indexes: Sequence[int], window: Window) -> None:
        """Check the blocks of a window that were not checked before.

        Raises:
            OSError: if a block is not the one that was written, or the file cannot be read.
        """
        structure = dataset.tags(ns='IMAGE_STRUCTURE')
        if dataset.driver != 'GTiff' or structure.get('COMPRESSION') not in _CHECKED:
            return
        shared = structure.get('INTERLEAVE') == 'PIXEL'
        places = list(self._places(dataset, [1] if shared else indexes, window))
        if not places:
            return
        height, width = dataset.block_shapes[0]
        itemsize = max(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
        most = height * width * itemsize * (dataset.count if shared else 1)
        with Path(self._path).open('rb') as file:
            for place in places:
                file.seek(place.offset)
                _check_deflated(file.read(place.size), place, most)
                self._whole[place.number] = 1

    def _places(self, dataset: DatasetReader, indexes: Sequence[int], window: Window) -> Iterator[_Place]:
        """Blocks of a window that the file holds, and that were not checked yet."""
        height, width = dataset.block_shapes[0]
        down, across = -(-dataset.height // height), -(-dataset.width // width)
        if not self._whole:
            self._whole = bytearray(down * across * dataset.count)
        (top, bottom), (left, right) = ((int(start), int(stop)) for start, stop in window.toranges())
        for index in indexes:
            for row in range(top // height, -(-bottom // height)):
                for col in range(left // width, -(-right // width)):
                    number = ((index - 1) * down + row) * across + col
                    if self._whole[number]:
                        continue
                    offset, size = (
                        dataset.get_tag_item(f'BLOCK_{item}_{col}_{row}', 'TIFF', bidx=index)
                        for item in ('OFFSET', 'SIZE')
                    )
                    if offset and size:
                        yield _Place(number, int(offset), int(size))


def _check_deflated(data: bytes, place: _Place, most: int) -> None:
    """Decode a block to its end, within bounded memory, and compare its checksum."""
    if len(data) < place.size:
        raise OSError(f'the file ends within the block at byte {place.offset:,}')
    decoder = zlib.decompressobj()
    try:
        decoder.decompress(data, 2 * most + 1)  # a few writers fill up the last strip
    except zlib.error as error:
        reason = 'its checksum differs' if 'incorrect data check' in str(error) else 'it cannot be decoded'
        raise OSError(f'the block at byte {place.offset:,} has changed: {reason}') from None
    if not decoder.eof:
        raise OSError(f'the block at byte {place.offset:,} has changed: it does not end where it should')


def held_pixels(dataset: DatasetReader, index: int, window: Window, values: np.ndarray) -> np.ndarray | None:
    """Find the pixels of a GeoTIFF's band that are in the file; GDAL reads zeros for all others.

    Args:
        dataset: the file.
        index: 1-based index of a band without nodata.
        window: the window that was read.
        values: the values that were read (rows, cols).

    Returns:
        True where the file holds a pixel (rows, cols), or None when it holds all.
    """
    height, width = dataset.block_shapes[index - 1]
    tops, bottoms = _blocks(int(window.row_off), values.shape[0], height)
    lefts, rights = _blocks(int(window.col_off), values.shape[1], width)
    held = None
    # Only a block of nothing but zeros is asked for: asking costs more than looking.
    for row, col in np.argwhere(values[np.ix_(tops, lefts)] == 0):
        top, left = tops[row], lefts[col]
        bottom, right = bottoms[row], rights[col]
        if values[top:bottom, left:right].any():
            continue
        block = f'{(window.col_off + left) // width}_{(window.row_off + top) // height}'
        if dataset.get_tag_item(f'BLOCK_OFFSET_{block}', 'TIFF', bidx=index) is None:
            held = np.ones(values.shape, bool) if held is None else held
            held[top:bottom, left:right] = False
    return held


def _blocks(offset: int, length: int, step: int) -> tuple[list[int], list[int]]:
    """Find where blocks start and end within a window, the first and last of them cut by its edges."""
    edges = [0, *range(step - offset % step, length, step), length]
    return (edges[:-1], edges[1:]) if length else ([], [])


_holding: ContextVar[bool] = ContextVar('holding', default=False)


@contextmanager
def holding_blocks() -> Iterator[None]:
    """Let this thread hold the blocks of remote files that it reads, for what is read of them later."""
    before = _holding.set(True)
    try:
        yield
    finally:
        _holding.reset(before)


class _Key(NamedTuple):
    """A block: number of the file, band or 0 where it has all of them, row and column among the blocks."""

    number: int
    layer: int
    row: int
    col: int


_Futures = dict[_Key, Future[np.ndarray]]


class _Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> int:
        """Number of pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    def meet(self, other: '_Box') -> '_Box':
        """What two have in common."""
        pairs = tuple(zip(self, other, strict=True))
        return _Box(max(pairs[0]), min(pairs[1]), max(pairs[2]), min(pairs[3]))

    def inside(self, outer: '_Box') -> tuple[slice, slice]:
        """Rows and columns, counted in an outer one."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


class HeldBlocks:
    """Blocks of one remote file that were looked at, held until a read takes them whole.

    Of all files together the most recently used ones are held, at most `HELD_BYTES`. Safe for many threads:
    two that look at one block fetch it once.

    Args:
        dtype: type of the pixels.
        shared: whether a block has the pixels of all bands.
    """

    _lock: ClassVar = RLock()  # entered again where another file is done with just then
    _held: ClassVar[OrderedDict[_Key, Future[np.ndarray]]] = OrderedDict()
    _numbers: ClassVar = count()

    def __init__(self, dtype: np.dtype[Any], *, shared: bool) -> None:
        self._dtype = dtype
        self._shared = shared
        self._number = next(self._numbers)
        weakref.finalize(self, self._forget, self._number).atexit = False

    def read(self, dataset: DatasetReader, indexes: Sequence[int], window: Window) -> np.ndarray:
        """Read a window of some bands, (bands, rows, cols); what is not held of it is fetched.

        Raises:
            RasterioError: if it cannot be fetched.
        """
        wanted = _Box(*(int(edge) for span in window.toranges() for edge in span))
        boxes = self._boxes(dataset, indexes, wanted)
        bands = dataset.count if self._shared else 1
        size = sum(box.size for box in boxes.values()) * bands * self._dtype.itemsize
        found, mine = self._claim(boxes, wanted, looking=_holding.get() and size <= HELD_BYTES)
        if not found and not mine:
            return self._fetch(dataset, indexes, wanted)
        if mine:
            self._look(dataset, {key: boxes[key] for key in mine}, mine)
        values = np.empty((len(indexes), wanted.bottom - wanted.top, wanted.right - wanted.left), self._dtype)
        for key, future in (found | mine).items():
            part = boxes[key].meet(wanted)
            pixels = future.result()[:, *part.inside(boxes[key])]
            for at, index in enumerate(indexes):
                if key.layer in (0, index):
                    values[at, *part.inside(wanted)] = pixels[index - 1 if self._shared else 0]
        for keys in _groups(key for key in boxes if key not in found and key not in mine):
            part = _around([boxes[key] for key in keys]).meet(wanted)
            layers = {key.layer for key in keys}
            places = [at for at, index in enumerate(indexes) if self._shared or index in layers]
            pixels = self._fetch(dataset, [indexes[at] for at in places], part)
            values[places, *part.inside(wanted)] = pixels
        return values

    def _boxes(self, dataset: DatasetReader, indexes: Sequence[int], wanted: _Box) -> dict[_Key, _Box]:
        """Blocks that a window meets, and their pixels."""
        height, width = dataset.block_shapes[0]
        edge = _Box(0, dataset.height, 0, dataset.width)
        rows = range(wanted.top // height, -(-wanted.bottom // height))
        cols = range(wanted.left // width, -(-wanted.right // width))
        return {
            _Key(self._number, layer, row, col): edge.meet(
                _Box(row * height, (row + 1) * height, col * width, (col + 1) * width)
            )
            for layer, row, col in product([0] if self._shared else indexes, rows, cols)
        }

    def _claim(self, boxes: Mapping[_Key, _Box], wanted: _Box, *, looking: bool) -> tuple[_Futures, _Futures]:
        """Find the blocks that are held or on their way, and those that this thread has to look at."""
        found: _Futures = {}
        mine: _Futures = {}
        with self._lock:
            for key, box in boxes.items():
                future = self._held.get(key)
                if future is not None:
                    found[key] = future
                    self._held.move_to_end(key)
                    if not looking and box.meet(wanted) == box and future.done():
                        del self._held[key]  # whoever reads the whole keeps it
                elif looking:
                    self._held[key] = mine[key] = Future()
        return found, mine

    def _look(self, dataset: DatasetReader, boxes: Mapping[_Key, _Box], futures: _Futures) -> None:
        """Fetch whole blocks, and hold them."""
        try:
            for keys in _groups(boxes):
                around = _around([boxes[key] for key in keys])
                layers = list(dataset.indexes) if self._shared else sorted({key.layer for key in keys})
                values = self._fetch(dataset, layers, around)
                for key in keys:
                    bands = slice(None) if self._shared else [layers.index(key.layer)]
                    block = values[bands, *boxes[key].inside(around)]
                    # A part of a larger array would hold all of it.
                    futures[key].set_result(block if block.base is None else block.copy())
        except BaseException as error:
            with self._lock:
                for key in futures:
                    if not futures[key].done():
                        self._held.pop(key, None)
                        futures[key].set_exception(error)
            raise
        with self._lock:
            # Garbage collection may let go of another file's blocks at any moment, in this thread too.
            held = {key: future.result().nbytes for key, future in [*self._held.items()] if future.done()}
            most = sum(held.values())
            for key, size in held.items():
                if most <= HELD_BYTES:
                    break
                self._held.pop(key, None)
                most -= size

    def _fetch(self, dataset: DatasetReader, indexes: Sequence[int], box: _Box) -> np.ndarray:
        window = Window(box.left, box.top, box.right - box.left, box.bottom - box.top)
        return np.asarray(dataset.read(list(indexes), window=window, out_dtype=self._dtype))

    @classmethod
    def _forget(cls, number: int) -> None:
        """Let go of the blocks of a file that nobody reads any more."""
        with cls._lock:
            for key in [*cls._held]:
                if key.number == number:
                    cls._held.pop(key, None)

    @classmethod
    def _start_anew(cls) -> None:
        """Hold nothing in a forked child: there, threads of its parent that lock or fetch never end."""
        cls._lock, cls._held = RLock(), OrderedDict()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=HeldBlocks._start_anew)


def _around(boxes: Sequence[_Box]) -> _Box:
    """The least rectangle that has all of some."""
    top, bottom, left, right = zip(*boxes, strict=True)
    return _Box(min(top), max(bottom), min(left), max(right))


def _groups(keys: Iterable[_Key]) -> list[list[_Key]]:
    """Gather blocks that fill rectangles, with the same bands everywhere."""
    at: dict[tuple[int, int], list[_Key]] = {}
    for key in keys:
        at.setdefault((key.row, key.col), []).append(key)
    layers = {place: tuple(key.layer for key in some) for place, some in at.items()}
    return [[key for place in places for key in at[place]] for places in rectangles(layers)]


def rectangles(places: Mapping[tuple[int, int], Hashable]) -> list[list[tuple[int, int]]]:
    """Gather places in a table, (row, column), that fill rectangles and have the same to them.

    Each rectangle of blocks is read at once, so that GDAL asks for neighbours with one request.
    """
    runs: list[list[tuple[int, int]]] = []  # of neighbours in one row
    for row, col in sorted(places):
        if runs and runs[-1][-1] == (row, col - 1) and places[row, col - 1] == places[row, col]:
            runs[-1].append((row, col))
        else:
            runs.append([(row, col)])
    found: list[list[tuple[int, int]]] = []
    latest: dict[Hashable, list[tuple[int, int]]] = {}
    for run in runs:
        (row, first), (_, last) = run[0], run[-1]
        above = latest.get((first, last, places[row, first]))
        if above is not None and above[-1][0] == row - 1:
            above.extend(run)
        else:
            latest[first, last, places[row, first]] = run
            found.append(run)
    return found

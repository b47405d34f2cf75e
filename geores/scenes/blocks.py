"""Blocks of GeoTIFFs: which of them a file holds, and whether those that it holds are whole.

A block that DEFLATE compressed ends with the Adler-32 of its pixels (RFC 1950, section 2.2). GDAL's reader
stops as soon as it has the pixels that it wants, so that it never looks at that sum, and takes what damaged
bytes decode to for pixels. Here each block is decoded to its end once, and compared.
"""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from rasterio import DatasetReader
from rasterio.windows import Window

__all__ = ['BlockSums', 'held_pixels']

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

"""PNG files put together from rows that are compressed once and stand in many files.

Pictures of a hundred answers about one scene differ in their title and in the areas that are painted, and
share the rest; a library's encoder compresses all of it each time.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ['PackedRows', 'pack_rows', 'write_png']

_ADLER = 65521
_SUB = 1
"""The filter by which a row holds the differences of neighbours: it needs no row above."""


@dataclass(frozen=True)
class PackedRows:
    """Rows of an RGB picture, compressed so that they can stand before or after others.

    Attributes:
        width: pixels of a row.
        count: number of rows.
        data: blocks of a deflate stream, the last of which is not marked as such.
        checksum: Adler-32 of what they hold.
    """

    width: int
    count: int
    data: bytes = field(repr=False)
    checksum: int


def pack_rows(pixels: NDArray[np.uint8]) -> PackedRows:
    """Compress rows of a picture.

    Args:
        pixels: (rows, width, 3).
    """
    count, width, _ = pixels.shape
    plain = np.ascontiguousarray(pixels).reshape(count, width * 3)
    rows = np.empty((count, width * 3 + 1), np.uint8)
    rows[:, 0] = _SUB
    rows[:, 1:] = plain
    rows[:, 4:] -= plain[:, :-3]
    held = rows.tobytes()
    # Deflate's search for repeats takes most of the time, and finds hardly any in a satellite image.
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    # After a full flush nothing refers to what stands before.
    return PackedRows(
        width, count, packer.compress(held) + packer.flush(zlib.Z_FULL_FLUSH), zlib.adler32(held)
    )


def write_png(path: Path, parts: Sequence[PackedRows], text: str) -> None:
    """Write a picture of rows, one part below the other (PNG, third edition).

    Args:
        path: of the file.
        parts: of one width.
        text: what the file names as its software.
    """
    width, checksum = parts[0].width, 1
    for part in parts:
        checksum = _joined(checksum, part.checksum, part.count * (3 * width + 1))
    header = struct.pack('>IIBBBBB', width, sum(part.count for part in parts), 8, 2, 0, 0, 0)
    last = b'\x03\x00'  # an empty block that is marked as the last
    stream = b''.join([b'\x78\x01', *(part.data for part in parts), last, struct.pack('>I', checksum)])
    chunks = (
        (b'IHDR', header),
        (b'tEXt', b'Software\0' + text.encode('latin-1')),
        (b'IDAT', stream),
        (b'IEND', b''),
    )
    with path.open('wb') as file:
        file.write(b'\x89PNG\r\n\x1a\n')
        for name, data in chunks:
            file.write(struct.pack('>I', len(data)) + name + data)
            file.write(struct.pack('>I', zlib.crc32(data, zlib.crc32(name))))


def _joined(first: int, second: int, length: int) -> int:
    """Adler-32 of two texts, one after the other, from that of each and the length of the second."""
    low, high = first & 0xFFFF, first >> 16
    other, above = second & 0xFFFF, second >> 16
    return ((high + above + length * (low - 1)) % _ADLER) << 16 | (low + other - 1) % _ADLER

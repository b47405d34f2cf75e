"""The header of a TIFF, as far as it tells whether its pixels lie in one plain piece."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ['TiffError', 'TiffHeader', 'parse_tiff']

_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES = 273, 277, 279
_TILE_OFFSETS, _TILE_BYTES, _FORMAT = 324, 325, 339
_WANTED = frozenset({
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES,
    _FORMAT,
})  # fmt: skip
_TYPES = {3: ('H', 2), 4: ('I', 4), 16: ('Q', 8)}
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    (1, 8): np.dtype('u1'), (1, 16): np.dtype('<u2'), (1, 32): np.dtype('<u4'), (2, 16): np.dtype('<i2'),
    (3, 32): np.dtype('<f4'), (3, 64): np.dtype('<f8'),
}  # fmt: skip


class TiffError(ValueError):
    """A TIFF is damaged."""


@dataclass(frozen=True)
class TiffHeader:
    """Where the pixels of a TIFF lie.

    Attributes:
        height: In pixels.
        width: In pixels.
        dtype: Of a pixel.
        offset: Of the first pixel in the file, in bytes.
        is_plain: Whether all pixels lie behind each other from there on, uncompressed.
    """

    height: int
    width: int
    dtype: np.dtype[Any]
    offset: int
    is_plain: bool

    @property
    def count(self) -> int:
        """Number of pixels."""
        return self.height * self.width


def parse_tiff(data: bytes | bytearray) -> TiffHeader | None:
    """Read the header of a little-endian TIFF (TIFF 6.0, section 2).

    Args:
        data: The whole file.

    Returns:
        The header; None where it is of a kind that is not read here (big-endian, BigTIFF, more bands).

    Raises:
        TiffError: It is no TIFF, or parts of it are missing: GDAL would give zeros for some of these.
    """
    if data[:4] in (b'MM\0*', b'II+\0', b'MM\0+'):
        return None
    if data[:4] != b'II*\0':
        raise TiffError('is no TIFF' if data else 'is empty (0 bytes)')
    try:
        tags = _tags(data)
        height, width = tags[_HEIGHT][0], tags[_WIDTH][0]
    except (struct.error, KeyError, IndexError):
        raise TiffError('its header is damaged or cut off') from None
    tiled = _TILE_OFFSETS in tags
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    sizes = tags.get(_TILE_BYTES if tiled else _STRIP_BYTES, ())
    _check_pieces(offsets, sizes, len(data))
    dtype = _DTYPES.get((tags.get(_FORMAT, (1,))[0], tags.get(_BITS, (1,))[0]))
    if dtype is None or tags.get(_SAMPLES, (1,))[0] != 1:
        return None
    plain = not tiled and tags.get(_COMPRESSION, (1,))[0] == 1 and _follow(offsets, sizes)
    if plain and sum(sizes) < height * width * dtype.itemsize:
        raise TiffError(f'holds {sum(sizes)} bytes of pixels for {height} x {width} of {dtype}')
    return TiffHeader(height, width, dtype, offsets[0], plain)


def _tags(data: bytes | bytearray) -> dict[int, tuple[int, ...]]:
    (start,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    found = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from('<HHI', data, place)
        if tag not in _WANTED or kind not in _TYPES:
            continue
        letter, size = _TYPES[kind]
        where = place + 8
        if length * size > 4:
            (where,) = struct.unpack_from('<I', data, where)
        if where + length * size > len(data):
            raise struct.error('a value lies behind the end')
        found[tag] = struct.unpack_from(f'<{length}{letter}', data, where)
    return found


def _check_pieces(offsets: tuple[int, ...], sizes: tuple[int, ...], end: int) -> None:
    if not offsets or len(offsets) != len(sizes):
        raise TiffError('its header does not say where the pixels are')
    if not all(offsets) or not all(sizes):
        raise TiffError('pixels were never written: whatever wrote it was stopped')
    reach = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
    if reach > end:
        raise TiffError(f'is cut off: {end} bytes, and its header speaks of {reach}')


def _follow(offsets: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    """Whether each piece starts where the one before ends."""
    return all(start + size == then for start, size, then in zip(offsets, sizes, offsets[1:], strict=False))

"""A PBF file in pieces that are files of their own, so that no more than a piece is ever in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from geores.errors import ReadError

__all__ = ['pieces']

PIECE = 2**18
"""Bytes from which on a piece is full: some 20 thousand nodes or 5 thousand ways."""
LARGEST = {'header of a blob': 2**16, 'blob': 2**25}
"""Bytes that a part may have at most: https://wiki.openstreetmap.org/wiki/PBF_Format."""


def pieces(path: Path) -> Iterator[bytes]:
    """Consecutive blobs of a PBF file behind the blob that the file begins with; at least one piece.

    Args:
        path: the file.

    Raises:
        ReadError: if the file is no row of blobs, or ends within one.
    """
    with path.open('rb') as file:
        head = _blob(file, path)
        piece, length, first = [head], 0, True
        while blob := _blob(file, path):
            piece.append(blob)
            length += len(blob)
            if length >= PIECE:
                yield b''.join(piece)
                piece, length, first = [head], 0, False
        if first or length:
            yield b''.join(piece)


def _blob(file: BinaryIO, path: Path) -> bytes:
    """The next blob with its header and the length of that, nothing at the end of the file."""
    start = file.read(4)
    if not start:
        return b''
    header = _read(file, int.from_bytes(start, 'big'), 'header of a blob', path)
    return b''.join((start, header, _read(file, _size(header, path), 'blob', path)))


def _read(file: BinaryIO, count: int, what: str, path: Path) -> bytes:
    if count > LARGEST[what]:
        raise _fault(path, f'a {what} of {count} bytes')
    data = file.read(count)
    if len(data) < count:
        raise _fault(path, f'it ends within a {what}')
    return data


def _size(header: bytes, path: Path) -> int:
    """Bytes of the blob that a header announces: the number in its field 3."""
    place = 0
    while place < len(header):
        field, place = _number(header, place, path)
        value, place = _number(header, place, path)
        if field == 3 << 3:
            return value
        place += value  # the other fields are texts
    raise _fault(path, 'a blob of no size')


def _number(header: bytes, place: int, path: Path) -> tuple[int, int]:
    """The number of variable length at a place, and the place behind it."""
    value = 0
    for shift, byte in enumerate(header[place:]):
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, place + shift + 1
    raise _fault(path, 'a header cut off')


def _fault(path: Path, what: str) -> ReadError:
    return ReadError(f'{path} cannot be read as OpenStreetMap data (cut short?): {what}')

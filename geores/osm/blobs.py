"""Split a PBF file into pieces that are PBF files themselves, so that only one piece is in memory.

The framing of blobs is described in https://wiki.openstreetmap.org/wiki/PBF_Format.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from geores.errors import ReadError

__all__ = ['pieces']

PIECE = 2**18
"""Size in bytes from which on a piece is complete: about 20,000 nodes or 5,000 ways."""
LARGEST = {'header of a blob': 2**16, 'blob': 2**25}
"""Maximum size of each part in bytes, by the format."""


def pieces(path: Path) -> Iterator[bytes]:
    """Iterate over groups of consecutive blobs, each after the header blob of the file; at least one piece.

    Args:
        path: PBF file.

    Raises:
        ReadError: if the file is no sequence of blobs, or ends within one.
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
    """The next blob with its header and the header's length; empty at the end of the file."""
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
    """Size of the blob in bytes, field 3 of its header."""
    place = 0
    while place < len(header):
        field, place = _number(header, place, path)
        value, place = _number(header, place, path)
        if field == 3 << 3:
            return value
        place += value  # the other fields are strings with their length
    raise _fault(path, 'a blob of no size')


def _number(header: bytes, place: int, path: Path) -> tuple[int, int]:
    """The variable-length integer at a position, and the position after it."""
    value = 0
    for shift, byte in enumerate(header[place:]):
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, place + shift + 1
    raise _fault(path, 'a header cut off')


def _fault(path: Path, what: str) -> ReadError:
    return ReadError(f'{path} cannot be read as OpenStreetMap data (cut short?): {what}')

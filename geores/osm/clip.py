"""Crop a PBF file of OpenStreetMap to the objects that can touch a box, in little memory.

The file is split into pieces that are PBF files themselves, so that only one piece is in memory; the
framing of blobs is described in https://wiki.openstreetmap.org/wiki/PBF_Format. The Python package osmium
has no filter by location, and `osmium extract` is a separate program. So ways are selected here by outcodes
on disk (`geores.osm.survey`).

What osmium itself offers was measured on 40 copies of an extract (22.5 MiB, `benchmarks/osm_memory.py`): all
of the file takes 178 MiB, which grow with the file, and 7.8 s of CPU in place of 65 MiB and 2.2 s; its
`IdTracker` takes 5.3 s, for each node is passed to Python, and misses ways that cross the box without a node
in it.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from geores.errors import ReadError
from geores.osm.survey import Numbers, Survey, Texts, nodes_of

__all__ = ['clip', 'pieces']

PIECE = 2**18
"""Size in bytes from which on a piece is complete: about 20,000 nodes or 5,000 ways."""
LARGEST = {'header of a blob': 2**16, 'blob': 2**25}
"""Maximum size of each part in bytes, by the format."""


def pieces(path: Path) -> Iterator[bytes]:
    """Iterate over groups of consecutive blobs, each after the header blob of the file; at least one piece.

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


Box = tuple[float, float, float, float]


def clip(osmium: Any, path: Path, box: Box, keys: Sequence[str], target: Path) -> None:  # noqa: ANN401
    """Write the objects that can touch a box: ways, multipolygons with some keys, and all their members.

    Nodes lose their tags, and nodes without a location are left out. The file is read twice, the second time
    only its ways.

    Args:
        osmium: the optional module `osmium`.
        path: PBF file.
        box: west, south, east, north in degrees.
        keys: keys of tags; a multipolygon needs at least one of them.
        target: file to write, in the format OPL. Temporary files beside it take 16 bytes for each node and
            each way.

    Raises:
        ReadError: if the file is damaged, or not sorted.
        RuntimeError: if osmium cannot read it.
        OSError: if the disk is full.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        texts, survey = Texts(osmium, keys, folder), Survey(path, box, folder)
        for piece in pieces(path):
            survey.add(texts.of(piece))
        ways, areas = folder / 'ways.opl', folder / 'relations.opl'
        wanted = survey.finish(areas)
        nodes = _take(texts, path, wanted, survey.spans, ways)
        with target.open('wb') as file:
            for number, (lon, lat) in zip(*survey.places(nodes), strict=True):
                file.write(b'n%d x%.7f y%.7f\n' % (number, lon, lat))
            for part in (ways, areas):
                with part.open('rb') as source:
                    shutil.copyfileobj(source, file)


def _take(
    texts: Texts, path: Path, wanted: Numbers, spans: Sequence[tuple[int, int]], target: Path
) -> Numbers:
    """Write the wanted ways of a file.

    Returns:
        Sorted unique ids of their nodes.
    """
    nodes = [np.empty(0, np.int64)]
    with target.open('wb') as file:
        for piece, (first, last) in zip(pieces(path), spans, strict=True):
            if np.searchsorted(wanted, first) < np.searchsorted(wanted, last, 'right'):
                ways = texts.of(piece, ways_only=True).ways
                kept = np.isin(nodes_of(ways).ids, wanted)
                ways = [way for way, keep in zip(ways, kept, strict=True) if keep]
                file.writelines(ways)
                nodes.append(np.unique(nodes_of(ways).refs))
    return np.unique(np.concatenate(nodes))

"""Find the ways and multipolygons of a PBF file that can touch a box, in little memory.

Pieces are read as text in the OPL format of osmium (https://osmcode.org/opl-file-format/): passing objects
from osmium to Python one by one would take ten times as long as everything else; here the ids in thousands
of lines are parsed at once.

Every node gets an outcode as in the line clipping of Cohen and Sutherland: one bit each for lying west,
east, south and north of the box (Foley, van Dam, Feiner, Hughes: Computer Graphics, Principles and
Practice, 2nd ed. 1990, section 3.12.1). If all nodes of a way share a bit, the whole way lies on that side
of the box; if they share none, the bounding box of the way meets the box, whether or not a node lies
inside. The same holds for a multipolygon and its ways.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geores.errors import ReadError

__all__ = ['Buckets', 'Content', 'References', 'Survey', 'Table', 'Texts', 'members_of', 'nodes_of']

Numbers = NDArray[np.int64]
Codes = NDArray[np.uint8]
Box = tuple[float, float, float, float]

ROWS = 2**17
"""Number of pairs, or of ways, that are written or read together: 2 MiB."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio (Knuth: The Art of Computer Programming 3, 2nd ed. 1998, section 6.4)."""


class Table(NamedTuple):
    """Numbers by id in memory.

    Attributes:
        ids: sorted ids, (N,); if an id occurs twice, its first number counts.
        values: number of each id, (N,).
    """

    ids: Numbers
    values: Numbers

    def find(self, ids: Numbers, default: int) -> Numbers:
        """The number of each id, (N,), or the default if it is missing."""
        if not len(self.ids):
            return np.full(len(ids), default, np.int64)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, self.values[place], default)


class Buckets:
    """Pairs of an id and a number, distributed over files by a hash of the id.

    Two sets of pairs with the same number of files can be joined file by file, each read once, whatever the
    order of the ids (Shapiro, ACM TODS 11 (3), 1986, section 3).

    Args:
        folder: folder to create for the files.
        count: number of files; one of them is in memory at a time.
    """

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self._paths = [folder / str(place) for place in range(count)]
        self._waiting: list[Numbers] = []

    def __len__(self) -> int:
        """Number of files."""
        return len(self._paths)

    def add(self, ids: Numbers, values: Numbers) -> None:
        """Append pairs.

        Args:
            ids: ids, (N,).
            values: number of each id, (N,).

        Raises:
            OSError: if the disk is full.
        """
        self._waiting.append(np.stack([ids, values], axis=1))
        if sum(map(len, self._waiting)) >= ROWS:
            self.write()

    def write(self) -> None:
        """Write buffered pairs; has to be called before reading."""
        rows = np.concatenate([np.empty((0, 2), np.int64), *self._waiting])
        self._waiting = []
        for place, chosen in self._places(rows[:, 0]):
            with self._paths[place].open('ab') as file:
                rows[chosen].tofile(file)

    def read(self, place: int) -> Iterator[Numbers]:
        """Iterate over the pairs of one file in the order of writing, (N, 2) at a time."""
        if self._paths[place].exists():
            with self._paths[place].open('rb') as file:
                while len(rows := np.fromfile(file, np.int64, 2 * ROWS)):
                    yield rows.reshape(-1, 2)

    def table(self, place: int) -> Table:
        """All pairs of one file."""
        rows = np.concatenate([np.empty((0, 2), np.int64), *self.read(place)])
        return Table(*rows[np.argsort(rows[:, 0], kind='stable')].T.copy())

    def find(self, ids: Numbers, default: int) -> Numbers:
        """The number of each id, (N,), or the default if it is missing."""
        found = np.empty(len(ids), np.int64)
        for place, chosen in self._places(ids):
            found[chosen] = self.table(place).find(ids[chosen], default)
        return found

    def _places(self, ids: Numbers) -> Iterator[tuple[int, Numbers]]:
        """Each file to which some of the ids belong, with the positions of these ids."""
        places = (ids.astype(np.uint64) * SPREAD >> np.uint64(32)) % np.uint64(len(self._paths))
        order = np.argsort(places, kind='stable')
        for chosen in np.split(order, np.flatnonzero(np.diff(places[order])) + 1):
            if len(chosen):
                yield int(places[chosen[0]]), chosen


MEMBER = re.compile(rb'[M,]w(-?\d+)@')
"""A way among the members of a relation; @ and commas in roles are escaped."""
RESERVED = 2**24
"""Initial size in bytes of the location file of osmium, one million nodes."""
ROOM = 2**26
"""Bytes that have to be free on the disk, more than the text of a piece needs."""

THREADS = 2
"""Number of threads of osmium; each of them has its own buffers."""
BUFFER = 2**18
"""Size in bytes of the write buffer of osmium."""


class Content(NamedTuple):
    """The objects in a piece of a file.

    Attributes:
        places: id of each node, and its longitude and latitude in 1e-7 degrees, 32 bits each, (N, 2).
        ways: one line per way.
        relations: one line per multipolygon with one of the keys.
    """

    places: NDArray[np.int64]
    ways: list[bytes]
    relations: list[bytes]


class References(NamedTuple):
    """The references of some objects to their nodes or ways.

    Attributes:
        ids: ids of the objects, (N,).
        counts: number of references of each object, (N,).
        refs: ids of the nodes or ways, object after object, (sum of counts,).
    """

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    refs: NDArray[np.int64]


class Texts:
    """Reads pieces of a PBF file.

    Args:
        osmium: the optional module `osmium`.
        keys: keys of tags; a relation needs at least one of them.
        folder: folder for temporary files.

    Raises:
        OSError: if the disk is full.
    """

    def __init__(self, osmium: Any, keys: Sequence[str], folder: Path) -> None:  # noqa: ANN401
        self._osmium = osmium
        self._text, self._places = folder / 'text', folder / 'places'
        # Osmium maps the file into memory: without room on the disk, writing there would kill the program.
        self._places.write_bytes(bytes(RESERVED))
        self._table = osmium.index.create_map(f'sparse_file_array,{self._places}')
        self._table.clear()
        nodes = osmium.NodeLocationsForWays(self._table)
        nodes.apply_nodes_to_ways = False
        kinds = osmium.osm.WAY | osmium.osm.RELATION
        areas = osmium.filter.TagFilter(('type', 'multipolygon'), ('type', 'boundary'))
        keyed = osmium.filter.KeyFilter(*keys)
        areas.enable_for(osmium.osm.RELATION)
        keyed.enable_for(osmium.osm.RELATION)
        self._handlers = (nodes, osmium.filter.EntityFilter(kinds), areas, keyed)
        self._threads = osmium.io.ThreadPool(THREADS)

    def of(self, piece: bytes, ways_only: bool = False) -> Content:
        """Read the objects of a piece.

        Args:
            piece: the bytes of a PBF file.
            ways_only: whether to read only ways.

        Raises:
            RuntimeError: if the piece is no PBF file.
            OSError: if the disk is full.
        """
        # A failing writer of osmium would abort the process.
        if shutil.disk_usage(self._text.parent).free < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._text))
        osmium = self._osmium
        kinds = osmium.osm.WAY if ways_only else osmium.osm.ALL
        text = osmium.io.File(str(self._text), 'opl,add_metadata=none')
        with (
            osmium.io.Reader(osmium.io.FileBuffer(piece, 'pbf'), kinds, self._threads) as reader,
            osmium.SimpleWriter(text, BUFFER, overwrite=True, thread_pool=self._threads) as writer,
        ):
            osmium.apply(reader, *self._handlers, writer)
        lines = self._text.read_bytes().splitlines(keepends=True)
        count = self._table.used_memory() // 16
        places = np.fromfile(self._places, np.int64, 2 * count).reshape(-1, 2)
        self._table.clear()
        ways = [line for line in lines if line[:1] == b'w']
        return Content(places, ways, [line for line in lines if line[:1] == b'r'])


def nodes_of(ways: Sequence[bytes]) -> References:
    """Ids of the nodes of some ways."""
    lists = [line[line.rindex(b' N') + 2 : -1] for line in ways]
    counts = np.array([len(one) and one.count(b',') + 1 for one in lists], np.int64)
    return References(_ids(ways), counts, _numbers(b','.join(filter(None, lists)).replace(b'n', b'')))


def members_of(relations: Sequence[bytes]) -> References:
    """Ids of the ways among the members of some relations."""
    lists = [MEMBER.findall(line, line.rindex(b' M')) for line in relations]
    counts = np.array([len(one) for one in lists], np.int64)
    return References(_ids(relations), counts, _numbers(b','.join(ref for one in lists for ref in one)))


def _ids(lines: Sequence[bytes]) -> NDArray[np.int64]:
    return _numbers(b','.join([line[1 : line.index(b' ')] for line in lines]))


def _numbers(text: bytes) -> NDArray[np.int64]:
    return np.fromstring(text, np.int64, sep=',') if text else np.empty(0, np.int64)


BUCKET = 2**22
"""Bytes of the PBF file per bucket, about 0.2 to 0.5 million nodes."""
NOWHERE = 15
"""The outcode of missing nodes and ways: all bits, so that `and` with it changes nothing."""
NO_PLACE = int(np.full(2, 2**31 - 1, np.int32).view(np.int64)[0])
"""Longitude and latitude of nodes that are missing in the file."""


class Survey:
    """Takes in a file piece by piece, then tells which of its ways are needed.

    Memory holds one byte per way and multipolygon, and one bucket of nodes. The disk holds 16 bytes per node,
    per way, and per reference from one to the other.

    Args:
        path: path of the file.
        box: west, south, east, north in degrees.
        folder: folder for temporary files.
    """

    def __init__(self, path: Path, box: Box, folder: Path) -> None:
        self._path, self._box = path, box
        self._ids, self._areas = folder / 'ids', folder / 'areas.opl'
        count = 1 + path.stat().st_size // BUCKET
        self._nodes, self._nodes_of_ways, self._ways, self._ways_of_areas = (
            Buckets(folder / name, count) for name in ('nodes', 'nodes-of-ways', 'ways', 'ways-of-areas')
        )
        self._count = {'ways': 0, 'areas': 0}
        self._last: int | None = None
        self.spans: list[tuple[int, int]] = []
        """Smallest and largest id of the ways in each piece."""

    def add(self, content: Content) -> None:
        """Take in the next piece.

        Raises:
            ReadError: if the file is not sorted.
            OSError: if the disk is full.
        """
        if len(content.places) and self._last is not None:
            raise self._disorder('its nodes come after its ways')
        self._nodes.add(*content.places.T)
        ways = nodes_of(content.ways)
        self._check_order(ways.ids)
        self.spans.append((int(ways.ids.min()), int(ways.ids.max())) if len(ways.ids) else (0, -1))
        self._note(ways, 'ways', self._nodes_of_ways)
        self._note(members_of(content.relations), 'areas', self._ways_of_areas)
        with self._ids.open('ab') as file:
            ways.ids.tofile(file)
        with self._areas.open('ab') as file:
            file.writelines(content.relations)

    def finish(self, areas: Path) -> Numbers:
        """Select the ways and multipolygons that can touch the box, after all pieces were added.

        Returns:
            Sorted ids of the ways to keep.
        """
        for buckets in (self._nodes, self._nodes_of_ways, self._ways_of_areas):
            buckets.write()
        codes = _shared(self._nodes_of_ways, self._nodes, self._count['ways'], self._outcodes)
        kept = [np.empty(0, np.int64), *(ids[codes == 0] for ids, codes in self._coded(codes))]
        codes = _shared(self._ways_of_areas, self._ways, self._count['areas'])
        with self._areas.open('rb') as source, areas.open('wb') as target:
            for line, code in zip(source, codes, strict=True):
                if code == 0:
                    target.write(line)
                    kept.append(members_of([line]).refs)
        return np.unique(np.concatenate(kept))

    def places(self, nodes: Numbers) -> tuple[Numbers, NDArray[np.float64]]:
        """Locations of the nodes that have one.

        Args:
            nodes: ids of nodes, (N,).

        Returns:
            Ids (M,), and longitude and latitude in degrees (M, 2).
        """
        places = _degrees(self._nodes.find(nodes, NO_PLACE))
        there = _exist(places)
        return nodes[there], places[there]

    def _note(self, objects: References, kind: str, buckets: Buckets) -> None:
        first = self._count[kind]
        self._count[kind] += len(objects.ids)
        buckets.add(objects.refs, np.repeat(np.arange(first, self._count[kind]), objects.counts))

    def _coded(self, codes: Codes) -> Iterator[tuple[Numbers, Codes]]:
        """Iterate over ids of ways with their outcodes, and store these for the multipolygons."""
        with self._ids.open('rb') as file:
            for start in range(0, len(codes), ROWS):
                ids, part = np.fromfile(file, np.int64, ROWS), codes[start : start + ROWS]
                self._ways.add(ids, part.astype(np.int64))
                yield ids, part
        self._ways.write()

    def _outcodes(self, places: Numbers) -> Numbers:
        west, south, east, north = self._box
        degrees = _degrees(places)
        lon, lat = degrees.T
        codes = (lon < west) | (lon > east) << 1 | (lat < south) << 2 | (lat > north) << 3
        return np.where(_exist(degrees), codes, NOWHERE)

    def _check_order(self, ways: Numbers) -> None:
        """Raise if ids are not in the order of the format: 0, -1, -2, ..., 1, 2, ..."""
        if not len(ways):
            return
        ranks = np.where(ways > 0, ways, np.abs(ways) - 2**62)
        if np.any(np.diff(ranks) <= 0) or (self._last is not None and ranks[0] <= self._last):
            raise self._disorder('its ways are not in the order of their ids, each once')
        self._last = int(ranks[-1])

    def _disorder(self, what: str) -> ReadError:
        return ReadError(f'{self._path} cannot be read: {what}; `osmium sort` puts it in order')


def _degrees(places: Numbers) -> NDArray[np.float64]:
    return np.ascontiguousarray(places).view(np.int32).reshape(-1, 2) / 1e7


def _exist(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    exist: NDArray[np.bool_] = np.all(np.abs(places) <= (180, 90), axis=1)
    return exist


def _shared(
    references: Buckets, targets: Buckets, count: int, outcodes: Callable[[Numbers], Numbers] | None = None
) -> Codes:
    """The bits that the outcodes of all members of an object have in common.

    Args:
        references: pairs of the id of a member and the position of the object.
        targets: pairs of the id of a member and its outcode (or location).
        count: number of objects.
        outcodes: computes outcodes if the targets hold locations.

    Returns:
        Outcodes of the objects, (count,).
    """
    shared = np.full(count, NOWHERE, np.uint8)
    for place in range(len(references)):
        table = targets.table(place)
        if outcodes is not None:
            table = table._replace(values=outcodes(table.values))
        for rows in references.read(place):
            np.bitwise_and.at(shared, rows[:, 1], table.find(rows[:, 0], NOWHERE).astype(np.uint8))
    return shared

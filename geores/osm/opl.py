"""Read pieces of a PBF file fast, as text in the OPL format of osmium.

The format is described in https://osmcode.org/opl-file-format/. Passing objects from osmium to Python one
by one would take ten times as long as everything else; here the ids in thousands of lines are parsed at
once.
"""

import errno
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ['Content', 'References', 'Texts', 'members_of', 'nodes_of']

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
        if (
            shutil.disk_usage(self._text.parent).free < ROOM
        ):  # a failing writer of osmium would abort the process
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

"""Ways and relations as the lines of text that osmium writes (OPL), from which many are read at once.

The format: https://osmcode.org/opl-file-format/. Osmium hands over objects one by one, which takes ten times
as long as all else; a line is split, and the numbers of thousands of lines are parsed together.
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
"""A way among the members of a relation; roles have no @ or comma of their own."""
RESERVED = 2**24
"""Bytes of a file of a million places, with which osmium begins."""
ROOM = 2**26
"""Bytes that have to be free on the disk, more than the text of a piece takes."""

THREADS = 2
"""Each has memory of its own."""
BUFFER = 2**18
"""Bytes of objects that are made into text together."""


class Content(NamedTuple):
    """What a piece of a file holds.

    Attributes:
        places: (N, 2), id of each node, and its longitude and latitude in 1e-7 degrees, 32 bits each.
        ways: one line each.
        relations: multipolygons that have one of the keys, one line each.
    """

    places: NDArray[np.int64]
    ways: list[bytes]
    relations: list[bytes]


class References(NamedTuple):
    """What some objects refer to.

    Attributes:
        ids: (N,).
        counts: (N,), number of references of each.
        refs: (sum of counts,), ids of nodes or ways, object after object.
    """

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    refs: NDArray[np.int64]


class Texts:
    """Reads pieces of a PBF file.

    Args:
        osmium: the module, which is optional.
        keys: of tags, of which a relation has at least one.
        folder: for files in between.

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
        """What a piece holds.

        Args:
            piece: a PBF file.
            ways_only: nothing but its ways.

        Raises:
            RuntimeError: if it is none.
            OSError: if the disk is full.
        """
        if shutil.disk_usage(self._text.parent).free < ROOM:  # a writer of osmium that fails ends the program
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

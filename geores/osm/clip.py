"""Crop a PBF file of OpenStreetMap to the objects that can touch a box, in little memory.

The Python package osmium has no filter by location, and `osmium extract` is a separate program. So the bounds
of all ways are taken from the file, and osmium writes those that meet the box, with their nodes: a way or a
multipolygon around the box, or across it, has no node in it.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.errors import ReadError

__all__ = ['clip']

Box = tuple[float, float, float, float]

ROWS = 2**12
"""Number of ways whose bounds are computed together."""
IN_MEMORY = 2**24
"""Size of a file in bytes from which on the locations of its nodes are kept on the disk."""
SPREAD = 4
"""The most bytes of locations, 16 for each node, that a byte of a file stands for."""


def clip(osmium: Any, path: Path, box: Box, keys: Sequence[str], target: Path) -> bool:  # noqa: ANN401
    """Write the objects that can touch a box: ways, multipolygons with some keys, and all their members.

    Args:
        osmium: the optional module `osmium`.
        path: PBF file.
        box: west, south, east, north in degrees.
        keys: keys of tags; a multipolygon needs at least one of them.
        target: file to write; locations of nodes are kept beside it meanwhile.

    Returns:
        Whether the file was clipped: osmium does not track ids below 0, and a file that has them is to be
        read as a whole.

    Raises:
        ReadError: if the file is not sorted.
        RuntimeError: if osmium cannot read it.
        OSError: if the disk is full.
    """
    relations = _members_of_areas(osmium, path, keys)
    members = np.unique(np.concatenate([np.empty(0, np.int64), *relations.values()]))
    bounds = np.tile([np.inf, np.inf, -np.inf, -np.inf], (len(members), 1))
    if min(relations, default=0) < 0 or (members < 0).any():
        return False
    tracker = osmium.IdTracker()
    last = -1
    for ids, edges in _bounds_of_ways(osmium, path, target.with_suffix('.nodes')):
        if (ids < 0).any():
            return False
        if (np.diff(ids, prepend=last) <= 0).any():
            raise _disorder(path, 'its ways are not in the order of their ids, each once')
        last = ids[-1]
        for number in ids[_meets(edges, box)].tolist():
            tracker.add_way(number)
        known = np.isin(ids, members)
        bounds[np.searchsorted(members, ids[known])] = edges[known]
    for number, ways in relations.items():
        edges = bounds[np.searchsorted(members, ways)]
        around = np.concatenate([edges[:, :2].min(0, initial=np.inf), edges[:, 2:].max(0, initial=-np.inf)])
        if _meets(around[None], box).all():
            tracker.add_relation(number)
            for way in ways.tolist():
                tracker.add_way(way)
    for way in osmium.FileProcessor(str(path), osmium.osm.WAY).with_filter(tracker.id_filter()):
        for node in way.nodes:
            if node.ref < 0:
                return False
            tracker.add_node(node.ref)
    # A failing writer of osmium would abort the process; what it writes is a part of the file.
    _check_room(target, path.stat().st_size)
    with osmium.io.Reader(str(path)) as reader, osmium.SimpleWriter(str(target)) as writer:
        osmium.apply(reader, tracker.id_filter(), writer)
    return True


def _members_of_areas(osmium: Any, path: Path, keys: Sequence[str]) -> dict[int, NDArray[np.int64]]:  # noqa: ANN401
    """Ids of the ways of each multipolygon with one of the keys."""
    areas = osmium.filter.TagFilter(('type', 'multipolygon'), ('type', 'boundary'))
    stream = osmium.FileProcessor(str(path), osmium.osm.RELATION)
    return {
        one.id: np.array([member.ref for member in one.members if member.type == 'w'], np.int64)
        for one in stream.with_filter(areas).with_filter(osmium.filter.KeyFilter(*keys))
    }


def _bounds_of_ways(
    osmium: Any,  # noqa: ANN401
    path: Path,
    nodes: Path,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Ids of the ways, (N,), and their bounds, (N, 4), without those that have no node in the file."""
    storage, size = 'flex_mem', path.stat().st_size
    if size > IN_MEMORY:
        # Osmium maps the file into memory: without room on the disk, writing there would kill the program.
        _check_room(nodes, SPREAD * size)
        storage = f'sparse_file_array,{nodes}'
    factory = osmium.geom.WKBFactory()
    kinds = osmium.osm.NODE | osmium.osm.WAY
    stream = osmium.FileProcessor(str(path), kinds).with_locations(storage)
    ids: list[int] = []
    lines: list[str] = []
    ordered = True
    for way in stream.with_filter(osmium.filter.EntityFilter(osmium.osm.WAY)):
        try:
            line = factory.create_linestring(way)
        except (osmium.InvalidLocationError, RuntimeError):  # nodes are missing, or it is a way of one place
            there = [(node.lon, node.lat) for node in way.nodes if node.location.valid()]
            if not there:
                if ordered:
                    _check_order(osmium, path)
                ordered = False
                continue
            line = shapely.to_wkb(shapely.linestrings([*there, *there]), hex=True)
        ids.append(way.id)
        lines.append(line)
        if len(ids) == ROWS:
            yield np.array(ids), shapely.bounds(shapely.from_wkb(lines))
            ids, lines = [], []
    if ids:
        yield np.array(ids), shapely.bounds(shapely.from_wkb(lines))


def _meets(bounds: NDArray[np.float64], box: Box) -> NDArray[np.bool_]:
    """Whether bounds, (N, 4), meet a box."""
    west, south, east, north = bounds.T
    meets: NDArray[np.bool_] = (west <= box[2]) & (east >= box[0]) & (south <= box[3]) & (north >= box[1])
    return meets


def _check_order(osmium: Any, path: Path) -> None:  # noqa: ANN401
    """Raise if a node comes after a way: its location would be missing."""
    seen = False
    for item in osmium.FileProcessor(str(path), osmium.osm.NODE | osmium.osm.WAY):
        if seen and item.is_node():
            raise _disorder(path, 'its nodes come after its ways')
        seen = seen or item.is_way()


def _disorder(path: Path, what: str) -> ReadError:
    return ReadError(f'{path} cannot be read: {what}; `osmium sort` puts it in order')


def _check_room(path: Path, size: int) -> None:
    """Raise `OSError` where a temporary file of a size could not be written."""
    if shutil.disk_usage(path.parent).free < size + 2**24:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    with path.open('wb') as file:
        file.truncate(size)  # which a limit of the size of files refuses
    path.unlink()

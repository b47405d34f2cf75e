"""Crop a PBF file of OpenStreetMap to the objects that can touch a box, in little memory.

The Python package osmium has no filter by location, and `osmium extract` is a separate program. So ways are
selected here by outcodes on disk (`geores.osm.survey`).
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geores.osm.blobs import pieces
from geores.osm.buckets import Numbers
from geores.osm.opl import Texts, nodes_of
from geores.osm.survey import Survey

__all__ = ['clip']

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

"""Kill a process that writes maps: a script that `test_cartography_rasters` starts, without threads.

Usage: killed_maps.py FOLDER KILLS. Each run writes one map after the other over what stands there, each
with other labels; after every kill all files of a map are of one run, or the map is not there.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from cartography_fixtures import blocks, class_array, grid, xml_of

from geores.cartography.areas import Legend
from geores.cartography.class_raster import class_files, write_classes


def labels_of(turn):
    return [f'{turn} {n}' for n in range(4)]


def write_on(path, values):
    """Write until killed."""
    turn = 0
    while True:
        turn += 1
        legend = Legend.of(labels_of(turn))
        write_classes(path, blocks(values), grid(values.shape), legend, {'turn': turn})


def check(path, values):
    """What stands there is one map."""
    with rasterio.open(path) as file:
        turn = file.tags()['GEORES_TURN']
        assert (file.read(1) == values).all()
    side, style, _ = class_files(path)
    names = [one.text for one in xml_of(side).iter('Category')][1:]
    entries = [one.attrib['label'] for one in xml_of(style).iter('paletteEntry')]
    assert names == entries == labels_of(turn)


def main():
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    path, values = folder / 'a_classes.tif', class_array()
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as other:  # machines differ, and one may be busy
        start = time.perf_counter()
        write_classes(
            Path(other) / path.name, blocks(values), grid(values.shape), Legend.of(labels_of(0)), {'turn': 0}
        )
        took = time.perf_counter() - start
    found = []
    for _ in range(kills):
        child = os.fork()
        if not child:
            write_on(path, values)
        time.sleep(0.5 * took + 3 * took * draw.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found.append(path.exists())
        if path.exists():
            check(path, values)
    assert any(found)
    write_classes(path, blocks(values), grid(values.shape), Legend.of(labels_of(0)), {'turn': 0})
    check(path, values)
    assert sorted(folder.iterdir()) == sorted(class_files(path)), 'something of killed runs is left'


if __name__ == '__main__':
    main()

"""Kill a process that writes maps: a script that `test_cartography_rasters` starts, without threads.

Usage: killed_maps.py FOLDER KILLS. Each run writes two maps, one after the other, over what stands there,
with other labels; after every kill all files of a map are of one run, or the map is not there.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import rasterio
from cartography_fixtures import blocks, class_array, grid, xml_of
from kill_at import finish, kill

from geores.cartography.areas import Legend
from geores.cartography.class_raster import class_files, write_classes


def labels_of(turn):
    return [f'{turn} {n}' for n in range(4)]


def write(path, values, turns=(1, 2)):
    for turn in turns:
        legend = Legend.of(labels_of(turn))
        write_classes(path, blocks(values), grid(values.shape), legend, {'turn': turn})


def check(path, values):
    """What stands there is one map; its turn."""
    with rasterio.open(path) as file:
        turn = int(file.tags()['GEORES_TURN'])
        assert (file.read(1) == values).all()
    side, style, _ = class_files(path)
    names = [one.text for one in xml_of(side).iter('Category')][1:]
    entries = [one.attrib['label'] for one in xml_of(style).iter('paletteEntry')]
    assert names == entries == labels_of(turn)
    return turn


def main():
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    path, values = folder / 'a_classes.tif', class_array()
    with tempfile.TemporaryDirectory() as other:
        write(Path(other) / path.name, values)  # so that everything is imported before the first fork
        events = finish(partial(write, Path(other) / path.name, values))
    found = []
    for number in range(kills):
        # There is more to do where a killed run left something to remove.
        kill(partial(write, path, values), 1 + 3 * events * number // (2 * kills))
        found.append(check(path, values) if path.exists() else None)
    assert {1, 2} <= set(found), found
    write(path, values, [0])
    check(path, values)
    assert sorted(folder.iterdir()) == sorted(class_files(path)), 'something of killed runs is left'


if __name__ == '__main__':
    main()

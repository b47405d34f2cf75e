"""Water and forest that no label set is needed to know: how a bundle does on tiles that indices decide.

    python benchmarks/known_ground.py SCENE [--model sentinel2]

A tile of 64 pixels is water where at least 70 % of its pixels have NDWI (B03, B08) > 0, and forest where
at least 60 % have NDVI > 0.35 and B04 < 800; tiles with more than 10 % of B02 > 2000 (cloud) are left out.
Water should be called SeaLake or River, forest Forest. Scored at stride 32, and for tiles that do not
overlap with a 95 % Wilson interval. These scenes and rules train, select and tune nothing.
"""

import argparse
import math

import numpy as np

import geores
from geores.grid import Tiling
from geores.inference import GridReader

EXPECTED = {'water': {'SeaLake', 'River'}, 'forest': {'Forest'}}


def truth(scene: geores.Scene, stride: int) -> np.ndarray:
    """What the indices say of each tile, row-major: 'water', 'forest' or ''."""
    grid = scene.geobox
    reader = GridReader(scene, ['B02', 'B03', 'B04', 'B08'], grid)
    (blue, green, red, nir), _ = reader.read(slice(0, grid.shape.y), slice(0, grid.shape.x))
    water = (green - nir) / np.maximum(green + nir, 1) > 0
    forest = ((nir - red) / np.maximum(nir + red, 1) > 0.35) & (red < 800)
    cloud = blue > 2000
    tiles = Tiling(*blue.shape, 64, stride)
    kinds = np.full(tiles.shape, '', object)
    for row, col in np.ndindex(*tiles.shape):
        place = np.s_[tiles.y.starts[row] : tiles.y.stops[row], tiles.x.starts[col] : tiles.x.stops[col]]
        if cloud[place].mean() > 0.1:
            continue
        if water[place].mean() >= 0.7:
            kinds[row, col] = 'water'
        elif forest[place].mean() >= 0.6:
            kinds[row, col] = 'forest'
    return kinds


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--model', default='sentinel2')
    args = parser.parse_args()
    scene = geores.open_scene(args.scene)
    for stride in (32, 64):
        kinds = truth(scene, stride)
        result = geores.classify(scene, args.model, stride=stride)
        scores = result.table.read('scores', *(slice(0, count) for count in result.plan.tiling.shape))
        called = np.array(result.card.labels, object)[scores.argmax(-1)]
        for kind, names in EXPECTED.items():
            tiles = called[kinds == kind]
            hits = int(np.isin(tiles, list(names)).sum())
            low, high = wilson(hits, len(tiles))
            print(f'{scene.name} stride {stride} {kind}: {hits} of {len(tiles)} ({low:.0%} to {high:.0%})')


if __name__ == '__main__':
    main()

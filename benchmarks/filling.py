"""What stands in for nodata: how often a tile with holes gets the label of the whole tile.

    python benchmarks/filling.py patches sentinel2 FOLDER   # GeoTIFF patches with labels.csv
    python benchmarks/filling.py pictures aerial-rgb FOLDER  # one folder of pictures per class

Of each tile a share is taken away, as a strip or behind a diagonal, as at the edge of a swath, and filled
with the card's mean of each band, with the mean of what is left of the tile, and with that mirrored, as
geores does. The label is the one with the highest score.
"""

import argparse
from pathlib import Path

import numpy as np

import geores
from geores.datasets import GeoTIFFPatches, SceneFolder
from geores.scenes.borders import mirror_invalid

SHARES = (0.2, 0.33, 0.5, 0.7)


def draw_images(kind: str, folder: Path, card: geores.ModelCard, count: int) -> np.ndarray:
    """Draw images of a folder at random, (N, bands, size, size)."""
    size = card.input_size
    data = (
        GeoTIFFPatches(folder, card.bands, size) if kind == 'patches' else SceneFolder(folder, 'scene', size)
    )
    chosen = np.random.default_rng(1).permutation(len(data))[:count]
    return np.stack([data[int(index)]['image'].numpy() for index in chosen]).astype(np.float32)


def take_away(size: int, share: float, shape: str) -> np.ndarray:
    """Which pixels (size, size) are left."""
    rows, cols = np.mgrid[:size, :size]
    along = rows if shape == 'strip' else rows + cols
    return along >= np.quantile(along, share)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('kind', choices=['patches', 'pictures'])
    parser.add_argument('model')
    parser.add_argument('folder', type=Path)
    parser.add_argument('--images', type=int, default=192)
    options = parser.parse_args()
    model = geores.load_model(options.model)
    images = draw_images(options.kind, options.folder, model.card, options.images)

    def label(tiles: np.ndarray) -> np.ndarray:
        return np.concatenate([
            np.asarray(model.predict(tiles[start : start + 64])).argmax(1)
            for start in range(0, len(tiles), 64)
        ])  # fmt: skip

    whole = label(images)
    print(f'{options.model}, {len(images)} tiles: share with the label of the whole tile')
    print('taken away       mean of the card  mean of the tile  mirrored')
    for share in SHARES:
        for shape in ('strip', 'diagonal'):
            valid = take_away(images.shape[-1], share, shape)
            of_tile = images[:, :, valid].mean(2)[:, :, None, None]
            fills = (np.float32(model.card.fill)[:, None, None], of_tile)
            tiles = [np.where(valid, images, fill).astype(np.float32) for fill in fills]
            tiles.append(np.stack([mirror_invalid(image, valid) for image in images]))
            figures = [(label(one) == whole).mean() for one in tiles]
            print(f'{share:4.0%} {shape:10}' + ''.join(f'{figure:18.3f}' for figure in figures))


if __name__ == '__main__':
    main()

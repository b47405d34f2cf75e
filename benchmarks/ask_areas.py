"""Areas by classification on ground that is known: two ways to add them up, and what intervals hold.

    python benchmarks/ask_areas.py <s2-l2a> --bundles runs/sentinel2

The bundles are those that `geores train --folds 5` leaves: `fold1` ... never saw the patches of their fold.
Mosaics are made of these, each label in areas of random shapes, which lie shifted against the tiles. The
share that a label truly covers is known (of water, by NDWI above 0). Either the tiles that earn a label are
counted, or scores are added up, as `geores ask` does, whose answer is the median of the sum that they allow.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from geores import load_model
from geores.asking import combine
from geores.asking.area_estimator import SHARES, covered_shares
from geores.asking.combine import area
from geores.asking.predictions import TileAreas
from geores.datasets import GeoTIFFPatchesDataModule

FOLDS = 5
BANDS = ['B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12']
KINDS = {
    'water': ('SeaLake', 'River'),
    'forest': ('Forest',),
    'residential': ('Residential',),
    'industrial': ('Industrial',),
    'farmland': ('AnnualCrop', 'PermanentCrop'),
    'grass': ('HerbaceousVegetation', 'Pasture'),
}


def mosaic(
    patches: np.ndarray, names: np.ndarray, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A scene of 10 x 10 tiles (C, 640, 640), and the label of each pixel; patches lie across its tiles."""
    side, labels = 11, np.unique(names)
    seeds = draw.random((int(draw.choice([8, 20, 50])), 2)) * side
    kinds = draw.choice(labels, len(seeds))
    middles = np.stack(np.mgrid[:side, :side], -1) + 0.5
    nearest = ((middles[:, :, None] - seeds) ** 2).sum(-1).argmin(-1)
    chosen = np.array([[draw.choice(np.flatnonzero(names == kinds[one])) for one in row] for row in nearest])
    image = np.concatenate([np.concatenate(list(patches[row]), axis=2) for row in chosen], axis=1)
    truth = names[chosen].repeat(64, 0).repeat(64, 1)
    top, left = draw.integers(8, 56, 2)
    return image[:, top : top + 640, left : left + 640], truth[top : top + 640, left : left + 640]


def areas(root: str, bundles: Path, mosaics: int) -> None:
    """Print how far areas by classification are off, and how many lie in their intervals."""
    draw = np.random.default_rng(0)
    rows = defaultdict(list)
    for fold in range(1, FOLDS + 1):
        model = load_model(bundles / f'fold{fold}')
        data = GeoTIFFPatchesDataModule(root=root, bands=BANDS, size=64, folds=FOLDS, fold=fold)
        data.setup('fit')
        samples = [data.dataset[index] for index in data.split.val]
        patches = np.stack([np.asarray(sample['image'], np.float32) for sample in samples])
        names = np.array([model.card.labels[int(sample['label'])] for sample in samples])
        for _ in range(mosaics):
            image, truth = mosaic(patches, names, draw)
            tiles = (
                image.reshape(len(BANDS), 10, 64, 10, 64).transpose(1, 3, 0, 2, 4).reshape(100, -1, 64, 64)
            )
            scores = np.asarray(model.predict(tiles.copy()), float)
            water = image[BANDS.index('B03')] > image[BANDS.index('B08')]
            for kind, labels in KINDS.items():
                columns = [model.card.labels.index(label) for label in labels]
                there = np.isin(truth, labels) & (water if kind == 'water' else True)
                rows[kind].append(measured(scores, columns, model.card.labels, float(there.sum())))
    for kind, found in rows.items():
        counted, summed, inside, width = np.array(found, float).T
        errors = [f'{off.mean():+.3f} (RMSE {np.sqrt((off**2).mean()):.3f})' for off in (counted, summed)]
        print(f'{kind}: tiles with the label off by {errors[0]} of the scene, sum by scores {errors[1]}; '
              f'{inside.mean():.2f} in intervals of 90 %, {width.mean():.2f} wide')  # fmt: skip
    print(f'all: {np.mean([row[2] for found in rows.values() for row in found]):.3f} in intervals')


def measured(
    scores: np.ndarray, columns: list[int], labels: tuple[str, ...], truth: float
) -> tuple[float, ...]:
    """Errors of both sums, whether the interval holds the truth, and its width, in shares of the scene."""
    tile, whole = 64.0**2, 64.0**2 * len(scores)
    shares = np.array([SHARES.get(labels[column], 1.0) for column in columns])
    best = scores.argmax(1)[:, None] == np.array(columns)
    sizes = np.full(len(scores), tile)
    said = area(
        covered_shares(scores[:, columns], shares, best.any(1), sizes), TileAreas((10, 10), sizes, sizes)
    )
    low, high = said.interval or (0.0, 0.0)
    counted = float((best @ shares).sum()) * tile
    return (
        (counted - truth) / whole,
        ((said.value or 0) - truth) / whole,
        low <= truth <= high,
        (high - low) / whole,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root')
    parser.add_argument('--bundles', type=Path, required=True)
    parser.add_argument('--mosaics', type=int, default=3, help='a fold')
    parser.add_argument('--correlation', type=float, default=combine.CORRELATION)
    options = parser.parse_args()
    combine.CORRELATION = options.correlation
    areas(options.root, options.bundles, options.mosaics)


if __name__ == '__main__':
    main()

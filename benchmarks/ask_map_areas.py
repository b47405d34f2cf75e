"""Areas that `geores ask` reads from the class map, on mosaics of labelled patches whose areas are known.

    python benchmarks/ask_map_areas.py S2_L2A [--model landcover-l1c --line first] [--patches 16]

The patches of `s2-l2a` whose hand label has a counterpart among the labels of the bundle are put together
at random, the shares of the classes drawn from a flat Dirichlet distribution; pixels nearer to the edge of a
patch than the context of the bundle are left out. The mapped areas of a mosaic are compared with those of the
labels, and the intervals that hold the truth are counted, for several shares of the variance that pixels
have in common.

Then it is told by what factor the intervals would have to be widened, class by class, to hold the truth of
90 % of mosaics of every other patch, and what that gives on mosaics of the rest.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import torch
from scipy.special import ndtri

import geores
from geores.asking.class_map import TAIL, shifted
from geores.asking.predictions import LEVEL
from geores.inference.sinks import PROBABILITY_STEPS
from geores.tasks.levels import SentinelLevels

CLASSES = {
    'SeaLake': 'water',
    'Forest': 'trees',
    'AnnualCrop': 'crops',
    'Pasture': 'grass',
    'Residential': 'built',
    'Industrial': 'built',
}
CORRELATIONS = (0.02, 0.05, 0.1, 0.15, 0.25)


def histograms(
    model: geores.Model, folder: Path, line: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label of each patch, pixels by class and probability (n, K, 255), and mapped shares (n, K)."""
    table, labels = pd.read_csv(folder / 'labels.csv'), list(model.card.labels)
    context, truths, counts, mapped = model.card.context or 0, [], [], []
    for file, label in table[table['label'].isin(CLASSES)].itertuples(index=False):
        with rasterio.open(folder / 'images' / file) as image:
            bands = [list(image.descriptions).index(band) + 1 for band in model.card.bands]
            pixels = image.read(bands).astype(np.float32)
        if line is not None:
            views = SentinelLevels().fixed(torch.from_numpy(pixels[None]), model.card.bands)
            pixels = views[f'L1C by the {line} line'].student[0].numpy()
        found = model.predict(pixels[None])[0][:, context:-context, context:-context].reshape(len(labels), -1)
        steps = np.rint(found * PROBABILITY_STEPS).astype(int)
        counts.append([np.bincount(row, minlength=PROBABILITY_STEPS + 1) / row.size for row in steps])
        mapped.append(np.bincount(found.argmax(0), minlength=len(labels)) / found.shape[1])
        truths.append(labels.index(CLASSES[label]))
    return np.array(truths), np.array(counts), np.array(mapped)


def mosaics(
    truths: np.ndarray,
    mapped: np.ndarray,
    taken: np.ndarray,
    args: argparse.Namespace,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patches of each mosaic (n, patches), and true and mapped shares of the classes, (n, K)."""
    kinds, chosen, shares = sorted(set(truths)), [], []
    for _ in range(args.mosaics):
        wanted = rng.choice(kinds, args.patches, p=rng.dirichlet(np.ones(len(kinds))))
        places = np.array([rng.choice(taken[truths[taken] == kind]) for kind in wanted])
        chosen.append(places)
        shares.append(np.bincount(truths[places], minlength=mapped.shape[1]) / args.patches)
    return np.array(chosen), np.array(shares), mapped[np.array(chosen)].mean(1)


def widen(
    truths: np.ndarray, seen: list[tuple[np.ndarray, ...]], labels: list[str], args: argparse.Namespace
) -> None:
    """Print by how much intervals have to be widened by one half of the patches, and what the other says."""
    kinds = sorted(set(truths))
    chances = np.arange(PROBABILITY_STEPS + 1) / PROBABILITY_STEPS
    halves = []
    for half in (0, 1):
        needed = []
        for counts, mapped in seen:
            rng = np.random.default_rng(half + 1)
            chosen, truth, maps = mosaics(truths, mapped, np.arange(half, len(truths), 2), args, rng)
            low, high = ((counts @ shifted(chances, z))[chosen].mean(1) for z in (-TAIL, TAIL))
            # By what factor the half of the interval on the side of the truth has to be widened to reach it.
            room = np.where(truth < maps, maps - np.minimum(low, maps), np.maximum(high, maps) - maps)
            needed.append((np.abs(truth - maps) - 1e-9).clip(0) / np.maximum(room, 1e-9))
        halves.append(np.concatenate(needed))
    rows = [(labels[kind], halves[0][:, kind], halves[1][:, kind]) for kind in kinds]
    rows.append(('all', halves[0][:, kinds].ravel(), halves[1][:, kinds].ravel()))
    for label, fit, check in rows:
        factor = max(1.0, float(np.quantile(fit, LEVEL)))
        print(
            f'{label}: factor {factor:.2f}; on the other patches {(check <= factor).mean():.3f} hold it, '
            f'{(check <= 1).mean():.3f} without'
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', type=Path)
    parser.add_argument('--model', default='landcover')
    parser.add_argument(
        '--line', choices=('first', 'second', 'both'), help='by which patches are brought to L1C levels'
    )
    parser.add_argument('--patches', type=int, default=16)
    parser.add_argument('--mosaics', type=int, default=1000)
    args = parser.parse_args()
    model = geores.load_model(args.model)
    lines = ('first', 'second') if args.line == 'both' else (args.line,)
    seen = [histograms(model, args.data, line) for line in lines]
    truths, counts, mapped = seen[0]
    chances, tail = np.arange(PROBABILITY_STEPS + 1) / PROBABILITY_STEPS, float(ndtri(0.95))
    kinds, rng = sorted(set(truths)), np.random.default_rng(0)
    chosen, truth, maps = mosaics(truths, mapped, np.arange(len(truths)), args, rng)
    print(f'{len(truths)} patches, {args.mosaics} mosaics of {args.patches}, by {model.name}')
    for kind in kinds:
        error = maps[:, kind] - truth[:, kind]
        rmse = np.sqrt((error**2).mean())
        print(f'{model.card.labels[kind]}: mapped share, mean error {error.mean():+.3f}, RMSE {rmse:.3f}')
    for correlation in CORRELATIONS:
        ends = [counts @ shifted(chances, z, correlation) for z in (-tail, tail)]
        low, high = (np.array([end[places].mean(0) for places in chosen]) for end in ends)
        low, high = np.minimum(low, maps), np.maximum(high, maps)
        held = ((low <= truth + 1e-9) & (truth <= high + 1e-9))[:, kinds]
        width = (high - low)[:, kinds].mean()
        named = zip((model.card.labels[kind] for kind in kinds), held.mean(0), strict=True)
        by_class = ', '.join(f'{label} {share:.2f}' for label, share in named)
        print(f'correlation {correlation}: {held.mean():.3f} hold it ({by_class}), mean width {width:.3f}')
    widen(truths, [one[1:] for one in seen], list(model.card.labels), args)


if __name__ == '__main__':
    main()

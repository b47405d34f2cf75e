"""Splits of the same places by geores, torchgeo, verde and scikit-learn: what they give, and the time.

    python benchmarks/splits.py [--places 10000] [--metadata metadata.parquet of reBEN]

Places of 1.2 km patches across the border of two UTM zones, with labels that cluster. Every answer is judged
alike: sizes (wanted: 70/15/15, or five folds), the largest difference of a label's share between parts, the
nearest pair across parts, and whether rows in another order get the same parts. `pip install verde` first.
"""

import argparse
import time
from collections.abc import Callable

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
import torch
from sklearn.model_selection import GroupKFold
from torchgeo.datasets import GeoDataset
from torchgeo.datasets.splits import random_bbox_assignment, random_grid_cell_assignment

from geores.splits import GeographicKFold, geographic_split
from geores.splits.buffer import nearest
from geores.splits.files import reben_split

BLOCK = 20_000.0
SIDE = 1200.0
SIZES = [0.7, 0.15, 0.15]


def places(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Longitudes and latitudes across the border of zones 32 and 33, metres in EPSG:3035, and labels."""
    side = int(np.sqrt(count))
    x, y = np.meshgrid(4_420_000 + SIDE * np.arange(side), 2_800_000 + SIDE * np.arange(side))
    metric = np.stack([x.ravel(), y.ravel()], axis=1)
    lon, lat = pyproj.Transformer.from_crs(3035, 4326, always_xy=True).transform(*metric.T)
    random = np.random.default_rng(0)
    towns = metric[random.choice(len(metric), 60)]
    labels = np.array(list('abcdef'))[random.integers(0, 6, 60)]
    near = ((metric[:, None] - towns) ** 2).sum(-1).argmin(1)
    return np.stack([lon, lat], axis=1), metric, labels[near]


class Footprints(GeoDataset):
    """An index of footprints, which is what torchgeo splits."""

    def __init__(self, boxes: np.ndarray) -> None:
        when = pd.IntervalIndex.from_tuples([(pd.Timestamp('2020'), pd.Timestamp('2021'))] * len(boxes))
        self.index = gpd.GeoDataFrame({'row': np.arange(len(boxes))}, geometry=boxes, crs=3035).set_index(
            when
        )

    def __getitem__(self, query: object) -> dict:
        raise NotImplementedError


def torchgeo_patches(metric: np.ndarray) -> np.ndarray:
    """A footprint a patch, each to a part."""
    boxes = shapely.box(*(metric - SIDE / 2).T, *(metric + SIDE / 2).T)
    generator = torch.Generator().manual_seed(0)
    parts = np.full(len(metric), -1)
    for number, part in enumerate(random_bbox_assignment(Footprints(boxes), SIZES, generator)):
        parts[part.index['row'].to_numpy()] = number
    return parts


def torchgeo_grid(metric: np.ndarray) -> np.ndarray:
    """One scene over everything, whose cells go to parts, and patches with the cell of their middle."""
    low, high = metric.min(0) - SIDE / 2, metric.max(0) + SIDE / 2
    scene = Footprints(np.array([shapely.box(*low, *high)]))
    cells = int(np.ceil((high - low).max() / BLOCK))
    generator = torch.Generator().manual_seed(0)
    parts = np.full(len(metric), -1)
    for number, part in enumerate(random_grid_cell_assignment(scene, SIZES, cells, generator)):
        tree = shapely.STRtree(part.index.geometry.to_numpy())
        parts[tree.query(shapely.points(metric), predicate='intersects')[0]] = number
    return parts


def of_folds(folds: object, count: int) -> np.ndarray:
    parts = np.full(count, -1)
    for number, (_, test) in enumerate(folds):
        parts[test] = number
    return parts


def tools(lonlat: np.ndarray, metric: np.ndarray, labels: np.ndarray) -> dict[str, Callable]:
    """What to run: rows in some order -> part of each."""

    def ours(method: str, order: np.ndarray, **options: object) -> np.ndarray:
        options = {**options, 'labels': labels[order]}
        return geographic_split(lonlat[order], method, **options).codes

    def verde(order: np.ndarray) -> np.ndarray:
        from verde import BlockKFold

        cv = BlockKFold(spacing=BLOCK, n_splits=5, shuffle=True, random_state=0)
        return of_folds(cv.split(metric[order]), len(order))

    def group(order: np.ndarray) -> np.ndarray:
        cells = np.unique(np.floor(metric[order] / BLOCK), axis=0, return_inverse=True)[1].ravel()
        return of_folds(GroupKFold(5, shuffle=True, random_state=0).split(order, groups=cells), len(order))

    def folds(order: np.ndarray) -> np.ndarray:
        cv = GeographicKFold(5, 'blocks', block_size=BLOCK)
        return of_folds(cv.split(lonlat[order], labels[order]), len(order))

    return {
        'geores blocks': lambda order: ours('blocks', order, block_size=BLOCK),
        'geores blocks, buffer 3 km': lambda order: ours('blocks', order, block_size=BLOCK, buffer=3000),
        'geores hexagons': lambda order: ours('hexagons', order, block_size=BLOCK),
        'geores clusters (60)': lambda order: ours('clusters', order, cluster_count=60),
        'geores random': lambda order: ours('random', order),
        'torchgeo random_grid_cell_assignment': lambda order: torchgeo_grid(metric[order]),
        'torchgeo random_bbox_assignment': lambda order: torchgeo_patches(metric[order]),
        'geores GeographicKFold(5)': folds,
        'verde BlockKFold(5)': verde,
        'scikit-learn GroupKFold(5) on blocks': group,
    }


def judged(parts: np.ndarray, lonlat: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    used = [part for part in range(parts.max() + 1) if (parts == part).any()]
    shares = np.array([[(labels[parts == part] == one).mean() for one in np.unique(labels)] for part in used])
    gaps = [
        nearest(lonlat[parts == one], lonlat[parts == other])[0].min()
        for place, one in enumerate(used)
        for other in used[:place]
    ]
    sizes = np.array([(parts == part).sum() for part in used]) / (parts >= 0).sum()
    return {
        'sizes %': '/'.join(f'{100 * one:.1f}' for one in sizes),
        'label gap': f'{100 * np.ptp(shares, axis=0).max():.1f} %',
        'nearest': f'{min(gaps) / 1000:.1f} km',
        'dropped': f'{(parts == -1).sum():,}',
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--places', type=int, default=10_000)
    parser.add_argument('--metadata', help='of reBEN: its split recomputed and timed')
    args = parser.parse_args()
    lonlat, metric, labels = places(args.places)
    order, other = np.arange(len(lonlat)), np.random.default_rng(1).permutation(len(lonlat))
    print(f'{len(lonlat):,} places, blocks of {BLOCK / 1000:g} km\n')
    rows = []
    for name, run in tools(lonlat, metric, labels).items():
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            parts = run(order)
            seconds.append(time.perf_counter() - start)
        moved = np.empty_like(parts)
        moved[other] = run(other)
        record = {'tool': name, 's': f'{min(seconds):.2f}', **judged(parts, lonlat, labels)}
        rows.append(record | {'any order': 'same' if (moved == parts).all() else 'differs'})
    heads = list(rows[0])
    print('| ' + ' | '.join(heads) + ' |\n|' + '---|' * len(heads))
    for row in rows:
        print('| ' + ' | '.join(row.values()) + ' |')
    if args.metadata:
        table = pd.read_parquet(args.metadata, columns=['patch_id', 'split'])
        start = time.perf_counter()
        found = reben_split(table['patch_id'])
        seconds = time.perf_counter() - start
        same = int((found == table['split'].to_numpy(object)).sum())
        print(f'\nreBEN: {same:,} of {len(table):,} rows equal in {seconds:.2f} s')


if __name__ == '__main__':
    main()

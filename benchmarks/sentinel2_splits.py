"""The splits by which `sentinel2` is fine-tuned: five folds of the L2A patches beside some of EuroSAT.

    python benchmarks/sentinel2_splits.py EUROSAT10 PATCHES BLOCKS.parquet OUT

EUROSAT10 is what `eurosat_bands.py` writes, PATCHES a folder for `geores.datasets.GeoTIFFPatches`, and
BLOCKS the split of EuroSAT's places by `geores split`. OUT becomes a folder of `fold1.csv` ... `fold5.csv`
and `all.csv`: each trains on the patches of the other folds (near duplicates stay together) and on `--each`
images a class from EuroSAT's training blocks, and validates on the patches of the fold and on EuroSAT's
validation blocks. `--without FILE` drops the patches that it names from training alone.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from geores.datasets import GeoTIFFPatches
from geores.splits import group_folds, near_duplicates, read_split

BANDS = ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ('eurosat', 'patches', 'blocks', 'out'):
        parser.add_argument(name, type=Path)
    parser.add_argument('--each', type=int, default=100, help='images of EuroSAT a class to train on')
    parser.add_argument('--folds', type=int, default=5)
    parser.add_argument('--without', type=Path, help='a text file of names of patches, one a line')
    args = parser.parse_args()
    eurosat, patches = GeoTIFFPatches(args.eurosat, BANDS), GeoTIFFPatches(args.patches, BANDS)
    blocks = read_split(args.blocks).for_ids(eurosat.ids)
    part = np.full(len(eurosat), 'dropped', object)
    part[blocks.val], part[list(blocks.test)] = 'val', 'test'
    random = np.random.default_rng(0)
    strata = np.array(eurosat.strata)
    for label in eurosat.labels:
        rows = np.intersect1d(np.flatnonzero(strata == label), blocks.train)
        part[random.choice(rows, min(args.each, len(rows)), replace=False)] = 'train'
    patches.images.load()
    groups = near_duplicates(patches.images[index] for index in range(len(patches))).tolist()
    folds = group_folds(patches.ids, patches.strata, groups, args.folds, 0)
    out_of = set() if args.without is None else set(args.without.read_text(encoding='utf-8').split())
    kept = np.array([Path(one).name not in out_of for one in patches.ids])
    args.out.mkdir(parents=True, exist_ok=True)
    for number, fold in enumerate([*folds, None], 1):
        own = np.full(len(patches), 'train', object)
        own[~kept] = 'dropped'
        if fold is not None:
            own[fold.val] = 'val'
        frame = pd.DataFrame({'id': [*eurosat.ids, *patches.ids], 'split': [*part, *own]})
        name = 'all' if fold is None else f'fold{number}'
        frame.to_csv(args.out / f'{name}.csv', index=False)
        print(name, frame.groupby([frame.id.str.split('/').str[0], 'split']).size().to_dict())


if __name__ == '__main__':
    main()

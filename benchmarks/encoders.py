"""What encoders are worth on images that trained none of `resnet18-scenes`: a linear SVM on their features.

    python benchmarks/encoders.py NWPU-RESISC45 EUROSAT ucmerced --blocks blocks50.csv \\
        --encoders resnet18 resnet18-scenes tf_efficientnet_lite0=FILE aerial-scenes aerial-rgb

Of NWPU-RESISC45 the 20 % that `benchmarks/aerial_scenes.py` tests on: a tenth of each class trains the SVM
and 30 others are tested; of UC Merced a tenth and the rest; of EuroSAT 50 pictures a class of the validation
blocks and 100 of the test blocks (`geores split`, other places). Each three times. All take 128 pixels. An
architecture without a file has random weights.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from aerial_scenes import MEAN, STD
from numpy.typing import NDArray

from geores import models
from geores.datasets import RESISC45, SceneFolder
from geores.protocol.encoder import choose_encoder, choose_further
from geores.protocol.features import deep_features, linear_svm
from geores.splits import PARTS, read_split
from geores.splits.stratified import stratified_split

SIZE, REPEATS = 128, 3
C = 0.001

Draw = tuple[list[int], list[int]]


def some(rows: Sequence[int], classes: NDArray[np.int64], most: int, draw: np.random.Generator) -> list[int]:
    """At most so many of each class, drawn."""
    order = draw.permutation(rows)
    return [int(row) for label in np.unique(classes[order]) for row in order[classes[order] == label][:most]]


def drawn(data: SceneFolder, parts: Sequence[Sequence[int]], most: Sequence[int]) -> list[Draw]:
    """Training and test rows of each repeat, from two parts or from one."""
    found = []
    for seed in range(REPEATS):
        draw = np.random.default_rng(seed)
        train = some(parts[0], data.targets, most[0], draw)
        rest = [row for row in parts[-1] if row not in set(train)]
        found.append((train, some(rest, data.targets, most[1], draw)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ('resisc45', 'eurosat', 'ucmerced'):
        parser.add_argument(name, type=Path)
    parser.add_argument('--blocks', type=Path, required=True)
    parser.add_argument('--encoders', nargs='+', required=True)
    args = parser.parse_args()
    scenes = RESISC45(args.resisc45, size=SIZE)
    covers, land = SceneFolder(args.eurosat, size=SIZE), SceneFolder(args.ucmerced, size=SIZE)
    tested = stratified_split(scenes.ids, [item.scene for item in scenes.items], 0.2, 0).val
    parts = read_split(args.blocks).parts
    blocks = [
        [row for row, item in enumerate(covers.items) if parts[item.path.stem] == part] for part in PARTS[1:]
    ]
    sets = {
        'resisc45': (scenes, drawn(scenes, [tested], (14, 30))),
        'eurosat, blocks of 50 km': (covers, drawn(covers, blocks, (50, 100))),
        'ucmerced': (land, drawn(land, [range(len(land))], (8, 1000))),
    }
    for name in args.encoders:
        known = '=' in name or name not in models.architectures()
        if known:
            encoder = choose_further(name, SIZE, [one / 255 for one in MEAN], [one / 255 for one in STD])
        else:
            encoder = choose_encoder(name, size=SIZE)
        torch.manual_seed(0)
        network = encoder.network()
        for title, (data, draws) in sets.items():
            rows = sorted({row for draw in draws for part in draw for row in part})
            images = [data.images[row] for row in rows]
            mean, std = encoder.mean or MEAN, encoder.std or STD
            features = deep_features(network, images, mean, std, precision='bf16')
            place = {row: number for number, row in enumerate(rows)}
            right = []
            for seed, draw in enumerate(draws):
                train, test = ([place[row] for row in part] for part in draw)
                classes, wanted = (data.targets[part] for part in draw)
                said = linear_svm(features[train], classes, features[test], C, seed).classes
                right.append(float((said == wanted).mean()))
            print(f'{name}, {title}: {np.mean(right):.4f} ± {np.std(right, ddof=1):.4f}', flush=True)


if __name__ == '__main__':
    main()

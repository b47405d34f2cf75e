"""The bundle `resnet18-scenes`: a ResNet-18 that learnt from NWPU-RESISC45 and EuroSAT, not from ImageNet.

    python benchmarks/resnet18_scenes.py NWPU-RESISC45 EUROSAT --blocks blocks50.csv \\
        --features lite0.npy lite1.npy lite2.npy aerial.npy --minutes 55 --out resnet18-scenes

An encoder to start from where a ResNet is wanted. Labels of both data sets train it, by a head each, and
features that better networks give for the images of NWPU-RESISC45 (FEATURES: (N, F) each, in the order of
`RESISC45(folder).ids`, by `geores.protocol.features.deep_features`), by the cosine between them and a
projection of its own. Of NWPU-RESISC45 the parts are those of `benchmarks/aerial_scenes.py`: 70 % train, 10 %
give the temperature, 20 % test. Of EuroSAT the training blocks of `geores split` train, and the test blocks
test. Images grow from 64 to 128 pixels while it trains; the clock sets the learning rate and the end.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aerial_scenes import figures, save, scene_card
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional

from geores import models
from geores.card_values import DataSource
from geores.datasets import RESISC45, SceneFolder
from geores.metrics.crossval import Scores, temperature_of
from geores.splits import read_split
from geores.splits.stratified import stratified_split
from geores.tasks.augment import Colour, Dihedral

ARCHITECTURE = 'resnet18'
MEAN, STD = (94.0, 97.0, 88.0), (51.0, 47.0, 47.0)  # of NWPU-RESISC45, rounded
SIZE = 128
SIZES = ((0.5, 64), (0.85, 96), (1.01, 128))  # up to this part of the time, this many pixels
BATCH = 128
RATE, DECAY, WARM_UP = 0.1, 5e-4, 0.1
SMOOTHING = 0.1
TARGETS = 256  # components of the better networks' features
LIKENESS = 4.0  # weight of the cosine beside the labels
SMALLEST = 0.6  # side of a crop, as a share of the image's
EVERY = 300.0  # seconds between checkpoints
RGB = ('red', 'green', 'blue')

Pixels = NDArray[np.uint8]
Lesson = tuple[Pixels, Tensor]


class Learner(nn.Module):
    """A ResNet-18 with a head for each data set and a projection on the better networks' features.

    Args:
        scenes: classes of NWPU-RESISC45.
        covers: classes of EuroSAT.
    """

    def __init__(self, scenes: int, covers: int) -> None:
        super().__init__()
        self.network = models.create(ARCHITECTURE, in_chans=3, num_classes=scenes)
        self.covers = nn.Linear(512, covers)
        self.likeness = nn.Linear(512, TARGETS)

    def forward(self, images: Tensor, scenes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of scenes and likeness for the first `scenes` images, and logits of covers for the rest."""
        network: Any = self.network
        pooled = network.forward_head(network.forward_features(images), pre_logits=True).float()
        first = pooled[:scenes]
        return network.get_classifier()(first), self.likeness(first), self.covers(pooled[scenes:])


def wanted_features(paths: Sequence[Path], train: Sequence[int]) -> Tensor:
    """What the better networks give, side by side, as `TARGETS` components, of length 1."""
    parts = []
    for path in paths:
        rooted = np.sqrt(np.maximum(np.load(path).reshape(-1, 1280).astype(np.float32), 0))
        rooted -= rooted[train].mean(0)
        parts.append(rooted / np.linalg.norm(rooted, axis=1, keepdims=True))
    together = np.hstack(parts)
    components = PCA(TARGETS, svd_solver='randomized', random_state=0).fit(together[train])
    # Half way to equal variance, so that the first few directions are not all that is learnt.
    found = components.transform(together) / components.explained_variance_**0.25
    return functional.normalize(torch.from_numpy(found.astype(np.float32)), dim=1)


def crops(images: Pixels, rows: NDArray[np.int64], size: int, draw: np.random.Generator) -> Tensor:
    """Random squares of some images, all of one side, brought to `size`."""
    whole = images.shape[-1]
    side = int(draw.integers(round(SMALLEST * whole), whole + 1))
    corners = draw.integers(0, whole - side + 1, (len(rows), 2))
    cut = [images[row, :, y : y + side, x : x + side] for row, (y, x) in zip(rows, corners, strict=True)]
    pixels = torch.from_numpy(np.stack(cut)).float()
    return functional.interpolate(pixels, (size, size), mode='bilinear', antialias=True)


def order(count: int, batch: int, draw: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Rows without end, each pass in an order of its own."""
    while True:
        rows = draw.permutation(count)
        yield from (rows[start : start + batch] for start in range(0, count - batch + 1, batch))


def rate(part: float) -> float:
    """Learning rate after a part of the time: up in a line, down in a cosine."""
    if part < WARM_UP:
        return RATE * part / WARM_UP
    return float(RATE * (1 + np.cos(np.pi * min(1, (part - WARM_UP) / (1 - WARM_UP)))) / 2)


def train(
    learner: Learner,
    taught: Callable[[], tuple[Lesson, Lesson, Tensor]],
    minutes: float,
    kept: Path,
    seed: int,
) -> int:
    """Train for a time, from the last checkpoint where there is one.

    Args:
        learner: what learns.
        taught: images and classes of both training parts, and features wanted for the first.
        minutes: the time.
        kept: file of the checkpoint.
        seed: of order and augmentation.

    Returns:
        Number of steps.
    """
    learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = [
        {'params': [one for one in learner.parameters() if one.ndim > 1], 'weight_decay': DECAY},
        {'params': [one for one in learner.parameters() if one.ndim == 1], 'weight_decay': 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)
    spent, step = 0.0, 0
    if kept.exists():
        found = torch.load(kept, weights_only=True)
        learner.load_state_dict(found['learner'])
        optimizer.load_state_dict(found['optimizer'])
        spent, step = found['spent'], found['step']
    if spent >= 60 * minutes:
        learner.eval()
        return int(step)
    scenes, covers, features = taught()
    torch.manual_seed(seed + step)
    draw = np.random.default_rng((seed, step))
    share = round(BATCH * len(scenes[0]) / (len(scenes[0]) + len(covers[0])))
    first, second = order(len(scenes[0]), share, draw), order(len(covers[0]), BATCH - share, draw)
    dihedral, colour = Dihedral(), Colour()
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    started, saved, shown = time.monotonic() - spent, spent, spent
    total = 60 * minutes
    learner.train()
    while spent < total:
        size = next(size for end, size in SIZES if spent / total < end)
        for group in optimizer.param_groups:
            group['lr'] = rate(spent / total)
        a, b = next(first), next(second)
        images = torch.cat([crops(scenes[0], a, size, draw), crops(covers[0], b, size, draw)])
        images = (colour(dihedral(images, RGB), RGB) - shift) / scale
        with torch.autocast('cpu', torch.bfloat16):
            named, like, covered = learner(images.contiguous(memory_format=torch.channels_last), share)
        likeness = functional.cosine_similarity(like.float(), features[a]).mean()
        losses = [
            functional.cross_entropy(logits.float(), wanted, label_smoothing=SMOOTHING)
            for logits, wanted in ((named, scenes[1][a]), (covered, covers[1][b]))
        ]
        loss = losses[0] * share / BATCH + losses[1] * (1 - share / BATCH) + LIKENESS * (1 - likeness)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
        optimizer.step()
        step, spent = step + 1, time.monotonic() - started
        if spent - shown > 30:
            shown = spent
            right = (named.argmax(1) == scenes[1][a]).float().mean()
            print(
                f'{spent / 60:.1f} min, step {step}, {size} px: scenes {losses[0]:.3f} ({right:.2f}), '
                f'covers {losses[1]:.3f}, cosine {likeness:.3f}',
                flush=True,
            )
        if spent - saved > EVERY or spent >= total:
            saved = spent
            state = {'learner': learner.state_dict(), 'optimizer': optimizer.state_dict()}
            torch.save({**state, 'spent': spent, 'step': step}, kept.with_suffix('.new'))
            kept.with_suffix('.new').replace(kept)
    learner.eval()
    return step


@torch.inference_mode()
def answers(learner: Learner, images: Pixels, rows: Sequence[int], covers: bool) -> Tensor:
    """Probabilities of scenes, or of EuroSAT's classes, at `SIZE`."""
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    found = []
    for start in range(0, len(rows), BATCH):
        pixels = torch.from_numpy(images[list(rows[start : start + BATCH])]).float()
        pixels = functional.interpolate(pixels, (SIZE, SIZE), mode='bilinear', antialias=True)
        pixels = ((pixels - shift) / scale).contiguous(memory_format=torch.channels_last)
        with torch.autocast('cpu', torch.bfloat16):
            named, _, covered = learner(pixels, 0 if covers else len(pixels))
        found.append((covered if covers else named).float().softmax(1))
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path)
    parser.add_argument('eurosat', type=Path)
    parser.add_argument('--blocks', type=Path, required=True, help='table of names and parts of EuroSAT')
    parser.add_argument('--features', type=Path, nargs='+', required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--others', type=Path, nargs='*', default=[])
    parser.add_argument('--most', type=int, default=30, help='images a class of the others')
    parser.add_argument('--minutes', type=float, default=55)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    data, pictures = RESISC45(args.folder, size=SIZE), SceneFolder(args.eurosat)
    names = [item.scene for item in data.items]
    outer = stratified_split(data.ids, names, 0.2, args.seed)
    rest = outer.train
    inner = stratified_split([data.ids[row] for row in rest], [names[row] for row in rest], 0.125, args.seed)
    known, val = ([rest[row] for row in part] for part in (inner.train, inner.val))
    parts = read_split(args.blocks).parts
    placed = [parts[item.path.stem] for item in pictures.items]
    taught, tested = ([row for row, one in enumerate(placed) if one == part] for part in ('train', 'test'))
    print(f'{len(known)} scenes and {len(taught)} pictures of EuroSAT train', flush=True)

    def stored(one: SceneFolder, rows: Sequence[int]) -> Pixels:
        return np.stack([one.images[row] for row in rows])

    classes, covers = (torch.from_numpy(np.asarray(one.targets)) for one in (data, pictures))
    torch.manual_seed(args.seed)
    learner = Learner(len(data.labels), len(pictures.labels))
    steps = train(
        learner,
        lambda: (
            (stored(data, known), classes[known]),
            (stored(pictures, taught), covers[taught]),
            wanted_features(args.features, known)[known],
        ),
        args.minutes,
        args.out.with_suffix('.pt'),
        args.seed,
    )

    def scored(rows: Sequence[int]) -> Scores:
        values = answers(learner, stored(data, rows), range(len(rows)), covers=False)
        return Scores(values, classes[rows], ['resisc45'] * len(rows), data.labels)

    temperature = round(temperature_of(scored(val)), 4)
    held = figures(
        scored(outer.val), temperature, f'{len(outer.val)} images that neither trained nor chose anything'
    )
    covered = answers(learner, stored(pictures, tested), range(len(tested)), covers=True)
    right = float((covered.argmax(1) == covers[tested]).float().mean())
    metrics: dict[str, dict[str, Any]] = {
        'resisc45': held,
        'eurosat, test blocks': {
            'split': f'{len(tested)} pictures in blocks of 50 km, 5 km from all others; by a head that '
            'the bundle leaves out',
            'accuracy': round(right, 4),
        },
    }
    card = scene_card(
        data.labels,
        outer,
        held,
        temperature,
        len(val),
        'EuroSAT is Europe: of 10 m it knows no other ground',
        name='resnet18-scenes',
        description='A ResNet-18 to start from, trained without ImageNet; names which of 45 scenes a tile '
        'of aerial or very fine satellite imagery shows, less well than `aerial-scenes`.',
        architecture=ARCHITECTURE,
        input_size=SIZE,
        mean=MEAN,
        std=STD,
        training_data=(
            DataSource(
                name='NWPU-RESISC45',
                licence='Google Earth imagery, academic use',
                also=('resisc45', 'RESISC45'),
                note=f'{len(known):,} images',
            ),
            DataSource(
                name='EuroSAT',
                licence='MIT; contains Copernicus Sentinel data',
                also=('eurosat', 'EuroSAT_RGB'),
                note=f'{len(taught):,} pictures of the training blocks; their head is left out',
            ),
            DataSource(
                name='ImageNet, UC Merced, AID',
                licence='research use; the weights of the networks Apache-2.0',
                also=('ImageNet', 'UCMerced', 'ucmerced', 'AID', 'aid'),
                note='through features of EfficientNet-Lite0 to -Lite2 and of aerial-rgb',
            ),
        ),
    )
    print(f'{steps} steps')
    save(args.out, learner.network, replace(card, metrics=metrics), args.others, args.most)


if __name__ == '__main__':
    main()

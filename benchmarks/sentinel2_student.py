"""Patches without a label for `sentinel2`: what all models reach together, and a student that learns from it.

    python benchmarks/sentinel2_student.py S2-POOL S2-L2A EUROSAT10 --before runs/eurosat \\
        --after runs/sentinel2 --splits folds --weights efficientnet-lite0-57934424.pth --out student

S2-POOL is a folder of L2A patches (`*.tif`) that holds those of S2-L2A and others without a label; the other
arguments are those of `sentinel2_bundle.py`, which makes a bundle of what is written (`--after student`).

For each fold models answer that have not seen its validation patches: the fold's network (nine tenths of it,
one of the network before the patches), logistic regression on features of an ImageNet network and of the
network before the patches, and boosted trees on figures of bands and indices and on shares of land covers.
Printed is what they reach on these patches, with the labels as they stand; what logistic regression over all
their answers reaches, fitted on the other folds' patches; and what geometric means do.

The student (a noisy one, Xie et al. 2020; `--epochs 0` leaves it out) is the fold's network, trained further
on the labelled patches of the other folds, on patches without a label with the mean of three answers as their
target (network, ImageNet, bands), and on some of EuroSAT, all with seasons, brightness, haze and mixup.
Patches that look like one of the validation patches are left out.
"""

import argparse
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import torch
from label_noise import BANDS, band_figures, colour_features, cover_shares
from numpy.typing import NDArray
from sentinel2_bundle import mean_of
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

import geores
from geores import models
from geores.datasets import GeoTIFFPatches
from geores.datasets._geotiff import FilledPatches
from geores.splits import near_duplicates, read_split
from geores.tasks.augment import Dihedral, Gain, Haze, RandomResizedCrop, Season
from geores.tasks.losses import mix
from geores.tasks.schedule import make_optimizer

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
SMOOTHING, MIXUP, AVERAGING, MOST_GRADIENT = 0.1, 0.2, 0.99, 5.0
OTHERS = 0.25  # weight of each of the other two models beside the network
AUGMENTATIONS = (
    Dihedral(),
    RandomResizedCrop((0.7, 1.1)),
    Season(share=0.3),
    Gain((0.7, 1.35), 0.07),
    Haze(500, share=0.25),
)


class Pool:
    """Patches of a folder: images, classes (-1 without a label) and groups of near duplicates."""

    def __init__(self, folder: Path, patches: GeoTIFFPatches) -> None:
        paths = sorted(folder.glob('*.tif'))
        stored = FilledPatches(paths, BANDS, None, None, 2**31, in_order=True)
        self.images = np.stack([stored[row] for row in range(len(paths))])
        self.names = np.array([path.name for path in paths])
        known = {Path(one).name: int(label) for one, label in zip(patches.ids, patches.targets, strict=True)}
        self.target = np.array([known.get(str(name), -1) for name in self.names])
        self.group = np.asarray(near_duplicates(iter(self.images)))

    def __len__(self) -> int:
        return len(self.names)


def linear(features: Floats, target: Rows, train: Rows) -> Floats:
    """Logarithms of scores of all rows by logistic regression on principal components."""
    scaled = StandardScaler().fit(features[train]).transform(features)
    inner = PCA(120, random_state=0).fit(scaled[train]).transform(scaled)
    inner /= inner[train].std()
    machine = LogisticRegression(C=0.03, max_iter=300).fit(inner[train], target[train])
    return np.asarray(np.log(machine.predict_proba(inner) + 1e-3))


def trees(figures: Floats, target: Rows, train: Rows) -> Floats:
    """Logarithms of scores of all rows by boosted trees."""
    machine = lightgbm.LGBMClassifier(
        n_estimators=100, learning_rate=0.06, num_leaves=15, min_child_samples=5, colsample_bytree=0.4,
        subsample=0.8, subsample_freq=1, n_jobs=1, verbose=-1, random_state=0,
    )  # fmt: skip
    return np.asarray(np.log(machine.fit(figures[train], target[train]).predict_proba(figures) + 1e-3))


def spread(values: Floats, rows: Rows, count: int) -> Floats:
    """Rows of a table of `count` rows, the others 0."""
    table = np.zeros((count, values.shape[1]))
    table[rows] = values
    return table


@torch.inference_mode()
def pooled(model: Any, images: NDArray[Any]) -> Floats:  # noqa: ANN401 - a Model
    """Features of a network before its head, (N, F)."""
    found = []
    for start in range(0, len(images), 64):
        batch = model.normalise(torch.from_numpy(images[start : start + 64].astype(np.float32)))
        found.append(
            model.network.forward_head(model.network.forward_features(batch), pre_logits=True).numpy()
        )
    return np.concatenate(found).astype(np.float64)


def stacked(scores: list[Floats], target: list[Rows]) -> list[NDArray[np.bool_]]:
    """Which patches of each fold logistic regression on the others' scores, (N, M), gets right."""
    right = []
    for own in range(len(scores)):
        rest = [fold for fold in range(len(scores)) if fold != own]
        known = np.concatenate([scores[fold] for fold in rest])
        scale = StandardScaler().fit(known)
        machine = LogisticRegression(C=0.01, max_iter=500)
        machine.fit(scale.transform(known), np.concatenate([target[fold] for fold in rest]))
        right.append(machine.predict(scale.transform(scores[own])) == target[own])
    return right


@torch.inference_mode()
def answers(model: Any, images: NDArray[Any], *, turned: bool = False) -> Floats:  # noqa: ANN401 - a Model
    """Logarithms of a network's scores, (N, K); `turned` takes the mean over eight views of an image."""
    views = range(8 if turned else 1)
    scores = []
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(images[start : start + 64].astype(np.float32))
        turns = [
            torch.rot90(batch if view < 4 else batch.transpose(2, 3), view % 4, (2, 3)) for view in views
        ]
        scores.append(
            torch.stack([model.network(model.normalise(one)).softmax(1) for one in turns]).mean(0).numpy()
        )
    return np.asarray(np.log(np.concatenate(scores) + 1e-9))


def train(
    model: Any,  # noqa: ANN401 - a Model, which is changed
    images: NDArray[np.float32],
    target: NDArray[np.float32],
    order: list[Rows],
    batch: int,
    rate: float,
) -> None:
    """Train a copy of a network on soft targets; the mean of its weights over the last steps is kept.

    Args:
        model: gets the trained network in place of its own.
        images: (N, C, H, W), digital numbers.
        target: (N, K), scores.
        order: rows of each epoch.
        batch: images in a step.
        rate: learning rate after warm-up.
    """
    network = models.create(model.card.architecture, **model.card.architecture_kwargs)
    network.load_state_dict(model.network.state_dict())
    network.train().to(memory_format=torch.channels_last)
    steps = [
        epoch[start : start + batch] for epoch in order for start in range(0, len(epoch) - batch + 1, batch)
    ]
    made: Any = make_optimizer(
        network, len(steps), learning_rate=rate, weight_decay=0.05, decay_norms=False, warmup=0.1,
        warmup_steps=None, warmup_start=0.01, rate_end=0.0,
    )  # fmt: skip
    kept = {name: one.clone() for name, one in network.state_dict().items()}
    for number, rows in enumerate(steps, 1):
        pixels = torch.from_numpy(images[rows])
        for augmentation in AUGMENTATIONS:
            pixels = augmentation(pixels, BANDS)
        pixels, wanted = mix(model.normalise(pixels), torch.from_numpy(target[rows]), MIXUP)
        loss = functional.cross_entropy(network(pixels.contiguous(memory_format=torch.channels_last)), wanted)
        made['optimizer'].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT)
        made['optimizer'].step()
        made['lr_scheduler']['scheduler'].step()
        share = 1 - min(AVERAGING, (1 + number) / (10 + number))
        for name, one in network.state_dict().items():
            if one.is_floating_point():
                kept[name].lerp_(one, share)
    network.load_state_dict(kept)
    model.network = network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ('pool', 'patches', 'eurosat'):
        parser.add_argument(name, type=Path)
    for name in ('before', 'after', 'splits', 'out'):
        parser.add_argument(f'--{name}', type=Path, required=True)
    parser.add_argument('--weights', required=True, help='of EfficientNet-Lite0, trained on ImageNet')
    parser.add_argument('--epochs', type=int, default=2, help='passes over the pool; 0 trains no student')
    parser.add_argument('--repeat', type=int, default=4, help='times that a labelled patch comes in each')
    parser.add_argument('--batch', type=int, default=24)
    parser.add_argument('--rate', type=float, default=8e-4)
    args = parser.parse_args()
    before = geores.load_model(args.before)
    patches = GeoTIFFPatches(args.patches, BANDS)
    eurosat = GeoTIFFPatches(args.eurosat, BANDS)
    pool = Pool(args.pool, patches)
    labels = len(patches.labels)
    seen: Any = pool  # as far as `colour_features` looks at a data set
    pictures, figures = colour_features(seen, args.weights), band_figures(pool.images.astype(np.float64))
    # Of labelled patches alone: they are slow, or serve the stack alone.
    rows = np.array([list(pool.names).index(Path(one).name) for one in patches.ids])
    covers = spread(cover_shares(patches), rows, len(pool))
    first = spread(pooled(before, pool.images[rows]), rows, len(pool))
    found: dict[str, list[NDArray[np.bool_]]] = {}
    stack: list[Floats] = []
    classes: list[Rows] = []
    for number in range(1, 6):
        parts = read_split(args.splits / f'fold{number}.csv').parts
        names = {
            Path(one).name: part for one, part in parts.items() if one.startswith(f'{patches.sources[0]}/')
        }
        part = np.array([names.get(str(name), '') for name in pool.names])
        learnt, own = np.flatnonzero(part == 'train'), np.flatnonzero(part == 'val')
        folder = args.after / f'fold{number}'
        model = mean_of(before, [geores.load_model(folder)], 0.9)
        network = answers(model, pool.images)
        others = [linear(pictures, pool.target, learnt), trees(figures, pool.target, learnt)]
        teacher = network + OTHERS * sum(others)
        turned = answers(model, pool.images[own], turned=True)
        members = {
            'network': network[own],
            'network, eight views': turned,
            'features of ImageNet': others[0][own],
            'figures of bands': others[1][own],
            'land covers': trees(covers, pool.target, learnt)[own],
            'features after EuroSAT': linear(first, pool.target, learnt)[own],
        }
        stack.append(np.hstack(list(members.values())))
        classes.append(pool.target[own])
        rest = [scores for name, scores in members.items() if not name.startswith('network')]
        means = {
            'teacher': teacher[own],
            'the four others': sum(rest),
            'eight views and the mean of the four': turned + sum(rest) / len(rest),
        }
        for name, scores in (members | means).items():
            right = scores.argmax(1) == pool.target[own]
            found.setdefault(name, []).append(right)
            print(f'fold {number}, {name}: {right.mean():.4f}', flush=True)
        if args.epochs:
            alike = np.isin(pool.group, pool.group[own])
            free = np.flatnonzero((part == '') & (pool.target < 0) & ~alike)
            some = [row for row, one in enumerate(eurosat.ids) if parts[one] == 'train']
            images = np.concatenate(
                [pool.images[learnt], pool.images[free], np.stack([eurosat.images[row] for row in some])]
            ).astype(np.float32)
            hard = np.eye(labels)[np.concatenate([pool.target[learnt], eurosat.targets[some]])]
            hard = (1 - SMOOTHING) * hard + SMOOTHING / labels
            soft = torch.from_numpy(teacher[free]).softmax(1).numpy()
            target = np.concatenate([hard[: len(learnt)], soft, hard[len(learnt) :]]).astype(np.float32)
            random = np.random.default_rng(1)
            torch.manual_seed(1)
            one = np.concatenate(
                [np.tile(np.arange(len(learnt)), args.repeat), np.arange(len(learnt), len(target))]
            )
            order = [random.permutation(one) for _ in range(args.epochs)]
            student = geores.load_model(folder)
            train(student, images, target, order, args.batch, args.rate)
            geores.save_bundle(args.out / f'fold{number}', student.network, student.card, overwrite=True)
            mixed = mean_of(before, [geores.load_model(args.out / f'fold{number}')], 0.9)
            right = answers(mixed, pool.images[own]).argmax(1) == pool.target[own]
            found.setdefault('student', []).append(right)
            print(f'fold {number}, student: {right.mean():.4f}', flush=True)
    found['stack of all'] = stacked(stack, classes)
    for name, folds in found.items():
        shares = [one.mean() for one in folds]
        print(f'{name}: {np.concatenate(folds).mean():.4f} ± {np.std(shares):.4f}')


if __name__ == '__main__':
    main()

"""The shipped bundle `aerial-scenes`: an EfficientNet-Lite0 that learnt the 45 classes of NWPU-RESISC45.

    python benchmarks/aerial_scenes.py NWPU-RESISC45 --weights efficientnet-lite0-57934424.pth \\
        --others ucmerced aid --maps maps.npy --out aerial-scenes

Of each class 70 % train, 10 % give the temperature and 20 % are the test part, which nothing else looks at.
The first stages are ImageNet's, and the maps that they give are kept in a file; the last stages are trained
(`geores.protocol.last_stages`). `--others` are folders with images of classes of the same names, which train
nothing: how the bundle does elsewhere.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import geores
from geores import models
from geores.card import ModelCard
from geores.card_values import DataSource
from geores.datasets import RESISC45, SceneFolder
from geores.metrics.crossval import Scores, calibration_errors, calibration_of, temperature_of
from geores.model import Model
from geores.protocol.last_stages import score_last, split_network, stage_maps, train_last
from geores.splits.stratified import Split, stratified_split
from geores.tasks.start import start_from

ARCHITECTURE = 'tf_efficientnet_lite0'
SIZE = 224
MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
WORST = 8
PENALTY = 1e-4

# Classes of other data sets under their names there -> the one that means the same here.
SAME = {
    'airplane': 'airplane',
    'airport': 'airport',
    'baseballdiamond': 'baseball_diamond',
    'baseballfield': 'baseball_diamond',
    'beach': 'beach',
    'bridge': 'bridge',
    'chaparral': 'chaparral',
    'church': 'church',
    'denseresidential': 'dense_residential',
    'desert': 'desert',
    'forest': 'forest',
    'freeway': 'freeway',
    'golfcourse': 'golf_course',
    'harbor': 'harbor',
    'intersection': 'intersection',
    'meadow': 'meadow',
    'mediumresidential': 'medium_residential',
    'mobilehomepark': 'mobile_home_park',
    'mountain': 'mountain',
    'overpass': 'overpass',
    'parking': 'parking_lot',
    'parkinglot': 'parking_lot',
    'port': 'harbor',
    'railwaystation': 'railway_station',
    'river': 'river',
    'runway': 'runway',
    'sparseresidential': 'sparse_residential',
    'stadium': 'stadium',
    'storagetanks': 'storage_tank',
    'tenniscourt': 'tennis_court',
}


def figures(scores: Scores, temperature: float, split: str) -> dict[str, Any]:
    """Figures of one part for the card."""
    report = {name: round(value, 4) for name, value in scores.report(None).items()}
    return {'split': split, **report, **scores.classes(), **calibration_errors([scores], [temperature])}


def fitted_head(features: NDArray[np.float32], classes: NDArray[np.int64]) -> torch.nn.Linear:
    """Softmax regression on pooled features, by L-BFGS."""
    known, target = torch.from_numpy(features), torch.from_numpy(classes)
    mean, std = known.mean(0), known.std(0) + 1e-3
    known = (known - mean) / std
    head = torch.nn.Linear(known.shape[1], int(target.max()) + 1)
    torch.nn.init.zeros_(head.weight)
    search = torch.optim.LBFGS(head.parameters(), max_iter=60, line_search_fn='strong_wolfe')

    def step() -> torch.Tensor:
        search.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(known), target) + PENALTY * head.weight.square().sum()
        loss.backward()
        return loss

    search.step(step)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight /= std
        head.bias -= head.weight @ mean
    return head


def elsewhere(model: Model, folder: Path, most: int) -> tuple[float, int]:
    """Accuracy on images of another data set whose class is one of the bundle's, and their number."""
    data = SceneFolder(folder, 'scene', size=model.card.input_size)
    wanted = [SAME.get(item.scene.lower().replace('_', '').replace('-', '')) for item in data.items]
    seen: Counter[str | None] = Counter({None: most})
    rows = []
    for row, label in enumerate(wanted):
        if seen[label] < most:
            rows.append(row)
            seen[label] += 1
    images = np.stack([data.images[row] for row in rows]).astype(np.float32)
    said = model.predict(images, batch_size=32).argmax(1)
    right = [model.card.labels[one] == wanted[row] for one, row in zip(said, rows, strict=True)]
    return float(np.mean(right)), len(rows)


def known_maps(path: Path, data: RESISC45, trunk: torch.nn.Module) -> NDArray[np.float16]:
    if path.exists():
        kept: NDArray[np.float16] = np.load(path, mmap_mode='r', allow_pickle=False)
        return kept
    data.images.load()
    maps = stage_maps(trunk, data.images, MEAN, STD, precision='bf16')
    np.save(path, maps)
    return maps


def scene_card(
    labels: Sequence[str],
    outer: Split,
    held: Mapping[str, Any],
    temperature: float,
    chosen_on: int,
    unseen: str,
    **own: Any,  # noqa: ANN401 - fields of a card
) -> ModelCard:
    """The card of a network that names the scenes of NWPU-RESISC45.

    Args:
        labels: the scenes.
        outer: whose validation part tests.
        held: figures on it.
        temperature: divides logits.
        chosen_on: number of images that chose it.
        unseen: what this network has not seen, beside what none of them has.
        own: fields of the card that are this network's own.
    """
    worst = sorted(labels, key=lambda label: held[f'f1_{label}'])[:WORST]
    return ModelCard(
        architecture_kwargs={'in_chans': 3, 'num_classes': len(labels)},
        activation='softmax',
        task='single-label',
        sensor='Aerial and satellite imagery, true colour',
        processing_level='8-bit true colour',
        bands=('red', 'green', 'blue'),
        units='8-bit',
        gsd=(0.3, 2.4),
        resampling='bilinear',
        labels=tuple(labels),
        thresholds=None,
        split_id=outer.id,
        split=outer.method,
        licence='Academic use: trained on NWPU-RESISC45, whose images are from Google Earth.',
        metrics={'resisc45': held},
        calibration=calibration_of(
            held, temperature, f'{len(outer.val)} test images; chosen on {chosen_on} others'
        ),
        limits={
            'figure': 'f1',
            'worst': {label: held[f'f1_{label}'] for label in worst},
            'measured_on': f'{len(outer.val)} test images of NWPU-RESISC45',
            'unseen': [
                'tiles that show several scenes, or none of the 45: it names one all the same',
                unseen,
                'haze, night, oblique views, false colour and near infrared',
            ],
        },
        **own,
    )


def save(out: Path, network: nn.Module, card: ModelCard, others: Sequence[Path], most: int) -> None:
    """Save a bundle with its figures on other data sets, and print what its card says of it."""
    metrics = dict(card.metrics)
    for folder in others:
        accuracy, count = elsewhere(Model(card, network), folder, most)
        split = f'{count} images of classes of the same name, which trained nothing here'
        metrics[folder.name] = {'split': split, 'accuracy': round(accuracy, 4)}
    geores.save_bundle(out, network, replace(card, metrics=metrics), torch.float16, overwrite=True)
    for source, one in metrics.items():
        print(source, one, flush=True)
    print('temperature and worst:', card.calibration, card.limits)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path)
    for name in ('weights', 'maps', 'out'):
        parser.add_argument(f'--{name}', type=Path, required=True)
    parser.add_argument('--others', type=Path, nargs='*', default=[])
    parser.add_argument('--most', type=int, default=30, help='images a class of the others')
    parser.add_argument('--epochs', type=int, default=2, help='0 trains the head alone')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    data = RESISC45(args.folder, size=SIZE)
    scenes = [item.scene for item in data.items]
    outer = stratified_split(data.ids, scenes, 0.2, args.seed)
    rest = outer.train
    inner = stratified_split([data.ids[row] for row in rest], [scenes[row] for row in rest], 0.125, args.seed)
    train, val = ([rest[row] for row in part] for part in (inner.train, inner.val))

    network = models.create(ARCHITECTURE, in_chans=3, num_classes=len(data.labels)).eval()
    start_from(network, str(args.weights))
    trunk, tail = split_network(network)
    maps = known_maps(args.maps, data, trunk)
    classes = np.asarray(data.targets)
    if args.epochs:
        trained = train_last(tail, maps, train, classes[train], epochs=args.epochs, seed=args.seed)
        tail.load_state_dict(trained[0].state_dict())  # the network's own modules
    else:
        kept = args.maps.with_name('pooled.npy')
        pooled = np.load(kept) if kept.exists() else score_last(tail, maps, range(len(maps)))
        trained = torch.nn.Sequential(tail, torch.nn.Identity(), fitted_head(pooled[train], classes[train]))
    network.get_submodule('classifier').load_state_dict(trained[2].state_dict())

    def scored(rows: Sequence[int]) -> Scores:
        with torch.inference_mode():
            logits = (
                torch.from_numpy(score_last(trained, maps, rows))
                if args.epochs
                else trained[2](torch.from_numpy(pooled[list(rows)]))
            )
        return Scores(
            logits.softmax(1), torch.from_numpy(classes[list(rows)]), ['resisc45'] * len(rows), data.labels
        )

    temperature = round(temperature_of(scored(val)), 4)
    tested = scored(outer.val)
    held = figures(tested, temperature, f'{len(outer.val)} images that neither trained nor chose anything')
    part = 'the last stages were' if args.epochs else 'the head alone was'
    card = scene_card(
        data.labels,
        outer,
        held,
        temperature,
        len(val),
        'imagery that is not from Google Earth, scanned film, other colours: see the page',
        name='aerial-scenes',
        description='Which of 45 scenes (airport, beach, dense residential ...) a tile of aerial or very '
        'fine satellite imagery shows: one a tile.',
        architecture=ARCHITECTURE,
        input_size=SIZE,
        mean=MEAN,
        std=STD,
        training_data=(
            DataSource(
                name='NWPU-RESISC45',
                licence='Google Earth imagery, academic use',
                also=('resisc45', 'RESISC45'),
                note=f'{len(train):,} images; about 0.2 to 30 m as published',
            ),
            DataSource(
                name='ImageNet',
                licence='research use of the images; the weights Apache-2.0',
                note=f'through EfficientNet-Lite0, of which {part} trained',
            ),
        ),
    )
    save(args.out, network, card, args.others, args.most)


if __name__ == '__main__':
    main()

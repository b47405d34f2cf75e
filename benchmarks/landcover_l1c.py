"""How the bundle `landcover-l1c` was made: means of Dynamic World's own weights and those of `landcover`.

    python benchmarks/landcover_l1c.py compare --teacher dynamicworld.onnx --pool S2_POOL --labelled S2_L2A
    python benchmarks/landcover_l1c.py write --teacher dynamicworld.onnx --pool S2_POOL --labelled S2_L2A \
        --share 0.75 --out geores/weights/landcover-l1c

`compare` measures means of several shares on patches that trained neither: agreement with the teacher on the
403 validation patches of `landcover` at L1C levels, as they are and varied in brightness and level, and the
accuracy on patches with a label by a person (their centre, 22 pixels from the edge on), brought to L1C levels
by both lines. `write` writes the mean of one share with its card. No scene is read.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pandas as pd
import rasterio
import torch
import yaml
from torch import Tensor, nn

import geores
from geores import models
from geores.bundle import save_bundle
from geores.datasets import GeoTIFFPairsDataModule
from geores.metrics.confusion import PixelReport
from geores.tasks.augment import Gain
from geores.tasks.levels import SentinelLevels, Views
from geores.tasks.start import start_from

sys.path.insert(0, str(Path(__file__).parent))
from limits import COUNTERPARTS, ece

CONFIG = Path(__file__).parents[1] / 'configs' / 'landcover.yaml'
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of Dynamic World's own weights; 0 is `landcover`, and 1 its teacher, which is not ours to ship."""
TEMPERATURES = np.arange(0.5, 1.31, 0.05)
LINES = ('first', 'second')
INNER = slice(22, 42)


class Means:
    """Networks between two, and the normalisation that both share."""

    def __init__(self, teacher: Path) -> None:
        self.ours = geores.load_model('landcover')
        card = self.ours.card
        self.start = models.create(card.architecture, **card.architecture_kwargs).eval()
        start_from(self.start, teacher, card.bands)
        self.compiled: dict[nn.Module, openvino.CompiledModel] = {}

    def network(self, share: float) -> nn.Module:
        """The network of a mean: `share` of Dynamic World's own weights, the rest those of `landcover`."""
        card = self.ours.card
        made = models.create(card.architecture, **card.architecture_kwargs).eval().requires_grad_(False)
        ours, theirs = self.ours.network.state_dict(), self.start.state_dict()
        made.load_state_dict({name: torch.lerp(ours[name], theirs[name].float(), share) for name in ours})
        return made

    def logits(self, network: nn.Module, images: Tensor) -> Tensor:
        """(N, 9, H, W) of images in digital numbers; by OpenVINO, which takes less than half of the time."""
        if network not in self.compiled:
            made = openvino.convert_model(network, example_input=torch.zeros(1, *images.shape[1:]))
            self.compiled = {
                network: openvino.compile_model(made, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
            }
        run = self.compiled[network]
        parts = (self.ours.normalise(part).numpy() for part in images.split(8))
        return torch.cat([torch.from_numpy(run(part)[0].copy()) for part in parts])


def validation(pool: Path, bands: list[str]) -> Tensor:
    """The patches that `configs/landcover.yaml` keeps for validation, (N, 9, 64, 64)."""
    stated = yaml.safe_load(CONFIG.read_text())['data']['init_args']
    data = GeoTIFFPairsDataModule(str(pool), **{k: v for k, v in stated.items() if k != 'root'})
    if list(stated['bands']) != bands:
        raise SystemExit('the configuration and the bundle have other bands')
    return torch.stack([data.dataset[place]['image'] for place in data.split.val])


def labelled(folder: Path, bands: list[str], labels: list[str]) -> tuple[Tensor, Tensor, list[str]]:
    """Patches whose label by a person has a counterpart: images, classes, and their labels."""
    table = pd.read_csv(folder / 'labels.csv').dropna()
    table = table[table['label'].isin(COUNTERPARTS)]
    images = []
    for file in table['file']:
        with rasterio.open(folder / 'images' / file) as source:
            order = [source.descriptions.index(band) + 1 for band in bands]
            images.append(source.read(order).astype(np.float32))
    wanted = torch.tensor([labels.index(COUNTERPARTS[label]) for label in table['label']])
    return torch.from_numpy(np.stack(images)), wanted, table['label'].tolist()


def views(images: Tensor, bands: list[str]) -> dict[str, Tensor]:
    """The patches at L1C levels: by both lines, by lines drawn at random, and brightened or darkened."""
    torch.manual_seed(0)
    fixed = SentinelLevels().fixed(images, bands)
    found = {line: fixed[f'L1C by the {line} line'].student for line in LINES}
    found['levels'] = SentinelLevels(top=1.0, beyond=0.5, slope=0.1, haze=0.3)(images, bands).student
    found |= {f'{line}, gain': Gain((0.6, 1.4), 0.12)(found[line], bands) for line in LINES}
    return found


def compare(means: Means, pool: Path, hand: Path, step: int) -> None:
    """Print the figures of all shares."""
    bands, names = list(means.ours.card.bands), list(means.ours.card.labels)
    seen = views(validation(pool, bands)[::step], bands)
    print(len(seen['first']), 'validation patches', flush=True)
    taught = {name: means.logits(means.start, images).argmax(1) for name, images in seen.items()}
    patches, wanted, kinds = labelled(hand, bands, names)
    fixed = SentinelLevels().fixed(patches, bands)
    levels = {line: fixed[f'L1C by the {line} line'] for line in LINES}
    for share in SHARES:
        network = means.network(share)
        row: dict[str, object] = {'share': share}
        for name, images in seen.items():
            said = means.logits(network, images).argmax(1)
            row[name] = share_of(said == taught[name])
            if name.endswith('gain'):  # what it says of the same ground, whatever the light
                row[f'{name}: as unvaried'] = share_of(said == taught[name.split(',')[0]])
        for line, view in levels.items():
            right = hits(means, network, view, wanted)
            row[f'hand, {line}'] = share_of(right)
            by_kind = pd.Series(right.mean((1, 2)).numpy()).groupby(kinds).mean().round(3)
            row[f'hand, {line}, by label'] = by_kind.to_dict()
        print(json.dumps(row), flush=True)


def hits(means: Means, network: nn.Module, view: Views, wanted: Tensor) -> Tensor:
    """Where the centre of each patch has its patch's class, (N, 20, 20), 0 or 1."""
    said = means.logits(network, view.student)[:, :, INNER, INNER].argmax(1)
    return (said == wanted[:, None, None]).double()


def share_of(values: Tensor) -> float:
    return round(float(values.double().mean()), 4)


def write(means: Means, pool: Path, hand: Path, share: float, out: Path) -> None:
    """Write the bundle: its temperature from two thirds of the labelled patches, its error from the rest."""
    card = means.ours.card
    bands, names = list(card.bands), list(card.labels)
    # As it will be read again: kernels in float16.
    network = means.network(share)
    for part in network.parameters():
        part.data = part.half().float() if part.ndim > 1 else part
    metrics = {}
    fixed = SentinelLevels().fixed(validation(pool, bands), bands)
    for line in LINES:
        view, report = fixed[f'L1C by the {line} line'], PixelReport(names)
        report.update(
            means.logits(network, view.student).argmax(1), means.logits(means.start, view.teacher).argmax(1)
        )
        figures = {name: round(value, 4) for name, value in report.compute().items()}
        metrics[f'teacher, L1C by the {line} line'] = {'split': '403 validation images', **figures}
    patches, wanted, _ = labelled(hand, bands, names)
    shown = SentinelLevels().fixed(patches, bands)
    scores = [
        means.logits(network, shown[f'L1C by the {line} line'].student)[:, :, INNER, INNER] for line in LINES
    ]
    third = torch.arange(len(wanted)) % 3 == 0
    fit, check = (torch.cat([one[part] for one in scores]) for part in (~third, third))
    truth = {name: wanted[part].repeat(2)[:, None, None].expand(-1, 20, 20)
             for name, part in (('fit', ~third), ('check', third))}  # fmt: skip
    losses = [float(nn.functional.cross_entropy(fit / one, truth['fit'])) for one in TEMPERATURES]
    temperature = round(float(TEMPERATURES[int(np.argmin(losses))]), 2)
    errors = []
    for one in (1.0, temperature):
        best, said = (check / one).softmax(1).max(1)
        errors.append(ece(best.flatten(), (said == truth['check']).flatten()))
    right = share_of(check.argmax(1) == truth['check'])
    print(
        'temperature',
        temperature,
        'ece',
        errors,
        'right',
        right,
        dict(zip(TEMPERATURES.round(2), losses, strict=True)),
    )
    worst = sorted((metrics['teacher, L1C by the first line'][f'f1_{name}'], name) for name in names)[:5]
    # The first source is Dynamic World.
    first = {**card.training_data[0]}  # type: ignore[dict-item]
    first['note'] = f'{first["note"]}; {share:.0%} of them are in the mean that these are'
    sources = (first, *card.training_data[1:])
    made = replace(
        card,
        name='landcover-l1c',
        description='Land cover of every pixel of Sentinel-2 L1C in the nine classes of Dynamic World, at '
        "10 m. Between the network of Dynamic World and that of `landcover`: the mean of both's weights.",
        processing_level='L1C',
        training_data=sources,
        metrics=metrics,
        calibration={
            'temperature': temperature,
            'ece_uncalibrated': errors[0],
            'ece': errors[1],
            'measured_on': f'{check.shape[0] * 400:,} pixels of {int(third.sum())} hand-labelled patches '
            '(s2-l2a, brought to L1C levels by two lines), none of those that the temperature was chosen on; '
            'in part among those that trained it without their labels',
        },
        intervals=None,  # benchmarks/ask_map_areas.py measures them
        limits={
            'figure': 'f1',
            'worst': {name: value for value, name in worst},
            'measured_on': '403 validation images of L2A brought to L1C levels by the first line, against '
            'the classes of Dynamic World',
            'unseen': [*(card.limits or {})['unseen'], 'L2A: take landcover'],
        },
    )
    save_bundle(out, network, made, overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('job', choices=('compare', 'write'))
    parser.add_argument('--teacher', type=Path, required=True)
    parser.add_argument('--pool', type=Path, required=True)
    parser.add_argument('--labelled', type=Path, required=True)
    parser.add_argument('--share', type=float, help='of the weights of Dynamic World')
    parser.add_argument('--out', type=Path)
    parser.add_argument('--step', type=int, default=1, help='every how many-th validation patch is taken')
    args = parser.parse_args()
    means = Means(args.teacher)
    if args.job == 'compare':
        compare(means, args.pool, args.labelled, args.step)
    else:
        write(means, args.pool, args.labelled, args.share, args.out)


if __name__ == '__main__':
    main()

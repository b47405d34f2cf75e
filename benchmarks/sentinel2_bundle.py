"""The shipped bundle `sentinel2`: the mean of networks before and after the patches, with its figures.

    python benchmarks/sentinel2_bundle.py --before runs/eurosat --after runs/sentinel2 --splits folds \\
        --eurosat eurosat10 --patches s2-l2a --doubted doubted.txt --out sentinel2

Fine-tuning on few patches forgets some of EuroSAT; a mean of the weights of both ends (Wortsman et al.
2022, "robust fine-tuning") keeps more of it. The bundle is the mean of the five folds' networks, so that
it has learnt from all patches, and of the network before them. Folds are measured by the same mean of
their own weights, each on its patches and on its fifth of EuroSAT's validation blocks, which also give
the temperature; the test blocks by the bundle.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import geores
from geores.datasets import GeoTIFFPatches
from geores.metrics.crossval import Scores, calibration_errors, cross_validated, joined
from geores.splits import read_split


def mean_of(before: geores.Model, after: list[geores.Model], share: float) -> geores.Model:
    """A model whose weights lie between those of one and the mean of others.

    Args:
        before: of the same architecture and normalisation.
        after: the others; the first gives the card.
        share: part of the others' weights.
    """
    first, states = before.network.state_dict(), [model.network.state_dict() for model in after]
    mixed = {
        name: torch.lerp(first[name], torch.stack([state[name] for state in states]).mean(0), share)
        if one.is_floating_point()
        else states[0][name]
        for name, one in first.items()
    }
    after[0].network.load_state_dict(mixed)
    return after[0]


def answer(model: geores.Model, data: GeoTIFFPatches, rows: list[int]) -> Scores:
    """Uncalibrated scores of some images."""
    model.card = replace(model.card, calibration=None)
    images = np.stack([data[index]['image'].numpy() for index in rows])
    target = torch.from_numpy(data.targets[rows])
    values = torch.from_numpy(model.predict(images))
    return Scores(values, target, [data.sources[index] for index in rows], tuple(model.card.labels))


def figures(parts: list[Scores], temperature: float, split: str) -> dict[str, Any]:
    whole = joined(parts)
    rounded = {name: round(value, 4) for name, value in whole.report(None).items()}
    errors = calibration_errors(parts, [temperature] * len(parts))
    return {'split': split, **rounded, **whole.classes(), **errors}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ('before', 'after', 'splits', 'eurosat', 'patches', 'doubted', 'out'):
        parser.add_argument(f'--{name}', type=Path, required=True)
    parser.add_argument('--share', type=float, default=0.9, help='of the weights after the patches')
    parser.add_argument('--description', default='')
    args = parser.parse_args()
    before = geores.load_model(args.before)
    eurosat = GeoTIFFPatches(args.eurosat, before.card.bands)
    patches = GeoTIFFPatches(args.patches, before.card.bands)
    doubted = set(args.doubted.read_text(encoding='utf-8').split())
    folds, kept = [], []
    for number in range(1, 6):
        parts = read_split(args.splits / f'fold{number}.csv').parts
        model = mean_of(before, [geores.load_model(args.after / f'fold{number}')], args.share)
        own = [index for index, one in enumerate(patches.ids) if parts[one] == 'val']
        fifth = [index for index, one in enumerate(eurosat.ids) if parts[one] == 'val'][number - 1 :: 5]
        found = answer(model, patches, own)
        folds.append(joined([found, answer(model, eurosat, fifth)]))
        sure = [place for place, index in enumerate(own) if Path(patches.ids[index]).name not in doubted]
        kept.append(Scores(found.values[sure], found.target[sure], ['undoubted'] * len(sure), found.labels))
        print(f'fold {number}: {found.report(None)["accuracy"]:.4f}', flush=True)
    evidence = cross_validated(folds, '5-fold')
    temperature = (evidence.calibration or {})['temperature']
    metrics = {name: one for name, one in evidence.metrics.items() if name != 'all'}
    metrics['s2-l2a, undoubted labels'] = figures(
        kept,
        temperature,
        f'the same on {sum(len(one.target) for one in kept)} labels that other models do not doubt',
    )
    every = [geores.load_model(args.after / f'fold{number}') for number in range(1, 6)]
    model = mean_of(before, every, args.share)
    parts = read_split(args.splits / 'fold1.csv').parts
    rows = [index for index, one in enumerate(eurosat.ids) if parts[one] == 'test']
    tested = answer(model, eurosat, rows)
    metrics['eurosat10, test blocks'] = figures(
        [tested], temperature, f'{len(rows)} images in blocks of 50 km, 5 km from all others'
    )
    for source, one in metrics.items():
        print(source, one)
    card = replace(
        model.card,
        metrics=metrics,
        calibration=evidence.calibration,
        split_id=evidence.split_id,
        description=args.description or model.card.description,
    )
    geores.save_bundle(args.out, model.network, card, torch.float16, overwrite=True)


if __name__ == '__main__':
    main()

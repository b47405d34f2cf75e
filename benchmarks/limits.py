"""Where the shipped bundles fail, on real data that trained none of them: figures of `limits` on their cards.

    python benchmarks/limits.py answers vqa-aerial rsvqa-hr-official --seen rsvqa-hr RSVQA-HR
    python benchmarks/limits.py answers vqa-sentinel2 rsvqa-lr-official --seen RSVQA-LR
    python benchmarks/limits.py objects aerial-rgb resisc45 --images 20
    python benchmarks/limits.py patches landcover s2-l2a

`answers` asks official questions about images that the bundle has not seen: accuracy per kind, and the
expected calibration error with the card's temperature and without. `objects` shows scenes of NWPU-RESISC45,
which trained no bundle: a scene named after an object holds it, scenes that cannot hold it do not.
`patches` compares pixels with the label of their patch by a person (its centre, 22 pixels from the edge on).
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import torch
from PIL import Image

import geores
from geores import metrics as measure
from geores.datasets import RSVQA
from geores.model import Model
from geores.vqa.model import VQAModel

SURE = {
    'airplane': ({'airplane'}, {'airport', 'runway'}),
    'chaparral': ({'chaparral'}, {'desert', 'mountain', 'wetland', 'terrace', 'meadow'}),
    'court': (
        {'basketball_court', 'tennis_court'},
        {
            'dense_residential',
            'medium_residential',
            'sparse_residential',
            'stadium',
            'ground_track_field',
            'church',
            'commercial_area',
            'palace',
            'golf_course',
            'baseball_diamond',
        },
    ),
    'dock': ({'harbor'}, {'ship', 'island', 'river', 'lake', 'beach'}),
    'mobile-home': ({'mobile_home_park'}, {'dense_residential', 'medium_residential', 'sparse_residential'}),
    'ship': ({'ship'}, {'harbor', 'beach', 'island', 'river', 'lake', 'bridge', 'sea_ice'}),
    'tanks': (
        {'storage_tank'},
        {
            'industrial_area',
            'thermal_power_station',
            'harbor',
            'airport',
            'circular_farmland',
            'commercial_area',
        },
    ),
}
"""Objects: scenes that hold them, and scenes that may hold them and are left out."""
COUNTERPARTS = {
    'AnnualCrop': 'crops',
    'Forest': 'trees',
    'Industrial': 'built',
    'Pasture': 'grass',
    'PermanentCrop': 'crops',
    'Residential': 'built',
    'River': 'water',
    'SeaLake': 'water',
}
"""Labels of patches, and the class of Dynamic World that stands for them."""


def ece(scores: torch.Tensor, right: torch.Tensor) -> float:
    curve = measure.reliability_curve(scores.double().clamp(0, 1)[:, None], right.long()[:, None])
    return round(float(measure.expected_calibration_error(curve)), 4)


def answers(name: str, folder: Path, seen: Iterable[Path]) -> dict[str, object]:
    """Accuracy per kind and calibration error on images that lie elsewhere than those of `seen`."""
    model = geores.load_model(name)
    if not isinstance(model, VQAModel) or model.card.answer_encoding is None:
        raise SystemExit(f'{name} answers no questions')
    plain = VQAModel(replace(model.card, calibration=None), model.network)
    variant = model.card.answer_encoding['variant']
    data = RSVQA(folder, variant, size=model.card.input_size)  # type: ignore[arg-type]
    known = {corner(entry.fields) for one in seen for entry in RSVQA(one, variant).entries}  # type: ignore[arg-type]
    right, kinds, scores = [], [], {'with': [], 'without': []}
    images = [number for number, entry in enumerate(data.entries) if corner(entry.fields) not in known]
    for number in images:
        asked = data.questions_of[number]
        features = model.encode(data.image(number)[None])
        texts = [data.questions[index].text for index in asked]
        for which, one in (('with', model), ('without', plain)):
            best, place = one.probabilities(features, texts)[0].max(1)
            scores[which].append(best)
        said = [model.card.labels[index] for index in place.tolist()]
        right += [answer == data.answers[index] for answer, index in zip(said, asked, strict=True)]
        kinds += [data.question_types[index] for index in asked]
    hits = torch.tensor(right)
    return {
        'images': len(images),
        'questions': len(right),
        'accuracy': round(float(hits.double().mean()), 4),
        'by_type': {
            kind: round(float(np.mean(hits.numpy()[np.array(kinds) == kind])), 4)
            for kind in sorted(set(kinds))
        },
        'ece_uncalibrated': ece(torch.cat(scores['without']), hits),
        'ece': ece(torch.cat(scores['with']), hits),
    }


def corner(fields: dict[str, object]) -> tuple[object, object]:
    return tuple(round(float(str(fields[f'upperleft_map_{axis}']))) for axis in 'xy')  # type: ignore[return-value]


def objects(name: str, folder: Path, count: int) -> dict[str, object]:
    """F1 and average precision of objects by which scenes are named, and calibration over these decisions."""
    model = geores.load_model(name)
    paths = [
        path
        for scene in sorted(folder.iterdir())
        if scene.is_dir()
        for path in sorted(scene.glob('*.jpg'))[:count]
    ]
    images = np.stack([shrink(path, model.card.input_size) for path in paths])
    scores = torch.from_numpy(model.predict(images.astype(np.float32), batch_size=50))
    logits = torch.logit(scores.double(), 1e-7)
    temperature = model.card.calibration['temperature'] if model.card.calibration else 1.0
    rows, decided, truths = {}, [], []
    for label, (hold, may_hold) in SURE.items():
        column = model.card.labels.index(label)
        kept = torch.tensor([path.parent.name not in may_hold for path in paths])
        truth = torch.tensor([path.parent.name in hold for path in paths])[kept]
        value = scores[kept, column]
        said = value >= model.card.thresholds[column]  # type: ignore[index]
        hits = float((said & truth).sum())
        rows[label] = {
            'f1': round(2 * hits / max(1.0, float(said.sum() + truth.sum())), 4),
            'recall': round(hits / float(truth.sum()), 4),
            'claimed_elsewhere': round(float(said[~truth].double().mean()), 4),
        }
        decided.append(logits[kept, column])
        truths.append(truth)
    every, true = torch.cat(decided), torch.cat(truths)
    halves = torch.arange(len(every)) % 2 == 0
    choices = torch.linspace(0.4, 2.5, 43)
    losses = [
        float(
            torch.nn.functional.binary_cross_entropy_with_logits(every[halves] / one, true[halves].double())
        )
        for one in choices
    ]
    best = float(choices[int(np.argmin(losses))])
    return {
        'images': len(paths),
        'labels': rows,
        'ece': ece((every / 1.0).sigmoid()[~halves], true[~halves]),
        'temperature_of_the_card': temperature,
        'best_further_temperature': round(best, 2),
        'ece_with_it': ece((every / best).sigmoid()[~halves], true[~halves]),
    }


def patches(name: str, folder: Path, step: int) -> dict[str, object]:
    """Share of pixels per label of a patch that have its class, and calibration error of all of them."""
    model = geores.load_model(name)
    plain = Model(replace(model.card, calibration=None), model.network)
    table = pd.read_csv(folder / 'labels.csv').dropna()
    table = table[table['label'].isin(COUNTERPARTS)].iloc[::step]
    images = []
    for file in table['file']:
        with rasterio.open(folder / 'images' / file) as source:
            order = [source.descriptions.index(band) + 1 for band in model.card.bands]
            images.append(source.read(order).astype(np.float32))
    wanted = [model.card.labels.index(COUNTERPARTS[label]) for label in table['label']]
    truth = torch.tensor(wanted)[:, None, None].expand(-1, 20, 20)
    found: dict[str, object] = {'patches': len(images)}
    for which, one in (('ece', model), ('ece_uncalibrated', plain)):
        scores = torch.from_numpy(one.predict(np.stack(images), batch_size=16))[:, :, 22:42, 22:42]
        best, said = scores.max(1)
        found[which] = ece(best.flatten(), (said == truth).flatten())
    right = (said == truth).double().mean((1, 2)).numpy()
    found['accuracy'] = round(float(right.mean()), 4)
    found['by_label'] = pd.Series(right).groupby(table['label'].to_numpy()).mean().round(4).to_dict()
    return found


def shrink(path: Path, size: int) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB').resize((size, size), Image.Resampling.BOX)).transpose(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('job', choices=('answers', 'objects', 'patches'))
    parser.add_argument('bundle')
    parser.add_argument('folder', type=Path)
    parser.add_argument('--seen', nargs='*', type=Path, default=[])
    parser.add_argument('--images', type=int, default=20)
    parser.add_argument('--step', type=int, default=1, help='of patches: every how many-th is taken')
    given = parser.parse_args()
    if given.job == 'answers':
        found = answers(given.bundle, given.folder, given.seen)
    elif given.job == 'objects':
        found = objects(given.bundle, given.folder, given.images)
    else:
        found = patches(given.bundle, given.folder, given.step)
    print(json.dumps(found, indent=1))


if __name__ == '__main__':
    main()

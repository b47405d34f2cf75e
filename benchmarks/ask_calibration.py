"""Whether what `geores ask` says of scenes is as sure as it says, on images that were kept out.

    python benchmarks/ask_calibration.py <rsvqa-hr> <RSVQA-HR> --variant hr --bundles runs/vqa-aerial
    python benchmarks/ask_calibration.py <RSVQA-LR> --variant lr --bundles runs/vqa-sentinel2

The bundles are those that `geores train --folds 5` leaves: `fold1` ... never saw the images of their fold.

Every image is a tile. Sets of 2 to 16 images to which the same question was put make a scene whose true
answer follows from the images' raw ones: any, sums, comparisons of sums. Answers of the tiles are combined as
those of a scene, and held against it. Sets are of any images, or of those within `--near` metres of one.
Before them comes the correlation of errors: of normal scores of where the truth lies in each tile's own
distribution, between two images to which one question was put, by their distance, with a bootstrap over pairs
of images.
"""

import argparse
import itertools
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm

from geores import load_model
from geores.asking import combine
from geores.asking.combine import SceneEstimate, area, compare_counts, count, presence
from geores.asking.predictions import AnswerTable, Bins, TileAreas, TilePredictions
from geores.datasets import RSVQADataModule
from geores.metrics.curves import expected_calibration_error, reliability_curve
from geores.questions.forms import Area, Count, Form, Presence, QuestionError
from geores.questions.grammar import parse, phrase

FOLDS, SCENES, MOST = 5, 1500, 16


class Seen(NamedTuple):
    """An image that was kept out: its place, the truths that are known, and the tile's readings of them."""

    name: str
    place: np.ndarray
    truth: dict[Form, float]
    read: dict[Form, TilePredictions]


def truths(questions: list) -> dict[Form, float]:
    """What raw answers say: of presence 0 or 1, counts, square metres."""
    known: dict[Form, float] = {}
    for question in questions:
        try:
            form = parse(question.text)
        except QuestionError:
            continue
        if isinstance(form, Count):
            known[form] = float(question.answer)
            known[Presence(form.objects)] = float(question.answer) > 0
        elif isinstance(form, Presence):
            known[form] = question.answer == 'yes'
        elif isinstance(form, Area):
            known[form] = float(question.answer.removesuffix('m2'))
    return known


def look(roots: list[str], variant: str, bundles: Path) -> list[Seen]:
    """Every image by the bundle that never saw it."""
    found = []
    for fold in range(1, FOLDS + 1):
        data = RSVQADataModule(roots, variant, split='location', folds=FOLDS, fold=fold)
        model, dataset = load_model(bundles / f'fold{fold}'), data.dataset
        table = AnswerTable(model.card.labels, model.encoding)
        for number in data.split.val:
            truth = truths([dataset.questions[index] for index in dataset.questions_of[number]])
            forms = list(truth)
            features = model.encode(dataset.image(number)[None])
            scores = model.probabilities(features, [phrase(form, 'released') for form in forms])[0].numpy()
            read = {form: table.read(row[None], form.type) for form, row in zip(forms, scores, strict=True)}
            west, south, east, north = dataset.bounds[number]
            place = np.array([(west + east) / 2, (south + north) / 2])
            found.append(Seen(dataset.image_ids[number], place, truth, read))
    return found


def gap(one: Seen, other: Seen) -> float:
    """Metres on the ground between two images, from their places in Web Mercator."""
    north = (one.place[1] + other.place[1]) / 2
    return float(np.hypot(*(one.place - other.place)) / np.cosh(north / 6_378_137))


def together(parts: list[TilePredictions]) -> TilePredictions:
    """Tiles of one scene; folds may know other answers."""
    ends = sorted({end for part in parts for end in zip(part.bins.low, part.bins.high, strict=True)})
    upto = np.zeros((len(parts), len(ends)))
    for row, part in zip(upto, parts, strict=True):
        chances = np.diff(part.upto[0], prepend=0.0)
        for end, chance in zip(zip(part.bins.low, part.bins.high, strict=True), chances, strict=True):
            row[ends.index(end)] = chance
    upto = upto.cumsum(1)
    upto[:, -1:] = 1.0
    low, high = np.array(ends, float).reshape(-1, 2).T
    first = (np.concatenate([getattr(part, name) for part in parts])
             for name in ('best', 'best_probability', 'chance'))  # fmt: skip
    return TilePredictions(*first, np.minimum(upto, 1.0), Bins(low, high))


def correlations(images: list[Seen], draw: np.random.Generator) -> None:
    """Print by distance how errors in answer to one question go together."""
    scores = defaultdict(list)
    for image in images:
        for form, truth in image.truth.items():
            if isinstance(form, Count | Area):
                scores[form].append(
                    (image, norm.ppf(np.clip(rank(image.read[form], truth, draw), 1e-3, 0.999)))
                )
    spread = np.mean([score**2 for group in scores.values() for _, score in group])
    pairs = defaultdict(list)
    for group in scores.values():
        for (one, first), (other, second) in itertools.combinations(group, 2):
            pairs[one.name, other.name, gap(one, other)].append(first * second)
    for low, high in itertools.pairwise((0, 400, 1500, 6000, 30_000, 1e9)):
        near = [np.array(products) / spread for pair, products in pairs.items() if low <= pair[2] < high]
        if not near:
            continue
        sums, sizes = (np.array([f(part) for part in near]) for f in (np.sum, len))
        drawn = draw.integers(0, len(near), (1000, len(near)))
        ends = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), (0.05, 0.95))
        print(f'correlation at {low:g} to {high:g} m: {sums.sum() / sizes.sum():.2f} '
              f'({ends[0]:.2f} to {ends[1]:.2f}), {len(near)} pairs of images')  # fmt: skip


def rank(read: TilePredictions, truth: float, draw: np.random.Generator) -> float:
    """Where in its distribution the truth lies; anywhere within what is equally far up."""
    low, high, upto = read.bins.low, read.bins.top, np.concatenate([[0.0], read.upto[0]])
    place = max(int(np.searchsorted(low, truth, 'right')) - 1, 0)
    part = draw.random()
    if high[place] > low[place]:
        ends = np.log(np.array([truth, truth + 1]) / low[place]) / np.log((high[place] + 1) / low[place])
        part = float(np.clip(ends[0] + part * (ends[1] - ends[0]), 0, 1))
    return float(upto[place] + part * (upto[place + 1] - upto[place]))


def scenes(images: list[Seen], forms: list[Form], near: float, draw: np.random.Generator) -> list[Seen]:
    """A set of images that know all of some forms; empty where there are none."""
    known = [image for image in images if all(form in image.truth for form in forms)]
    if not known:
        return []
    first = known[draw.integers(len(known))]
    others = [one for one in known if one is not first and gap(one, first) < near]
    size = min(int(draw.integers(1, MOST)), len(others))
    return [first, *(others[place] for place in draw.permutation(len(others))[:size])] if size else []


def reliability(images: list[Seen], near: float, tile_area: float, draw: np.random.Generator) -> None:
    """Print what is said of sets of images beside what is true."""
    forms = sorted({form for image in images for form in image.truth}, key=lambda form: form.key)
    counts = [form for form in forms if isinstance(form, Count)]
    sure: dict[str, list[tuple[float, bool]]] = {'presence': [], 'comp': []}
    inside: dict[str, list[tuple[bool, float, float]]] = {'count': [], 'area': []}
    for number in range(2 * SCENES):
        pair = number % 2 == 1
        asked = (
            [counts[k] for k in draw.permutation(len(counts))[:2]]
            if pair
            else [forms[draw.integers(len(forms))]]
        )
        tiles = scenes(images, asked, near, draw)
        if not tiles:
            continue
        owned = TileAreas((1, len(tiles)), *(np.full(len(tiles), tile_area) for _ in range(2)))
        read = [together([tile.read[form] for tile in tiles]) for form in asked]
        truth = [sum(min(tile.truth[form], tile_area) if isinstance(form, Area) else tile.truth[form]
                     for tile in tiles) for form in asked]  # fmt: skip
        if pair:
            choice = ('less', 'more', 'equal')[draw.integers(3)]
            right = {'less': truth[0] < truth[1], 'more': truth[0] > truth[1], 'equal': truth[0] == truth[1]}
            said = compare_counts(*read, owned, choice)
            sure['comp'].append((said.probability, (said.answer == 'yes') == right[choice]))
        elif isinstance(asked[0], Presence):
            said = presence(read[0])
            sure['presence'].append((said.probability, (said.answer == 'yes') == (truth[0] > 0)))
        else:
            # Objects of two images are two: nothing is counted twice.
            said = count(read[0], owned, 1) if isinstance(asked[0], Count) else area(read[0], owned)
            inside[asked[0].type].append(covered(said, truth[0]))
    for kind, answers in sure.items():
        print_sure(kind, np.array(answers, float).reshape(-1, 2))
    for kind, ends in inside.items():
        print_inside(kind, np.array(ends, float).reshape(-1, 3))


def covered(said: SceneEstimate, truth: float) -> tuple[bool, float, float]:
    """Whether the interval holds the truth, its width in decades, and how far the number is off in them."""
    low, high = said.interval or (0.0, 0.0)
    width = np.log10((1 + high) / (1 + low))
    return low <= truth <= high, width, abs(np.log10((1 + (said.value or 0)) / (1 + truth)))


def print_sure(kind: str, answers: np.ndarray) -> None:
    if not len(answers):
        return
    curve = reliability_curve(*(torch.tensor(answers[:, [column]]) for column in (0, 1)))
    columns = zip(curve.score[:, 0], curve.share[:, 0], curve.samples[:, 0], strict=True)
    rows = [f'{score:.2f} right {share:.2f} ({int(number)})' for score, share, number in columns if number]
    stated, right = answers.mean(0)
    error = float(expected_calibration_error(curve)[0])
    print(f'{kind}: {len(answers)} scenes, stated {stated:.3f}, right {right:.3f}, ECE {error:.3f}')
    print('   ', '; '.join(rows))


def print_inside(kind: str, ends: np.ndarray) -> None:
    if len(ends):
        share, width, off = ends.mean(0)
        print(f'{kind}: {len(ends)} scenes, {share:.3f} in intervals of 90 %, {width:.2f} decades wide; '
              f'the number is off by {off:.2f} decades')  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', nargs='+')
    parser.add_argument('--bundles', type=Path, required=True)
    parser.add_argument('--variant', choices=['lr', 'hr'], default='hr')
    parser.add_argument('--near', type=float, default=1500.0, help='metres')
    parser.add_argument('--correlation', type=float, default=combine.CORRELATION)
    options = parser.parse_args()
    combine.CORRELATION = options.correlation
    images = look(options.root, options.variant, options.bundles)
    print(f'{len(images)} images')
    correlations(images, np.random.default_rng(0))
    tile_area = {'hr': 76.8**2, 'lr': 2560.0**2}[options.variant]
    for near in (np.inf, options.near):
        print(f'images within {near:g} m:')
        reliability(images, near, tile_area, np.random.default_rng(0))


if __name__ == '__main__':
    main()

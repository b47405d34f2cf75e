"""A VQA bundle that answers exactly, by colour: blue is water, green forest, red buildings.

Its encoder takes the mean colour of each of 4 x 4 cells of a tile; its head counts cells of a colour. So
every object of a test is one cell, and what the right answers are is known.
"""

import numpy as np
import pytest
import torch
from torch import nn

from geores import ModelCard, models, save_bundle
from geores.models.vqa import VQAHead
from geores.vqa.network import Tokenizer, build

from .fixtures import write_scene
from .vqa_fixtures import CARD

TILE, GRID = 64, 4
CELL = TILE // GRID
COLOURS = {'building': 0, 'forest': 1, 'water area': 2}
CELL_AREA = (10 * CELL) ** 2
QUESTIONS = [
    'Is there a water area, a forest, a building?',
    'How many water areas, forests, buildings are there?',
    'What is the number of the area covered by water areas',
    'Are there less, more of a than present, equal to?',
    'Is it a rural or an urban area',
]
COUNTS = tuple(str(number) for number in range(GRID**2 + 1))
LR = ('<unknown>', 'yes', 'no', 'rural', 'urban', *COUNTS)
HR = (*LR, *(f'{CELL_AREA * number}m2' for number in range(GRID**2 + 1)))


@models.register('ask-colours')
class Colours(nn.Module):
    """Features that are the image."""

    def __init__(self, in_chans=3, num_classes=0):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward_features(self, images):
        return images * self.scale


@models.register('ask-oracle')
class Oracle(VQAHead):
    """Answers by counting cells."""

    takes_forms = True

    def __init__(self, features, grid, vocabulary, num_classes, answers, sure=40.0):
        super().__init__()
        self.answers, self.sure = list(answers), sure
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def look(self, features):
        bright = (features > 170) & (features.sum(1, keepdim=True) - features < 170)
        return bright.float().sum((2, 3))

    def read(self, tokens, lengths, forms=None):
        rows = torch.zeros(len(forms), 5)
        for row, form in zip(rows, forms, strict=True):
            kinds = ('presence', 'count', 'area', 'comp', 'rural_urban')
            row[0] = kinds.index(form.type) if form is not None else -1
            for place, part in enumerate(form.parts() if form is not None else ()):
                row[1 + place] = COLOURS[part.category]
            if form is not None and form.type == 'comp':
                row[3] = ('less', 'more', 'equal').index(form.choice)
        return rows

    def decide(self, seen, text):
        logits = self.bias.repeat(len(seen), 1).clone()
        for row, counts, asked in zip(logits, seen, text.long().tolist(), strict=True):
            row[self.answers.index(self._say(counts.int().tolist(), asked))] += self.sure
        return logits

    def _say(self, counts, asked):
        kind, first, second, choice, _ = asked
        one, other = counts[first], counts[second]
        return [
            'yes' if one else 'no',
            str(one),
            f'{CELL_AREA * one}m2',
            'yes' if (one < other, one > other, one == other)[choice] else 'no',
            'urban' if counts[0] else 'rural',
            'no',
        ][kind]


def oracle_bundle(folder, answers=LR, sure=40.0, **fields):
    """Save one; `sure` is how far its answers stand above the others."""
    tokenizer = Tokenizer.from_questions(QUESTIONS)
    kwargs = {
        'features': 3,
        'grid': GRID,
        'vocabulary': len(tokenizer),
        'num_classes': len(answers),
        'answers': list(answers),
        'sure': sure,
    }
    own = {
        'name': folder.name,
        'description': 'Answers by colour, for tests.',
        'architecture': 'ask-oracle',
        'architecture_kwargs': kwargs,
        'gsd': (8.0, 12.0),
        'input_size': TILE,
        'mean': (0.0,) * 3,
        'std': (1.0,) * 3,
        'labels': answers,
        'tokenizer': tokenizer.to_dict(),
        'encoder': {'architecture': 'ask-colours', 'architecture_kwargs': {}, 'grid': GRID},
    }
    card = ModelCard(**(CARD | own | fields))
    return save_bundle(folder, build(card, None).eval(), card, torch.float32)


def painted(cells):
    """A scene (3, h, w) of uint8 from cells (rows, cols) of 'building', 'forest', 'water area' or ''."""
    cells = np.asarray(cells)
    image = np.full((3, *cells.shape), 10, np.uint8)
    for name, band in COLOURS.items():
        image[band][cells == name] = 240
    return image.repeat(CELL, 1).repeat(CELL, 2)


@pytest.fixture(scope='module')
def oracle(tmp_path_factory):
    return oracle_bundle(tmp_path_factory.mktemp('bundles') / 'oracle')


@pytest.fixture(scope='module')
def cells():
    return np.random.default_rng(0).choice(['', '', '', *COLOURS], (12, 16))


@pytest.fixture(scope='module')
def scene(cells, tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp('scenes') / 'town.tif', values=painted(cells))


@pytest.fixture
def asked(geores, oracle, scene):
    """Run `ask`, which must succeed: its records."""

    def run(*args, place=scene, model=oracle):
        answer = geores('ask', place, *args, '--model', model, '--json')
        assert answer.code == 0, answer
        return answer.records

    return run

"""A VQA bundle of random weights on the encoder of a tiny bundle."""

import torch

from geores import ModelCard, load_model, save_bundle
from geores.vqa.comparison import forms_of
from geores.vqa.network import Tokenizer, build

QUESTIONS = ('Is there a road?', 'How many buildings are there?', 'Is it a rural or an urban area')
ANSWERS = ('<unknown>', 'yes', 'no', '0', 'between 0 and 10', 'rural', 'urban')
CHANNELS = 6
"""Of the feature maps that heads are tested on."""
SAME = {'red': 'red', 'green': 'green', 'blue': 'blue'}

CARD = {
    'activation': 'softmax',
    'task': 'vqa',
    'sensor': 'any',
    'processing_level': 'any',
    'bands': ('red', 'green', 'blue'),
    'units': '8-bit',
    'resampling': 'bilinear',
    'thresholds': None,
    'split_id': 'none',
    'training_data': [{'name': 'none', 'licence': 'none'}],
    'licence': 'CC0-1.0',
    'metrics': {},
    'answer_encoding': {'style': 'official', 'variant': 'lr'},
}
"""What the cards of test bundles have in common."""


def vqa_card(shared, bands=SAME, grid=2, size=64, channels=64, fusion='attention', **fields):
    """For the bundle `shared`, whose network has `channels`."""
    tokenizer = Tokenizer.from_questions(QUESTIONS)
    kwargs = {
        'features': channels,
        'grid': grid,
        'vocabulary': len(tokenizer),
        'num_classes': len(ANSWERS),
        'text_kwargs': {'width': 16, 'embedding': 8},
        'fusion': fusion,
        'fusion_kwargs': {'width': 16},
        'hidden': 8,
    }
    spec = {'name': shared.name, 'sha256': shared.sha256, 'bands': dict(bands), 'grid': grid}
    own = {
        'name': 'tiny-vqa',
        'description': 'Random weights for tests.',
        'architecture': 'vqa-fusion',
        'architecture_kwargs': kwargs,
        'gsd': (1.0, 30.0),
        'input_size': size,
        'mean': (120.0,) * 3,
        'std': (60.0,) * 3,
        'labels': ANSWERS,
        'tokenizer': tokenizer.to_dict(),
        'encoder': spec,
    }
    return ModelCard(**(CARD | own | fields))


def tiny_vqa(folder, encoder, dtype=torch.float32, **fields):
    """Save one on the bundle in the folder `encoder`."""
    torch.manual_seed(0)
    shared = load_model(encoder)
    card = vqa_card(shared, **fields)
    return save_bundle(folder, build(card, lambda name, sha256: shared).eval(), card, dtype)


def maps(count=12, seed=1):
    """Feature maps (count, CHANNELS, 4, 4) of images that differ."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, CHANNELS, 4, 4, generator=generator) + torch.randn(
        count, CHANNELS, 1, 1, generator=generator
    )


def read(one, *questions):
    """Questions as a head knows them by their parts."""
    tokens = torch.zeros(len(questions), 1, dtype=torch.int64)
    return one.read(tokens, torch.ones(len(questions)), forms_of(questions))

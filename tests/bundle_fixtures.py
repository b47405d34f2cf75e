"""A tiny network, its card and its bundle, and how to spoil them."""

import contextlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from geores import models
from geores.bundle import load_model, save_bundle
from geores.card import ModelCard
from geores.errors import BundleError, UsageError

SIZE = 8

with contextlib.suppress(UsageError):

    @models.register('test-bundle-tiny')
    class Tiny(nn.Module):
        def __init__(self, in_chans: int, num_classes: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(in_chans, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, num_classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.conv(images)).relu().mean((2, 3)))


CARD = ModelCard(
    name='tiny',
    description='A test.',
    architecture='test-bundle-tiny',
    architecture_kwargs={'in_chans': 2, 'num_classes': 3},
    activation='sigmoid',
    task='multi-label',
    sensor='none',
    processing_level='none',
    bands=('B02', 'B08'),
    units='reflectance*10000',
    gsd=(8, 12),
    input_size=SIZE,
    resampling='bilinear',
    mean=(100.0, 200.0),
    std=(10.0, 20.0),
    labels=('a', 'b', 'c'),
    thresholds=(0.4, 0.5, 0.6),
    split_id='split',
    training_data=({'name': 'made up', 'licence': 'CC0-1.0'},),
    licence='MIT',
    metrics={'made-up': {'split': 'validation', 'f1_micro': 0.5, 'ap_macro': None}},
)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return models.create(CARD.architecture, **CARD.architecture_kwargs)


@pytest.fixture
def bundle(tmp_path):
    return save_bundle(tmp_path / 'tiny', tiny(), CARD, torch.float32)


def images(count: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(150, 20, (count, 2, SIZE, SIZE)).astype(np.float32)


def change(bundle, **fields) -> None:
    path = bundle / 'card.json'
    data = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in data.items() if value != 'drop'}))


def change_weights(bundle, edit) -> None:
    tensors = load_file(bundle / 'model.safetensors')
    edit(tensors)
    save_file(tensors, bundle / 'model.safetensors')


def fails(bundle, *parts: str, kind: type[Exception] = BundleError) -> None:
    with pytest.raises(kind) as error:
        load_model(bundle)
    message = str(error.value)
    assert '\n' not in message
    for part in parts:
        assert part in message

"""Images that tests of baselines share."""

import numpy as np
import pytest
import torch
from PIL import Image

from .fixtures import tiny_bundle

CLASSES = {'field': (150, 120, 60), 'forest': (30, 90, 40), 'water': (30, 60, 130)}


def write_images(folder, count=10, classes=CLASSES, side=32):
    """Noisy images of a colour a class; the noise is wide enough for errors."""
    draw = np.random.default_rng(0)
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.array(colour) + draw.normal(0, 45, 3) + draw.normal(0, 20, (side, side, 3))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / name / f'{name}_{index:03}.png')
    return folder


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data') / 'ground')


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny')

"""A small training with all that a run keeps: an average, mixup, augmentation, dropout, a falling rate."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from safetensors.numpy import load_file

SIZE = 16
EPOCHS = 3
BATCHES = 4
STEPS = EPOCHS * BATCHES
AVERAGE = {'class_path': 'lightning.pytorch.callbacks.EMAWeightAveraging', 'init_args': {'decay': 0.8}}
CARD = {
    'name': 'small',
    'description': 'For a test.',
    'sensor': 'none',
    'processing_level': 'none',
    'units': '8-bit',
    'gsd': [1, 1],
    'training_data': 'generated',
    'licence': 'MIT',
    'dtype': 'float32',
}


def write_images(folder, count=10):
    """Two classes of `count` noisy images each: five batches of four with a fifth for validation."""
    rng = np.random.default_rng(0)
    for scene, level in (('night', 60), ('day', 160)):
        (folder / scene).mkdir(parents=True)
        for index in range(count):
            pixels = rng.normal(level, 60, (SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / scene / f'{scene}{index}.png')
    return folder


def recipe(folder, name='small', data=None, model=None, trainer=None, export=CARD):
    """Write a configuration; its arguments."""
    augment = [{'class_path': f'geores.tasks.augment.{one}'} for one in ('Dihedral', 'Colour', 'Smooth')]
    settings = {
        'seed_everything': 5,
        'data': {
            'class_path': 'geores.datasets.SceneFolderDataModule',
            'init_args': {'root': str(folder / 'images'), 'size': SIZE, 'batch_size': 4, **(data or {})},
        },
        'model': {
            'class_path': 'geores.tasks.SceneClassification',
            'init_args': {
                'architecture': 'resnet10t',
                'architecture_kwargs': {'stem_width': 4, 'channels': [4, 8, 8, 8], 'drop_rate': 0.3},
                'mixup': 0.4,
                'learning_rate': 0.01,
                'augment': augment,
                **(model or {}),
            },
        },
        'trainer': {
            'max_epochs': EPOCHS,
            'accelerator': 'cpu',
            'gradient_clip_val': 5.0,
            'callbacks': [AVERAGE],
            **(trainer or {}),
        },
    }
    if export is not None:
        settings['export'] = {'class_path': 'geores.tasks.ExportBundle', 'init_args': dict(export)}
    path = folder / f'{name}.yaml'
    path.write_text(yaml.safe_dump(settings))
    return ['--config', str(path)]


def bundle_of(run, name='small'):
    """Weights and card of a run's bundle."""
    folder = Path(run) / name
    return load_file(folder / 'model.safetensors'), json.loads((folder / 'card.json').read_text())


def same(one, other):
    """Whether two bundles are the same to the bit, figures and all."""
    (weights, card), (theirs, their_card) = one, other
    assert weights.keys() == theirs.keys()
    differ = [name for name in weights if not np.array_equal(weights[name], theirs[name])]
    assert not differ
    assert card == their_card
    return True

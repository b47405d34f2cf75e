"""A bundle whose answers are known, labelled images of every kind, and a command that has to be refused."""

import csv

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from shapely.geometry import box
from torch import nn

from geores import models

from .fixtures import RGB, hold_files, write_scene

CLASSES = ('field', 'forest', 'water')
SIZE = 8
COLOURS = {'field': (40, 40, 220), 'forest': (40, 220, 40), 'water': (220, 40, 40)}

if 'test-evaluate-brightest' not in models.architectures():

    @models.register('test-evaluate-brightest')
    class Brightest(nn.Module):
        """Logits are the means of the bands, so that what it answers is known."""

        def __init__(self, in_chans: int, num_classes: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(in_chans))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) * self.scale


def make_bundle(folder, task='single-label', labels=('water', 'forest', 'field'), bands=RGB, **card):
    """A model that answers with the label of the brightest band, or of each bright band."""
    from geores import ModelCard, save_bundle

    single = task == 'single-label'
    fields = {
        'name': folder.name,
        'description': 'Bands to labels.',
        'architecture': 'test-evaluate-brightest',
        'architecture_kwargs': {'in_chans': len(bands), 'num_classes': len(labels)},
        'activation': 'softmax' if single else 'sigmoid',
        'task': task,
        'sensor': 'any',
        'processing_level': 'any',
        'bands': bands,
        'units': '8-bit',
        'gsd': (1.0, 30.0),
        'input_size': SIZE,
        'resampling': 'bilinear',
        'mean': (128.0,) * len(bands),
        'std': (64.0,) * len(bands),
        'labels': labels,
        'thresholds': None if single else (0.5,) * len(labels),
        'split_id': 'none',
        'training_data': [{'name': 'none', 'licence': 'none'}],
        'licence': 'CC0-1.0',
        'metrics': {},
    }
    card = ModelCard(**(fields | card))
    return save_bundle(folder, models.create(card.architecture, **card.architecture_kwargs), card)


def make_images(root, shown=None, multi=False):
    """Images of one colour in folders of classes; `shown` says what is painted where it is not the class."""
    shown = shown or {}
    rows = []
    for label in CLASSES:
        (root / label).mkdir(parents=True)
        for index in range(4):
            name = f'{label}{index}'
            values = np.full((12, 10, 3), COLOURS[shown.get(name, label)], np.uint8)
            Image.fromarray(values).save(root / label / f'{name}.png')
            rows.append([name, label, *(int(label == one) for one in CLASSES)])
    if multi:
        write_table(root / 'multilabels.csv', [['name', 'scene', *CLASSES], *rows])
    return root


def make_patches(root, labels=(*CLASSES, ''), bands=('blue', 'green', 'red', 'nir'), dtype='uint8'):
    (root / 'images').mkdir(parents=True)
    rows = []
    for index, label in enumerate(labels * 3):
        values = np.full((len(bands), 6, 6), 40, dtype)
        values[:3] = np.array(COLOURS.get(label, (40, 40, 40)), dtype)[::-1, None, None]
        write_scene(root / f'images/p{index}.tif', bands=bands, values=values, crs=None)
        rows.append([f'p{index}.tif', label])
    write_table(root / 'labels.csv', [['file', 'label'], *rows])
    return root


def write_table(path, rows):
    with path.open('w', newline='') as file:
        csv.writer(file).writerows(rows)


def make_polygons(path, scene, crs='EPSG:32633', share=1.0):
    """The left half of a scene is water, the right half forest; or of its upper part alone."""
    with rasterio.open(scene) as file:
        west, south, east, north = file.bounds
    south = north - share * (north - south)
    middle = (west + east) / 2
    shapes = [box(west, south, middle, north), box(middle, south, east, north)]
    frame = gpd.GeoDataFrame({'class': ['water', 'forest']}, geometry=shapes, crs='EPSG:32633')
    frame.to_crs(crs).to_file(path)
    return path


@pytest.fixture
def single(tmp_path):
    return make_bundle(tmp_path / 'bundles/single')


@pytest.fixture
def multi(tmp_path):
    return make_bundle(tmp_path / 'bundles/multi', 'multi-label')


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / 'images-of-classes', {'field0': 'water', 'water3': 'forest'}, multi=True)


@pytest.fixture
def refused(geores, tmp_path):
    """Run `evaluate` and check that it ends with code 2, one line, and nothing left behind."""

    def run(*args, out=None):
        before = set(tmp_path.rglob('*')), hold_files(tmp_path)
        answer = geores('evaluate', *args, '--out', out or tmp_path / 'out')
        assert answer.code == 2, answer
        assert answer.out == ''
        assert answer.err.startswith('geores: error: ')
        assert answer.err.count('\n') == 1, answer.err
        assert 'fault of geores' not in answer.err
        assert (set(tmp_path.rglob('*')), hold_files(tmp_path)) == before
        return answer.err

    return run

"""Generated scenes, a tiny bundle of random weights, and the command line in this process."""

import json
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

GRID = from_origin(300_000, 5_800_000, 10, 10)
RGB = ('red', 'green', 'blue')
SENTINEL2 = ('B02', 'B03', 'B04', 'B08')
LABELS = ('water', 'forest', 'field')


def write_scene(
    path,
    bands=RGB,
    height=200,
    width=264,
    dtype='uint8',
    compress=None,
    blocks=None,
    crs='EPSG:32633',
    transform=GRID,
    nodata=None,
    seed=0,
    values=None,
):
    """Write a GeoTIFF of smooth noise, its bands described; `blocks` is the side of its tiles."""
    if values is None:
        values = noise(len(bands), height, width, dtype, seed)
    profile = {'compress': compress} if compress else {}
    if blocks:
        profile |= {'tiled': True, 'blockxsize': blocks, 'blockysize': blocks}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(
            path, 'w', driver='GTiff', count=len(values), height=values.shape[1], width=values.shape[2],
            dtype=values.dtype, crs=crs, transform=transform if crs else None, nodata=nodata, **profile,
        ) as file:  # fmt: skip
            file.descriptions = bands  # first, so that the directory stays at the file's start
            file.write(values)
    return path


def noise(count, height, width, dtype='uint8', seed=0):
    """Values 1 to 250 that change slowly enough for tiles to differ and to compress."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(1, 200, (count, -(-height // 8), -(-width // 8)))
    fine = draw.integers(0, 50, (count, height, width))
    return (coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width] + fine).astype(dtype)


def tiny_bundle(folder, bands=RGB, labels=LABELS, task='single-label', units='8-bit', seed=0, **card):
    """Save a ResNet of random weights whose scores differ from tile to tile."""
    import torch

    from geores import ModelCard, save_bundle
    from geores.models import create

    torch.manual_seed(seed)
    kwargs = {
        'in_chans': len(bands),
        'num_classes': len(labels),
        'stem_width': 8,
        'channels': [8, 16, 32, 64],
    }
    network = create('resnet10t', **kwargs)
    # The statistics of one batch, without which all scores would be the same.
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network.fc.weight.mul_(10)
        network.train()(torch.randn(16, len(bands), 32, 32))
    single = task == 'single-label'
    fields = {
        'name': folder.name,
        'description': 'Random weights for tests.',
        'architecture': 'resnet10t',
        'architecture_kwargs': kwargs,
        'activation': 'softmax' if single else 'sigmoid',
        'task': task,
        'sensor': 'any',
        'processing_level': 'any',
        'bands': bands,
        'units': units,
        'gsd': (1.0, 30.0),
        'input_size': 32,
        'resampling': 'bilinear',
        'mean': (120.0,) * len(bands),
        'std': (60.0,) * len(bands),
        'labels': labels,
        'thresholds': None if single else (0.5,) * len(labels),
        'split_id': 'none',
        'training_data': [{'name': 'none', 'licence': 'none'}],
        'licence': 'CC0-1.0',
        'metrics': {},
    }
    return save_bundle(folder, network.eval(), ModelCard(**(fields | card)))


@pytest.fixture(scope='session')
def bundle(tmp_path_factory):
    """A bundle for red, green and blue with three labels, one a tile."""
    import torch

    torch.set_num_threads(1)  # networks this small only lose by more
    return tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny-rgb')


@dataclass
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def geores(monkeypatch, capfd):
    """Run the command line in this process: `geores('info', path)` gives an `Answer`."""
    from geores.cli import main

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['geores', *map(str, args)])
        # pytest's own handlers would hide what libraries log, which users see.
        handler = logging.StreamHandler(sys.stderr)
        handler.setLevel(logging.WARNING)
        logging.getLogger().addHandler(handler)
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as caught:
                main()
        finally:
            logging.getLogger().removeHandler(handler)
        text = capfd.readouterr()
        return Answer(caught.value.code, text.out, text.err)

    return run


def hold_files(folder):
    """Every file under a folder, by its path in it."""
    return {str(path.relative_to(folder)) for path in Path(folder).rglob('*') if path.is_file()}


@pytest.fixture
def one_thread():
    """Threads that wait for each other are slow on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

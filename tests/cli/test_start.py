"""What a command imports before its first tile: not what it needs later, or never."""

import subprocess
import sys

import pytest
from affine import Affine

from geores.card import shipped_models

from ..fixtures import write_scene

TIMM = """
import sys
import torch
from geores import models

assert 'sympy' not in sys.modules and 'torch._dynamo' not in sys.modules
import torchvision

boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
assert torchvision.ops.roi_align(torch.zeros(1, 1, 8, 8), boxes, 2).shape == (1, 1, 2, 2)
import torch._dynamo

assert callable(torch._dynamo.disable)
from timm.layers.typing import disable_compiler

assert disable_compiler(lambda: 3)() == 3
"""

CLASSIFY = """
import sys
import geores

loaded = []

def progress(tiles, of):
    if tiles and not loaded:
        loaded.append(set(sys.modules))

geores.classify(sys.argv[1], sys.argv[2], device='cpu', progress=progress)
late = 'dask.array xarray pandas geopandas pyarrow scipy matplotlib timm torchvision torch._dynamo sympy'
late += ' transformers lightning torchgeo huggingface_hub'
assert not loaded[0].intersection(late.split()), loaded[0].intersection(late.split())
"""

LOAD = """
import sys
import geores

geores.load_model(sys.argv[1])
never = 'torch._dynamo sympy transformers scipy pandas matplotlib xarray lightning'
assert not sys.modules.keys() & set(never.split()), sys.modules.keys() & set(never.split())
"""


def run(code, *args):
    command = [sys.executable, '-c', code, *map(str, args)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_the_compiler_is_imported_when_it_is_asked_for():
    run(TIMM)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'metres', 'dtype'), [('aerial-rgb', 1, 'uint8'), ('landcover', 10, 'uint16')]
)
def test_a_small_scene_imports_little(tmp_path, name, metres, dtype):
    bands = next(card.bands for card in shipped_models() if card.name == name)
    transform = Affine(metres, 0, 0, 0, -metres, 0)
    scene = write_scene(tmp_path / 'scene.tif', bands, 128, 128, dtype, transform=transform)
    run(CLASSIFY, scene, name)


@pytest.mark.slow
@pytest.mark.parametrize('name', [card.name for card in shipped_models()])
def test_a_bundle_that_ships_is_loaded_without_the_compiler(name):
    run(LOAD, name)

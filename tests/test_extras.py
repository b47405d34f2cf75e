"""What an install without extras can do, and what it says where it cannot."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rasterio.transform import from_origin

from geores.errors import EXTRAS, MissingExtraError, import_extra, missing_extra

from .fixtures import write_scene

WITHOUT = (
    'import sys\nsys.modules.update(dict.fromkeys({absent}))\n'  # None there is a module that is not there
)
OPTIONAL = sorted({*EXTRAS} - {'dask'})  # odc-geo takes dask where it is installed


def python(code: str, absent=OPTIONAL) -> subprocess.CompletedProcess:
    program = WITHOUT.format(absent=set(absent)) + code
    return subprocess.run([sys.executable, '-P', '-c', program], capture_output=True, text=True, check=False)


def test_each_package_of_the_table_is_in_its_extra_and_not_in_the_core():
    project = tomllib.loads((Path(__file__).parents[1] / 'pyproject.toml').read_text())['project']
    names = {'sklearn': 'scikit-learn', 'segmentation_models_pytorch': 'segmentation-models-pytorch'}
    names['distributed'] = 'dask[array,distributed]'
    core = {re.split(r'[\[>=]', wanted)[0] for wanted in project['dependencies']}
    for module, extra in EXTRAS.items():
        if module == 'tokenizers':  # transformers brings it
            continue
        package = names.get(module, module)
        assert package not in core
        assert any(wanted.startswith(package) for wanted in project['optional-dependencies'][extra]), (
            f'{package} is not in the extra {extra}'
        )
    assert len(core) <= 22


def test_a_scene_is_classified_without_any_extra(tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', transform=from_origin(300_000, 5_800_000, 0.6, 0.6))
    done = python(
        f'import geores; result = geores.classify({str(scene)!r}, out={str(tmp_path / "out")!r}, '
        "model='aerial-rgb'); print(len(result.shares) > 0)"
    )
    assert done.returncode == 0, done.stderr
    assert 'True' in done.stdout


@pytest.mark.parametrize(
    ('command', 'module', 'extra'),
    [
        (['train', '--config', 'none.yaml'], 'jsonargparse', 'train'),
        (['evaluate', 'sentinel2', 'nowhere'], '', 'train'),
    ],
)
def test_a_command_names_the_extra_in_one_line(command, module, extra):
    done = python(f'import sys; sys.argv[1:] = {command!r}\nfrom geores.cli import main; main()')
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert module in done.stderr
    assert f'pip install "geores[{extra}]"' in done.stderr


@pytest.mark.parametrize('name', ['geores.datasets', 'geores.tasks'])
def test_python_names_the_extra(name):
    done = python(f'import {name}')
    assert 'MissingExtraError' in done.stderr
    assert 'geores[train]' in done.stderr


def test_what_is_there_is_no_news():
    assert import_extra('transformers').__name__ == 'transformers'
    assert missing_extra(ModuleNotFoundError('x', name='something_else')) is None
    assert missing_extra(ImportError('x', name='lightning')) is None
    with pytest.raises(MissingExtraError, match=r'geores\[reben\]'):
        raise missing_extra(ModuleNotFoundError('x', name='lmdb.cpython'))

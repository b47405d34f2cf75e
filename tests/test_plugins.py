"""What other packages add, and that a broken one harms nobody."""

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from lightning.pytorch import LightningDataModule, LightningModule
from rasterio.transform import from_origin

from geores.bundle import load_model
from geores.card import list_bundles, list_models, shipped_models
from geores.classification.scored import choose_model
from geores.cli.training import train
from geores.errors import BundleError, UsageError
from geores.models import architectures, create
from geores.plugins import ARCHITECTURES, DATASETS, MODELS, TASKS, bundle_folders, find_plugins
from geores.scenes import open_scene

from .fixtures import tiny_bundle, write_scene

TASK = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader

class TinyTask(LightningModule):
    def __init__(self, bands: list[str], rate: float = 0.1):
        super().__init__()
        self.layer = torch.nn.Linear(len(bands), 1)
        self.rate = rate

    def training_step(self, batch, index):
        return (self.layer(batch['image']) - batch['label']).pow(2).mean()

    def validation_step(self, batch, index):
        self.log('val/mae', self.training_step(batch, index))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.rate)

    def export_bundle(self, folder):
        folder.mkdir(parents=True)
        (folder / 'written').touch()

class TinyData(LightningDataModule):
    bands = ('red', 'green', 'blue')

    def train_dataloader(self):
        return DataLoader([{'image': torch.ones(3), 'label': torch.ones(1)}] * 4, 2)

    val_dataloader = train_dataloader
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that Python finds packages in."""
    folder = tmp_path / 'site'
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]


@pytest.fixture
def install(site, monkeypatch):
    """Install a package: its entry points as {group: {name: value}}, its modules as {name: source}."""

    def put(name, points, modules=None, version='1.0', text=None):
        info = site / f'{name}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
        lines = [
            line
            for group, known in points.items()
            for line in (f'[{group}]', *(f'{key} = {value}' for key, value in known.items()))
        ]
        (info / 'entry_points.txt').write_text(text or '\n'.join(lines) + '\n')
        for module, source in (modules or {}).items():
            (site / f'{module}.py').write_text(source)
        monkeypatch.syspath_prepend(site)  # empties the caches

    return put


def named(group):
    return {plugin.name: plugin for plugin in find_plugins(group)[0]}


def test_entry_points_are_listed_without_an_import(install):
    install('builtup', {TASKS: {'Share': 'bu_task:Share'}}, {'bu_task': 'raise RuntimeError'}, '0.2')
    plugin = named(TASKS)['Share']
    assert (plugin.value, plugin.package) == ('bu_task:Share', 'builtup 0.2')
    assert 'bu_task' not in sys.modules


@pytest.mark.parametrize(
    ('value', 'source', 'reason'),
    [
        ('bad_one:Task', 'raise RuntimeError("no\\nGPU")', 'RuntimeError: no GPU'),
        ('bad_two:Task', 'import sys; sys.exit(3)', 'SystemExit: 3'),
        ('bad_three:Task', 'Task = ', 'SyntaxError'),
        ('bad_four:Task', '', "has no attribute 'Task'"),
        ('nowhere_at_all:Task', '', 'ModuleNotFoundError'),
        ('no entry point!', '', 'cannot be imported'),
    ],
)
def test_what_cannot_be_imported_names_the_package(install, value, source, reason):
    install('broken', {TASKS: {'Task': value}}, {value.split(':')[0]: source} if source else {})
    if value == 'bad_four:Task':
        install('other', {}, {'bad_four': ''})
    with pytest.raises(UsageError) as error:
        named(TASKS)['Task'].load()
    message = str(error.value)
    assert message.startswith("package broken 1.0: its entry point 'Task' of geores.tasks")
    assert reason in message
    assert 'uninstall' in message
    assert '\n' not in message


def test_one_of_two_of_a_name_counts_and_ours_first(install):
    install('zebra', {TASKS: {'Share': 'zebra:Share'}})
    install('adder', {TASKS: {'Share': 'adder:Share', 'Mine': 'adder:Mine'}})
    install('geores', {TASKS: {'Mine': 'geores.tasks:Mine'}}, version='9.9')
    found, problems = find_plugins(TASKS)
    assert {one.name: one.package for one in found} == {'Mine': 'geores 9.9', 'Share': 'adder 1.0'}
    assert [problem.split(':')[0] for problem in problems] == ['package adder 1.0', 'package zebra 1.0']
    assert 'hidden by the one of that name in geores 9.9' in problems[0]


def test_damaged_metadata_does_not_hide_other_packages(install):
    install('damaged', {}, text='[geores.tasks]\nthis is no entry point\n')
    install('sound', {TASKS: {'Share': 'sound:Share'}})
    assert named(TASKS)['Share'].package == 'sound 1.0'


# --- bundles


@pytest.fixture
def models_of(install, site):
    """Install a package `field` that holds bundles in `field_models`, which nobody may import."""

    def put(*names, **card):
        folder = site / 'field_models'
        folder.mkdir()
        (folder / '__init__.py').write_text('raise RuntimeError("imported")')
        for name in names:
            tiny_bundle(folder / name, **card)
        install('field', {MODELS: {'any-name': 'field_models'}})
        return folder

    return put


def test_bundles_of_another_package_go_by_name(models_of, geores, tmp_path):
    folder = models_of('wheat', 'maize')
    assert bundle_folders()[0] == {name: (folder / name, 'field 1.0') for name in ('maize', 'wheat')}
    assert load_model('wheat').card.name == 'wheat'
    ours = [card.name for card in shipped_models()]
    assert [card.name for card in list_models()] == [*ours, 'maize', 'wheat']

    answer = geores('models')
    assert (answer.code, answer.err) == (0, '')
    assert 'wheat' in answer.out
    assert 'field 1.0' in geores('models', 'wheat').out
    records = {record['name']: record for record in geores('models', '--json').records}
    assert (records['wheat']['package'], records['wheat']['path']) == ('field 1.0', str(folder / 'wheat'))
    assert records[ours[0]]['package'].startswith('geores ')

    scene = write_scene(tmp_path / 'scene.tif', height=64, width=64)
    answer = geores('classify', scene, '--model', 'maize', '--out', tmp_path / 'out', '--json')
    assert answer.records[0]['model'] == 'maize'
    fine = write_scene(tmp_path / 'fine.tif', height=64, width=64, transform=from_origin(3e5, 58e5, 0.6, 0.6))
    assert choose_model(open_scene(fine))[0].name in ours


def test_a_folder_of_the_same_name_wins(models_of, tmp_path, monkeypatch):
    models_of('wheat')
    mine = tiny_bundle(tmp_path / 'wheat', seed=1)
    monkeypatch.chdir(tmp_path)
    assert load_model('wheat').sha256 == load_model(mine).sha256
    (mine / 'card.json').unlink()
    assert load_model('wheat').card.name == 'wheat'


def test_a_package_may_be_one_bundle(install, site):
    tiny_bundle(site / 'lonely')
    install('single', {MODELS: {'x': 'lonely'}})
    assert load_model('lonely').card.name == 'lonely'


def test_a_shipped_name_wins_and_says_so(models_of, geores):
    name = shipped_models()[0].name
    models_of(name)
    answer = geores('models')
    assert answer.code == 0
    assert answer.err.startswith('geores: warning: package field 1.0: ')
    assert 'hidden by the model of that name that ships' in answer.err
    assert load_model(name).sha256 == shipped_models()[0].sha256


def test_the_first_package_of_two_wins(install, site):
    for package in ('adder', 'zebra'):
        (site / package).mkdir()
        tiny_bundle(site / package / 'grass')
        install(package, {MODELS: {package: package}})
    known, problems = bundle_folders()
    assert known['grass'][1] == 'adder 1.0'
    assert problems[0].startswith('package zebra 1.0: ')
    assert "holds 'grass', which adder 1.0 has too" in problems[0]


@pytest.mark.parametrize('value', ['nowhere_at_all', 'empty_package', 'geores.nowhere', '', 'a..b', 'json:x'])
def test_an_entry_point_without_bundles_is_a_warning(install, site, geores, value):
    (site / 'empty_package').mkdir()
    install('hollow', {MODELS: {'x': value}})
    answer = geores('models')
    assert answer.code == 0
    assert answer.err.startswith('geores: warning: package hollow 1.0: its entry point')
    assert 'holds no bundle' in answer.err
    assert answer.err.count('\n') == 1
    assert shipped_models()[0].name in answer.out


def test_bad_cards_are_warnings(models_of, geores):
    folder = models_of('wheat', 'maize', 'grass')
    (folder / 'wheat' / 'card.json').write_text('{')
    (folder / 'maize').rename(folder / 'corn')
    answer = geores('models')
    assert answer.code == 0
    lines = answer.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith('geores: warning: package field 1.0: ') for line in lines)
    assert "its card is named 'maize'" in lines[0]
    assert 'is not JSON' in lines[1]
    assert [bundle.card.name for bundle in list_bundles()[0]][-1] == 'grass'
    with pytest.raises(BundleError, match='is not JSON'):
        load_model('wheat')


def test_unknown_names_are_told_of_those_of_packages(models_of):
    models_of('wheat')
    with pytest.raises(UsageError, match="did you mean 'wheat'"):
        load_model('weat')


# --- architectures

NETWORK = """
import torch
from geores.models import register

{decorator}
def build(in_chans=3, num_classes=2):
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_chans, num_classes, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
"""


@pytest.mark.parametrize('registers', [True, False])
def test_an_architecture_of_another_package(install, site, registers):
    name = f'plain-{registers}'.lower()
    source = NETWORK.format(decorator=f'@register({name!r})' if registers else '')
    install('nets', {ARCHITECTURES: {name: f'nets_{registers}:build'}}, {f'nets_{registers}': source})
    assert name in architectures()
    assert f'nets_{registers}' not in sys.modules
    assert create(name, num_classes=4)[0].out_channels == 4
    with pytest.raises(UsageError, match=f'did you mean {name!r}'):
        create(name[:-1])


def test_an_architecture_that_cannot_be_imported(install, bundle, tmp_path):
    install('nets', {ARCHITECTURES: {'gone': 'gone_module:build'}})
    card = json.loads((bundle / 'card.json').read_text()) | {'architecture': 'gone'}
    copy = tmp_path / 'copy'
    copy.mkdir()
    (copy / 'card.json').write_text(json.dumps(card))
    (copy / 'model.safetensors').write_bytes((bundle / 'model.safetensors').read_bytes())
    with pytest.raises(BundleError, match=r'package nets 1\.0: .* cannot be imported'):
        load_model(copy)


# --- geores train


@pytest.fixture
def config(install, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['geores', 'train', '--config', 'x.yaml'])
    points = {TASKS: {'TinyTask': 'tiny_task:TinyTask', 'Ruin': 'ruin:Ruin'}}
    modules = {'tiny_task': TASK, 'ruin': 'raise RuntimeError("old torch")'}
    install('tiny', points | {DATASETS: {'TinyData': 'tiny_task:TinyData'}}, modules)
    path = tmp_path / 'mine.yaml'
    path.write_text('model: TinyTask\ndata: TinyData\ntrainer: {max_epochs: 1, accelerator: cpu}\n')
    return ['--config', str(path)]


def test_train_by_short_names(config, tmp_path, capsys):
    train([*config, '--model.rate', '0.2'])
    run = tmp_path / 'runs' / 'mine' / 'version_0'
    assert (run / 'bundle' / 'written').is_file()
    out, err = capsys.readouterr()
    assert out == f'bundle written to {Path("runs/mine/version_0/bundle")}\n'
    assert err.startswith('epoch 1/1  val/mae ')
    assert err.count('\n') == 1
    assert 'ruin' not in sys.modules


def test_the_library_logs_what_the_command_prints(config, capsys, caplog):
    from geores.training.train import train as fit

    caplog.set_level('INFO', 'geores')
    fit(config)
    assert capsys.readouterr() == ('', '')
    first, last = caplog.messages
    assert first.startswith('epoch 1/1  val/mae ')
    assert last == f'bundle written to {Path("runs/mine/version_0/bundle")}'


def test_train_warns_of_a_broken_class_that_is_named(config, capsys):
    with pytest.raises(UsageError, match='Ruin'):
        train([*config, '--model', 'Ruin'])
    err = capsys.readouterr().err
    assert err.startswith("geores: warning: package tiny 1.0: its entry point 'Ruin' of geores.tasks")
    assert 'old torch' in err


def test_train_lists_what_can_be_named(config, geores):
    answer = geores('train', '--list')
    assert (answer.code, answer.err) == (0, '')
    assert 'tiny 1.0' in answer.out
    records = [
        record for record in geores('train', '--list', '--json').records if record['package'] == 'tiny 1.0'
    ]
    assert [(record['kind'], record['name']) for record in records] == [
        ('task', 'Ruin'),
        ('task', 'TinyTask'),
        ('datamodule', 'TinyData'),
    ]
    answer = geores('train', '--help')
    assert answer.code == 0
    assert 'TinyTask (tiny 1.0)' in ' '.join(answer.out.split())


@pytest.mark.parametrize('args', [['models'], ['models', '--json'], ['train', '--list']])
def test_listing_imports_no_heavy_library(args, tmp_path):
    code = (
        'import sys\nfrom geores.cli import main\n'
        f"sys.argv = ['geores', *{args!r}]\n"
        'try: main()\nexcept SystemExit: pass\n'
        "sys.exit(', '.join({'torch', 'numpy', 'lightning', 'timm'} & set(sys.modules)) or 0)"
    )
    answer = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert answer.returncode == 0, answer.stderr


def test_our_own_classes_are_declared():
    declared = tomllib.loads((Path(__file__).parents[1] / 'pyproject.toml').read_text())
    points = declared['project'].get('entry-points', {})
    for group, base in ((TASKS, LightningModule), (DATASETS, LightningDataModule)):
        offered = import_module(group)
        named = {name: getattr(offered, name) for name in offered.__all__}
        classes = {name for name, one in named.items() if isinstance(one, type) and issubclass(one, base)}
        assert points.get(group) == {name: f'{group}:{name}' for name in classes}

"""Shards: shares of a classification, put together to the bytes of one run."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import geores as package
from geores.classification import shards
from geores.classification.shards import Shard
from geores.errors import GeoresError, OutputError, UsageError
from geores.inference import FolderStore, plan

from ..fixtures import hold_files, write_scene
from ..pixel_fixtures import pixel_bundle  # noqa: F401

OF_RUN = {'seconds', 'tiles_of_this_run'}
"""What a record says of the time that a run took, and of the tiles that it did not find done already."""


@pytest.fixture(autouse=True)
def small_chunks(request, monkeypatch):
    """So that a small scene has many; the workers of a cluster have not heard of it."""
    if 'dask' not in request.node.name:
        monkeypatch.setattr(plan, 'CHUNK_PIXELS', 64)


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif', height=200, width=260, compress='deflate', blocks=64)


def compute(scenes, model, out, count, *, without=(), **options):
    for number in range(1, count + 1):
        if number not in without:
            chosen = {'device': 'cpu', 'shard': f'{number}/{count}', 'out': out} | options
            assert all(outcome.share for outcome in package.classify_many(scenes, model, **chosen))


def assert_same(folder, whole):
    assert hold_files(folder) == hold_files(whole)
    for name in hold_files(whole):
        one, other = (path / name for path in (folder, whole))
        if name == 'run.json':
            entries = [json.loads(path.read_text())['scenes'] for path in (one, other)]
            for entry in [entry for entries in entries for entry in entries.values()]:
                for key in OF_RUN:
                    entry.pop(key)
            assert entries[0] == entries[1]
        else:
            assert one.read_bytes() == other.read_bytes(), name


@pytest.mark.parametrize('kind', ['bundle', 'pixel_bundle'])
@pytest.mark.parametrize('count', [1, 2, 4])
def test_shards_give_the_bytes_of_one_run(kind, count, scene, tmp_path, request, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = request.getfixturevalue(kind)
    pixels = {'tile': 48, 'probabilities': True, 'polygons': 'parquet'}
    options = pixels if kind == 'pixel_bundle' else {'stride': 16}
    (outcome,) = package.classify_many(['scene.tif'], model, out='whole', device='cpu', **options)
    assert len(outcome.result.plan) > 4
    compute(['scene.tif'], model, 'out', count, **options)
    assert not [name for name in hold_files(tmp_path / 'out') if name.startswith('scene')]
    (merged,) = package.merge('out')
    assert merged.result.shares == outcome.result.shares
    assert_same(tmp_path / 'out', tmp_path / 'whole')
    with pytest.raises(UsageError, match='holds no shards'):
        package.merge('out')


def test_small_scenes_fall_to_different_shards(bundle, tmp_path):
    paths = [write_scene(tmp_path / f'{name}.tif', height=40, width=40, seed=name) for name in range(6)]
    list(package.classify_many(paths, bundle, out=tmp_path / 'whole', device='cpu', tile=32))
    compute(paths, bundle, tmp_path / 'out', 3, tile=32)
    assert len(list(package.merge(tmp_path / 'out'))) == 6
    assert_same(tmp_path / 'out', tmp_path / 'whole')


@pytest.mark.parametrize('total', [0, 1, 3, 7, 100])
def test_every_chunk_belongs_to_one_shard(total):
    for count in (1, 2, 3, 8):
        parts = [Shard(number, count).chunks('scene', total) for number in range(1, count + 1)]
        assert sorted(chunk for part in parts for chunk in part) == list(range(total))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_lost_shard_is_named_and_costs_its_share(geores, bundle, scene, tmp_path):
    out = tmp_path / 'out'
    compute([scene], bundle, out, 4)
    lost = Shard(3, 4)
    shutil.rmtree(lost.work_folder(out, 'scene'))
    lost.command_file(out).unlink()
    answer = geores('merge', out)
    assert (answer.code, answer.out) == (2, '')
    assert answer.err.count('\n') == 1
    assert 'shard 3/4 has 0 of' in answer.err
    assert 'run the same command with --shard 3/4' in answer.err
    assert not (out / 'scene_scores.tif').exists()
    args = ['classify', scene, '--model', bundle, '--out', out, '--device', 'cpu']
    again = geores(*args, '--shard', '3/4', '--json', '-q')
    assert again.records[0]['shard'] == '3/4'
    assert again.records[0]['tiles'] > 0
    assert geores('merge', out, '--json').records[0]['scene'] == 'scene'
    geores(*args[:5], tmp_path / 'whole', *args[6:])
    assert_same(out, tmp_path / 'whole')


def test_a_shard_that_was_stopped_continues(bundle, scene, tmp_path, monkeypatch):
    out, put = tmp_path / 'out', FolderStore.put
    compute([scene], bundle, out, 2, without=[2])

    def stop(self, index, arrays):
        put(self, index, arrays)
        raise GeoresError('stopped')

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, 'put', stop)
        with pytest.raises(GeoresError, match='stopped'):
            compute([scene], bundle, out, 2, without=[1])
    with pytest.raises(OutputError, match='shard 2/2 has 1 of'):
        list(package.merge(out))
    computed = []
    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, 'put', lambda *args: (computed.append(args[1]), put(*args)))
        compute([scene], bundle, out, 2)
    list(package.classify_many([scene], bundle, out=tmp_path / 'whole', device='cpu'))
    (outcome,) = package.merge(out)
    assert len(computed) == len(Shard(2, 2).chunks('scene', len(outcome.result.plan))) - 1
    for name in ('scene_scores.tif', 'scene_tiles.parquet', 'scene_map.png'):
        assert (out / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_shards_of_other_runs_are_refused(bundle, scene, tmp_path):
    out = tmp_path / 'out'
    compute([scene], bundle, out, 2, without=[2])
    with pytest.raises(OutputError, match='another stride'):
        compute([scene], bundle, out, 2, without=[1], stride=16)
    with pytest.raises(OutputError, match='another N'):
        compute([scene], bundle, out, 3)
    compute([scene], bundle, out, 2, without=[1], workers=1)
    write_scene(scene, height=200, width=260, compress='deflate', blocks=64, seed=5)
    with pytest.raises(UsageError, match='shard 1/2 of scene was computed with another scene'):
        list(package.merge(out))
    compute([scene], bundle, out, 2, overwrite=True)
    assert len(list(package.merge(out))) == 1


def test_machines_of_different_kinds_are_named(bundle, scene, tmp_path):
    out = tmp_path / 'out'
    compute([scene], bundle, out, 2, without=[2], precision='fp32')
    journal = Shard(1, 2).work_folder(out, 'scene') / 'journal.jsonl'
    text = journal.read_text()
    assert '"instructions"' in text
    compute([scene], bundle, out, 2, without=[1], precision='fp32')
    key, rest = text.split('\n', 1)
    header = json.loads(key)
    header['key']['instructions'] = 'another'
    journal.write_text(json.dumps(header) + '\n' + rest)
    with pytest.raises(UsageError, match=r'shards 1/2 and 2/2 of scene differ in instructions.*--mixed'):
        list(package.merge(out))
    (outcome,) = package.merge(out, mixed=True)
    assert any('different instructions' in note for note in outcome.result.notes)


def test_what_cannot_be_a_shard(bundle, scene, tmp_path):
    for text in ('0/2', '3/2', 'a/b', '1', '', '1/0'):
        with pytest.raises(UsageError, match='shard'):
            package.classify_many([scene], bundle, out=tmp_path / 'out', shard=text)
    with package.open_scene(scene) as opened, pytest.raises(UsageError, match='give paths'):
        package.classify_many([opened], bundle, out=tmp_path / 'out', shard='1/2')
    model = package.load_model(bundle)
    model.folder = None
    with pytest.raises(UsageError, match='name or path'):
        package.classify_many([scene], model, out=tmp_path / 'out', shard='1/2')
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/.shard-1-of-2.json').write_text('{"scenes": 1}')
    with pytest.raises(OutputError, match='damaged'):
        package.merge(tmp_path / 'out')


def test_sources_beside_scenes_are_opened_again(tmp_path):
    first = write_scene(tmp_path / 'a.tif', height=40, width=40)
    with package.open_scene(first, bands=['x', 'y', 'z']) as beside:
        opening = {'bands': None, 'allow_vrt': False, 'sensor': None, 'offset': 'auto'}
        options = shards.ClassifyOptions()
        command = shards.Command.of([first], [beside], 'auto', opening, options)
    assert command.beside == [{'paths': [str(first)], 'bands': ['x', 'y', 'z']}]
    assert np.size(command.scenes) == 1


CLUSTER = """
import json, os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter('ignore')

def die_once(mark):
    # One worker is killed, when its first chunk stands and work goes on.
    def watch(event, arguments):
        if event == 'shutil.rmtree' and '.safetensors.' in str(arguments[0]):
            try:
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)

if __name__ == '__main__':
    from distributed import Client, LocalCluster
    from geores.classification.merge import classify_on_dask

    scene, model, out = sys.argv[1:]
    mark = Path('killed').absolute()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(2)
            client.run(die_once, str(mark))
            outcomes = classify_on_dask(
                client, [scene], model, out=Path(out), device='cpu', runtime='torch', tile=64, stride=32,
                workers=1,
            )
            print(json.dumps([[outcome.name, bool(outcome.result), mark.exists()] for outcome in outcomes]))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec('distributed') is None, reason='distributed is not installed')
def test_a_killed_worker_of_dask_changes_nothing(bundle, tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', height=1200, width=1200, blocks=256)
    (tmp_path / 'cluster.py').write_text(CLUSTER)
    answer = subprocess.run(
        [sys.executable, 'cluster.py', scene, bundle, tmp_path / 'out'],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {'DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT': '300s'},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1]) == [['scene', True, True]]
    options = {'device': 'cpu', 'runtime': 'torch', 'tile': 64, 'stride': 32, 'workers': 1}
    list(package.classify_many([str(scene)], bundle, out=tmp_path / 'whole', **options))
    assert_same(tmp_path / 'out', tmp_path / 'whole')


def test_a_cluster_that_is_not_there(geores, bundle, scene, tmp_path):
    args = [
        'classify',
        scene,
        '--model',
        bundle,
        '--out',
        tmp_path / 'out',
        '--dask',
        'nowhere',
        '--shard',
        '1/2',
    ]
    assert 'does not go with --dask' in geores(*args).err

"""A run that is killed and started again ends as one that was left alone."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import matplotlib.image
import numpy as np
import pytest
import rasterio
from geopandas.testing import assert_geodataframe_equal

from geores.errors import GeoresError, JournalError, WriteError
from geores.inference import FolderStore

from ..fixtures import hold_files, tiny_bundle, write_scene
from ..pixel_fixtures import pixel_bundle  # noqa: F401

CLASSES = {'scene_classes.tif', 'scene_classes.tif.aux.xml', 'scene_classes.qml', 'scene_confidence.tif'}
FINAL = CLASSES | {'scene_scores.tif', 'scene_tiles.parquet', 'scene_map.png', 'run.json'}
PIXELS = CLASSES | {'scene_polygons.gpkg', 'scene_polygons.qml', 'scene_map.png', 'run.json'}


def assert_same(path, whole):
    """A file opens, and holds what the one of an uninterrupted run does."""
    if path.suffix == '.tif':
        with rasterio.open(path) as one, rasterio.open(whole) as other:
            assert (one.crs, one.transform, one.dtypes) == (other.crs, other.transform, other.dtypes)
            assert one.descriptions == other.descriptions
            np.testing.assert_array_equal(one.read(), other.read())
    elif path.suffix == '.parquet':
        assert_geodataframe_equal(gpd.read_parquet(path), gpd.read_parquet(whole))
    elif path.suffix == '.gpkg':
        assert_geodataframe_equal(gpd.read_file(path), gpd.read_file(whole))
    elif path.suffix in ('.xml', '.qml'):
        assert path.read_text() == whole.read_text()
    elif path.suffix == '.png':
        np.testing.assert_array_equal(matplotlib.image.imread(path), matplotlib.image.imread(whole))
    else:
        shares = [json.loads(file.read_text())['scenes']['scene']['labels'] for file in (path, whole)]
        assert shares[0] == shares[1]


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'final'), [('bundle', FINAL), ('pixel_bundle', PIXELS)])
def test_killed_at_20_points(kind, final, tmp_path, request):
    bundle = request.getfixturevalue(kind)
    scene = write_scene(tmp_path / 'scene.tif', height=200, width=260, compress='deflate', blocks=64)
    script = Path(__file__).parents[1] / 'killed.py'
    out = tmp_path / 'out'
    out.mkdir()
    subprocess.run([sys.executable, script, bundle, scene, out, '20', '7'], check=True, cwd=tmp_path)
    at_kill = [hold_files(out / f'{number}.killed') for number in range(20)]
    assert any(not names for names in at_kill), 'no kill came before the first file'
    assert any(0 < len(names) < len(final) for names in at_kill), 'no kill came between the files'
    for number, names in enumerate(at_kill):
        assert names <= final
        for name in names:
            assert_same(out / f'{number}.killed' / name, out / 'whole' / name)
        assert hold_files(out / str(number)) == final
        for name in final:
            assert_same(out / str(number) / name, out / 'whole' / name)


KILLED_AT_THE_THIRD_CHUNK = """
import os, signal, sys
chunks = []

def watch(event, arguments):
    if event == 'os.rename' and str(arguments[1]).endswith('.safetensors'):
        chunks.append(arguments[1])
        if len(chunks) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
from geores.cli import main
main()
"""


@pytest.mark.slow
def test_killed_command(geores, bundle, tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', height=1100, width=2100)
    args = ['classify', scene, '--model', bundle, '--stride', '30']
    out = tmp_path / 'out'
    command = [sys.executable, '-c', KILLED_AT_THE_THIRD_CHUNK, *args, '--out', out]
    assert subprocess.run(command, check=False, cwd=tmp_path).returncode == -signal.SIGKILL
    assert '.scene.partial/journal.jsonl' in hold_files(out)
    assert not FINAL & hold_files(out)
    answer = geores(*args, '--out', out, '--json')
    assert answer.code == 0, answer
    assert hold_files(out) == FINAL
    assert geores(*args, '--out', tmp_path / 'whole').code == 0
    for name in FINAL:
        assert_same(out / name, tmp_path / 'whole' / name)
    record = json.loads((out / 'run.json').read_text())['scenes']['scene']
    assert 0 < record['tiles_of_this_run'] < record['tiles'] == answer.records[0]['tiles']


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif', height=1100, width=1100)


@pytest.fixture
def batches(monkeypatch):
    """Counts batches that go through the network, and stops the run after `limit` of them."""
    from geores.runtime.predictor import Predictor

    class Count:
        done = 0
        limit = None

    call = Predictor.__call__

    def counted(self, tiles):
        if Count.limit is not None and Count.done >= Count.limit:
            raise WriteError('stopped by the test')
        Count.done += 1
        return call(self, tiles)

    monkeypatch.setattr(Predictor, '__call__', counted)
    return Count


@pytest.fixture(scope='module')
def stopped_once(bundle, tmp_path_factory):
    """A folder of a scene and of a run that was stopped with some of its four chunks done."""
    import geores as library
    from geores.runtime.predictor import Predictor

    folder, call, done = tmp_path_factory.mktemp('stopped'), Predictor.__call__, []
    scene = write_scene(folder / 'scene.tif', height=1100, width=1100)

    def limited(self, tiles):
        if len(done) == 70:  # of 64 a chunk
            raise WriteError('stopped by the test')
        done.append(tiles.shape)
        return call(self, tiles)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, '__call__', limited)
        with pytest.raises(WriteError, match='stopped by the test'):
            library.classify(scene, model=bundle, out=folder / 'out', precision='fp32', workers=1)
    assert 0 < len(list((folder / 'out').glob('.scene.partial/*.safetensors'))) < 4
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """Arguments of that run, in a folder of this test's own."""
    shutil.copytree(stopped_once, tmp_path, dirs_exist_ok=True)
    return [
        'classify',
        tmp_path / 'scene.tif',
        '--out',
        tmp_path / 'out',
        '--precision',
        'fp32',
        '--workers',
        '1',
    ]


def test_finished_chunks_are_not_computed_again(geores, bundle, scene, batches, tmp_path):
    args = ['classify', scene, '--model', bundle, '--precision', 'fp32', '--workers', '1', '--out']
    batches.limit = 70
    answer = geores(*args, tmp_path / 'out')
    assert answer.code == 1
    assert 'stopped by the test' in answer.err
    assert 0 < len(list((tmp_path / 'out').glob('.scene.partial/*.safetensors'))) < 4
    batches.done, batches.limit = 0, None
    assert geores(*args, tmp_path / 'out').code == 0
    resumed, batches.done = batches.done, 0
    assert geores(*args, tmp_path / 'whole').code == 0
    assert resumed < batches.done
    for name in FINAL:
        assert_same(tmp_path / 'out' / name, tmp_path / 'whole' / name)


def refused(geores, tmp_path, *args):
    held = hold_files(tmp_path / 'out')
    answer = geores(*args)
    assert answer.code == 2, answer
    assert answer.err.count('\n') == 1
    assert '--no-resume' in answer.err
    assert hold_files(tmp_path / 'out') == held
    return answer.err


def test_progress_counts_what_was_finished_before(bundle, stopped, tmp_path):
    import geores as library

    calls = []
    options = {'precision': 'fp32', 'workers': 1, 'progress': lambda *tiles: calls.append(tiles)}
    result = library.classify(stopped[1], model=bundle, out=tmp_path / 'out', **options)
    assert calls[0][0] > 0
    assert sum(tiles for tiles, _ in calls) == result.plan.tiling.count
    assert sum(tiles for tiles, _ in calls[1:]) == result.info.tiles
    assert {of for _, of in calls} == {result.plan.tiling.count}


def test_journal_of_another_card(geores, bundle, stopped, tmp_path):
    """Weights of the same bytes give other scores where the card says other statistics."""
    other = tmp_path / 'tiny-rgb'
    shutil.copytree(bundle, other)
    card = json.loads((other / 'card.json').read_text())
    card['mean'] = [value + 1 for value in card['mean']]
    (other / 'card.json').write_text(json.dumps(card))
    assert 'card' in refused(geores, tmp_path, *stopped, '--model', other)


@pytest.mark.parametrize(
    ('options', 'differs'),
    [
        (('--stride', '16'), 'stride'),
        (('--tile', '40'), 'tile'),
        (('--resolution', '5'), 'grid'),
        (('--bbox', '300000', '5790000', '310000', '5800000'), 'grid'),
        (('--precision', 'bf16'), 'precision'),
        (('--batch-size', '7'), 'batch-size'),
        (('--min-valid', '0.1'), 'min-valid'),
    ],
)
def test_journal_of_other_options(geores, bundle, stopped, tmp_path, options, differs):
    message = refused(geores, tmp_path, *stopped, '--model', bundle, *options)
    assert differs in message


def test_journal_of_other_weights(geores, stopped, tmp_path):
    other = tiny_bundle(tmp_path / 'tiny-rgb', seed=1)
    assert 'model' in refused(geores, tmp_path, *stopped, '--model', other)


def test_journal_of_another_input(geores, bundle, stopped, tmp_path):
    write_scene(tmp_path / 'scene.tif', height=1100, width=1100, seed=1)
    assert 'scene' in refused(geores, tmp_path, *stopped, '--model', bundle)


def test_journal_of_another_mask(geores, bundle, stopped, tmp_path):
    mask = write_scene(
        tmp_path / 'mask.tif', ('mask',), 1100, 1100, values=np.zeros((1, 1100, 1100), 'uint8')
    )
    assert 'mask' in refused(geores, tmp_path, *stopped, '--model', bundle, '--mask', mask)


def test_damaged_journal(geores, bundle, stopped, tmp_path):
    (tmp_path / 'out' / '.scene.partial' / 'journal.jsonl').write_text('{"scene": \n')
    assert 'damaged' in refused(geores, tmp_path, *stopped, '--model', bundle)


@pytest.mark.parametrize('options', [('--stride', '31'), ()])
def test_no_resume_starts_over(geores, bundle, stopped, batches, tmp_path, options):
    assert geores(*stopped, '--model', bundle, *options, '--no-resume').code == 0
    fresh, batches.done = batches.done, 0
    whole = tmp_path / 'whole'
    assert geores(*stopped[:2], '--out', whole, *stopped[4:], '--model', bundle, *options).code == 0
    assert fresh == batches.done
    assert_same(tmp_path / 'out' / 'scene_scores.tif', whole / 'scene_scores.tif')


def test_damaged_chunk_is_computed_again(geores, bundle, stopped, tmp_path):
    for path in (tmp_path / 'out').glob('.scene.partial/*.safetensors'):
        path.write_bytes(path.read_bytes()[:-100])
    assert geores(*stopped, '--model', bundle).code == 0
    assert geores(*stopped[:2], '--out', tmp_path / 'whole', *stopped[4:], '--model', bundle).code == 0
    for name in FINAL:
        assert_same(tmp_path / 'out' / name, tmp_path / 'whole' / name)


def test_threshold_and_top_k_may_change(geores, bundle, stopped):
    """They do not decide the scores, only what is made of them."""
    answer = geores(*stopped, '--model', bundle, '--threshold', '0.9', '--top-k', '1')
    assert answer.code == 0, answer


def arrays(value):
    return {'scores': np.full((2, 3), value, np.float32)}


def test_store_keeps_chunks(tmp_path):
    with FolderStore(tmp_path / 'work', {'a': 1}) as store:
        store.put(3, arrays(0.5))
    with FolderStore(tmp_path / 'work', {'a': 1}) as again:
        assert again.done() == {3}
        np.testing.assert_array_equal(again.get(3)['scores'], arrays(0.5)['scores'])
    with pytest.raises(JournalError, match='another a, b'):
        FolderStore(tmp_path / 'work', {'b': 1})
    assert again.done() == {3}
    for options in ({'resume': False}, {'overwrite': True}):
        with FolderStore(tmp_path / 'work', {'b': 1}, **options) as other:
            assert other.done() == set()
        with FolderStore(tmp_path / 'work', {'a': 1}) as store:
            store.put(3, arrays(0.5))


@pytest.mark.parametrize('left', [b'', b'\0' * 50, b'unfinished'])
def test_store_ignores_what_was_not_finished(tmp_path, left):
    with FolderStore(tmp_path / 'work', {'a': 1}) as store:
        store.put(0, arrays(1))
        (tmp_path / 'work' / '00000001.safetensors').write_bytes(left)
        (tmp_path / 'work' / '00000002.tmp').write_bytes(left)
        assert store.done() == {0}


def test_store_does_not_adopt_chunks_without_a_journal(tmp_path):
    """As a kill during the removal of a folder leaves them."""
    with FolderStore(tmp_path / 'work', {'a': 1}) as store:
        store.put(0, arrays(1))
    (tmp_path / 'work' / 'journal.jsonl').unlink()
    with FolderStore(tmp_path / 'work', {'b': 1}) as store:
        assert store.done() == set()


def test_interrupt_keeps_work(geores, bundle, scene, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr('geores.classification.result.Classification.save', interrupt)
    args = ('classify', scene, '--out', tmp_path / 'out', '--model', bundle)
    answer = geores(*args)
    assert answer.code == 130
    assert 'run again to continue' in answer.err
    monkeypatch.undo()
    assert len(list((tmp_path / 'out').glob('.scene.partial/*.safetensors'))) == 4


def test_results_stand_where_printing_fails(bundle, scene, tmp_path):
    """The caller's block fails after the files are written: no work is left beside them."""
    from geores import load_model, open_scene
    from geores.classification.classify import classified_into
    from geores.classification.options import ClassifyOptions

    opened = open_scene(scene)
    options = ClassifyOptions()
    with (
        pytest.raises(GeoresError, match='later'),
        classified_into(opened, load_model(bundle), options, tmp_path / 'out'),
    ):
        raise GeoresError('later')
    assert hold_files(tmp_path / 'out') == FINAL

"""The same command again: done before; and what a run says of what it keeps."""

import json
import re
import shutil

import numpy as np
import pytest

import geores as library
from geores.cli import common
from geores.errors import OutputError, WriteError

from ..fixtures import hold_files, tiny_bundle, write_scene


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif')


@pytest.fixture
def args(bundle, scene, tmp_path):
    return ['classify', scene, '--model', bundle, '--out', tmp_path / 'out']


@pytest.fixture(scope='module')
def done(bundle, tmp_path_factory):
    """A folder of a scene and its results."""
    folder = tmp_path_factory.mktemp('done')
    library.classify(write_scene(folder / 'scene.tif'), bundle, out=folder / 'out')
    return folder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in hold_files(folder)}


def test_the_same_command_again(geores, args, tmp_path):
    first = geores(*args, '--json').records[0]
    before = contents(tmp_path / 'out')
    answer = geores(*args, '--json')
    assert answer.code == 0, answer
    again = answer.records[0]
    assert again.pop('done_before') is True
    for record in (first, again):  # made of rounded seconds
        record.pop('tiles_per_second')
    assert again == first
    plain = geores(*args)
    assert plain.code == 0
    assert 'done before' in plain.out
    for label, share in first['labels'].items():
        assert re.search(rf'{label} +│ +{share * 100:.1f}%', plain.out)
    assert first['outputs']['map'] in plain.out
    assert contents(tmp_path / 'out') == before


def test_nothing_is_computed(geores, args, monkeypatch):
    assert geores(*args).code == 0
    monkeypatch.setattr('geores.inference.prepared.run', None)
    monkeypatch.setattr('geores.inference.prepared.sample_tiles', None)
    assert geores(*args).code == 0
    assert geores(*args, '--workers', '1', '--max-output', '1G').code == 0
    assert geores(*args, '--overwrite').code == 1


@pytest.mark.parametrize(
    ('options', 'differs'),
    [
        (('--stride', '16'), 'stride'),
        (('--bbox', '300000', '5799000', '301000', '5800000'), 'grid'),
        (('--min-valid', '0.1'), 'min-valid'),
        (('--threshold', '0.9'), 'threshold'),
        (('--top-k', '1'), 'top-k'),
        (('--precision', 'fp32'), 'precision'),
        (('--batch-size', '5'), 'batch-size'),
        (('--atmosphere', 'none'), 'atmosphere'),
    ],
)
def test_another_command_is_refused(geores, bundle, done, tmp_path, options, differs):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    args = ['classify', tmp_path / 'scene.tif', '--model', bundle, '--out', tmp_path / 'out']
    before = contents(tmp_path / 'out')
    answer = geores(*args, *options)
    assert (answer.code, answer.err.count('\n')) == (2, 1), answer
    assert f'another {differs}' in answer.err
    assert '--overwrite' in answer.err
    assert contents(tmp_path / 'out') == before
    assert geores(*args, *options, '--overwrite').code == 0
    assert geores(*args, *options).code == 0


def test_another_scene_model_or_mask_is_refused(geores, args, scene, tmp_path):
    assert geores(*args).code == 0
    mask = write_scene(tmp_path / 'mask.tif', ('mask',), 200, 264, values=np.zeros((1, 200, 264), 'uint8'))
    assert 'another mask' in geores(*args, '--mask', mask).err
    other = tiny_bundle(tmp_path / 'tiny-rgb', seed=1)
    assert 'another card, model' in geores(*args, '--model', other).err
    write_scene(scene, seed=1)
    assert 'another scene' in geores(*args).err


def test_results_that_are_not_whole(geores, args, tmp_path):
    """Neither a file that is gone nor a record that is gone is taken for a finished run."""
    out = tmp_path / 'out'
    assert geores(*args).code == 0
    (out / 'scene_map.png').unlink()
    assert 'exists: give --overwrite' in geores(*args).err
    assert geores(*args, '--overwrite').code == 0
    record = json.loads((out / 'run.json').read_text())
    record['scenes']['scene'].pop('key')
    (out / 'run.json').write_text(json.dumps(record))
    assert 'exists: give --overwrite' in geores(*args).err
    (out / 'run.json').unlink()
    assert 'exists: give --overwrite' in geores(*args).err


def test_one_of_two_scenes_was_done(geores, args, bundle, tmp_path):
    other = write_scene(tmp_path / 'other.tif', seed=1)
    assert geores(*args).code == 0
    both = geores('classify', other, *args[1:], '--json')
    assert both.code == 0, both
    assert [record.get('done_before', False) for record in both.records] == [False, True]
    assert [record['scene'] for record in both.records] == ['other', 'scene']
    again = geores('classify', other, *args[1:], '--stride', '16')
    assert again.code == 2


def test_unfinished_work_of_a_later_run_goes_on(geores, args, tmp_path, monkeypatch):
    """A run that was to replace results was stopped: the record still speaks of the earlier one."""
    assert geores(*args).code == 0

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    later = [*args, '--stride', '16']
    monkeypatch.setattr('geores.classification.result.Classification.save', stop)
    assert geores(*later, '--overwrite').code == 130
    monkeypatch.undo()
    answer = geores(*later, '--json')
    assert answer.code == 0, answer
    assert 'done_before' not in answer.records[0]
    assert geores(*later, '--json').records[0]['done_before']


def test_in_python(bundle, scene, tmp_path):
    first = library.classify(scene, bundle, out=tmp_path / 'out')
    before = contents(tmp_path / 'out')
    again = library.classify(scene, bundle, out=tmp_path / 'out')
    assert again.info.notes[-1].startswith('done before')
    assert again.info.tiles == 0
    assert again.shares == first.shares
    np.testing.assert_array_equal(again.scores.values, first.scores.values)
    assert contents(tmp_path / 'out') == before
    with pytest.raises(OutputError, match='another stride'):
        library.classify(scene, bundle, out=tmp_path / 'out', stride=16)


def test_a_moved_folder_is_known_again(geores, args, tmp_path):
    assert geores(*args).code == 0
    shutil.move(tmp_path / 'out', tmp_path / 'moved')
    answer = geores(*args[:-1], tmp_path / 'moved', '--json')
    assert answer.records[0]['outputs']['map'] == str(tmp_path / 'moved' / 'scene_map.png')


# What is kept


@pytest.fixture
def stopping(monkeypatch):
    """Stop a run of several chunks after some of its batches."""
    from geores.runtime.predictor import Predictor

    call = Predictor.__call__
    left = [9**9]

    def counted(self, tiles):
        left[0] -= 1
        if left[0] < 0:
            raise error[0]
        return call(self, tiles)

    error = [WriteError('stopped by the test')]
    monkeypatch.setattr(Predictor, '__call__', counted)
    monkeypatch.setattr('geores.inference.plan.CHUNK_WORK', 2**15)

    def stop(after, raised=None):
        left[0] = after
        if raised is not None:
            error[0] = raised

    return stop


@pytest.mark.parametrize(('raised', 'code'), [(WriteError('stopped'), 1), (KeyboardInterrupt(), 130)])
def test_what_is_kept_is_said(geores, args, stopping, tmp_path, raised, code):
    options = ('--workers', '1', '--precision', 'fp32', '--batch-size', '1')
    stopping(40, raised)
    answer = geores(*args, *options)
    assert answer.code == code
    said = re.search(r'stopped: (\d+) of 63 tiles are kept in (\S+); run the same command again', answer.err)
    assert 0 < int(said[1]) < 63
    assert said[2] == str(tmp_path / 'out' / '.scene.partial')
    stopping(9**9)
    again = geores(*args, *options)
    assert again.code == 0, again
    assert f'continues: {said[1]} of 63 tiles were kept' in again.err
    assert 'stopped' not in again.err


def test_nothing_kept_is_not_said(geores, args, stopping):
    stopping(0)
    answer = geores(*args, '--workers', '1', '--precision', 'fp32')
    assert answer.code == 1
    assert 'kept' not in answer.err


def test_plain_lines_without_a_terminal(geores, args, monkeypatch):
    assert 'of 63 tiles' not in geores(*args).err
    monkeypatch.setattr(common, 'EVERY_SECONDS', 0.0)
    monkeypatch.setattr('geores.inference.plan.CHUNK_WORK', 2**15)
    answer = geores(*args, '--overwrite', '--json')
    lines = [line for line in answer.err.splitlines() if 'tiles (' in line]
    assert lines
    assert all(line.startswith('geores: scene: ') for line in lines)
    assert len(answer.records) == 1


def test_words_of_plain_lines(capsys, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(common.time, 'monotonic', lambda: clock[0])
    with common.progress_bar('NAME') as advance:
        for seconds, tiles in ((0, 34), (10, 600), (20, 600), (60, 4000), (60, 2951)):
            clock[0] += seconds
            advance(tiles, 8185)
    assert capsys.readouterr().err.splitlines() == [
        'geores: NAME: 1,234 of 8,185 tiles (15 %), 40 tiles/s, 3 min left',
        'geores: NAME: 5,234 of 8,185 tiles (64 %), 58 tiles/s, 51 s left',
    ]

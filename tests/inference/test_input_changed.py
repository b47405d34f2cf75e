"""An input that changes while it is read ends the run: nothing is kept, and never a mixture."""

import os
import shutil

import numpy as np
import pytest

import geores as library
from geores.errors import InputChangedError, ReadError
from geores.inference import GridReader
from geores.scenes import open_scene

from ..fixtures import hold_files, write_scene
from ..pixel_fixtures import pixel_bundle  # noqa: F401

SIDE = 1100


def overwrite(path, other):
    """Change a file in place, as a copy over it does; its length stays."""
    with other.open('rb') as source, path.open('r+b') as file:
        file.write(source.read())


def replace(path, other):
    """Put another file in its place, as a download that finishes does."""
    shutil.copy(other, path.with_name('new.tif'))
    os.replace(path.with_name('new.tif'), path)


def cut(path, other):
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def scenes(tmp_path):
    return [
        write_scene(tmp_path / name / 'scene.tif', height=SIDE, width=SIDE, seed=seed)
        for seed, name in enumerate('ab')
        if (tmp_path / name).mkdir() is None
    ]


@pytest.fixture
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize('model', ['bundle', 'pixel_bundle'], indirect=True, ids=['tiles', 'pixels'])
@pytest.mark.parametrize('change', [overwrite, replace, cut])
@pytest.mark.parametrize('kept', [True, False])
def test_a_scene_that_changes(model, scenes, tmp_path, change, kept):
    calls = []

    def progress(tiles, of):
        if tiles and not any(calls):
            change(*scenes)
        calls.append(tiles)

    out = tmp_path / 'out' if kept else None
    with pytest.raises(InputChangedError, match=r'scene\.tif: was changed') as raised:
        library.classify(scenes[0], model=model, out=out, progress=progress, workers=1)
    assert isinstance(raised.value, ReadError)
    assert not kept or hold_files(out) == set()
    assert any(calls), 'the change came before the first chunk'


@pytest.mark.parametrize('model', ['bundle', 'pixel_bundle'], indirect=True, ids=['tiles', 'pixels'])
def test_a_change_behind_the_last_chunk_is_found_too(model, scenes, tmp_path):
    """Also where the time of change is put back: both ends of the file are compared at the end."""
    status, seen = scenes[0].stat(), []

    def progress(tiles, of):
        seen.append(tiles)
        if sum(seen) == of:
            overwrite(*scenes)
            os.utime(scenes[0], ns=(status.st_atime_ns, status.st_mtime_ns))

    with pytest.raises(InputChangedError):
        library.classify(scenes[0], model=model, out=tmp_path / 'out', progress=progress)
    assert hold_files(tmp_path / 'out') == set()


def test_a_mask_that_changes(bundle, scenes, tmp_path):
    mask = write_scene(tmp_path / 'm.tif', ('mask',), SIDE, SIDE, values=np.zeros((1, SIDE, SIDE), 'uint8'))
    other = write_scene(tmp_path / 'n.tif', ('mask',), SIDE, SIDE, values=np.ones((1, SIDE, SIDE), 'uint8'))
    changed = []

    def progress(tiles, of):
        if tiles and not changed:
            changed.append(overwrite(mask, other))

    with pytest.raises(InputChangedError, match=r'm\.tif'):
        library.classify(
            scenes[0], model=bundle, out=tmp_path / 'out', mask=str(mask), progress=progress, workers=1
        )


def test_the_command_says_it_on_one_line(geores, bundle, scenes, tmp_path, monkeypatch):
    from geores.runtime.predictor import Predictor

    call = Predictor.__call__

    def changing(self, tiles):
        overwrite(*scenes)
        return call(self, tiles)

    monkeypatch.setattr(Predictor, '__call__', changing)
    answer = geores('classify', scenes[0], '--model', bundle, '--out', tmp_path / 'out')
    assert answer.code == 1
    assert answer.err.count('\n') == 1, answer.err
    assert 'was changed while it was read' in answer.err
    assert hold_files(tmp_path / 'out') == set()


def test_reading_again_what_did_not_change(scenes):
    with open_scene(scenes[0]) as scene:
        reader = GridReader(scene, list(scene.bands), scene.geobox)
        window = (slice(0, 32), slice(0, 32))
        before, _ = reader.read(*window)
        after, _ = reader.read(*window)
        np.testing.assert_array_equal(before, after)
        reader.check_sources(ends=True)
        os.utime(scenes[0], (1, 1))
        with pytest.raises(InputChangedError):
            reader.read(*window)
        scenes[0].unlink()
        with pytest.raises(ReadError, match='cannot be read any more'):
            reader.check_sources()

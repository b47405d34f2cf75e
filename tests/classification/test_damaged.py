"""Scenes that are damaged and disks that are full: one line, and work that is kept or finished."""

import shutil
import subprocess
from dataclasses import replace

import pytest
import rasterio

from ..fixtures import hold_files, write_scene


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif', height=64, width=96)


def failed(answer, path):
    """Check for code 1 and one line that names the file and a window of it."""
    assert answer.code == 1, answer
    assert answer.err.count('\n') == 1, answer.err
    assert str(path) in answer.err
    assert 'rows ' in answer.err
    assert 'columns ' in answer.err


def deflated(path):
    """A scene of many deflated blocks and of several chunks, whose last block is at the end."""
    return write_scene(path, height=1100, width=1100, compress='deflate', blocks=256)


def blocks_of(path):
    """Offset and size of every block of the first band that a file holds, in its order."""
    with rasterio.open(path) as file:
        return sorted(
            tuple(
                int(file.get_tag_item(f'BLOCK_{what}_{x}_{y}', 'TIFF', bidx=1)) for what in ('OFFSET', 'SIZE')
            )
            for y in range(-(-file.height // 256))
            for x in range(-(-file.width // 256))
        )


def damage(path, how, block=-2):
    content = bytearray(path.read_bytes())
    offset, size = blocks_of(path)[block]
    if how == 'truncated':
        content = content[: offset + size // 2]
    elif how == 'zeroed':
        content[offset : offset + size] = bytes(size)
    else:
        for place in range(offset + 2, offset + size, 50):
            content[place] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize('how', ['truncated', 'zeroed', 'flipped'])
def test_damaged_blocks(geores, bundle, tmp_path, how):
    path = deflated(tmp_path / 'damaged.tif')
    damage(path, how)
    out = tmp_path / 'out'
    answer = geores('classify', path, '--out', out, '--model', bundle, '--workers', 1)
    kept, error = answer.err.splitlines(keepends=True)
    assert 'stopped: 1,120 of 1,225 tiles are kept' in kept
    failed(replace(answer, err=error), path)
    assert not [name for name in hold_files(out) if not name.startswith('.damaged.partial')]
    journal = out / '.damaged.partial'
    assert (journal / 'journal.jsonl').exists()
    assert list(journal.glob('*.safetensors'))
    again = geores('classify', path, '--out', out, '--model', bundle, '--workers', 1)
    assert (again.code, again.out) == (answer.code, answer.out)
    assert 'continues: 1,120 of 1,225 tiles were kept' in again.err.splitlines()[0]
    assert again.err.splitlines(keepends=True)[-1] == error


def test_damaged_block_where_the_scene_is_sampled(geores, bundle, tmp_path):
    path = deflated(tmp_path / 'damaged.tif')
    damage(path, 'zeroed', block=6)  # a quarter of the way down and across
    out = tmp_path / 'out'
    failed(geores('classify', path, '--out', out, '--model', bundle, '--workers', 1), path)
    assert hold_files(out) == set(), 'no chunk was finished, so that nothing is kept'


def test_damaged_block_where_pixels_decide_units(geores, bundle, tmp_path):
    path = write_scene(
        tmp_path / 'deep.tif', dtype='uint16', height=600, width=600, compress='deflate', blocks=256
    )
    content = bytearray(path.read_bytes())
    content[-200_000:-100_000] = bytes(100_000)
    path.write_bytes(content)
    out = tmp_path / 'out'
    failed(geores('classify', path, '--out', out, '--model', bundle), path)
    assert not out.exists()


def test_other_scenes_are_finished_where_one_is_damaged(geores, bundle, scene, tmp_path):
    path = deflated(tmp_path / 'damaged.tif')
    damage(path, 'flipped')
    answer = geores('classify', path, scene, '--out', tmp_path / 'out', '--model', bundle, '--json')
    assert answer.code == 1
    assert [record['scene'] for record in answer.records] == ['scene']
    assert '1 of 2 scenes failed: damaged' in answer.err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB where the user may mount one."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = shutil.which('mount')
    done = mount and subprocess.run(
        [mount, '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', folder], capture_output=True, check=False
    )
    if not done or done.returncode:
        pytest.skip('a small file system to fill cannot be mounted here')
    yield folder
    subprocess.run(['umount', folder], check=True)


@pytest.mark.parametrize('left', [0, 40, 200])
def test_disk_is_full(geores, bundle, tmp_path, small_disk, left):
    """Whatever is being written when the disk is full: journal, scores, table or map."""
    path = write_scene(tmp_path / 'scene.tif', height=400, width=400)
    (small_disk / 'ballast').write_bytes(bytes((256 - left) * 1024))
    out = small_disk / 'out'
    args = ('classify', path, '--out', out, '--model', bundle, '--stride', 16)
    answer = geores(*args)
    assert answer.code == 1, answer
    assert answer.err.count('\n') == 1, answer.err
    assert 'disk is full' in answer.err
    finished = {name for name in hold_files(small_disk) if not name.startswith(('out/.', 'ballast'))}
    (small_disk / 'ballast').unlink()
    subprocess.run(['mount', '-o', 'remount,size=8m', small_disk], check=True)
    assert geores(*args).code == 0
    assert hold_files(out) >= {'scene_classes.tif', 'scene_scores.tif', 'scene_map.png', 'run.json'}
    assert not [name for name in hold_files(out) if 'partial' in name]
    assert finished <= hold_files(small_disk)

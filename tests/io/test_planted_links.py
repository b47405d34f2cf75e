"""Links that another user of a shared folder plants are never written through."""

import json
import os
import shutil

import pytest

from geores.io.whole_files import write_whole

from ..fixtures import hold_files, write_scene

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='links take rights that users of Windows lack')

ENDINGS = (
    'classes.tif',
    'classes.tif.aux.xml',
    'classes.qml',
    'confidence.tif',
    'scores.tif',
    'tiles.parquet',
    'map.png',
)


def planted():
    """Names of before, which could be guessed, those of locks, and final names."""
    for ending in ENDINGS:
        stem, suffix = ending.split('.', 1)
        yield from (
            f'.scene_{stem}.partial.{suffix}',
            f'.scene_{stem}.partial.plain.tif',
            f'.scene_{ending}.lock',
            f'scene_{ending}',
        )
    yield from ('.run.partial.json', '.run.lock', '.run.json.lock', '.scene.partial.lock', 'run.json')


def test_classify_leaves_what_links_point_to(geores, bundle, tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', height=64, width=64)
    out, victims = tmp_path / 'out', tmp_path / 'victims'
    out.mkdir()
    victims.mkdir()
    (victims / 'work').mkdir()
    (victims / 'work' / 'journal.jsonl').write_text('precious')
    (out / '.scene.partial').symlink_to(victims / 'work')
    for name in dict.fromkeys(planted()):
        # A record is read before it is added to: of what a link shows nothing is kept.
        (victims / name).write_text(json.dumps({'scenes': {}}))
        (out / name).symlink_to(victims / name)
    before = {name: (victims / name).read_bytes() for name in hold_files(victims)}
    refused = geores('classify', scene, '--model', bundle, '--out', out)
    assert refused.code == 2
    answer = geores('classify', scene, '--model', bundle, '--out', out, '--overwrite')
    assert answer.code == 0, answer.err
    assert {name: (victims / name).read_bytes() for name in hold_files(victims)} == before
    results = [out / f'scene_{ending}' for ending in ENDINGS] + [out / 'run.json']
    assert not [path for path in results if path.is_symlink() or not path.is_file()]
    assert not (out / '.scene.partial').exists()


def test_a_journal_is_not_read_through_a_link(tmp_path):
    """Work that somebody else prepared is not taken for this run's own."""
    from geores.inference import FolderStore

    with FolderStore(tmp_path / 'theirs', {'a': 1}) as store:
        store.put(0, {})
    (tmp_path / 'mine').symlink_to(tmp_path / 'theirs')
    with FolderStore(tmp_path / 'mine', {'a': 1}) as store:
        assert store.done() == set()
    assert hold_files(tmp_path / 'theirs') == {'journal.jsonl', '00000000.safetensors'}


def test_training_checkpoints_are_not_written_through_links(tmp_path):
    from geores.training.run_folders import WholeFiles

    (tmp_path / 'victim').write_text('precious')
    for name in ('a.ckpt', '.a.ckpt.part'):
        (tmp_path / name).symlink_to(tmp_path / 'victim')
    WholeFiles().save_checkpoint({'a': 1}, tmp_path / 'a.ckpt')
    assert (tmp_path / 'victim').read_text() == 'precious'
    assert not (tmp_path / 'a.ckpt').is_symlink()


def test_what_a_link_points_to_may_lie_anywhere(tmp_path):
    """The folder of results itself may be a link: it is the user's own way to another disk."""
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'out').symlink_to(tmp_path / 'disk')
    write_whole(tmp_path / 'out' / 'file', 'text')
    assert (tmp_path / 'disk' / 'file').read_text() == 'text'
    shutil.rmtree(tmp_path / 'disk')

"""Several scenes in one call, from Python."""

import json

import pytest

from geores import classify, classify_many
from geores.errors import GeoresError, UsageError

from ..fixtures import hold_files, write_scene


@pytest.fixture
def scenes(tmp_path):
    return [write_scene(tmp_path / f'{name}.tif', height=64, width=96) for name in ('one', 'two')]


def test_each_scene_as_alone(bundle, scenes, tmp_path):
    out = tmp_path / 'o'
    shares = {outcome.name: outcome.result.shares for outcome in classify_many(scenes, bundle, out=out)}
    assert shares == {path.stem: classify(path, bundle).shares for path in scenes}
    assert sorted(json.loads((out / 'run.json').read_text())['scenes']) == ['one', 'two']
    assert not list(out.glob('.*.partial'))


def test_what_was_done_before_is_told(bundle, scenes, tmp_path):
    out = tmp_path / 'o'
    for _ in classify_many(scenes[:1], bundle, out=out):
        pass
    first, second = classify_many(scenes, bundle, out=out)
    assert first.result is None
    assert first.earlier['model'] == 'tiny-rgb'
    assert second.earlier is None
    with pytest.raises(GeoresError, match='another stride'):
        classify_many(scenes, bundle, out=out, stride=16)
    again = [outcome.earlier for outcome in classify_many(scenes, bundle, out=out, stride=16, overwrite=True)]
    assert again == [None, None]


def test_a_scene_that_fails_stops_no_other(bundle, scenes, tmp_path):
    scenes = [scenes[1], scenes[0]]
    work = tmp_path / 'o' / '.one.partial'
    work.mkdir(parents=True)
    (work / 'journal.jsonl').write_text('{}\n')
    outcomes = classify_many(scenes, bundle, out=tmp_path / 'o')
    first, second = next(outcomes), next(outcomes)
    assert (first.name, first.error) == ('two', None)
    assert 'one' in str(second.error)
    with pytest.raises(GeoresError, match='1 of 2 scenes failed: one'):
        next(outcomes)


def test_checks_come_before_any_work(bundle, scenes, tmp_path):
    for wrong in ({'stride': 0}, {'nonsense': 1}, {'bands': ['red']}):
        with pytest.raises(UsageError):
            classify_many(scenes, bundle, out=tmp_path / 'o', **wrong)
    with pytest.raises(UsageError, match='both named'):
        classify_many([scenes[0], scenes[0]], bundle, out=tmp_path / 'o')
    assert not (tmp_path / 'o').exists()


def test_progress_is_watched(bundle, scenes, tmp_path):
    from contextlib import contextmanager

    told = {}

    @contextmanager
    def watch(name, folder):
        told[name] = [folder.name]
        yield lambda done, total: told[name].append((done, total))

    for _ in classify_many(scenes, bundle, out=tmp_path / 'o', watch=watch):
        pass
    for name, (folder, *calls) in told.items():
        assert folder == f'.{name}.partial'
        assert sum(done for done, _ in calls) == calls[-1][1]
    assert set(told) == {'one', 'two'}
    assert hold_files(tmp_path / 'o')

"""Areas that an accuracy report of the map corrects."""

# ruff: noqa: F811 - fixtures are arguments too
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geores as library
from geores.asking.adjusted import REPORT, AdjustedAreas, adjusted_answer
from geores.asking.map_source import MAP_FOLDER
from geores.errors import UsageError
from geores.map_accuracy.assess import accuracy
from geores.questions.everyday import read_map_question

from .test_ask_map import VALUE, ask, coloured, map_of, mapper  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures('one_thread')

CLASSES = np.repeat([VALUE['water'], VALUE['trees'], VALUE['grass'], VALUE['snow_and_ice']], 250).reshape(
    20, 50
)
SHOWN = map_of(CLASSES)
NAMES = ('water', 'trees', 'grass', 'snow_and_ice')


def report_of(references, folder, areas=None):
    """A report of a sample: class of the map -> the true classes of its points."""
    rows = [(name, true) for name, truths in references.items() for true in truths]
    frame = pd.DataFrame(rows, columns=['map_class', 'reference'])
    made = accuracy(frame, areas=areas or dict.fromkeys(references, 25_000.0))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_text(json.dumps(made.to_dict()))
    return folder / REPORT, made


RIGHT = {name: [name] * 10 for name in NAMES}
MIXED = RIGHT | {'water': ['water'] * 8 + ['snow_and_ice'] * 2, 'grass': ['grass'] * 5 + ['trees'] * 5}


def adjusted(question, path, shown=SHOWN):
    areas = AdjustedAreas.read(path)
    areas.check(shown)
    return adjusted_answer(read_map_question(question, shown.words), ask(question, shown), shown, areas)


def test_areas_and_shares_are_those_of_the_report(tmp_path):
    path, report = report_of(MIXED, tmp_path)
    row = report.table.set_index('class').loc['water']
    found = adjusted('How much water is there?', path)
    assert found.value == pytest.approx(20_000)
    assert found.value == pytest.approx(1e4 * row['area'])
    assert found.high - found.value == pytest.approx(1e4 * row['area_ci95'])
    assert found.answer == '2 ha of open water, 3 ha of snow or ice'
    assert 'error-adjusted' in found.text
    assert 'mapped: 2.5 ha' in found.text
    assert any('95 % confidence interval from 40 labelled points' in note for note in found.notes)
    assert not any('not corrected' in note for note in found.notes)
    share = adjusted('What percentage of the area is water?', path)
    assert (share.value, share.unit) == (pytest.approx(20), '%')
    hectares = adjusted('How many hectares of water are there?', path)
    assert (hectares.value, hectares.unit) == (pytest.approx(2), 'ha')


def test_limits_are_those_of_error_adjusted_areas(tmp_path):
    """Water has 2 ha by the sample, and 2.5 by the map."""
    path, _ = report_of(MIXED, tmp_path)
    area = adjusted('How much water is there?', path)
    for hectares, answer in ((area.low / 2e4, 'yes'), (2, 'too close to say'), (area.high / 5e3, 'no')):
        found = adjusted(f'Is there more than {hectares} ha of water?', path)
        assert found.answer == answer
        assert found.text.startswith(f'{answer}: 2 ha of open water, error-adjusted')
    assert adjusted('Is half of it water?', path).answer in ('no', 'too close to say')
    covers = adjusted('Which cover is the most common?', path)
    assert covers.value == ask('Which cover is the most common?', SHOWN).value
    assert any(note.startswith('mapped areas: the sample in') for note in covers.notes)
    assert not any('not corrected' in note for note in covers.notes)


def test_parts_of_a_cover_stay_mapped(tmp_path):
    path, _ = report_of(MIXED, tmp_path)
    for question in ('What is the largest lake?', 'How much water is there within 100 m of forest?'):
        found = adjusted(question, path)
        assert found.value == ask(question, SHOWN).value
        assert any('corrects whole classes' in note for note in found.notes)
    assert adjusted('How many lakes are there?', path) == ask('How many lakes are there?', SHOWN)


def test_errors_within_a_cover_of_several_labels_cancel(tmp_path):
    """Trees taken for grass are vegetation as well."""
    path, report = report_of(RIGHT | {'grass': ['grass'] * 5 + ['trees'] * 5}, tmp_path)
    areas = AdjustedAreas.read(path)
    assert areas.of(['trees', 'grass']) == (pytest.approx(50_000), pytest.approx(0))
    assert areas.of(['trees'])[1] == pytest.approx(
        1e4 * report.table.set_index('class').loc['trees', 'area_ci95']
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(NAMES), min_size=8, max_size=8), st.sets(st.sampled_from(NAMES), min_size=1))
def test_together_classes_are_no_less_sure_than_apart(tmp_path_factory, truths, together):
    path, _ = report_of(RIGHT | {'water': truths}, tmp_path_factory.mktemp('report'))
    areas = AdjustedAreas.read(path)
    value, margin = areas.of(sorted(together))
    assert value == pytest.approx(sum(areas.of([name])[0] for name in together))
    assert margin <= sum(areas.of([name])[1] for name in together) + 1e-6


@pytest.mark.parametrize(
    ('references', 'areas', 'why'),
    [
        (RIGHT, dict(zip(NAMES, (26_000.0, 24_000.0, 25_000.0, 25_000.0), strict=True)), 'another map'),
        ({'Water': ['Water'] * 3, 'Land': ['Land'] * 3}, None, 'a map of Land, Water, and that of scene has'),
        ({name: [name] * 3 for name in NAMES[:3]}, None, 'a map of grass, trees, water, and'),
    ],
)  # fmt: skip
def test_reports_of_other_maps_are_refused(tmp_path, references, areas, why):
    path, _ = report_of(references, tmp_path, areas)
    with pytest.raises(UsageError, match=why) as caught:
        AdjustedAreas.read(path).check(SHOWN)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['', '[]', '{}', 'null', '{"classes": [], "area_unit": "ha"}', '[' * 99_999])
def test_what_is_no_report_is_refused(tmp_path, text):
    (tmp_path / REPORT).write_text(text)
    with pytest.raises(UsageError, match='no report of `geores accuracy`'):
        AdjustedAreas.read(tmp_path / REPORT)
    with pytest.raises(UsageError, match='cannot be read'):
        AdjustedAreas.read(tmp_path / 'missing.json')


def test_from_the_sample_of_a_map_to_the_answer(geores, mapper, coloured, tmp_path):
    out, question = tmp_path / 'out', 'How much water is there?'
    args = ('ask', coloured, question, '--model', mapper, '--out', out, '--json')
    assert geores(*args).records[0]['value'] == 910_000
    drawn = library.sample(out / MAP_FOLDER / 'land_classes.tif', size=80)
    points = drawn.points
    points['reference'] = points['map_class']
    points.loc[points.index[points['map_class'] == 'water'][:5], 'reference'] = 'bare'
    report = library.accuracy(points, design=drawn.design).save(tmp_path / 'report')['accuracy']
    answer = geores(*args, '--accuracy', report, '--overwrite')
    (found,) = answer.records
    assert found['value'] == pytest.approx(910_000 * (1 - 5 / (points['map_class'] == 'water').sum()))
    assert found['low'] < found['value'] < found['high']
    assert 'error-adjusted' in found['text']
    # The same again is done before; with the report beside the map it is the same answer.
    assert geores(*args, '--accuracy', report).records[0]['done_before'] is True
    shutil.copy(report, out / MAP_FOLDER / REPORT)
    assert geores(*args).records[0]['done_before'] is True
    (out / MAP_FOLDER / REPORT).write_text(report.read_text().replace('"bare"', '"Bare"'))
    other = geores(*args, '--overwrite').records[0]
    assert other['value'] == 910_000
    assert any('areas are not corrected' in note for note in other['scene_notes'])
    refused = geores(*args, '--accuracy', out / MAP_FOLDER / REPORT, '--overwrite')
    assert (refused.code, refused.err.count('\n')) == (2, 1)
    assert 'is of a map of' in refused.err

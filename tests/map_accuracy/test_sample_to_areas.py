"""From a sample that was filled in to accuracy and areas, and samples that cannot be used."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from rasterio.transform import from_origin

import geores as library
from geores.errors import OutputError, SceneError, UsageError

from ..fixtures import hold_files, write_scene
from ..sample_fixtures import NAMES, class_values, label, value_at


@pytest.fixture
def class_map(tmp_path):
    return write_scene(tmp_path / 'map.tif', bands=('class',), values=class_values()[None], nodata=0)


def test_from_map_to_areas(tmp_path, class_map, geores):
    out = tmp_path / 'sample.gpkg'
    names = '1=Water,2=Forest,3=Field'
    answer = geores('sample', class_map, '--out', out, '--size', 120, '--classes', names, '--json')
    assert answer.code == 0, answer.err
    (design,) = answer.records
    assert sum(stratum['sample'] for stratum in design['strata']) == 120
    assert json.loads(out.with_suffix('.json').read_text())['map_sha256'] == design['map_sha256']
    # Half of what the map calls forest is field.
    label(out, lambda f: f['map_class'].where((f['map_class'] != 'Forest') | (f['id'] % 2 == 0), 'Field'))
    answer = geores('accuracy', out, '--out', tmp_path / 'report', '--json')
    assert answer.code == 0, answer.err
    (report,) = answer.records
    rows = {row['class']: row for row in report['classes']}
    frame = gpd.read_file(out)
    forest = frame[frame['map_class'] == 'Forest']
    assert rows['Forest']['users_accuracy'] == pytest.approx((forest['reference'] == 'Forest').mean())
    assert rows['Forest']['area'] < rows['Forest']['mapped_area'] == (class_values() == 2).sum() * 0.01
    total = sum(row['area'] for row in report['classes'])
    assert total == pytest.approx((class_values() > 0).sum() * 0.01)
    assert report['area_unit'] == 'ha'
    assert hold_files(tmp_path / 'report') == {
        'error_matrix_counts.csv', 'error_matrix_area.csv', 'classes.csv', 'accuracy.json', 'areas.png',
    }  # fmt: skip
    counts = pd.read_csv(tmp_path / 'report' / 'error_matrix_counts.csv', index_col=0)
    assert counts.to_numpy().sum() == 120
    assert geores('accuracy', out, '--out', tmp_path / 'report').code == 2
    told = geores('accuracy', out)
    assert told.code == 0
    assert 'overall accuracy' in told.out
    assert 'no error found in the sample of Water, Field' in told.err


def test_blind_sample_gives_the_same(tmp_path, class_map, geores):
    plain, blind = tmp_path / 'plain.gpkg', tmp_path / 'blind.gpkg'
    for out, more in ((plain, []), (blind, ['--blind'])):
        assert geores('sample', class_map, '--out', out, '--size', 60, *more).code == 0
    label(plain, lambda f: np.where(f['id'] % 5 == 0, '3', f['map_class']))
    truth = gpd.read_file(plain)['reference'].tolist()
    assert not {'stratum', 'map_class'} & set(gpd.read_file(blind).columns)
    label(blind, lambda f: truth)
    first, second = (geores('accuracy', out, '--json').records[0] for out in (plain, blind))
    assert first == second


def test_labels_may_be_values_and_of_any_case(tmp_path, class_map):
    drawn = library.sample(class_map, size=60, classes=NAMES)
    values = {name: value for value, name in NAMES.items()}
    frames = [
        drawn.points.assign(reference=drawn.points['map_class'].map(how)) for how in (values, str.lower)
    ]
    for frame in frames:
        report = library.accuracy(frame, design=drawn.design)
        assert report.classes == tuple(NAMES.values())
        assert report.overall.value == 1


def test_unlabelled_points_are_left_out_and_counted(tmp_path, class_map, geores):
    out = tmp_path / 'sample.gpkg'
    library.sample(class_map, size=60, allocation='equal').save(out)
    label(out, lambda f: f['map_class'].where(f['id'] % 10 != 0, None))
    (report,) = geores('accuracy', out, '--json').records
    assert (report['labelled'], report['unlabelled']) == (54, 6)
    assert '6 of 60' in report['notes'][0]


def test_class_that_the_map_lacks(tmp_path, class_map):
    drawn = library.sample(class_map, size=60, allocation='equal', classes=NAMES)
    truth = drawn.points['map_class'].where(drawn.points['id'] != 7, 'Wetland')
    report = library.accuracy(drawn.points.assign(reference=truth), design=drawn.design)
    row = report.table.set_index('class').loc['Wetland']
    assert row['area'] > 0
    assert (row['mapped_area'], row['producers_accuracy']) == (0, 0)
    assert np.isnan(row['users_accuracy'])
    assert any('Wetland' in note for note in report.notes)
    assert report.to_dict()['classes'][-1]['users_accuracy'] is None


def test_another_map_by_the_same_sample(tmp_path, class_map, geores):
    """The strata stay those of the map that was sampled: the estimator of Stehman (2014)."""
    out, better = tmp_path / 'sample.gpkg', tmp_path / 'better.tif'
    library.sample(class_map, size=120, classes=NAMES, seed=2).save(out)
    truth = class_values()
    truth[:, ::3] = np.where(truth[:, ::3] == 2, 3, truth[:, ::3])
    write_scene(better, bands=('class',), values=truth[None], nodata=0)
    frame = gpd.read_file(out)
    label(out, lambda f: [NAMES[value] for value in value_at(better, frame)[1]])
    names = '1=Water,2=Forest,3=Field'
    (old,) = geores('accuracy', out, '--json').records
    (new,) = geores('accuracy', out, '--map', better, '--classes', names, '--json').records
    (same,) = geores('accuracy', out, '--map', class_map, '--classes', names, '--json').records
    assert old == same
    assert old['overall_accuracy'] < new['overall_accuracy'] == 1
    for before, after in zip(old['classes'], new['classes'], strict=True):
        assert after['area'] == pytest.approx(before['area'])
    assert [row['mapped_area'] for row in new['classes']] == [(truth == k).sum() * 0.01 for k in (1, 2, 3)]


def test_sample_of_somebody_else(tmp_path, geores):
    """Olofsson et al. (2014), table 8, from a CSV table and areas: the printed hectares come out."""
    counts = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
    names = ['deforestation', 'forest gain', 'stable forest', 'stable non-forest']
    rows = [
        (names[i], names[j])
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        for _ in range(count)
    ]
    table = tmp_path / 'labels.csv'
    pd.DataFrame(rows, columns=['ours', 'truth']).to_csv(table, index=False)
    pixels = (200_000, 150_000, 3_200_000, 6_450_000)
    areas = ','.join(f'{name}={count * 900}' for name, count in zip(names, pixels, strict=True))
    answer = geores(
        'accuracy', table, '--map-column', 'ours', '--reference', 'truth', '--areas', areas, '--json'
    )
    assert answer.code == 0, answer.err
    (report,) = answer.records
    assert [round(row['area']) for row in report['classes']] == [21_158, 11_686, 285_770, 581_386]
    assert [round(row['area_ci95']) for row in report['classes']] == [6_158, 3_756, 15_510, 16_282]
    assert report['classes'][0]['mapped_area'] == 18_000
    told = geores('accuracy', table, '--map-column', 'ours', '--reference', 'truth', '--areas', areas)
    assert '212 ± 62' in told.out  # km²


def test_areas_from_the_map_alone(tmp_path, class_map):
    drawn = library.sample(class_map, size=80)
    points = drawn.points.assign(reference=drawn.points['map_class'])
    by_map = library.accuracy(points, map=class_map)
    by_design = library.accuracy(points, design=drawn.design)
    assert by_map.to_dict() == by_design.to_dict()


def test_map_without_a_crs(tmp_path, geores):
    path = write_scene(
        tmp_path / 'bare.tif', bands=('class',), values=class_values()[None], nodata=0, crs=None
    )
    out = tmp_path / 'sample.gpkg'
    answer = geores('sample', path, '--out', out, '--size', 60)
    assert answer.code == 0, answer.err
    assert 'no CRS' in answer.err
    label(out)
    (report,) = geores('accuracy', out, '--json').records
    assert report['area_unit'] == 'pixel'
    assert report['classes'][0]['mapped_area'] == (class_values() == 1).sum()


def test_small_stratum_is_taken_whole(tmp_path, geores):
    values = np.full((1, 20, 20), 3, 'uint8')
    values[0, 0, :3] = 1
    path = write_scene(tmp_path / 'map.tif', bands=('class',), values=values)
    answer = geores('sample', path, '--out', tmp_path / 's.gpkg', '--size', 100)
    assert answer.code == 0, answer.err
    assert 'all units are taken of 1 (3)' in answer.err
    points = gpd.read_file(tmp_path / 's.gpkg')
    assert points['map_class'].value_counts().to_dict() == {'3': 97, '1': 3}


# --- bad input


def test_sample_refuses(tmp_path, class_map, geores):
    out = tmp_path / 'new' / 's.gpkg'
    scores = write_scene(tmp_path / 'rgb.tif', height=20, width=20)
    real = write_scene(tmp_path / 'real.tif', ('a',), values=np.full((1, 9, 9), 0.37, 'float32'))
    many = write_scene(tmp_path / 'many.tif', ('a',), values=np.arange(400, dtype='int16').reshape(1, 20, 20))
    none = write_scene(tmp_path / 'none.tif', ('a',), values=np.zeros((1, 9, 9), 'uint8'), nodata=0)
    text = tmp_path / 'text.parquet'
    text.write_text('no parquet')
    pd.DataFrame({'a': [1.0]}).to_parquet(tmp_path / 'other.parquet')
    before = hold_files(tmp_path)
    size = ['--size', 30]
    cases = [
        ([tmp_path / 'absent.tif', *size], 'no such file'),
        ([tmp_path / 'absent.parquet', *size], 'no such file'),
        ([text, *size], 'Parquet'),
        ([tmp_path / 'other.parquet', *size], '_tiles.parquet'),
        ([scores, *size], 'has 3 bands'),
        ([real, *size], 'values such as 0.37'),
        ([many, *size], 'more than 256 values'),
        ([none, *size], 'no valid pixel'),
        ([class_map], 'give either size'),
        ([class_map, '--standard-error', 0.01], 'give either size'),
        ([class_map, *size, '--standard-error', 0.01], 'give either size'),
        ([class_map, '--standard-error', 0.01, '--expected-accuracy', 'high'], 'takes a number'),
        ([class_map, '--standard-error', 0.01, '--expected-accuracy', 1.5], 'expected accuracy'),
        ([class_map, '--size', 5], 'too small for 3 strata'),
        ([class_map, *size, '--allocation', 'best'], 'allocation has to be'),
        ([class_map, *size, '--geometry', 'line'], 'geometry has to be'),
        ([class_map, *size, '--min-per-class', 1], 'at least 2'),
        ([class_map, *size, '--seed', -1], 'seed'),
        ([class_map, *size, '--classes', '1=a,2'], 'cannot be read'),
        ([class_map, *size, '--classes', 'a=1'], 'whole numbers'),
        ([class_map, *size, '--classes', '1=a,1=b'], 'twice'),
        ([class_map, *size, '--classes', '1=a,2=a'], 'same class name'),
        ([class_map, *size, '--classes', '9=a'], 'no valid pixel'),
    ]
    for arguments, said in cases:
        answer = geores('sample', *arguments, '--out', out)
        assert (answer.code, said in answer.err) == (2, True), (arguments, answer.err)
        assert answer.err.count('\n') == 1
    assert geores('sample', class_map, *size, '--out', tmp_path / 's.shp').code == 2
    assert geores('sample', class_map, *size, '--out', class_map / 's.gpkg').code == 2
    assert hold_files(tmp_path) == before


def test_taken_names_are_kept(tmp_path, class_map):
    out = tmp_path / 's.gpkg'
    library.sample(class_map, size=30).save(out)
    label(out)
    with pytest.raises(OutputError, match='exists'):
        library.sample(class_map, size=30).save(out)
    out.unlink()
    with pytest.raises(OutputError, match=r's\.json exists'):
        library.sample(class_map, size=30).save(out)
    library.sample(class_map, size=30, seed=9).save(out, overwrite=True)
    assert gpd.read_file(out)['reference'].isna().all()
    assert hold_files(tmp_path) == {'map.tif', 's.gpkg', 's.json'}


def test_failed_writing_leaves_nothing(tmp_path, class_map, monkeypatch):
    drawn = library.sample(class_map, size=30)
    monkeypatch.setattr('json.dumps', lambda *_, **__: (_ for _ in ()).throw(OSError('no space left')))
    with pytest.raises(OSError, match='no space left'):
        drawn.save(tmp_path / 's.gpkg')
    assert hold_files(tmp_path) == {'map.tif'}


def test_damaged_map(tmp_path, class_map, geores):
    whole = class_map.read_bytes()
    class_map.write_bytes(whole[: len(whole) // 2])
    answer = geores('sample', class_map, '--size', 30, '--out', tmp_path / 's.gpkg')
    assert answer.code in (1, 2)
    assert hold_files(tmp_path) == {'map.tif'}


def test_accuracy_refuses(tmp_path, class_map, geores):
    out = tmp_path / 's.gpkg'
    library.sample(class_map, size=30, classes=NAMES).save(out)
    assert 'no point has a label' in geores('accuracy', out).err
    label(out, lambda f: f['map_class'].where(f['map_class'] != 'Water', None))
    assert "stratum 'Water' has 0 labelled points" in geores('accuracy', out).err
    label(out)
    moved = tmp_path / 'moved.gpkg'
    moved.write_bytes(out.read_bytes())
    (tmp_path / 'odd.json').write_text('{"strata": []}')
    (tmp_path / 'text.json').write_text('{')
    (tmp_path / 'text.gpkg').write_text('no GeoPackage')
    for layer in ('plan', 'sample'):
        gpd.read_file(out).to_file(tmp_path / 'two.gpkg', layer=layer)
    before = hold_files(tmp_path)
    cases = [
        ([tmp_path / 'absent.gpkg'], 'no such file'),
        ([tmp_path / 'two.gpkg'], 'has the layers plan, sample: keep the sample in a file of its own'),
        ([tmp_path / 'text.gpkg'], 'cannot be read'),
        ([out, '--reference', 'truth'], "no column 'truth'"),
        ([out, '--map-column', 'ours'], "no column 'ours'"),
        ([moved], 'areas of the strata are unknown'),
        ([moved, '--areas', 'Water=1,Forest=2'], "map class 'Field', whose area is unknown"),
        ([moved, '--areas', 'Water=1,Forest=2,Field=3,Sea=4'], "stratum 'Sea' has 0 labelled"),
        ([moved, '--areas', 'Water=1,Forest=-2,Field=3'], 'above 0'),
        ([moved, '--areas', 'Water'], 'a=b,c=d'),
        ([moved, '--areas', 'Water=1', '--design', out.with_suffix('.json')], 'either areas or design'),
        ([moved, '--design', tmp_path / 'absent.json'], 'cannot be read'),
        ([moved, '--design', tmp_path / 'odd.json'], 'no record of a sample'),
        ([moved, '--design', tmp_path / 'text.json'], 'no record of a sample'),
        ([moved, '--map', tmp_path / 'absent.tif'], 'no such file'),
    ]
    for arguments, said in cases:
        answer = geores('accuracy', *arguments, '--out', tmp_path / 'report')
        assert (answer.code, said in answer.err) == (2, True), (arguments, answer.err)
        assert answer.err.count('\n') == 1
    assert hold_files(tmp_path) == before


def test_sample_and_design_of_different_maps(tmp_path, class_map):
    drawn = library.sample(class_map, size=30, classes=NAMES)
    points = drawn.points.assign(reference='Water')
    with pytest.raises(UsageError, match='point of stratum 9'):
        library.accuracy(points.assign(stratum=9), design=drawn.design)
    with pytest.raises(UsageError, match="no column 'stratum'"):
        library.accuracy(points.drop(columns='stratum'), design=drawn.design)
    other = write_scene(tmp_path / 'bare.tif', ('a',), values=class_values()[None], crs=None)
    with pytest.raises(UsageError, match='has no CRS'):
        library.accuracy(points, design=drawn.design, map=other)
    far = write_scene(
        tmp_path / 'far.tif', ('a',), values=class_values()[None], transform=from_origin(0, 0, 10, 10)
    )
    with pytest.raises(UsageError, match='has 0 labelled points'):
        library.accuracy(points, design=drawn.design, map=far)
    with pytest.raises(SceneError):
        library.accuracy(points, design=drawn.design, map=tmp_path / 'absent.tif')

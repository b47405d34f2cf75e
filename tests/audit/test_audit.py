"""`geores audit`: what it measures, against brute force, and its verdicts."""

import resource
import shlex
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Transformer
from scipy.spatial import KDTree

from geores.audit import AuditOptions, audit_split
from geores.audit.autocorrelation import autocorrelation
from geores.errors import DatasetError
from geores.options import SplitOptions
from geores.splits import label_matrix
from geores.splits.source import read_source
from geores.splits.table import make_split

from ..cli.test_cli_split import PATCH
from ..scene_fixtures import pixels, write_tiff
from ..splits.test_splits_geographic import all_distances, scattered

SHARED = Path(__file__).parents[3] / 'shared' / 'data' / 'reben'
needs_reben = pytest.mark.skipif(not SHARED.is_dir(), reason=f'{SHARED} is absent')


def write_points(path, places, parts, **columns):
    points = gpd.points_from_xy(*places.T)
    ids = [f't{row}' for row in range(len(places))]
    gpd.GeoDataFrame({'id': ids, 'split': parts} | columns, geometry=points, crs=4326).to_parquet(path)
    return path


def write_boxes(path, corners, parts, size=100.0, crs=32633, **columns):
    x, y = np.array(corners, float).T
    boxes = shapely.box(500_000 + x, 5_300_000 + y, 500_000 + x + size, 5_300_000 + y + size)
    ids = [f't{row}' for row in range(len(x))]
    gpd.GeoDataFrame({'id': ids, 'split': parts} | columns, geometry=boxes, crs=crs).to_parquet(path)
    return path


def audited(path, **options):
    return audit_split(read_source(path), AuditOptions(**options))


@pytest.mark.parametrize('corner', ['zones', 'antimeridian'])
def test_distances_by_brute_force(tmp_path, corner):
    places = scattered(90, corner)
    parts = np.array(['train', 'test', 'val'] * 30)
    report = audited(write_points(tmp_path / 'split.parquet', places, parts), radii=(300.0, 1500.0))
    distances = all_distances(places)
    for pair in report.distances:
        one, other = (parts == name for name in (pair.part, pair.other))
        between = distances[np.ix_(one, other)]
        assert pair.minimum == pytest.approx(between.min())
        assert pair.percentile_1 == pytest.approx(np.percentile(between.min(1), 1))
        assert pair.median == pytest.approx(np.median(between.min(1)))
        assert pair.rows_within['300'] == (between.min(1) < 300).sum()
        assert pair.pairs_within == {'300': (between < 300).sum(), '1500': (between < 1500).sum()}
    assert [(pair.part, pair.other) for pair in report.distances] == [
        ('test', 'train'),
        ('test', 'val'),
        ('val', 'train'),
    ]
    assert report.overlaps is None


def test_overlaps_and_places_leak(tmp_path):
    corners = [(0, 0), (60, 0), (1000, 0), (1100, 0), (5000, 0), (5000, 0)]
    parts = ['train', 'test', 'train', 'test', 'train', 'test']
    dates = ['2020-01-01'] * 5 + ['2021-01-01']
    report = audited(write_boxes(tmp_path / 'split.parquet', corners, parts, date=dates))
    (overlap,) = report.overlaps
    assert (overlap.rows, overlap.pairs) == (2, 2)  # neighbours that touch share nothing
    assert overlap.largest == pytest.approx(1)
    assert report.side == pytest.approx(100, rel=1e-3)
    (pair,) = report.distances
    assert (pair.same_place, pair.same_place_other_date) == (1, 1)
    assert report.verdict.level == 'leaks'
    reasons = ' '.join(report.verdict.reasons)
    assert '1 test rows show the place of a train row (1 of them on another date)' in reasons
    assert '2 test footprints overlap train footprints' in reasons


def test_neighbours_are_a_caution_and_distance_is_sound(tmp_path):
    row = [(100 * column, 0) for column in range(20)]
    near = audited(write_boxes(tmp_path / 'near.parquet', row, ['train'] * 10 + ['test'] * 10))
    assert near.verdict.level == 'caution'
    assert 'test touches train: the nearest are 100.0 m apart' in near.verdict.reasons[0]
    far = audited(write_boxes(tmp_path / 'far.parquet', row, ['train'] * 8 + ['dropped'] * 6 + ['test'] * 6))
    assert far.verdict.level == 'sound'
    assert far.verdict.reasons == ('test and train are 700.3 m apart at least',)


def test_drift_of_labels(tmp_path):
    labels = ['a', 'b'] * 10 + ['a', 'c'] * 10
    path = write_points(
        tmp_path / 'split.parquet', scattered(40), ['train'] * 20 + ['test'] * 20, label=labels
    )
    report = audited(path)
    (drift,) = report.drift
    assert drift.missing == ('c',)
    assert drift.overall == pytest.approx(0.5)
    assert drift.labels['a'] == 0
    assert '1 labels of test are in no train row: c' in ' '.join(report.verdict.reasons)


def test_autocorrelation_by_brute_force():
    places = scattered(200)
    labels = label_matrix(np.where(places[:, 0] < 12.0, 'west', 'east'))
    found = autocorrelation(places, labels)
    values = labels.values - labels.values.mean(0)
    distances = all_distances(places)
    np.fill_diagonal(distances, np.inf)
    low = 0.0
    for high, value, pairs in zip(found.distances, found.values, found.pairs, strict=True):
        within = (distances > low) & (distances <= high)
        assert pairs == within.sum()
        if value is not None:
            products = (values @ values.T)[within]
            assert value == pytest.approx(products.mean() / (values**2).sum(1).mean())
        low = high
    assert found.values[0] is None or found.values[0] > 0.8
    assert found.halves_at is not None
    assert found.alike


def test_labels_drawn_at_random_fade_at_once():
    places = scattered(2000, spread=0.5)
    labels = label_matrix(np.random.default_rng(0).choice(list('abc'), 2000))
    found = autocorrelation(places, labels)
    assert found.fades_at == found.distances[0]
    assert not found.alike
    order = np.random.default_rng(1).permutation(2000)
    assert (
        autocorrelation(places[order], label_matrix(np.array(labels.names)[labels.values[order].argmax(1)]))
        == found
    )
    assert autocorrelation(places, label_matrix(['same'] * 2000)) is None
    assert autocorrelation(places[:10], label_matrix(list('ab') * 5)) is None


def test_near_duplicates_across_parts(geores, tmp_path):
    for row in range(6):
        write_tiff(tmp_path / 'images' / f't{row}.tif', pixels(3, 40, 40, seed=row)) if row else None
    write_tiff(tmp_path / 'images' / 't0.tif', pixels(3, 40, 40, seed=5) + 1)
    parts = ['train', 'train', 'train', 'test', 'test', 'test']
    path = write_points(tmp_path / 'split.parquet', scattered(6), parts)
    answer = geores('audit', path, '--images', tmp_path / 'images', '--json')
    assert answer.code == 0
    found = answer.records[0]['duplicates']
    assert (found['images'], found['groups'], found['rows']) == (6, 1, 2)
    assert found['examples'] == [{'t0': 'train', 't5': 'test'}]
    assert answer.records[0]['verdict'] == 'leaks'
    (tmp_path / 'images' / 't3.tif').write_bytes(b'no image')
    answer = geores('audit', path, '--images', tmp_path / 'images')
    assert (answer.code, 't3.tif cannot be read' in answer.err) == (1, True)


def test_the_command_prints_and_draws(geores, tmp_path):
    path = write_points(
        tmp_path / 'split.parquet', scattered(90), ['train', 'test', 'dropped'] * 30, kind=list('ab') * 45
    )
    answer = geores('audit', path, '--labels', 'kind', '--map', tmp_path / 'map.png')
    assert (answer.code, answer.err) == (0, '')
    assert 'verdict: caution' in answer.out
    assert "Moran's I" in answer.out
    assert (tmp_path / 'map.png').read_bytes().startswith(b'\x89PNG')
    answer = geores('audit', path, '--map', tmp_path / 'map.png')
    assert (answer.code, 'give --overwrite' in answer.err) == (2, True)


@pytest.mark.parametrize(
    ('parts', 'options', 'reason'),
    [
        (['train'] * 9, (), 'rows in two parts at least'),
        (['train', 'test', 'holdout'] * 3, (), "column 'split' holds 'holdout'"),
        (['train', 'test', None] * 3, ('--radii', '-5'), 'radii have to be above 0'),
        (['train', 'test', None] * 3, ('--radii', 'near'), '--radii takes numbers'),
        (['train', 'test', None] * 3, ('--labels', 'kind'), "has no column 'kind' for --labels"),
        (['train', 'test', None] * 3, ('--column', 'fold'), "has no column 'fold' for --column"),
        (['train', 'test', None] * 3, ('--images', 'nowhere'), 'no such folder of images'),
        (['train', 'test', None] * 3, ('--map', 'map.tif'), 'the map is a .png'),
    ],
)
def test_bad_input_is_one_line(geores, tmp_path, parts, options, reason):
    path = write_points(tmp_path / 'split.parquet', scattered(9), parts)
    answer = geores('audit', path, *options)
    assert answer.code == 2
    assert reason in answer.err
    assert answer.err.splitlines()[-1].startswith('geores: error: ')


def test_reben_patches_are_placed_by_their_names(tmp_path):
    names = [PATCH.format(row, 45) for row in range(90)] + [
        PATCH.format(45, 45).replace('20170613', '20170813'),
        'S2A_MSIL2A_20170613T101031_N9999_R022_T32UQU_10_45',
    ]
    pd.DataFrame({'patch_id': names, 'labels': [['Pastures']] * 92}).to_parquet(tmp_path / 'metadata.parquet')
    source = read_source(tmp_path / 'metadata.parquet')
    result = make_split(source, SplitOptions(method='reben'))
    result.save(tmp_path / 'split.parquet')
    report = audited(tmp_path / 'split.parquet')
    assert report.side == pytest.approx(1200, rel=2e-3)
    assert report.places == 91
    assert [pair.same_place_other_date for pair in report.distances] == [0, 0, 0]
    assert 'val touches train' in ' '.join(report.verdict.reasons)


@needs_reben
@pytest.mark.timing
def test_the_published_split(tmp_path):
    source = read_source(SHARED / 'metadata.parquet')
    start = time.process_time()
    report = audit_split(source, AuditOptions())
    assert time.process_time() - start < 60  # of one core; under 30 s of two
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20
    pairs = {(pair.part, pair.other): pair for pair in report.distances}
    assert pairs['test', 'train'].minimum == pytest.approx(11_996, abs=0.5)  # geodesic
    assert report.places == 233_966
    assert all(overlap.rows == 0 for overlap in report.overlaps)
    told = ' '.join(report.verdict.reasons)
    assert 'test touches val' in told
    assert 'val touches train' in told
    europe = np.stack(Transformer.from_crs(4326, 3035, always_xy=True).transform(*source.places.T), axis=1)
    train, test = (report.names == part for part in ('train', 'test'))
    nearest = KDTree(europe[train]).query(europe[test])[0].min()
    assert nearest == pytest.approx(11_940, abs=10)  # on the map of EPSG:3035, as published


def test_an_audit_needs_parts(tmp_path):
    path = write_points(tmp_path / 'split.parquet', scattered(4), ['train'] * 4)
    with pytest.raises(DatasetError, match='two parts'):
        audited(path)


def run_recommended(geores, command, **more):
    words = shlex.split(command)
    assert words[:2] == ['geores', 'split']
    return geores(*words[1:], '--json')


@pytest.mark.parametrize('share', [0.0, 0.005, 0.05, 0.5])
def test_grades_and_the_command_that_mends(geores, tmp_path, share):
    places = scattered(800)
    parts = np.array((['train'] * 7 + ['val'] * 1 + ['test'] * 2) * 80)
    order = np.argsort(places[:, 0])
    parts = np.sort(parts)[np.argsort(order)]  # along stripes of longitude
    leaking = np.flatnonzero(parts == 'test')[: round(share * (parts == 'test').sum())]
    places[leaking] = places[np.flatnonzero(parts == 'train')[: len(leaking)]]
    path = write_points(tmp_path / 'split.parquet', places, parts)
    answer = geores('audit', path, '--json')
    record = answer.records[0]
    wanted = {0.0: 'B', 0.005: 'C', 0.05: 'D', 0.5: 'E'}[share]
    assert (record['grade'], record['verdict']) == (wanted, 'leaks' if share else 'caution')
    assert record['affected'] == pytest.approx(len(leaking) / (parts == 'test').sum(), abs=1e-6)
    assert record['recommended'] in geores('audit', path).out
    mended = run_recommended(geores, record['recommended'])
    assert mended.code == 0, mended.err
    again = geores('audit', mended.records[0]['outputs']['split'], '--json').records[0]
    assert again['verdict'] != 'leaks'
    assert again['affected'] == 0


def test_a_sound_split_is_recommended_for_training(geores, tmp_path):
    path = write_boxes(
        tmp_path / 'a split.parquet', [(0, 0), (0, 100), (5000, 0), (5000, 100)], ['train'] * 2 + ['test'] * 2
    )
    record = geores('audit', path, '--json').records[0]
    assert (record['verdict'], record['grade']) == ('sound', 'A')
    assert record['recommended'] == f"geores train --config CONFIG.yaml --data.split '{path}'"


def test_copies_are_mended_by_their_images(geores, tmp_path):
    for row in range(60):
        write_tiff(tmp_path / 'images' / f't{row}.tif', pixels(3, 40, 40, seed=row % 50))
    path = write_points(tmp_path / 'split.parquet', scattered(60), ['train', 'train', 'test'] * 20)
    record = geores('audit', path, '--images', tmp_path / 'images', '--json').records[0]
    assert (record['verdict'], record['grade']) == ('leaks', 'E')
    assert f'--images {tmp_path / "images"}' in record['recommended']
    mended = run_recommended(geores, record['recommended'])
    assert mended.code == 0, mended.err
    again = geores('audit', mended.records[0]['outputs']['split'], '--images', tmp_path / 'images', '--json')
    assert again.records[0]['duplicates']['groups'] == 0

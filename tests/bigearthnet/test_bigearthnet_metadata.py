"""The released tables, and maps of CORINE Land Cover."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geores.bigearthnet.labels import (
    CLC,
    LABELS,
    LABELS_ORIGINAL,
    class_of,
    classes_of_map,
    labels_in,
    labels_of_map,
)
from geores.bigearthnet.metadata import find_metadata, multi_hot_labels, official_statistics, read_metadata
from geores.bigearthnet.patch_id import PatchId, S1Name, footprints
from geores.errors import DatasetError, UsageError

from ..reben_fixtures import SHARED, make_rows, needs_shared, write_table

SNOW = 'metadata_for_patches_with_snow_cloud_or_shadow.parquet'

# Labels of the clean patches: train, validation, test.
COUNTS = {
    'Agro-forestry areas': (15082, 8157, 9942),
    'Arable land': (88236, 49737, 50052),
    'Beaches, dunes, sands': (738, 426, 152),
    'Broad-leaved forest': (64164, 35387, 36377),
    'Coastal wetlands': (670, 610, 117),
    'Complex cultivation patterns': (51034, 26486, 22078),
    'Coniferous forest': (76344, 39554, 39043),
    'Industrial or commercial units': (6398, 2726, 2018),
    'Inland waters': (30466, 15900, 16846),
    'Inland wetlands': (11344, 5056, 4519),
    'Land principally occupied by agriculture, with significant areas of natural vegetation': (
        60127, 32736, 29846,
    ),
    'Marine waters': (35914, 14064, 11854),
    'Mixed forest': (78791, 42705, 44284),
    'Moors, heathland and sclerophyllous vegetation': (6329, 3806, 3759),
    'Natural grassland and sparsely vegetated areas': (6984, 2687, 2211),
    'Pastures': (42968, 25915, 26722),
    'Permanent crops': (15190, 8688, 5710),
    'Transitional woodland, shrub': (64198, 36429, 40523),
    'Urban fabric': (33626, 17308, 12824),
}  # fmt: skip


@needs_shared
def test_sizes_and_label_counts_of_the_release():
    clean = {part: read_metadata(SHARED / 'metadata.parquet', part) for part in ('train', 'val', 'test')}
    assert [len(table) for table in clean.values()] == [237_871, 122_342, 119_825]
    for order in ('lexicographic', 'original'):
        counts = np.stack(
            [multi_hot_labels(table, order).sum(0, dtype=int) for table in clean.values()], axis=1
        )
        assert dict(zip(labels_in(order), map(tuple, counts.tolist()), strict=True)) == COUNTS
    every = [
        len(read_metadata(SHARED / 'metadata.parquet', part, snow_and_clouds=True))
        for part in ('train', 'validation', 'test', 'all')
    ]
    assert every == [272_544, 139_577, 137_367, 549_488]


@needs_shared
def test_every_released_row_parses_and_lies_in_its_country():
    import shapely

    table = read_metadata(SHARED / 'metadata.parquet', snow_and_clouds=True)
    frame = footprints(table['patch_id'].to_pandas())
    assert len(frame) == 549_488
    assert frame.patch_id.is_unique
    zones = dict(frame.epsg.value_counts())
    assert set(zones) == {32600 + zone for zone in (29, 31, 32, 33, 34, 35, 36)}
    centres = shapely.centroid(frame.geometry.to_numpy())
    x, y = shapely.get_x(centres), shapely.get_y(centres)
    # A tile overlaps the next zone by little: patches lie in the six degrees of theirs, or just beside.
    middle = (frame.epsg.to_numpy() - 32600) * 6 - 183
    assert np.abs(x - middle).max() < 5
    boxes = {  # west, south, east, north
        'Austria': (9.5, 46.3, 17.2, 49.1),
        'Belgium': (2.5, 49.4, 6.5, 51.6),
        'Finland': (19.0, 59.5, 31.8, 70.2),
        'Ireland': (-10.8, 51.3, -5.2, 55.5),
        'Kosovo': (19.9, 41.7, 21.9, 43.4),
        'Lithuania': (20.8, 53.8, 27.0, 56.6),
        'Luxembourg': (5.6, 49.3, 6.6, 50.3),
        'Portugal': (-9.7, 36.8, -6.0, 42.3),
        'Serbia': (18.7, 42.0, 23.1, 46.4),
        'Switzerland': (5.8, 45.7, 10.6, 48.0),
    }
    country = table['country'].to_numpy(zero_copy_only=False)
    assert set(country) == set(boxes)
    # Patches of nothing but sea lie off the coast: off Malin Head, 0.25 degrees north of Ireland.
    at_sea = np.array([labels == ['Marine waters'] for labels in table['labels'].to_pylist()])
    for name, (west, south, east, north) in boxes.items():
        beyond = np.maximum.reduce([west - x, x - east, south - y, y - north])[country == name]
        sea = at_sea[country == name]
        assert beyond[~sea].max() < 0, name
        assert beyond[sea].max(initial=-1) < 0.25, name


@needs_shared
def test_names_of_the_release_come_back():
    table = read_metadata(SHARED / 'metadata.parquet', snow_and_clouds=True)
    every = 37
    for name, s1_name in zip(
        table['patch_id'].to_pylist()[::every], table['s1_name'].to_pylist()[::every], strict=True
    ):
        patch, partner = PatchId.parse(name), S1Name.parse(s1_name)
        assert (str(patch), str(partner)) == (name, s1_name)
        assert partner.is_partner(patch)


def test_the_nomenclature_is_whole():
    assert len(CLC) == 44
    assert sum(label is not None for _, label in CLC.values()) == 32
    assert {label for _, label in CLC.values() if label} == set(LABELS) == set(LABELS_ORIGINAL)
    assert (LABELS[0], LABELS[-1], LABELS_ORIGINAL[0]) == (
        'Agro-forestry areas',
        'Urban fabric',
        'Urban fabric',
    )
    assert (class_of(999), class_of(122), class_of(333)) == (None, None, LABELS[14])
    with pytest.raises(UsageError, match='code'):
        class_of(100)
    with pytest.raises(UsageError, match='label_order'):
        labels_in('alphabetic')


def test_one_pixel_is_a_label_and_a_quarter_unlabelled_is_too_much():
    codes = np.full((120, 120), 211, np.uint16)
    codes[0, 0] = 523
    found = labels_of_map(codes)
    assert (found.labels, found.unlabelled, found.is_kept) == (('Arable land', 'Marine waters'), 0.0, True)
    codes[:30] = 999
    assert not labels_of_map(codes).is_kept
    codes[0, 0] = 211
    assert labels_of_map(codes).is_kept
    assert labels_of_map(np.full((2, 2), 131, np.uint16)).labels == ()


@pytest.mark.parametrize('order', ['lexicographic', 'original'])
def test_classes_of_every_code(order):
    codes = np.array([*CLC, 999], np.uint16)[None]
    classes = classes_of_map(codes, order)
    assert classes.dtype == np.int64
    names = labels_in(order)
    found = [None if place == 255 else names[place] for place in classes[0]]
    assert found == [class_of(int(code)) for code in codes[0]]


@pytest.mark.parametrize('code', [0, 1, 254, 255, 524, 1000, 65535])
def test_unknown_codes_are_named(code):
    with pytest.raises(UsageError, match=f'^{code} is no code'):
        classes_of_map(np.array([[211, code]], np.uint16))
    with pytest.raises(UsageError, match='whole numbers'):
        classes_of_map(np.array([[211.0]]))
    with pytest.raises(UsageError, match='no pixels'):
        labels_of_map(np.empty((0, 5), np.uint16))


def test_statistics_are_those_of_the_interpolation():
    assert official_statistics(['VV', 'B02']) == (
        [-12.643863677978516, 438.3720703125],
        [5.133493900299072, 607.02685546875],
    )
    assert official_statistics(['B02', 'B05'], 'bilinear')[1] == [607.02685546875, 727.57843018]
    with pytest.raises(UsageError, match="'B10'"):
        official_statistics(['B10'])


def test_the_table_is_looked_for_beside_and_above(tmp_path):
    lmdb = tmp_path / 'lmdb'
    lmdb.mkdir()
    with pytest.raises(DatasetError, match='looked for') as error:
        find_metadata(lmdb)
    assert str(lmdb / 'metadata.parquet') in str(error.value)
    assert str(tmp_path / 'metadata.parquet') in str(error.value)
    write_table(tmp_path / 'metadata.parquet', make_rows(3))
    assert find_metadata(lmdb) == tmp_path / 'metadata.parquet'
    assert find_metadata('elsewhere', tmp_path) == tmp_path / 'metadata.parquet'
    with pytest.raises(DatasetError, match=r'other\.parquet'):
        find_metadata(lmdb, tmp_path / 'other.parquet')


@pytest.mark.parametrize('column', ['patch_id', 'labels', 'split', 'contains_seasonal_snow'])
def test_a_missing_column_is_named(tmp_path, column):
    path = tmp_path / 'metadata.parquet'
    table = pa.Table.from_pylist(make_rows(3))
    pq.write_table(table.drop_columns([column]), path)
    with pytest.raises(DatasetError, match=f"metadata.parquet: column '{column}' is missing"):
        read_metadata(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array([1, 2, 3])), path)
    with pytest.raises(DatasetError, match=f"column '{column}' has to hold"):
        read_metadata(path)


def test_bad_tables(tmp_path):
    path = tmp_path / 'metadata.parquet'
    with pytest.raises(DatasetError, match='no such table'):
        read_metadata(path)
    path.write_text('patch_id,labels')
    with pytest.raises(DatasetError, match='cannot be read'):
        read_metadata(path)
    rows = make_rows(3)
    write_table(path, rows)
    with pytest.raises(UsageError, match='split has to be one of'):
        read_metadata(path, 'training')
    with pytest.raises(DatasetError, match=SNOW):
        read_metadata(path, snow_and_clouds=True)
    write_table(path, [{**rows[0], 'split': 'dev'}])
    with pytest.raises(DatasetError, match="holds 'dev'"):
        read_metadata(path)
    write_table(path, rows[:1])
    with pytest.raises(DatasetError, match="no patch of split 'test'"):
        read_metadata(path, 'test')


@pytest.mark.parametrize('labels', [['Airports'], [], None])
def test_a_bad_label_names_the_patch(tmp_path, labels):
    rows = make_rows(3)
    rows[1]['labels'] = labels
    table = pa.Table.from_pylist(rows)
    with pytest.raises(DatasetError, match=rows[1]['patch_id']):
        multi_hot_labels(table)


def test_flagged_rows_of_one_table_are_left_out(tmp_path):
    path = tmp_path / 'metadata.parquet'
    write_table(path, make_rows(6, snow=2))
    assert len(read_metadata(path)) == 4

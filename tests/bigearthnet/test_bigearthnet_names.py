from datetime import UTC, datetime

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geores.bigearthnet.patch_id import PatchId, S1Name, footprints, modality, parse_tile, patch_table
from geores.errors import UsageError

PATCH = 'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57'
S1 = 'S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48'


def test_a_patch_id_says_what_it_says():
    patch = PatchId.parse(PATCH)
    assert (patch.product, patch.tile_name, patch.column, patch.row) == (PATCH[:-6], '33UUP', 26, 57)
    assert patch.acquired == datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)
    assert (patch.epsg, patch.bounds) == (32633, (331200, 5330400, 332400, 5331600))
    assert patch.transform() == Affine(10, 0, 331200, 0, -10, 5331600)
    assert patch.transform(60) == Affine(60, 0, 331200, 0, -60, 5331600)
    assert PatchId.parse(patch.map_name) == patch
    assert str(patch) == PATCH


def test_a_sentinel_1_name_is_not_padded():
    name = S1Name.parse(S1)
    assert (name.product, name.tile_name, name.column, name.row) == (S1[:-12], '33UUP', 70, 48)
    assert name.acquired == datetime(2017, 6, 13, 16, 50, 43, tzinfo=UTC)
    assert name.is_partner(PatchId.parse(f'{PATCH[:-6]}_70_48'))
    assert not name.is_partner(PatchId.parse(PATCH))
    with pytest.raises(UsageError, match='no Sentinel-1 name'):
        S1Name.parse(S1.replace('_70_', '_07_'))


@given(st.integers(0, 90), st.integers(0, 90))
def test_names_come_back(column, row):
    patch = f'{PATCH[:-6]}_{column:02d}_{row:02d}'
    s1 = f'{S1[:-6]}_{column}_{row}'
    assert (str(PatchId.parse(patch)), str(S1Name.parse(s1))) == (patch, s1)
    assert S1Name.parse(s1).is_partner(PatchId.parse(patch))


@pytest.mark.parametrize(
    'name',
    [
        '',
        'x',
        PATCH[:-1],
        f'{PATCH}_B02',
        f'{PATCH}\n',
        PATCH.replace('_26_', '_91_'),
        PATCH.replace('0613', '1345'),
        PATCH.replace('33UUP', '33UIP'),
        PATCH.replace('33UUP', '61UUP'),
        PATCH.replace('_26_', '_\u0662\u0666_'),
        S1,
    ],
)
def test_what_is_no_patch_id_is_named(name):
    with pytest.raises(UsageError) as error:
        PatchId.parse(name)
    assert repr(name) in str(error.value) or 'tile' in str(error.value)
    with pytest.raises(UsageError):
        patch_table([PATCH, name])


def test_kinds_of_names():
    assert [modality(name) for name in (PATCH, S1, f'{PATCH}_reference_map')] == ['s2', 's1', 'map']


# Upper left corners as products state them. T29SND follows from a patch of BigEarthNet v1, which starts
# at 540780, 4312440: its corner is 34 and 73 patches away.
@pytest.mark.parametrize(
    ('name', 'epsg', 'left', 'top'),
    [
        ('33UUP', 32633, 300000, 5400000),
        ('29SND', 32629, 499980, 4400040),
        ('31TCJ', 32631, 300000, 4900020),
        ('10SEG', 32610, 499980, 4200000),
        ('56HLH', 32756, 300000, 6300040 // 60 * 60),
    ],
)
def test_corners_of_tiles(name, epsg, left, top):
    tile = parse_tile(name)
    assert (tile.epsg, tile.left, tile.top) == (epsg, left, top)
    assert parse_tile(f'T{name}') == tile


@pytest.mark.parametrize('name', ['', '33UUPP', '00UUP', '33IUP', '33UZZ', '33UAA', '33uup', '33CUH'])
def test_what_is_no_tile(name):
    with pytest.raises(UsageError, match='no Sentinel-2 tile'):
        parse_tile(name)


def test_footprints_keep_their_corners():
    import pyproj

    names = [PATCH, 'S2A_MSIL2A_20170613T101031_N9999_R022_T29SND_34_73']
    frame = footprints(names)
    assert list(frame.patch_id) == names
    assert frame.crs.to_epsg() == 4326
    for name, outline in zip(names, frame.geometry, strict=True):
        patch = PatchId.parse(name)
        west, south, _, _ = patch.bounds
        to_degrees = pyproj.Transformer.from_crs(patch.epsg, 4326, always_xy=True)
        assert outline.exterior.coords[0] == pytest.approx(to_degrees.transform(west, south))
    assert footprints([PATCH], 'EPSG:32633').total_bounds.tolist() == pytest.approx(
        PatchId.parse(PATCH).bounds
    )

"""The dataset and the datamodule, on generated and on real patches."""

import pickle
import re

import numpy as np
import pytest
import rasterio
import torch
from torch.nn import functional

from geores.bigearthnet.labels import LABELS, LABELS_ORIGINAL, labels_of_map
from geores.bigearthnet.metadata import read_metadata
from geores.bigearthnet.opening import open_store
from geores.bigearthnet.patch_id import PatchId
from geores.bigearthnet.stores import S1_BANDS, S2_BANDS
from geores.bigearthnet.tiffs import TiffStore, read_tiff
from geores.datasets import ReBEN, ReBENDataModule, expand
from geores.errors import BandError, DatasetError, GeoresError, ReadError, UsageError
from geores.testing import check_dataset

from ..reben_fixtures import (
    PRODUCT,
    S1_PRODUCT,
    SHARED,
    make_reben,
    make_rows,
    needs_shared,
    real_lmdb,
    write_table,
    write_tiff,
)

TEN = ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('reben')
    make_reben(folder, 6, snow=1)
    return folder


def read(root, row, band):
    kind, name = ('S1', row['s1_name']) if band in S1_BANDS else ('S2', row['patch_id'])
    product = S1_PRODUCT if kind == 'S1' else PRODUCT
    with rasterio.open(root / f'BigEarthNet-{kind}' / product / name / f'{name}_{band}.tif') as file:
        return file.read(1)


@pytest.mark.parametrize(
    ('bands', 'wanted'),
    [
        ('s1', ('VV', 'VH')),
        ('s2', TEN),
        ('s2-full', S2_BANDS),
        ('all', ('VV', 'VH', *TEN)),
        ('all-full', ('VV', 'VH', *S2_BANDS)),
        (['B8A', 'VH', 'B01'], ('B8A', 'VH', 'B01')),
        ('B09', ('B09',)),
    ],
)
def test_bands_in_their_order_as_rasterio_reads_them(root, bands, wanted):
    data = ReBEN(root, 'all', bands)
    assert data.bands == wanted
    rows = make_rows(6, 1)[:-1]
    for index in (0, 4):
        image = data[index]['image']
        assert (image.dtype, image.shape) == (torch.float32, (len(wanted), 120, 120))
        for place, band in enumerate(wanted):
            pixels = read(root, rows[index], band)
            times = 120 // len(pixels)
            expected = np.kron(pixels, np.ones((times, times), pixels.dtype)).astype(np.float32)
            assert np.array_equal(image[place].numpy(), expected), band


def test_it_keeps_to_the_contract(root):
    for options in (
        {},
        {'maps': True, 'label_order': 'original'},
        {'interpolation': 'bilinear', 'bands': 's2'},
    ):
        check_dataset(ReBEN(root, 'all', **options))


def test_bilinear_aligns_corners_and_native_waits(root):
    native = ReBEN(root, 'all', 'all-full', interpolation='native')
    sample = pickle.loads(pickle.dumps(native))[1]  # noqa: S301 - made here
    shapes = {key: (value.dtype, tuple(value.shape)) for key, value in sample.items() if 'image' in key}
    assert shapes == {
        'image_s1': (torch.float32, (2, 120, 120)),
        'image_10m': (torch.uint16, (4, 120, 120)),
        'image_20m': (torch.uint16, (6, 60, 60)),
        'image_60m': (torch.uint16, (2, 20, 20)),
    }
    with pytest.raises(UsageError, match="interpolation='native' asks for none"):
        native.read_batch([0, 1])
    batch = torch.utils.data.default_collate([native[0], native[1]])
    for interpolation in ('nearest', 'bilinear'):
        data = ReBEN(root, 'all', 'all-full', interpolation=interpolation)
        expected = torch.stack([data[0]['image'], data[1]['image']])
        assert torch.equal(expand(batch, native.bands, interpolation), expected)
    coarse = torch.from_numpy(read(root, make_rows(6)[1], 'B09').astype(np.float32))[None, None]
    wanted = functional.interpolate(coarse, (120, 120), mode='bilinear', align_corners=True)[0, 0]
    assert torch.equal(data[1]['image'][native.bands.index('B09')], wanted)


def test_parts_labels_and_snow(root):
    rows = make_rows(6, 1)
    assert [len(ReBEN(root, part, 's1')) for part in ('train', 'val', 'validation', 'test', 'all')] == [
        2,
        2,
        2,
        1,
        5,
    ]
    every = ReBEN(root, 'all', 's1', snow_and_clouds=True)
    assert every.ids == [row['patch_id'] for row in rows]
    original = ReBEN(root, 'all', 's1', snow_and_clouds=True, label_order='original')
    assert (every.labels, original.labels) == (LABELS, LABELS_ORIGINAL)
    for index, row in enumerate(rows):
        for data in (every, original):
            sample = data[index]
            assert [data.labels[place] for place in sample['label'].nonzero().flatten()] == sorted(
                row['labels'], key=data.labels.index
            )
            assert sample['id'] == row['patch_id']
    assert len(every.footprints()) == 6


def test_maps_become_classes(root):
    for order, labels in (('lexicographic', LABELS), ('original', LABELS_ORIGINAL)):
        data = ReBEN(root, 'all', 'B02', maps=True, label_order=order)
        mask = data[2]['mask']
        name = f'{data.ids[2]}_reference_map'
        with rasterio.open(root / 'Reference_Maps' / PRODUCT / data.ids[2] / f'{name}.tif') as file:
            codes = torch.from_numpy(file.read(1).astype(np.int64))
        assert (mask.dtype, mask.shape) == (torch.int64, (120, 120))
        names = {112: 'Urban fabric', 211: 'Arable land', 231: 'Pastures', 312: 'Coniferous forest'}
        for code, label in names.items():
            assert (mask[codes == code] == labels.index(label)).all()
        assert (mask[(codes == 131) | (codes == 999)] == 255).all()


def test_only_what_is_asked_for_has_to_be_there(tmp_path):
    make_reben(tmp_path, 3, bands=S2_BANDS, maps=False)
    assert len(ReBEN(tmp_path, 'all', 's2')) == 3
    with pytest.raises(
        DatasetError, match=r'no folder BigEarthNet-S1.*Sentinel-1 and Sentinel-2 were asked for'
    ):
        ReBEN(tmp_path, 'all', 'all')
    with pytest.raises(DatasetError, match='no folder Reference_Maps'):
        ReBEN(tmp_path, 'all', 's2', maps=True)
    rows = make_rows(3)
    for row in rows:
        del row['s1_name']
    write_table(tmp_path / 'metadata.parquet', rows)
    assert len(ReBEN(tmp_path, 'all', 's2')) == 3
    with pytest.raises(DatasetError, match="column 's1_name' is missing"):
        ReBEN(tmp_path, 'all', 's1')


def test_a_part_of_the_archive(tmp_path):
    make_reben(tmp_path, 3, bands=('B02',), maps=False)
    write_table(tmp_path / 'metadata.parquet', make_rows(9)[::-1])
    with pytest.raises(DatasetError, match=r'_08_00 is not here.*names 9 patches; only_present'):
        ReBEN(tmp_path, 'all', 'B02')
    data = ReBEN(tmp_path, 'all', 'B02', only_present=True)
    assert data.ids == [row['patch_id'] for row in make_rows(3)[::-1]]
    assert data[0]['image'].shape == (1, 120, 120)
    with pytest.raises(DatasetError, match='holds none of the 9 patches'):
        ReBEN(tmp_path, 'all', 's1', only_present=True)


def test_wrong_arguments(root, tmp_path):
    for bands, message in (
        ('B10', "no band 'B10'"),
        (['B02', 'vv'], "'vv'"),
        ([], 'one or more'),
        (['VV', 'VV'], 'once'),
    ):
        with pytest.raises(BandError, match=message):
            ReBEN(root, 'all', bands)
    for options in ({'split': 'dev'}, {'interpolation': 'cubic'}, {'label_order': 'torchgeo'}):
        with pytest.raises(UsageError, match=next(iter(options.values()))):
            ReBEN(root, **options)
    with pytest.raises(DatasetError, match=r'looked for the folders BigEarthNet-S2, .*data\.mdb'):
        ReBEN(tmp_path)
    with pytest.raises(DatasetError, match=r'nowhere: .*does not exist'):
        ReBEN(tmp_path / 'nowhere')


# --- TIFFs


@pytest.fixture
def tiff(tmp_path):
    """A store of one patch, and the file of one of its bands."""
    make_reben(tmp_path, 1, bands=('B02', 'B05'), maps=False)
    name = make_rows(1)[0]['patch_id']
    return TiffStore(tmp_path), name, tmp_path / 'BigEarthNet-S2' / PRODUCT / name / f'{name}_B02.tif'


@pytest.mark.parametrize('keep', [0, 3, 7, 100, 200, 20000, -1])
def test_a_file_that_is_cut_off_is_an_error(tiff, keep):
    store, name, path = tiff
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ReadError, match=re.escape(str(path))):
        store.read(name, ['B02'])


def test_every_cut_is_seen_or_harmless(tiff):
    store, name, path = tiff
    data, pixels = path.read_bytes(), store.read(name, ['B02'])['B02']
    for keep in range(0, len(data), 997):
        path.write_bytes(data[:keep])
        try:
            assert np.array_equal(store.read(name, ['B02'])['B02'], pixels)
        except ReadError:
            continue


def test_damaged_headers_never_leave_by_another_error(tiff):
    store, name, path = tiff
    data = bytearray(path.read_bytes())
    draw = np.random.default_rng(0)
    for _ in range(150):
        other = data.copy()
        for place in draw.integers(0, 360, 2):
            other[place] = draw.integers(0, 256)
        path.write_bytes(other)
        try:
            found = store.read(name, ['B02'])['B02']
        except GeoresError:
            continue
        assert (found.shape, found.dtype) == ((120, 120), np.uint16)


def test_pixels_that_were_never_written_are_an_error(tiff):
    store, name, path = tiff
    patch = PatchId.parse(name)
    options = {'driver': 'GTiff', 'count': 1, 'dtype': 'uint16', 'height': 120, 'width': 120}
    with rasterio.open(
        path, 'w', sparse_ok=True, crs=f'EPSG:{patch.epsg}', transform=patch.transform(), **options
    ):
        pass
    with pytest.raises(ReadError, match='never written'):
        store.read(name, ['B02'])


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'blockysize': 7},
        {'compress': 'deflate', 'predictor': 2},
        {'compress': 'lzw'},
        {'compress': 'zstd'},
        {'ENDIANNESS': 'BIG'},
        {'BIGTIFF': 'YES'},
        {'tiled': True, 'blockxsize': 64, 'blockysize': 64},
    ],
)
def test_any_layout_reads_as_gdal_reads_it(tiff, options):
    store, name, path = tiff
    pixels = np.random.default_rng(1).integers(0, 60000, (120, 120)).astype(np.uint16)
    write_tiff(path, pixels, PatchId.parse(name), **options)
    found = store.read(name, ['B02'])['B02']
    assert np.array_equal(found, pixels)
    found[0, 0] += 1  # an array of one's own
    assert np.array_equal(read_tiff(path), pixels)


def test_wrong_files_are_named(tiff):
    store, name, path = tiff
    patch = PatchId.parse(name)
    write_tiff(path, np.zeros((60, 60), np.uint16), patch)
    with pytest.raises(ReadError, match='60 x 60 pixels, and B02 of reBEN is uint16 of 120 x 120'):
        store.read(name, ['B02'])
    write_tiff(path, np.zeros((120, 120), np.int16), patch)
    with pytest.raises(ReadError, match='int16'):
        store.read(name, ['B02'])
    path.write_text('not a TIFF')
    with pytest.raises(ReadError, match='is no TIFF'):
        store.read(name, ['B02'])
    with pytest.raises(DatasetError, match=r'B08\.tif: no such file'):
        store.read(name, ['B08'])
    with pytest.raises(DatasetError, match='is not here'):
        store.read(f'{name[:-2]}44', ['B02'])


def test_names_of_a_store(root):
    store = open_store(root)
    rows = make_rows(6)
    wanted = [
        name for row in rows for name in (row['patch_id'], f'{row["patch_id"]}_reference_map', row['s1_name'])
    ]
    assert store.names() == sorted(wanted)
    other = pickle.loads(pickle.dumps(store))  # noqa: S301 - made here
    assert other.names() == store.names()


# --- real patches


@needs_shared
def test_the_real_files_read_as_rasterio_reads_them():
    store = open_store(SHARED / 'tiffs')
    for name in store.names():
        bands = ['Data'] if name.endswith('map') else S1_BANDS if name.startswith('S1') else S2_BANDS
        found = store.read(name, bands)
        for path, pixels in zip(store.files(name, bands), found.values(), strict=True):
            with rasterio.open(path) as file:
                expected = file.read(1)
                assert (pixels.dtype, pixels.tobytes()) == (expected.dtype, expected.tobytes())
                if name.startswith('S2'):
                    patch = PatchId.parse(name)
                    assert file.transform == patch.transform(file.res[0])
                    assert file.crs.to_epsg() == patch.epsg
        if name.startswith('S1'):
            assert all((pixels < 0).any() and (pixels % 1 != 0).any() for pixels in found.values())


@needs_shared
def test_the_real_map_gives_the_labels_of_its_row():
    name = f'{PRODUCT}_26_57'
    codes = open_store(SHARED / 'tiffs').read(f'{name}_reference_map', ['Data'])['Data']
    table = read_metadata(SHARED / 'metadata.parquet', 'test')
    (row,) = [row for row in table.slice(0, 10).to_pylist() if row['patch_id'] == name]
    assert list(labels_of_map(codes).labels) == row['labels']
    image = ReBEN(real_lmdb() / 'BigEarthNet-V2-LMDB', 'test', 's2')
    assert image.ids[0] == name
    assert [image.labels[place] for place in image[0]['label'].nonzero().flatten()] == row['labels']


def test_the_real_lmdb():
    root = real_lmdb() / 'BigEarthNet-V2-LMDB'
    data = ReBEN(root, 'all', 'all', snow_and_clouds=True)
    assert len(data) == 24
    assert [len(ReBEN(root, part)) for part in ('train', 'val', 'test')] == [6, 6, 6]
    check_dataset(data, samples=4)
    raw = open_store(root).read(data.ids[3], ['B05'])['B05']
    image = data[3]['image']
    assert np.array_equal(image[data.bands.index('B05')].numpy(), np.kron(raw, np.ones((2, 2))))
    assert (image[:2] < 0).float().mean() > 0.5
    assert (image[:2] % 1 != 0).any()


# --- datamodule


def test_the_datamodule_serves_the_official_parts(root):
    data = ReBENDataModule(str(root), bands='all', batch_size=4)
    data.setup()
    assert (data.task, data.size, data.labels, data.bands) == ('multi-label', 120, LABELS, ('VV', 'VH', *TEN))
    assert data.split.id == 'reben-official-train-val'
    assert data.statistics[0][:3] == [-12.643863677978516, -19.352558135986328, 438.3720703125]
    assert data.train_targets.shape == (2, 19)
    ids = [
        [name for batch in loader for name in batch['id']]
        for loader in (data.val_dataloader(), data.test_dataloader())
    ]
    assert ids == [ReBEN(root, part).ids for part in ('val', 'test')]
    first = {name for batch in data.train_dataloader() for name in batch['id']}
    assert first == set(ReBEN(root, 'train').ids)


def test_the_datamodule_refuses_what_is_not_there(tmp_path):
    make_reben(tmp_path, 2, bands=('B02',), maps=False)
    with pytest.raises(DatasetError, match="no patch is of split 'test'"):
        ReBENDataModule(str(tmp_path), bands='B02').test_dataloader()

"""Folders of band files and Sentinel-2 products: which files, which scale, which name."""

import shutil

import numpy as np
import pytest

from geores.errors import BandError, SceneError
from geores.scenes import open_scene

from ..scene_fixtures import GRANULE, L1C, L2A, TILE, metadata, pixels, write_jp2, write_safe, write_tiff

pytestmark = pytest.mark.filterwarnings('ignore:Use `@` matmul:PendingDeprecationWarning')


@pytest.fixture(scope='module')
def products(tmp_path_factory):
    folder = tmp_path_factory.mktemp('products')
    return {level: write_safe(folder, level) for level in ('L1C', 'L2A')}


@pytest.fixture
def product(products, tmp_path):
    """Copy a product, which a test may then change."""

    def copy(level):
        return shutil.copytree(products[level], tmp_path / products[level].name)

    return copy


def scaling(scene, band='B02'):
    return scene.band(band).scale, scene.band(band).offset


@pytest.mark.parametrize(('level', 'name'), [('L1C', L1C), ('L2A', L2A)])
def test_product_by_any_of_its_folders(products, level, name):
    root = products[level]
    granule = root / 'GRANULE' / GRANULE[level]
    for folder in (root, granule, granule / 'IMG_DATA'):
        scene = open_scene(folder)
        assert list(scene.bands) == ['B01', 'B02', 'B8A']
        assert (scene.name, scene.sensor, scene.processing_level) == (name, 'Sentinel-2', level)
        assert (scene.date, scene.units, scene.nodata) == ('2023-06-01', 'reflectance', 0)
        assert (scene.shape, scene.resolution) == ((96, 96), (10.0, 10.0))
        assert scene.band('B01').raster.geobox.shape == (16, 16)


def test_finest_of_several_resolutions(products):
    images = products['L2A'] / 'GRANULE' / GRANULE['L2A'] / 'IMG_DATA'
    assert open_scene(products['L2A']).band('B02').raster.path.endswith('B02_10m.jp2')
    coarse = open_scene(images / 'R20m')
    assert (list(coarse.bands), coarse.resolution, coarse.name) == (['B02', 'B8A'], (20.0, 20.0), L2A)


def test_offset_from_name_and_from_metadata(product):
    root = product('L2A')
    assert scaling(open_scene(root)) == (0.0001, -0.1)
    assert any('baseline 05.09' in note for note in open_scene(root).notes)
    (root / 'MTD_MSIL2A.xml').write_text(metadata('L2A', offset=-500, quantification=5000))
    scene = open_scene(root)
    assert scaling(scene) == pytest.approx((0.0002, -0.1))
    assert any('-500 applied, as the product states' in note for note in scene.notes)


def test_metadata_names_a_product_whose_folder_was_renamed(product):
    root = product('L1C')
    (root / 'MTD_MSIL1C.xml').write_text(metadata('L1C', offset=0))
    scene = open_scene(root.rename(root.with_name('renamed')))
    assert (scene.name, scene.processing_level, scaling(scene)) == (L1C, 'L1C', (0.0001, 0.0))
    assert scene.notes == ()


@pytest.mark.parametrize(
    ('baseline', 'offset', 'noted'), [('N0400', -0.1, True), ('N0301', 0, False), ('N9999', 0, True)]
)
def test_baseline_in_the_name_of_a_folder(tmp_path, baseline, offset, noted):
    folder = tmp_path / L2A.replace('N0509', baseline)
    write_tiff(folder / 'B02.tif', pixels())
    write_tiff(folder / 'B8A.tif', pixels(height=20, width=25), resolution=20)
    write_tiff(folder / 'cloud_mask.tif', pixels(dtype='uint8'))
    scene = open_scene(folder)
    assert (scene.name, list(scene.bands), scene.nodata) == (folder.name, ['B02', 'B8A'], 0)
    assert scaling(scene) == (0.0001, offset)
    assert bool(scene.notes) == noted
    mask = open_scene(folder / 'cloud_mask.tif')
    assert (mask.name, mask.nodata) == ('cloud_mask', None)


@pytest.mark.parametrize(('date', 'offset'), [('20170216', 0.0), ('20230601', -0.1)])
def test_tile_and_date_alone(tmp_path, date, offset):
    for band in ('B02', 'B10'):
        write_jp2(tmp_path / 'IMG_DATA' / f'T33UUU_{date}T102101_{band}.jp2', pixels())
    for folder in (tmp_path, tmp_path / 'IMG_DATA'):
        scene = open_scene(folder)
        assert (scene.name, scene.processing_level) == (f'T33UUU_{date}T102101', 'L1C')
        assert scaling(scene) == (0.0001, offset)
        assert 'baseline' in scene.notes[0]


def test_zero_is_nodata_in_products_only(tmp_path):
    values = pixels()
    values[0, 3] = 0
    of_product = open_scene(write_tiff(tmp_path / f'{TILE}_B02.tif', values))
    _, valid = of_product.band('B02').raster.read([1], slice(None), slice(None))
    np.testing.assert_array_equal(valid, values[0] > 0)
    plain = open_scene(write_tiff(tmp_path / 'B02.tif', values))
    assert plain.band('B02').raster.read([1], slice(None), slice(None))[1] is None


def test_single_file_of_a_product_and_its_picture(products):
    images = products['L1C'] / 'GRANULE' / GRANULE['L1C'] / 'IMG_DATA'
    scene = open_scene(images / f'{TILE}_B8A.jp2')
    assert (scene.name, scene.processing_level, scaling(scene, 'B8A')) == (L1C, 'L1C', (0.0001, -0.1))
    picture = open_scene(images / f'{TILE}_TCI.jp2')
    assert (list(picture.bands), picture.sensor) == (['red', 'green', 'blue'], None)
    assert (picture.name, picture.missing(['B04'])) == (f'{TILE}_TCI', ['B04'])


def test_bands_of_a_folder_are_chosen(products):
    assert list(open_scene(products['L1C'], bands=['B8A', 'blue']).bands) == ['B8A', 'B02']
    with pytest.raises(BandError, match='B12'):
        open_scene(products['L1C'], bands=['B12'])


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;">]>'


@pytest.mark.parametrize(
    ('xml', 'reason'),
    [
        ('<n1:Level', 'no element|not a readable'),
        (metadata('L1C', head=BOMB), 'document type'),
        (metadata('L1C', offset='many'), 'many'),
        (metadata('L1C', offset='nan'), 'offsets'),
        ('<?xml version="1.0" encoding="none"?><a/>', 'not a readable'),
        (metadata('L1C', quantification=0), 'quantification value'),
    ],
)
def test_metadata_that_cannot_be_trusted(product, xml, reason):
    root = product('L1C')
    (root / 'MTD_MSIL1C.xml').write_text(xml)
    with pytest.raises(SceneError, match=reason) as caught:
        open_scene(root)
    assert str(caught.value).startswith(str(root / 'MTD_MSIL1C.xml'))


def test_several_granules_are_refused(product):
    root = product('L1C')
    shutil.copytree(root / 'GRANULE' / GRANULE['L1C'], root / 'GRANULE' / 'L1C_T33UVU_A0_2')
    with pytest.raises(SceneError, match='holds 2 granules; give one'):
        open_scene(root)

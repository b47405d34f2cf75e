"""What `geores evaluate` cannot use: one line, and nothing left behind."""

# ruff: noqa: F811 - fixtures are arguments too

import numpy as np
import pytest
from PIL import Image

import geores as package
from geores.errors import UsageError
from geores.evaluation.data import bring_to_labels, find_datasets

from ..evaluate_fixtures import (  # noqa: F401 - fixtures
    CLASSES,
    images,
    make_bundle,
    make_images,
    make_patches,
    make_polygons,
    multi,
    refused,
    single,
)
from ..fixtures import GRID, tiny_bundle, write_scene


def test_missing_and_empty_folders(refused, single, tmp_path):
    assert 'nowhere' in refused(single, tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    assert 'no images' in refused(single, tmp_path / 'empty')
    (tmp_path / 'plain').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'plain/a.png')
    assert 'no images' in refused(single, tmp_path / 'plain')
    assert 'no model' in refused(tmp_path / 'no-bundle', tmp_path / 'plain')


def test_wrong_tasks(refused, single, multi, images, tmp_path):
    pure, patches = make_images(tmp_path / 'pure'), make_patches(tmp_path / 'patches')
    assert 'multi is multi-label' in refused(multi, pure)
    assert 'multi is multi-label' in refused(multi, patches)
    assert "mode 'scene' does not fit multi" in refused(multi, images, '--mode', 'scene')
    assert "mode 'multi-label' does not fit single" in refused(single, images, '--mode', 'multi-label')
    assert "not 'both'" in refused(single, images, '--mode', 'both')
    values = make_bundle(
        tmp_path / 'bundles/values', task='regression', activation='identity', thresholds=None
    )
    assert 'values is a regression model' in refused(values, images)
    assert 'evaluated apart' in refused(single, images, patches)
    other = make_images(tmp_path / 'more/pure')
    assert "two folders are named 'pure'" in refused(single, pure, other)


def test_unknown_labels(refused, single, images):
    (images / 'water').rename(images / 'lagoon')
    assert 'lagoon' in refused(single, images)
    assert 'lagoon' in refused(single, images, '--label-map', 'lagon=water')
    assert "'wasser'" in refused(single, images, '--label-map', 'lagoon=wasser')
    for text in ('lagoon', 'lagoon=', '=water', 'a=b=c'):
        assert 'OLD=NEW' in refused(single, images, '--label-map', text)
    for name in ('field', 'forest'):
        (images / name).rename(images / f'{name}-of-mars')
    assert 'no image' in refused(single, images, '--ignore-unknown')


def test_scenes_without_what_they_need(refused, single, multi, images, tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', height=32, width=32)
    polygons = make_polygons(tmp_path / 'labels.gpkg', scene)
    assert '--labels FILE --column NAME' in refused(single, scene)
    assert '--column NAME' in refused(single, scene, '--labels', polygons)
    assert '--labels FILE' in refused(single, scene, '--column', 'class')
    assert 'kind' in refused(single, scene, '--labels', polygons, '--column', 'kind')
    assert 'none.gpkg' in refused(single, scene, '--labels', tmp_path / 'none.gpkg', '--column', 'class')
    assert 'none.tif' in refused(single, tmp_path / 'none.tif', '--labels', polygons, '--column', 'class')
    told = refused(single, scene, '--labels', polygons, '--column', 'class', '--min-cover', '0')
    assert 'min_cover goes with the task multi-label' in told
    strip = make_polygons(tmp_path / 'strip.gpkg', scene, share=0.1)
    told = refused(multi, scene, '--labels', strip, '--column', 'class', '--min-cover', '1')
    assert 'labels cover 1 of no tile of 8 pixels (at best 0.4)' in told
    far = write_scene(tmp_path / 'far.tif', height=32, width=32, transform=GRID.translation(4e5, 1e6) @ GRID)
    refused(single, far, '--labels', polygons, '--column', 'class')


def test_other_bands_and_units(refused, single, images, tmp_path):
    spectral = make_bundle(tmp_path / 'bundles/s2', bands=('B02', 'B03', 'B04'), units='reflectance*10000')
    assert 'bands B02, B03, B04 can only be read from GeoTIFFs' in refused(spectral, images)
    assert "'red'" in refused(single, make_patches(tmp_path / 'b', bands=('B02', 'B03', 'B04', 'B08')))
    assert 'takes 8-bit' in refused(single, make_patches(tmp_path / 'c', dtype='uint16'))
    fractions = make_patches(tmp_path / 'd', bands=('B02', 'B03', 'B04', 'B08'), dtype='float32')
    for path in (fractions / 'images').iterdir():
        write_scene(path, bands=('B02', 'B03', 'B04'), values=np.full((3, 6, 6), 0.2, np.float32), crs=None)
    assert 'takes reflectance*10000' in refused(spectral, fractions)


def test_images_that_cannot_be_read(refused, single, images, tmp_path):
    (images / 'water/water2.png').write_bytes(b'not an image')
    assert 'water2.png' in refused(single, images)
    spectral = make_bundle(tmp_path / 'bundles/s2', bands=('B02', 'B03', 'B04'), units='reflectance*10000')
    holes = make_patches(tmp_path / 'holes', bands=('B02', 'B03', 'B04', 'B08'), dtype='float32')
    values = np.full((3, 6, 6), 900, np.float32)
    values[1] = np.nan
    write_scene(holes / 'images/p5.tif', bands=('B02', 'B03', 'B04'), values=values, crs=None)
    assert 'holes/images/p5.tif: has no valid pixel' in refused(spectral, holes)


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('--batch-size', 0),
        ('--workers', -1),
        ('--bootstrap', -1),
        ('--device', 'toaster'),
        ('--precision', 'fp8'),
        ('--split', 'half'),
        ('--split', 'val'),
    ],
)
def test_options_out_of_range(refused, single, images, option, value):
    assert str(value) in refused(single, images, option, value)


def test_outputs_that_cannot_be_written(refused, single, images, tmp_path):
    out = tmp_path / 'taken'
    out.mkdir()
    (out / 'single_per_class.csv').write_text('mine')
    assert '--overwrite' in refused(single, images, out=out)
    assert (out / 'single_per_class.csv').read_text() == 'mine'
    assert 'cannot be written' in refused(single, images, out=out / 'single_per_class.csv')


def test_datasets_of_a_card_are_checked_for_labels(single, images):
    card = package.load_model(single).card
    labelled = bring_to_labels(card, find_datasets(card, images))
    assert labelled.target.tolist() == [2] * 4 + [1] * 4 + [0] * 4
    with pytest.raises(UsageError, match='no data'):
        find_datasets(card, [])


def test_a_bundle_of_random_weights_runs_from_the_command(geores, tmp_path):
    bundle = tiny_bundle(tmp_path / 'tiny', labels=CLASSES, task='multi-label')
    answer = geores('evaluate', bundle, make_images(tmp_path / 'set', multi=True), '--json')
    assert answer.code == 0
    assert answer.records[0]['images'] == 12

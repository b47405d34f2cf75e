"""What any bundle is worth on labelled data of any kind."""

# ruff: noqa: F811 - fixtures are arguments too

import numpy as np
import pytest
import rasterio
import torch
from sklearn import metrics as reference

import geores as package
from geores.errors import DatasetError
from geores.evaluation.data import find_datasets
from geores.scenes.gdal import ungeoreferenced

from ..evaluate_fixtures import (  # noqa: F401 - fixtures
    CLASSES,
    COLOURS,
    SIZE,
    images,
    make_bundle,
    make_images,
    make_patches,
    make_polygons,
    multi,
    refused,
    single,
)
from ..fixtures import RGB, write_scene


def test_single_label_figures(single, images):
    found = package.evaluate(single, images)
    assert found.metrics['accuracy'] == pytest.approx(10 / 12)
    assert found.confusion.loc['field', 'water'] == 1
    assert found.confusion.loc['water', 'forest'] == 1
    truth, said = found.predictions['truth'], found.predictions['predicted']
    np.testing.assert_array_equal(
        found.confusion, reference.confusion_matrix(truth, said, labels=found.labels)
    )
    wanted = reference.classification_report(truth, said, output_dict=True)
    for label, row in found.per_class.iterrows():
        for ours, theirs in (('precision',) * 2, ('recall',) * 2, ('f1', 'f1-score'), ('support',) * 2):
            assert row[ours] == pytest.approx(wanted[label][theirs])
    for name in ('precision', 'recall', 'f1'):
        theirs = wanted['macro avg'][name.replace('f1', 'f1-score')]
        assert found.metrics[f'{name}_macro'] == pytest.approx(theirs)
    low, high = found.intervals['accuracy']
    assert low < 10 / 12 <= high


def test_multi_label_figures(multi, images):
    found = package.evaluate(multi, images)
    row = found.confusion.loc['water']
    assert row.to_dict() == {'tp': 3, 'fp': 1, 'fn': 1, 'tn': 7}
    assert found.metrics['f1_micro'] == pytest.approx(10 / 12)
    assert found.metrics['accuracy_exact'] == pytest.approx(10 / 12)
    assert found.per_class.loc['forest', ['threshold', 'recall']].tolist() == [0.5, 1.0]
    assert found.predictions.loc[0, ['truth', 'predicted']].tolist() == [['field'], ['water']]
    curve = found.threshold_curve
    at = curve[(curve['label'] == 'water') & np.isclose(curve['threshold'], 0.5)]
    assert at[['precision', 'recall']].to_numpy().tolist() == [[0.75, 0.75]]
    assert found.reliability.groupby('label')['count'].sum()[['all', 'water']].tolist() == [36, 12]


def test_a_perfect_model(single, tmp_path):
    found = package.evaluate(single, make_images(tmp_path / 'pure'))
    assert {found.metrics[name] for name in ('accuracy', 'f1_macro', 'ap_macro', 'ap_micro')} == {1.0}
    assert found.intervals['accuracy'] == (1.0, 1.0)
    assert found.metrics['ece'] == pytest.approx(1 - float(found.scores.max(1).values.mean()), abs=1e-6)


def test_patches_find_bands_by_name(single, tmp_path):
    found = package.evaluate(single, make_patches(tmp_path / 'patches'))
    assert (len(found), found.metrics['accuracy']) == (9, 1.0)
    assert found.notes == ('3 images without a label are left out',)
    assert found.ids[0] == 'patches/p0.tif'


def make_spectral(root, described=True):
    """Four bands in folders of classes, as EuroSAT has them; its files do not describe their bands."""
    bands = ('B02', 'B03', 'B04', 'B08')
    for label in CLASSES:
        (root / label).mkdir(parents=True)
        for index in range(2):
            values = np.full((4, 6, 6), 900, np.uint16)
            values[:3] = 10 * np.array(COLOURS[label], np.uint16)[:, None, None]
            path = root / label / f'{index}.tif'
            write_scene(path, bands=bands if described else (None,) * 4, values=values, crs=None)
    return root


@pytest.fixture
def spectral(tmp_path):
    bands = {'bands': ('B04', 'B03', 'B02'), 'labels': ('field', 'forest', 'water')}
    statistics = {'units': 'reflectance*10000', 'mean': (1000.0,) * 3, 'std': (500.0,) * 3}
    return make_bundle(tmp_path / 'bundles/spectral', **bands, **statistics)


def test_folders_of_classes_with_any_bands(geores, refused, spectral, tmp_path):
    assert package.evaluate(spectral, make_spectral(tmp_path / 'a')).metrics['accuracy'] == 1.0
    plain = make_spectral(tmp_path / 'b', described=False)
    assert "no band described as 'B04'" in refused(spectral, plain)
    answer = geores('evaluate', spectral, plain, '--bands', 'B02,B03,B04,B08', '--json')
    assert answer.records[0]['metrics']['accuracy'] == 1.0
    assert 'has 4 bands, and 3 are named' in refused(spectral, plain, '--bands', 'B02,B03,B04')
    assert 'spectral takes B04' in refused(spectral, plain, '--bands', 'B02,B03,B05,B08')
    assert 'named twice' in refused(spectral, plain, '--bands', 'B02,B03,B04,B04')


@pytest.mark.parametrize('named', [False, True])
def test_nodata_of_patches_is_filled_as_in_a_scene(single, tmp_path, named):
    bands = ('blue', 'green', 'red', 'nir')
    patches = make_patches(tmp_path / 'patches', bands=(None,) * 4 if named else bands)
    options = {'bands': bands} if named else {}
    whole = package.evaluate(single, patches, **options)
    for path in (patches / 'images').glob('*.tif'):
        with ungeoreferenced(), rasterio.open(path, 'r+') as file:
            values = file.read()
            values[:, :2] = 255
            file.write(values)
            file.nodata = 255
    holes = package.evaluate(single, patches, **options)
    assert torch.equal(holes.scores, whole.scores)  # each patch is of one colour
    with pytest.raises(DatasetError, match='has 4 bands, and 3 are named'):
        package.evaluate(single, patches, bands=bands[:3])


def test_patches_and_scenes_whose_bands_are_named(single, tmp_path):
    patches = make_patches(tmp_path / 'patches', bands=(None,) * 4)
    found = package.evaluate(single, patches, bands=['blue', 'green', 'red', 'nir'])
    assert found.metrics['accuracy'] == 1.0
    scene = write_scene(tmp_path / 'scene.tif', bands=(None,) * 3, height=32, width=32)
    polygons = make_polygons(tmp_path / 'labels.gpkg', scene)
    found = package.evaluate(single, scene, labels=polygons, column='class', bands=RGB)
    assert len(found) == 16


def test_bands_of_another_order(tmp_path):
    bundle = make_bundle(tmp_path / 'bgr', labels=('field', 'forest', 'water'), bands=RGB[::-1])
    assert package.evaluate(bundle, make_images(tmp_path / 'pure')).metrics['accuracy'] == 1.0


def test_sources_have_rows(single, images, tmp_path):
    pure = make_images(tmp_path / 'pure')
    found = package.evaluate(single, [images, pure])
    assert found.per_source['images'].to_dict() == {'images-of-classes': 12, 'pure': 12}
    assert found.per_source.loc['pure', 'accuracy'] == 1.0
    assert found.per_source.loc['images-of-classes', 'accuracy'] == pytest.approx(10 / 12)
    patches = [make_patches(tmp_path / name) for name in ('one', 'two')]
    assert package.evaluate(single, patches).per_source['images'].tolist() == [9, 9]


@pytest.mark.parametrize('crs', ['EPSG:32633', 'EPSG:4326'])
def test_scenes_with_polygons(single, tmp_path, crs):
    values = np.full((3, 4 * SIZE, 6 * SIZE), 40, np.uint8)
    values[0, :, : 3 * SIZE] = 220
    values[1, :, 3 * SIZE :] = 220
    values[:2, :SIZE, :SIZE] = np.array([40, 220])[:, None, None]  # a wood where water is said to be
    scene = write_scene(tmp_path / 'scene.tif', values=values)
    polygons = make_polygons(tmp_path / 'labels.gpkg', scene, crs)
    found = package.evaluate(single, scene, labels=polygons, column='class')
    assert len(found) == 24
    assert found.metrics['accuracy'] == pytest.approx(23 / 24)
    assert found.confusion.loc['water', 'forest'] == 1
    assert found.sources[0] == 'scene'
    assert any('field' in note for note in found.notes)
    dense = package.evaluate(single, scene, labels=polygons, column='class', stride=SIZE // 2)
    assert len(dense) > 24


def test_scenes_with_polygons_of_several_classes(multi, tmp_path):
    values = np.full((3, 2 * SIZE, 4 * SIZE), 40, np.uint8)
    values[0, :, : 2 * SIZE + SIZE // 2] = 220  # water as far as said, and half a tile more
    values[1, :, 2 * SIZE :] = 220
    scene = write_scene(tmp_path / 'scene.tif', values=values)
    polygons = make_polygons(tmp_path / 'labels.gpkg', scene)
    found = package.evaluate(multi, scene, labels=polygons, column='class')
    assert len(found) == 8
    assert found.per_class.loc['water'][['support', 'predicted']].tolist() == [4, 6]
    assert found.per_class.loc['forest', 'f1'] == 1.0
    overlapping = package.evaluate(multi, scene, labels=polygons, column='class', stride=SIZE // 2)
    assert (len(overlapping), overlapping.per_class.loc['water', 'support']) == (21, 12)
    strip = make_polygons(tmp_path / 'strip.gpkg', scene, share=0.25)
    complete = package.evaluate(multi, scene, labels=strip, column='class', min_cover=0)
    assert complete.per_class.loc['forest', 'support'] == 2


def test_batches_and_workers_change_nothing(single, images):
    whole = package.evaluate(single, images)
    parts = package.evaluate(package.load_model(single), images, batch_size=5, workers=1, bootstrap=0)
    assert parts.ids == whole.ids
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-6)
    assert (parts.intervals, parts.metrics) == ({}, pytest.approx(whole.metrics))


def test_a_random_network_agrees_with_predict(bundle, images):
    model = package.load_model(bundle)
    found = package.evaluate(model, images, bootstrap=0)
    (dataset,) = find_datasets(model.card, images)
    stack = torch.stack([dataset[index]['image'] for index in range(len(dataset))])
    np.testing.assert_allclose(found.scores, model.predict(stack), atol=1e-5)

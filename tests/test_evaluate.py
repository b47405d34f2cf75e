"""Any bundle on any labelled data."""

import csv
import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
from PIL import Image
from shapely.geometry import box
from sklearn import metrics as reference
from torch import nn

import geores as package
from geores import models
from geores.errors import OutputError, UsageError, WriteError
from geores.pipelines.evaluation import figures
from geores.pipelines.evaluation.data import bring_to_labels, find_datasets
from geores.pipelines.evaluation.names import meanings, trained_on
from geores.splits import stratified_split

from .fixtures import GRID, RGB, hold_files, tiny_bundle, write_scene

CLASSES = ('field', 'forest', 'water')
SIZE = 8
COLOURS = {'field': (40, 40, 220), 'forest': (40, 220, 40), 'water': (220, 40, 40)}

if 'test-evaluate-brightest' not in models.architectures():

    @models.register('test-evaluate-brightest')
    class Brightest(nn.Module):
        """Logits are the means of the bands, so that what it answers is known."""

        def __init__(self, in_chans: int, num_classes: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(in_chans))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) * self.scale


def make_bundle(folder, task='single-label', labels=('water', 'forest', 'field'), bands=RGB, **card):
    """A model that answers with the label of the brightest band, or of each bright band."""
    from geores import ModelCard, save_bundle

    single = task == 'single-label'
    fields = {
        'name': folder.name,
        'description': 'Bands to labels.',
        'architecture': 'test-evaluate-brightest',
        'architecture_kwargs': {'in_chans': len(bands), 'num_classes': len(labels)},
        'activation': 'softmax' if single else 'sigmoid',
        'task': task,
        'sensor': 'any',
        'processing_level': 'any',
        'bands': bands,
        'units': '8-bit',
        'gsd': (1.0, 30.0),
        'input_size': SIZE,
        'resampling': 'bilinear',
        'mean': (128.0,) * len(bands),
        'std': (64.0,) * len(bands),
        'labels': labels,
        'thresholds': None if single else (0.5,) * len(labels),
        'split_id': 'none',
        'training_data': 'none',
        'licence': 'CC0-1.0',
        'metrics': {},
    }
    card = ModelCard(**(fields | card))
    return save_bundle(folder, models.create(card.architecture, **card.architecture_kwargs), card)


def make_images(root, shown=None, multi=False):
    """Images of one colour in folders of classes; `shown` says what is painted where it is not the class."""
    shown = shown or {}
    rows = []
    for label in CLASSES:
        (root / label).mkdir(parents=True)
        for index in range(4):
            name = f'{label}{index}'
            values = np.full((12, 10, 3), COLOURS[shown.get(name, label)], np.uint8)
            Image.fromarray(values).save(root / label / f'{name}.png')
            rows.append([name, label, *(int(label == one) for one in CLASSES)])
    if multi:
        write_table(root / 'multilabels.csv', [['name', 'scene', *CLASSES], *rows])
    return root


def make_patches(root, labels=(*CLASSES, ''), bands=('blue', 'green', 'red', 'nir'), dtype='uint8'):
    (root / 'images').mkdir(parents=True)
    rows = []
    for index, label in enumerate(labels * 3):
        values = np.full((len(bands), 6, 6), 40, dtype)
        values[:3] = np.array(COLOURS.get(label, (40, 40, 40)), dtype)[::-1, None, None]
        write_scene(root / f'images/p{index}.tif', bands=bands, values=values, crs=None)
        rows.append([f'p{index}.tif', label])
    write_table(root / 'labels.csv', [['file', 'label'], *rows])
    return root


def write_table(path, rows):
    with path.open('w', newline='') as file:
        csv.writer(file).writerows(rows)


def make_polygons(path, scene, crs='EPSG:32633'):
    """The left half of a scene is water, the right half forest."""
    with rasterio.open(scene) as file:
        west, south, east, north = file.bounds
    middle = (west + east) / 2
    shapes = [box(west, south, middle, north), box(middle, south, east, north)]
    frame = gpd.GeoDataFrame({'class': ['water', 'forest']}, geometry=shapes, crs='EPSG:32633')
    frame.to_crs(crs).to_file(path)
    return path


@pytest.fixture
def single(tmp_path):
    return make_bundle(tmp_path / 'bundles/single')


@pytest.fixture
def multi(tmp_path):
    return make_bundle(tmp_path / 'bundles/multi', 'multi-label')


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / 'images-of-classes', {'field0': 'water', 'water3': 'forest'}, multi=True)


@pytest.fixture
def refused(geores, tmp_path):
    """Run `evaluate` and check that it ends with code 2, one line, and nothing left behind."""

    def run(*args, out=None):
        before = set(tmp_path.rglob('*')), hold_files(tmp_path)
        answer = geores('evaluate', *args, '--out', out or tmp_path / 'out')
        assert answer.code == 2, answer
        assert answer.out == ''
        assert answer.err.startswith('geores: error: ')
        assert answer.err.count('\n') == 1, answer.err
        assert 'fault of geores' not in answer.err
        assert (set(tmp_path.rglob('*')), hold_files(tmp_path)) == before
        return answer.err

    return run


# --- figures


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


# --- labels


def test_labels_by_map_and_ignored(single, tmp_path):
    root = make_images(tmp_path / 'set')
    (root / 'water').rename(root / 'Lake')
    (root / 'field').rename(root / 'arable')
    with pytest.raises(UsageError, match=r'Lake, arable.*water, forest, field'):
        package.evaluate(single, root)
    found = package.evaluate(single, root, label_map={'Lake': 'water', 'arable': 'field'})
    assert (len(found), found.metrics['accuracy']) == (12, 1.0)
    found = package.evaluate(single, root, label_map={'Lake': 'water'}, ignore_unknown=True)
    assert len(found) == 8
    assert found.notes == (
        '4 images with labels that single does not know are left out: arable',
        'not measured, for the data has none: field',
    )
    assert np.isnan(found.per_class.loc['field', 'f1'])
    assert found.metrics['f1_macro'] == 1.0


def test_several_classes_may_mean_one_label(single, tmp_path):
    root = make_images(tmp_path / 'set')
    found = package.evaluate(single, root, label_map={'forest': 'field', 'moon': 'field'})
    assert found.notes == (
        'not measured, for the data has none: forest',
        'label map: the data has no moon',
    )
    assert found.confusion.loc['field'].to_dict() == {'water': 0, 'forest': 4, 'field': 4}


def test_multi_label_columns_that_are_unknown_or_lacking(tmp_path, images):
    bundle = make_bundle(tmp_path / 'bundles/other', 'multi-label', labels=('water', 'forest', 'ice'))
    with pytest.raises(UsageError, match='field'):
        package.evaluate(bundle, images)
    found = package.evaluate(bundle, images, ignore_unknown=True)
    assert (len(found), found.labels) == (12, ('water', 'forest'))
    assert found.scores.shape == (12, 3)
    assert 'ice' not in found.per_class.index
    table = images / 'multilabels.csv'
    table.write_text(table.read_text().replace('field,forest,water', 'pond,forest,water'))
    joined = package.evaluate(bundle, images, label_map={'pond': 'water'})
    assert joined.per_class.loc['water', 'support'] == 8


def test_names_are_compared_as_people_write_them():
    labels = ('SeaLake', 'Forest', 'forest')
    assert meanings(['sea-lake', 'Sea Lake', 'Forest', 'FOREST', 'moon'], labels, {}) == (
        {'sea-lake': 'SeaLake', 'Sea Lake': 'SeaLake', 'Forest': 'Forest'},
        ['FOREST', 'moon'],
    )
    with pytest.raises(UsageError, match=r"the model knows no label 'Forrest'.*'Forest'"):
        meanings(['moon'], labels, {'moon': 'Forrest'})


# --- data that the model was trained on


def test_training_data_is_recognised_by_name(single):
    card = package.load_model(single).card
    card = replace(
        card,
        training_data='UC Merced Land Use (USGS) and AID images, with 802 patches (s2-l2a)',
        metrics={'my.set': {'split': '5 images'}, 'all': {'split': '5 images'}},
    )
    names = [
        'ucmerced',
        'UCMerced_LandUse',
        'aid',
        's2_l2a',
        'my-set',
        'images',
        'all',
        'merc',
        'land',
        'patches',
    ]
    assert trained_on(card, names) == ['UCMerced_LandUse', 'aid', 'my-set', 's2_l2a', 'ucmerced']


def test_the_split_of_the_card(geores, tmp_path):
    root = make_images(tmp_path / 'set')
    (dataset,) = find_datasets(package.load_model(make_bundle(tmp_path / 'a')).card, root)
    split = stratified_split(dataset.ids, dataset.strata, 0.25, 3)
    bundle = make_bundle(tmp_path / 'b', split_id=split.id)
    everything = package.evaluate(bundle, root)
    assert everything.warnings[0].startswith('9 of 12 images have trained b')
    kept = package.evaluate(bundle, root, split='val')
    assert kept.ids == tuple(dataset.ids[index] for index in split.val)
    assert kept.warnings == ()
    train = package.evaluate(bundle, root, split='train')
    assert set(train.ids) | set(kept.ids) == set(dataset.ids)
    answer = geores('evaluate', bundle, root)
    assert 'geores: warning: 9 of 12 images' in answer.err
    with pytest.raises(UsageError, match=r'split of b \(stratified.*cannot be made again'):
        package.evaluate(bundle, [root, make_images(tmp_path / 'more')], split='val')
    with pytest.raises(UsageError, match="'all', 'train' or 'val'"):
        package.evaluate(bundle, root, split='test')


# --- files and the command


def test_files(geores, multi, images, tmp_path):
    out = tmp_path / 'deep/out'
    answer = geores('evaluate', multi, images, '--out', out, '--json', '--bootstrap', 50)
    assert (answer.code, answer.err) == (0, '')
    (told,) = answer.records
    assert sorted(hold_files(out)) == sorted(path.rsplit('/', 1)[1] for path in told['outputs'].values())
    assert len(told['outputs']) == 9
    kept = json.loads((out / 'multi_metrics.json').read_text())
    assert kept['metrics'] == told['metrics']
    assert (kept['images'], kept['data'], kept['split']) == (12, [str(images)], 'all')
    assert kept['model_sha256'] == package.load_model(multi).sha256
    assert kept['bootstrap'] == {'replicates': 50, 'seed': 0}
    assert len(kept['threshold_curve']['water']['f1']) == 99
    per_class = pd.read_csv(out / 'multi_per_class.csv', index_col='label')
    assert per_class.loc['water', 'support'] == 4
    predictions = pd.read_parquet(out / 'multi_predictions.parquet')
    assert predictions['score_water'].between(0, 1).all()
    assert b'geores' in pq.read_schema(out / 'multi_predictions.parquet').metadata
    for plot in out.glob('*.png'):
        with Image.open(plot) as picture:
            assert min(picture.size) > 200
            assert np.asarray(picture.convert('L')).std() > 5


def test_json_holds_no_nan(geores, single, tmp_path):
    root = make_images(tmp_path / 'set')
    for path in (root / 'field').iterdir():
        path.unlink()
    answer = geores('evaluate', single, root, '--json')
    assert answer.code == 0
    assert answer.records[0]['per_class']['field']['f1'] is None
    assert 'NaN' not in answer.out


def test_tables_for_people(geores, single, images):
    answer = geores('evaluate', single, images)
    assert answer.code == 0
    for text in ('single on 12 images', 'accuracy', '0.833', 'water', 'expected calibration error'):
        assert text in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80


@pytest.mark.parametrize('count', [1, 50])
def test_plots_of_few_and_of_many_labels(tmp_path, count):
    labels = tuple(f'label-{index:02}' for index in range(max(count, 3)))
    bundle = make_bundle(tmp_path / 'odd')
    found = package.evaluate(bundle, make_images(tmp_path / 'set'), bootstrap=0)
    generator = torch.Generator().manual_seed(0)
    found = replace(
        found,
        card=replace(found.card, labels=labels, architecture_kwargs={}),
        scores=torch.rand(12, len(labels), generator=generator),
        target=torch.arange(12) % count,
        known=np.ones(len(labels), bool),
    )
    for name in ('confusion', 'reliability', 'thresholds'):
        getattr(figures, f'write_{name}')(found, tmp_path / f'{name}.png')
        assert (tmp_path / f'{name}.png').stat().st_size > 1000


def test_a_failed_plot_leaves_nothing(single, images, tmp_path, monkeypatch):
    found = package.evaluate(single, images, bootstrap=0)

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(figures, 'write_precision_recall', fail)
    with pytest.raises(WriteError, match='No space left'):
        found.save(tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_overwrite(single, images, tmp_path):
    found = package.evaluate(single, images, bootstrap=0, out=tmp_path / 'out')
    with pytest.raises(OutputError, match='--overwrite'):
        found.save(tmp_path / 'out')
    with pytest.raises(OutputError, match='--overwrite'):
        package.evaluate(single, images, out=tmp_path / 'out')
    assert set(found.save(tmp_path / 'out', overwrite=True).values()) == set((tmp_path / 'out').iterdir())


# --- what cannot be used


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
    assert 'multi is multi-label' in refused(multi, scene, '--labels', polygons, '--column', 'class')
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
    values[1, 2, 3] = np.nan
    write_scene(holes / 'images/p5.tif', bands=('B02', 'B03', 'B04'), values=values, crs=None)
    assert 'holes/p5.tif: the image holds NaN' in refused(spectral, holes)


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

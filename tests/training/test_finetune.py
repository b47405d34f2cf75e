import json
import warnings

import geopandas as gpd
import numpy as np
import pytest
from PIL import Image
from shapely.geometry import Polygon, box
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

import geores as package
from geores.errors import OutputError, UsageError
from geores.tasks import SceneClassification
from geores.training.finetune_recipe import epochs_for
from geores.training.finetune_result import Choice, SplitScore

from ..fixtures import GRID, RGB, SENTINEL2, hold_files, noise, tiny_bundle, write_scene

CRS = 'EPSG:32633'
QUICK = ['--tile', '16', '--block-size', '320', '--min-tiles', '4']
"""128 x 128 pixels give 15 x 15 tiles in 16 blocks."""


def rect(row, col, height, width):
    left, top = GRID @ (col, row)
    return box(left, top - 10 * height, left + 10 * width, top)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A scene of bright stripes (day) and dark ones (night), and their polygons."""
    folder = tmp_path_factory.mktemp('place')
    values = noise(3, 128, 128).astype(int) // 4
    values[:, :, 32:64] += 150
    values[:, :, 96:] += 150
    write_scene(folder / 'place.tif', values=values.astype('uint8'))
    stripes = [rect(0, col, 128, 32) for col in range(0, 128, 32)]
    labels = gpd.GeoDataFrame({'light': ['night', 'day'] * 2, 'sure': 1}, geometry=stripes, crs=CRS)
    labels.to_file(folder / 'labels.gpkg')
    return folder


@pytest.fixture
def run(geores, place, bundle, tmp_path):
    """Fine-tune in this process: options come after the scene."""

    def finetune(*options, labels=place / 'labels.gpkg', column='light', scene=place / 'place.tif', out=None):
        out = out or tmp_path / 'mine'
        given = ['--labels', labels, '--column', column, '--base', bundle, '--out', out, '--device', 'cpu']
        return geores('finetune', scene, *given, *QUICK, *options)

    return finetune


def write_labels(path, geometries, classes, crs=CRS):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of a missing CRS
        gpd.GeoDataFrame({'light': classes}, geometry=geometries, crs=crs).to_file(path)
    return path


def test_from_labels_to_a_bundle_and_a_map(run, geores, place, tmp_path):
    answer = run('--epochs', '4', '--learning-rate', '0.003', '--split', 'both', '--json')
    assert answer.code == 0, answer.err
    (report,) = answer.records
    folder = tmp_path / 'mine'
    assert hold_files(folder) == {'card.json', 'model.safetensors', 'report.json', 'error_matrix.png'}
    assert json.loads((folder / 'report.json').read_text()) | {'outputs': report['outputs']} == report | {
        'model': 'mine'
    }
    assert [path.name for path in tmp_path.iterdir()] == ['mine']  # nothing unfinished beside it
    assert report['labels'] == {'file': 'labels.gpkg', 'column': 'light', 'layer': None}
    assert sum(report['tiles'].values()) == 15 * (15 - 3)  # at a seam no class covers more than half
    blocks, random = report['splits']['blocks'], report['splits']['random']
    assert report['exported_split'] == 'blocks'
    assert blocks['accuracy'] > 0.9
    assert np.sum(blocks['error_matrix']['tiles']) == blocks['validation_tiles']
    assert random['tiles_left_out_near_validation'] == 0 < blocks['tiles_left_out_near_validation']
    assert 'random split is optimistic' in answer.err

    card = package.load_model(folder).card
    assert (card.name, card.labels, card.task, card.bands) == ('mine', ('day', 'night'), 'single-label', RGB)
    assert (card.input_size, card.gsd) == (16, (10.0, 10.0))
    assert card.split_id == blocks['split_id']
    assert card.metrics['place']['accuracy'] == blocks['accuracy']
    assert [source.name for source in card.training_data] == ['place', 'none']  # its own, and its base's
    assert 'labels.gpkg' in card.training_data[0].note
    assert card.split.method == 'blocks'
    kept = package.evaluate(
        folder, place / 'place.tif', labels=place / 'labels.gpkg', column='light', split='val', bootstrap=0
    )  # tiles are cut as they were, at a stride of half a tile
    assert len(kept) == blocks['validation_tiles']
    assert kept.metrics['accuracy'] == pytest.approx(blocks['accuracy'])
    answer = geores('classify', place / 'place.tif', '--model', folder, '--out', tmp_path / 'map', '--json')
    assert answer.code == 0, answer.err
    assert answer.records[0]['labels']['day'] == pytest.approx(0.5, abs=0.1)
    assert answer.records[0]['labels']['night'] == pytest.approx(0.5, abs=0.1)


def test_human_report(run, place, tmp_path):
    labels = gpd.read_file(place / 'labels.gpkg').to_crs('EPSG:4326')
    left, top = GRID @ (0, 0)
    bowtie = Polygon([(left, top), (left + 320, top - 320), (left + 320, top), (left, top - 320)])
    extra = gpd.GeoSeries([bowtie], crs=CRS).to_crs('EPSG:4326')
    labels.loc[len(labels)] = {'light': 'night', 'sure': 0, 'geometry': extra[0]}
    labels.to_file(tmp_path / 'there.geojson')
    answer = run('--epochs', '1', labels=tmp_path / 'there.geojson')
    assert answer.code == 0, answer.err
    said_to_people = ('geographic split', "producer's", 'validation tiles right', 'kept: ', 'reference')
    for said in (*said_to_people, 'report.json'):
        assert said in answer.out
    for said in ('reprojected from EPSG:4326 to EPSG:32633', '1 invalid polygons mended'):
        assert f'there.geojson: {said}' in answer.err
    with Image.open(tmp_path / 'mine' / 'error_matrix.png') as figure:
        assert figure.size[0] > 200


def test_three_lines_of_python(place, bundle, tmp_path):
    scene = str(place / 'place.tif')
    result = package.finetune(
        scene, labels=gpd.read_file(place / 'labels.gpkg'), column='light', base=bundle,
        tile=16, stride=16, block_size=320, epochs=2, device='cpu',
    )  # fmt: skip
    result.save(tmp_path / 'my-bundle')
    mapped = package.classify(scene, model=result.model)
    again = package.classify(scene, model=tmp_path / 'my-bundle')
    assert mapped.shares == again.shares
    assert result.report['labels']['file'] == 'features'
    with pytest.raises(OutputError, match='exists'):
        result.save(tmp_path / 'my-bundle')
    result.save(tmp_path / 'my-bundle', overwrite=True)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'thesis.txt').write_text('mine')
    with pytest.raises(OutputError, match='no bundle'):
        result.save(tmp_path / 'other', overwrite=True)


def test_same_seed_same_model(place, bundle):
    def weights(seed):
        options = {'tile': 16, 'stride': 16, 'block_size': 320, 'epochs': 1, 'device': 'cpu', 'seed': seed}
        result = package.finetune(place / 'place.tif', place / 'labels.gpkg', 'light', bundle, **options)
        return result.card.sha256, result.scores[0].split_id

    assert weights(1) == weights(1)


def test_masked_tiles_train_nothing(run, tmp_path):
    cloudy = np.full((1, 128, 128), 4, 'uint8')
    cloudy[:, :, 64:] = 9
    mask = write_scene(tmp_path / 'SCL.tif', ('SCL',), values=cloudy)
    answer = run('--epochs', '1', '--min-valid', '0.9', '--json', '--mask', mask)
    assert answer.code == 0, answer.err
    (report,) = answer.records
    assert sum(report['tiles'].values()) == 15 * (7 - 1)  # left of the mask, less those at a seam
    assert report['options']['mask'] == [str(mask)]
    assert '90 tiles with less than 0.9 of valid pixels left out' in answer.err
    kept = run('--epochs', '1', '--mask', mask, '--mask-values', '3', '--json', '--overwrite')
    assert sum(kept.records[0]['tiles'].values()) == 15 * (15 - 3)


def test_masks_that_cannot_be_used(run, tmp_path):
    far = write_scene(tmp_path / 'far.tif', ('SCL',), transform=GRID.translation(9e4, 0) @ GRID)
    refused(run('--mask', far), 'does not overlap', tmp_path, 'far.tif')
    refused(run('--mask', far, '--mask', far), '2 masks for 1 scenes', tmp_path, 'far.tif')
    refused(run('--mask', tmp_path / 'no.tif'), 'no.tif', tmp_path, 'far.tif')


def test_backscatter_on_a_linear_scale(run, tmp_path):
    base = tiny_bundle(tmp_path / 'radar', bands=('VV', 'VH'), units='dB', mean=(-12.0,) * 2, std=(5.0,) * 2)
    values = np.linspace(0.001, 0.3, 2 * 128 * 128, dtype=np.float32).reshape(2, 128, 128)
    scene = write_scene(tmp_path / 's1.tif', ('VV', 'VH'), values=values)
    given = {'scene': scene}
    refused(run('--base', base, **given), '--linear-s1', tmp_path, 'radar', 's1.tif')
    answer = run('--base', base, '--linear-s1', '--epochs', '1', **given)
    assert answer.code == 0, answer.err
    assert 'VV, VH brought from a linear scale to dB' in answer.err


def test_small_classes_are_dropped_and_named(run, place, tmp_path):
    labels = gpd.read_file(place / 'labels.gpkg')
    labels.loc[len(labels)] = {'light': 'dusk', 'sure': 1, 'geometry': rect(0, 0, 16, 16).buffer(1)}
    labels.loc[0, 'geometry'] = labels.geometry[0].difference(labels.geometry[len(labels) - 1])
    labels.to_file(tmp_path / 'more.gpkg')
    answer = run('--epochs', '1', '--json', labels=tmp_path / 'more.gpkg')
    assert answer.code == 0, answer.err
    assert 'classes with fewer than 4 tiles dropped: dusk (3)' in answer.err
    assert set(answer.records[0]['tiles']) == {'day', 'night'}


def test_accuracies_are_scikit_learns():
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    matrix = confusion_matrix(truth, said, labels=range(4))
    counts = dict.fromkeys('abcd', 1)
    score = SplitScore('blocks', 'x', tuple('abcd'), counts, matrix, {'accuracy': 0.5}, 0, Choice())
    precision, recall, f1, _ = precision_recall_fscore_support(truth, said, labels=range(3))
    assert np.allclose(score.users_accuracy[:3], precision)
    assert np.allclose(score.producers_accuracy[:3], recall)
    assert np.allclose(score.f1[:3], f1)
    assert np.isnan(score.producers_accuracy[3])
    assert np.isnan(score.f1[3])
    assert score.to_dict()['per_class']['d']['f1'] is None
    assert score.users_accuracy[3] == 0


def test_epochs_for_small_and_large_sets():
    assert epochs_for(10, 32) == 40
    assert epochs_for(32 * 30, 32) == 20
    assert epochs_for(10**6, 32) == 10


CORNER = rect(0, 112, 16, 16)
NIGHT, DAY = rect(0, 0, 128, 32), rect(0, 32, 128, 32)


@pytest.mark.parametrize(
    ('geometries', 'classes', 'said'),
    [
        ([NIGHT, DAY], ['night', 'night'], "column 'light' has tiles of one class only (night)"),
        ([rect(9000, 0, 64, 64), rect(9000, 99, 64, 64)], ['a', 'b'], 'no label lies on place, whose bounds'),
        ([rect(0, 0, 9, 9), rect(0, 40, 9, 9)], ['a', 'b'], 'no class covers 0.5 of any tile'),
        ([NIGHT, CORNER, rect(112, 112, 16, 16)], ['a', 'b', 'c'], 'fewer than 4 tiles: b (3), c (3)'),
        ([NIGHT, DAY], ['row', 'col'], "field 'labels' holds 'col'"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_trained_on(run, tmp_path, geometries, classes, said):
    refused(run(labels=write_labels(tmp_path / 'bad.gpkg', geometries, classes)), said, tmp_path, 'bad.gpkg')


def refused(answer, said, folder, *kept):
    assert answer.code == 2, answer.err
    assert answer.err.startswith('geores: error: ')
    assert answer.err.count('\n') == 1
    assert said in answer.err
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--min-share', '0'], 'min_share'),
        (['--min-share', '1.5'], 'min_share'),
        (['--stride', '0'], 'stride'),
        (['--stride', '17'], 'stride has to be between 1 and the tile size 16'),
        (['--tile', '4'], 'tile must be at least 8'),
        (['--split', 'both ways'], 'split must be one of blocks, random, both'),
        (['--placement', 'middle'], 'placement'),
        (['--block-size', '-1'], 'block-size'),
        (['--block-size', '99999'], 'choose a smaller block size'),
        (['--buffer', '99999'], 'buffer'),
        (['--buffer', '-5'], 'buffer'),
        (['--val-share', '1'], 'val-share'),
        (['--epochs', '0'], 'epochs'),
        (['--learning-rate', '0'], 'learning-rate'),
        (['--batch-size', '1'], 'batch-size'),
        (['--min-tiles', '0'], 'min-tiles'),
        (['--seed', '-1'], 'seed'),
        (['--layer', 'label'], "no layer 'label': did you mean 'labels'"),
        (['--base', 'sentinel3'], "did you mean 'sentinel2'"),
        (['--device', 'tpu'], 'device'),
    ],
)
def test_options_that_cannot_be_used(run, tmp_path, options, said):
    refused(run(*options), said, tmp_path)


def test_missing_file_column_crs_and_scene(run, place, tmp_path):
    refused(run(labels=place / 'label.gpkg'), "did you mean 'labels.gpkg'", tmp_path)
    refused(run(column='lihgt'), "did you mean 'light'", tmp_path)
    refused(run(scene=tmp_path / 'no.tif'), 'no.tif', tmp_path)
    bare = write_labels(tmp_path / 'bare.gpkg', [NIGHT, DAY], ['a', 'b'], crs=None)
    refused(run(labels=bare), 'bare.gpkg: states no CRS', tmp_path, 'bare.gpkg')


def test_scene_without_the_bands_of_the_base(run, place, tmp_path):
    base = tiny_bundle(tmp_path / 'four', bands=SENTINEL2, units='reflectance*10000')
    refused(run('--base', base), "model 'four' needs B02", tmp_path, 'four')


def test_output_that_is_taken(run, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'file').write_text('')
    refused(run(), 'exists: give --overwrite', tmp_path, 'mine')
    refused(run('--overwrite'), 'no bundle', tmp_path, 'mine')
    answer = run(out=tmp_path / 'mine' / 'file' / 'below')
    refused(answer, 'cannot be written', tmp_path, 'mine')


def test_stopped_or_failed_training_leaves_nothing(run, monkeypatch, tmp_path):
    def stop(error):
        def step(self, batch, batch_idx):
            raise error

        monkeypatch.setattr(SceneClassification, 'training_step', step)
        return run('--epochs', '1')

    answer = stop(KeyboardInterrupt())
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == 'geores: stopped; nothing was written'
    assert not list(tmp_path.iterdir())
    answer = stop(RuntimeError('out of memory'))
    assert answer.code == 1
    assert not list(tmp_path.iterdir())


def test_disk_that_fails_leaves_what_was_learnt(run, monkeypatch, tmp_path):
    def fail(scores, path):
        path.write_text('half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('geores.training.finetune_result.write_error_matrix', fail)
    answer = run('--epochs', '1')
    assert answer.code == 1
    assert 'No space left' in answer.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ['.mine.training']
    monkeypatch.undo()
    answer = run('--epochs', '1')
    assert answer.code == 0, answer.err
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_unknown_option_in_python(place):
    with pytest.raises(UsageError, match="option 'tiles' is unknown"):
        package.finetune(place / 'place.tif', place / 'labels.gpkg', 'light', tiles=16)


def test_training_that_diverges_leaves_nothing(run, tmp_path):
    answer = run('--epochs', '2', '--learning-rate', '1e30')
    assert answer.code == 2
    assert 'training diverged: choose a learning rate below' in answer.err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_evaluate_takes_what_finetune_kept(run, geores, place, tmp_path):
    """The next command of the README, on labels with a class that had too few tiles."""
    labels = gpd.read_file(place / 'labels.gpkg')
    labels.loc[len(labels)] = {'light': 'lamp', 'sure': 1, 'geometry': rect(0, 0, 24, 24)}
    labels.loc[0, 'geometry'] = labels.geometry[0].difference(rect(0, 0, 24, 24))
    labels.to_file(tmp_path / 'more.gpkg')
    answer = run('--epochs', '1', '--min-tiles', '12', '--json', labels=tmp_path / 'more.gpkg')
    assert answer.code == 0, answer.err
    assert 'dropped: lamp' in answer.err
    report, folder = answer.records[0], tmp_path / 'mine'
    card = package.load_model(folder).card
    assert card.tiles['dropped'] == ['lamp']
    assert len(report['parts']['val']) == report['splits']['blocks']['val_tiles']
    assert len(report['parts']['train']) == report['splits']['blocks']['train_tiles']
    again = geores(
        'evaluate', folder, place / 'place.tif', '--labels', tmp_path / 'more.gpkg', '--column', 'light',
        '--bootstrap', '0', '--json',
    )  # fmt: skip
    assert again.code == 0, again.err
    record = again.records[0]
    assert (record['split'], record['images']) == ('val', report['splits']['blocks']['val_tiles'])
    assert record['metrics']['accuracy'] == pytest.approx(report['splits']['blocks']['accuracy'], abs=1e-4)
    found = package.evaluate(
        folder, place / 'place.tif', labels=tmp_path / 'more.gpkg', column='light', split='all', bootstrap=0
    )
    assert found.provenance['split'] == 'all'
    assert 'have trained' in found.warnings[0]


def test_evaluate_takes_all_of_another_scene(run, place, tmp_path):
    assert run('--epochs', '1').code == 0
    (tmp_path / 'other.tif').write_bytes((place / 'place.tif').read_bytes())
    found = package.evaluate(
        tmp_path / 'mine', tmp_path / 'other.tif', labels=place / 'labels.gpkg', column='light', bootstrap=0
    )
    assert found.provenance['split'] == 'all'

"""The commands, from outside."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from geores import __version__

from ..fixtures import GRID, LABELS, SENTINEL2, hold_files, noise, tiny_bundle, write_scene

START = 'from geores.cli import main; main()'


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif', height=128, width=160)


@pytest.fixture
def classified(geores, bundle, tmp_path):
    """Run `classify`, which must succeed: its records."""
    count = 0

    def run(*args, model=bundle):
        nonlocal count
        count += 1
        out = tmp_path / f'out{count}'
        answer = geores('classify', *args, '--out', out, '--model', model, '--json')
        assert answer.code == 0, answer
        assert answer.err == ''
        return answer.records

    return run


def table_of(record):
    return gpd.read_parquet(record['outputs']['tiles'])


def scores_of(record):
    with rasterio.open(record['outputs']['scores']) as file:
        return file.read()


@pytest.mark.timing
@pytest.mark.parametrize('args', [['--help'], []])
def test_help_is_quick(args, tmp_path):
    seconds = []
    for _ in range(3):
        before = sum(os.times()[2:4])  # of the processor, for children: other work does not count
        answer = subprocess.run(
            [sys.executable, '-c', START, *args], capture_output=True, text=True, cwd=tmp_path, check=True
        )
        seconds.append(sum(os.times()[2:4]) - before)
    assert min(seconds) < 1
    assert 'classify' in answer.stdout
    assert answer.stderr == ''


@pytest.mark.parametrize(
    'code', ['import geores', 'import geores.cli', "import sys; sys.argv = ['geores', '--help']; " + START]
)
def test_help_imports_no_heavy_library(code, tmp_path):
    heavy = {
        'torch',
        'torchgeo',
        'rasterio',
        'numpy',
        'geopandas',
        'xarray',
        'matplotlib',
        'timm',
        'lightning',
    }
    script = (
        f'import sys\ntry: exec({code!r})\nexcept SystemExit: pass\n'
        f'sys.exit(", ".join(sorted({heavy!r} & set(sys.modules))) or 0)'
    )
    answer = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert answer.returncode == 0, answer.stderr


def test_entry_point(tmp_path):
    command = shutil.which('geores', path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip('the package is not installed with its command')
    answer = subprocess.run([command, 'classify'], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert answer.returncode == 2
    assert answer.stderr == "geores: error: Missing argument 'SCENE...'.\n"


def test_short_options(geores):
    assert geores('-h').out == geores('--help').out
    for command in (('classify',), ('convert', 'reben'), ('questions', 'make')):
        assert geores(*command, '-h').out == geores(*command, '--help').out
    assert geores('--version').out == f'geores {__version__}\n'
    listed = geores('-h').out.partition('Commands:')[2]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith('  ') and line[2] != ' ']
    assert names == sorted(names)
    assert {'accuracy', 'convert', 'questions', 'verify-model'} <= set(names)


def test_out_and_quiet_by_their_letters(geores, bundle, scene, tmp_path, monkeypatch):
    monkeypatch.setattr('geores.cli.common.EVERY_SECONDS', 0.0)
    monkeypatch.setattr('geores.inference.plan.CHUNK_WORK', 2**15)
    args = ('classify', scene, '--model', bundle, '--tile', '16', '--batch-size', '4', '--overwrite')
    assert 'tiles (' in geores(*args, '-o', tmp_path / 'out').err
    quiet = geores(*args, '-q', '-o', tmp_path / 'out')
    assert (quiet.code, quiet.err) == (0, '')


@pytest.mark.parametrize('args', [('clasify',), ('--nonsense',), ('classify', 'a.tif'), ('info',)])
def test_usage_errors_are_one_line(geores, args):
    answer = geores(*args)
    assert answer.code == 2
    assert answer.out == ''
    assert answer.err.startswith('geores: error: ')
    assert answer.err.count('\n') == 1


def test_debug_shows_a_traceback(tmp_path):
    answer = subprocess.run(
        [sys.executable, '-c', START, '--debug', 'info', 'nowhere.tif'],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert answer.returncode != 0
    assert 'Traceback' in answer.stderr


def test_models(geores):
    answer = geores('models')
    assert answer.code == 0
    for word in ('labels', 'bands', 'bundle', 'weakest'):
        assert word in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    for card in geores('models', '--json').records:
        assert {'name', 'labels', 'bands', 'licence', 'metrics', 'thresholds'} <= card.keys()
        assert card['name'] in answer.out
        whole = geores('models', card['name'])
        for word in ('labels', 'bands', 'licence'):
            assert word in whole.out, card['name']
    refused = geores('models', 'sentinel3')
    assert (refused.code, refused.err.count('\n')) == (2, 1)
    assert 'sentinel2' in refused.err


@pytest.mark.parametrize(
    'name',
    [
        'aerial-rgb',
        'aerial-scenes',
        'landcover',
        'landcover-l1c',
        'resnet18-scenes',
        'sentinel2',
        'vqa-aerial',
        'vqa-sentinel2',
    ],
)
def test_shipped_bundles_say_where_they_fail(geores, name):
    answer = geores('models', name)
    for word in ('weakest', 'never seen', 'calibration error'):
        assert word in answer.out


def test_info(geores, scene, tmp_path):
    answer = geores('info', scene)
    assert answer.code == 0
    assert answer.err == ''
    for text in ('scene', 'EPSG:32633', 'red', 'green', 'blue'):
        assert text in answer.out
    other = write_scene(tmp_path / 'other [x].tif', SENTINEL2, 40, 40, 'uint16', crs=None)
    records = geores('info', scene, other, '--json').records
    assert [record['name'] for record in records] == ['scene', 'other_x']
    assert [band['name'] for band in records[1]['bands']] == list(SENTINEL2)
    assert geores('info', other).code == 0


def test_info_of_no_raster(geores, tmp_path):
    (tmp_path / 'text.tif').write_text('text')
    answer = geores('info', tmp_path / 'text.tif')
    assert answer.code == 2
    assert answer.err.count('\n') == 1


def test_table_and_notes(geores, bundle, scene, tmp_path):
    answer = geores('classify', scene, '--out', tmp_path / 'out [a]', '--model', bundle, '--tile', '24')
    assert answer.code == 0
    assert answer.err == ''
    assert all(label in answer.out for label in LABELS)
    assert 'note: tiles of 24 pixels, and the model was trained on 32' in answer.out
    assert str(tmp_path / 'out [a]' / 'scene_map.png') in answer.out


def test_auto_says_which_model_and_why(geores, tmp_path):
    bands = ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12')
    scene = write_scene(tmp_path / 'ten.tif', bands, 70, 70, 'uint16')
    answer = geores('classify', scene, '--out', tmp_path / 'out')
    assert answer.code == 0, answer
    assert 'landcover chosen: the scene has its 9 bands' in answer.out


def test_several_scenes(classified, scene, tmp_path):
    other = write_scene(tmp_path / 'other.tif', height=64, width=64, seed=1)
    records = classified(scene, other)
    assert [record['scene'] for record in records] == ['scene', 'other']
    assert [record['tiles'] for record in records] == [20, 4]
    assert len(hold_files(tmp_path / 'out1')) == 2 * 7 + 1


def test_a_later_scene_that_cannot_be_used_has_failed(geores, bundle, scene, tmp_path):
    """Exit 2 would say that nothing was written."""
    other = write_scene(tmp_path / 'other.tif', height=64, width=64, seed=1)
    journal = tmp_path / 'out' / '.other.partial' / 'journal.jsonl'
    journal.parent.mkdir(parents=True)
    journal.write_text('{}\n')
    answer = geores('classify', scene, other, '--out', tmp_path / 'out', '--model', bundle)
    assert answer.code == 1
    assert '--no-resume' in answer.err
    assert answer.err.endswith('1 of 2 scenes failed: other\n')
    assert 'scene_map.png' in hold_files(tmp_path / 'out')
    alone = geores('classify', other, '--out', tmp_path / 'out', '--model', bundle)
    assert alone.code == 2


def test_scenes_share_their_model(scene, bundle):
    from geores.classification.classify import model_for
    from geores.scenes import open_scene

    held = {}
    models = [model_for(open_scene(scene), bundle, 'cpu', held)[0] for _ in range(2)]
    assert models[0] is models[1]


def test_sources_together(classified, tmp_path):
    values = noise(3, 96, 96)
    whole = write_scene(tmp_path / 'whole.tif', values=values)
    first = write_scene(tmp_path / 'first.tif', ('green', 'red'), values=values[[1, 0]])
    second = write_scene(tmp_path / 'second.tif', ('blue',), values=values[2:])
    np.testing.assert_array_equal(
        scores_of(*classified(first, '--with', second)), scores_of(*classified(whole))
    )


def test_band_names(classified, tmp_path):
    values = noise(3, 96, 96)
    whole = write_scene(tmp_path / 'whole.tif', values=values)
    turned = write_scene(tmp_path / 'turned.tif', (None,) * 3, values=values[::-1])
    np.testing.assert_array_equal(
        scores_of(*classified(turned, '--bands', 'blue,green,red')), scores_of(*classified(whole))
    )


def write_mask(path, values, transform=GRID):
    return write_scene(path, ('mask',), values=values[None].astype('uint8'), transform=transform)


@pytest.mark.parametrize(
    ('name', 'options', 'masked'),
    [
        ('T33UUU_20230601T102021_SCL_20m.tif', (), (0, 1, 3, 8, 9, 10)),
        ('scl.tif', (), (0, 1, 3, 8, 9, 10)),
        ('clouds.tif', (), tuple(range(1, 12))),
        ('clouds.tif', ('--mask-values', '2, 4'), (2, 4)),
        ('SCL.tif', ('--mask-values', '6'), (6,)),
    ],
)
def test_mask(classified, tmp_path, name, options, masked):
    """Twelve blocks of 64 pixels, one for each class, at half the scene's resolution."""
    classes = np.arange(12).reshape(3, 4)
    scene = write_scene(tmp_path / 'scene.tif', height=192, width=256)
    coarse = rasterio.transform.from_origin(300_000, 5_800_000, 20, 20)
    mask = write_mask(tmp_path / name, classes.repeat(32, 0).repeat(32, 1), coarse)
    (record,) = classified(scene, '--mask', mask, *options, '--tile', 64)
    np.testing.assert_array_equal(np.isnan(scores_of(record)[0]), np.isin(classes, masked))


def test_bbox(classified, scene):
    (record,) = classified(scene, '--bbox', 300_320, 5_799_360, 300_960, 5_799_680)
    (whole,) = classified(scene)
    np.testing.assert_allclose(scores_of(record), scores_of(whole)[:, 1:2, 1:3], atol=0.02)
    assert tuple(table_of(record).total_bounds) == (300_320, 5_799_360, 300_960, 5_799_680)


def test_bbox_in_another_crs(classified, scene):
    corners = gpd.GeoSeries.from_xy([300_325, 300_955], [5_799_365, 5_799_675], crs='EPSG:32633').to_crs(
        'EPSG:4326'
    )
    box = [corners.x.min(), corners.y.min(), corners.x.max(), corners.y.max()]
    (record,) = classified(scene, '--bbox', *box, '--bbox-crs', 'EPSG:4326')
    west, south, east, north = table_of(record).total_bounds
    assert (west, south, east, north) == pytest.approx((300_320, 5_799_360, 300_960, 5_799_680), abs=20)


def test_bbox_reaches_past_the_scene(classified, scene):
    (record,) = classified(scene, '--bbox', 0, 0, 300_640, 9_000_000)
    assert tuple(table_of(record).total_bounds) == (300_000, 5_798_720, 300_640, 5_800_000)


@pytest.mark.parametrize('crs', ['EPSG:32633', 'EPSG:4326'])
def test_aoi(classified, scene, tmp_path, crs):
    """A triangle, with a point and nothing at all beside it in the file."""
    shapes = gpd.GeoSeries.from_wkt(
        ['POLYGON ((300000 5800000, 301600 5800000, 300000 5798720, 300000 5800000))', 'POINT (0 0)', None],
        crs='EPSG:32633',
    )
    shapes.to_crs(crs).to_file(tmp_path / 'area.geojson')
    (record,) = classified(scene, '--aoi', tmp_path / 'area.geojson')
    scores = scores_of(record)
    assert np.isfinite(scores[:, 0, 0]).all()
    assert np.isnan(scores[:, -1, -1]).all()
    triangle = 1600 * 1280 / 2
    assert table_of(record)['area'].sum() == pytest.approx(triangle, rel=0.01)


@pytest.mark.parametrize('box', [(-170, -80, 170, 80), (5, 45, 20, 55)])
def test_aoi_far_larger_than_the_scene(classified, scene, tmp_path, box):
    """Its edges bend, and its corners may be nowhere in the scene's CRS."""
    gpd.GeoSeries([shapely.box(*box)], crs='EPSG:4326').to_file(tmp_path / 'area.gpkg')
    (record,) = classified(scene, '--aoi', tmp_path / 'area.gpkg')
    (whole,) = classified(scene)
    np.testing.assert_array_equal(scores_of(record), scores_of(whole))


def test_aoi_that_crosses_itself(classified, scene, tmp_path):
    bow = 'POLYGON ((300000 5800000, 301600 5798720, 301600 5800000, 300000 5798720, 300000 5800000))'
    gpd.GeoSeries.from_wkt([bow], crs='EPSG:32633').to_file(tmp_path / 'area.gpkg')
    (record,) = classified(scene, '--aoi', tmp_path / 'area.gpkg')
    assert table_of(record)['area'].sum() == pytest.approx(1600 * 1280 / 2, rel=0.02)


@pytest.mark.parametrize(
    ('options', 'tiles', 'cells'),
    [
        ((), 20, (4, 5)),
        (('--tile', 40), 16, (4, 4)),
        (('--stride', 16), 7 * 9, (8, 10)),
        (('--tile', 64, '--stride', 48), 3 * 3, (3, 4)),
        (('--resolution', 20), 2 * 3, (2, 3)),
        (('--resolution', 5), 8 * 10, (8, 10)),
        (('--resolution', 7, '--tile', 16), 12 * 15, (12, 15)),
    ],
)
def test_grid(classified, scene, options, tiles, cells):
    (record,) = classified(scene, *options)
    assert record['tiles'] == tiles == len(table_of(record))
    scores = scores_of(record)
    assert scores.shape[1:] == cells
    assert np.isfinite(scores).all()
    with rasterio.open(record['outputs']['scores']) as file:
        if options[0:1] == ('--resolution',) and len(options) == 2:
            assert file.res == (32 * options[1],) * 2
        assert file.bounds.left == 300_000
        assert file.bounds.top == 5_800_000


def test_pixels_are_brought_to_what_the_model_takes(geores, tmp_path):
    coarse = tiny_bundle(tmp_path / 'coarse', gsd=(20, 40))
    scene = write_scene(tmp_path / 'scene.tif', height=128, width=128)
    answer = geores('classify', scene, '--out', tmp_path / 'out', '--model', coarse)
    assert answer.code == 0, answer
    assert 'are brought to 20 m' in answer.out


@pytest.mark.parametrize('task', ['multi-label', 'single-label'])
def test_threshold_and_top_k(classified, scene, tmp_path, task):
    model = tiny_bundle(tmp_path / 'model', task=task)

    def counts(*options):
        (record,) = classified(scene, *options, model=model)
        table = table_of(record)
        return table, table['labels'].map(len)

    single = task == 'single-label'
    table, found = counts()
    assert (found == 1).all() if single else found.max() > 1
    for threshold in (0.05, 0.6):
        table, found = counts('--threshold', threshold)
        earned = (table[list(LABELS)] >= threshold).sum(axis=1)
        np.testing.assert_array_equal(found, np.minimum(earned, 1) if single else earned)
    table, found = counts('--threshold', 0.05, '--top-k', 2)
    assert found.max() == 2


def test_precision_and_batch_size_change_little(classified, scene):
    (exact,) = classified(scene, '--precision', 'fp32')
    (other,) = classified(scene, '--precision', 'fp32', '--batch-size', 3, '--workers', 1)
    assert exact['precision'] == 'fp32'
    np.testing.assert_allclose(scores_of(other), scores_of(exact), atol=1e-4)
    (rough,) = classified(scene, '--precision', 'bf16')
    assert rough['precision'] == 'bf16'
    np.testing.assert_allclose(scores_of(rough), scores_of(exact), atol=0.1)


def test_min_valid(classified, tmp_path):
    values = noise(3, 32, 64)
    values[:, :, 8:32] = 0
    scene = write_scene(tmp_path / 'scene.tif', values=values, nodata=0)
    (record,) = classified(scene)
    assert np.isnan(scores_of(record)[0]).tolist() == [[True, False]]
    (record,) = classified(scene, '--min-valid', '0.2')
    assert np.isfinite(scores_of(record)).all()


def test_progress_and_json_do_not_mix(bundle, scene, tmp_path):
    """A pipe gets JSON alone, and standard error nothing."""
    answer = subprocess.run(
        [sys.executable, '-c', START, 'classify', scene, '--out', 'out', '--model', bundle, '--json'],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert answer.stderr == ''
    record = json.loads(answer.stdout)
    assert record['outputs']['scores'] == 'out/scene_scores.tif'


def test_bands_of_a_scene_keep_their_names(classified, tmp_path):
    """Sentinel-2's names for a model of Sentinel-2's bands, in any order and among others."""
    model = tiny_bundle(tmp_path / 'model', SENTINEL2, units='reflectance*10000')
    values = noise(4, 64, 64, 'uint16')
    one = write_scene(tmp_path / 'one.tif', SENTINEL2, values=values)
    more = write_scene(
        tmp_path / 'more.tif', ('nir', 'swir16', 'red', 'green', 'blue'), values=values[[3, 0, 2, 1, 0]]
    )
    np.testing.assert_array_equal(
        scores_of(*classified(one, model=model)), scores_of(*classified(more, model=model))
    )

"""What a classification gives: files that other programs open, and arrays that agree with them."""

# ruff: noqa: F811 - fixtures are arguments too
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import geopandas as gpd
import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import rioxarray
import xarray as xr
from geopandas.testing import assert_geodataframe_equal
from rasterio.enums import Resampling

from geores import classify, open_scene
from geores.asking.files import check_answers_writable
from geores.classification import outputs
from geores.errors import OutputError
from geores.io import journal as records
from geores.scenes.borders import mirror_invalid

from ..fixtures import LABELS, hold_files, write_scene
from ..outputs_fixtures import multi, path, saved, shares_of  # noqa: F401 - fixtures

KEYS = [
    'scene', 'model', 'device', 'precision', 'tiles', 'valid_share', 'labels', 'legend', 'outputs',
    'seconds', 'tiles_per_second', 'notes',
]  # fmt: skip


def test_files(saved):
    _, paths = saved
    assert hold_files(paths['run'].parent) == {
        'scene_labels.tif',
        'scene_labels.tif.aux.xml',
        'scene_labels.qml',
        'scene_scores.tif',
        'scene_tiles.parquet',
        'scene_map.png',
        'run.json',
    }


def test_scores_are_a_cog(saved, path):
    result, paths = saved
    with rasterio.open(paths['scores']) as file, rasterio.open(path) as scene:
        assert file.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
        assert file.descriptions == LABELS
        assert file.crs == scene.crs
        assert file.transform == scene.transform * rasterio.Affine.scale(16)
        assert file.shape == (-(-205 // 16), -(-270 // 16))
        assert set(file.dtypes) == {'float32'}
        assert np.isnan(file.nodata)
        tags = file.tags()
        np.testing.assert_array_equal(file.read(), result.scores.values)
    assert tags['GEORES_MODEL'] == 'tiny-multi'
    assert tags['GEORES_MODEL_SHA256'] == result.card.sha256
    assert json.loads(tags['GEORES_INPUTS'])[0]['path'] == str(path)
    assert json.loads(tags['GEORES_OPTIONS'])['stride'] == 16


def test_large_scores_have_overviews(multi, tmp_path):
    """More cells than a block of the file, and than the map draws."""
    scene = write_scene(tmp_path / 'large.tif', height=700, width=1100)
    result = classify(scene, multi, tile=8, stride=1, resolution=10, bbox=(300000, 5799880, 306000, 5800000))
    paths = result.save(tmp_path)
    with rasterio.open(paths['scores']) as file:
        assert file.shape == (12, 600)
        assert file.overviews(1)
        np.testing.assert_array_equal(file.read(), result.scores.values)
        assert np.isfinite(file.read(1, out_shape=(3, 150), resampling=Resampling.average)).all()
    for part in ((slice(0, 4), slice(500, 600)), (slice(5, 12), slice(3, 258))):
        np.testing.assert_array_equal(result.table.cells(*part)[0], result.scores.values[:, *part])


def test_scores_array(saved):
    result, paths = saved
    scores = result.scores
    assert scores.dims == ('label', 'y', 'x')
    assert scores.dtype == np.float32
    assert tuple(scores.label.values) == LABELS
    with rioxarray.open_rasterio(paths['scores']) as file:
        np.testing.assert_allclose(scores.x, file.x)
        np.testing.assert_allclose(scores.y, file.y)
        assert scores.rio.crs == file.rio.crs
        assert scores.rio.transform() == file.rio.transform()
    assert scores.rio.bounds() == pytest.approx(
        (300_000, 5_800_000 - 10 * 16 * 13, 300_000 + 10 * 16 * 17, 5_800_000)
    )


def test_valid_share(saved):
    result, _ = saved
    share = result.scores.valid_share
    assert share.dims == ('y', 'x')
    assert (share[:5, :5] == 0).all()
    assert (share[6:, :] == 1).all()
    assert np.isnan(result.scores[:, :5, :5]).all()
    assert np.isfinite(result.scores[:, 6:, :]).all()


def test_table_opens_elsewhere(saved):
    result, paths = saved
    table = gpd.read_parquet(paths['tiles'])
    assert_geodataframe_equal(table, result.tiles, check_like=True)
    assert table.crs == 'EPSG:32633'
    assert list(table.columns) == [
        *('row', 'col', *LABELS, 'labels', 'label', 'score', 'valid_share', 'area', 'geometry')
    ]
    assert len(table) == result.plan.tiling.count
    first, last = table.geometry.iloc[0], table.geometry.iloc[-1]
    assert first.bounds == (300_000, 5_799_680, 300_320, 5_800_000)
    assert last.bounds == (302_380, 5_797_950, 302_700, 5_798_270)
    assert table.geometry.is_valid.all()
    metadata = pq.read_metadata(paths['tiles']).metadata
    assert json.loads(metadata[b'geores'])['model'] == 'tiny-multi'
    assert json.loads(metadata[b'geo'])['columns']['geometry']['bbox'] == list(table.total_bounds)


def test_tiles_are_what_the_model_predicts(saved, path, multi):
    result, _ = saved
    table = result.tiles
    with rasterio.open(path) as file:
        values, valid = file.read().astype('float32'), file.dataset_mask() > 0
    tiles = []
    for at, row in table.iterrows():
        left, _, _, top = row.geometry.bounds
        place = np.s_[
            (y := round((5_800_000 - top) / 10)) : y + 32, (x := round((left - 300_000) / 10)) : x + 32
        ]
        assert row.valid_share == pytest.approx(valid[place].mean())
        tile = values[:, *place].copy()
        tiles.append(mirror_invalid(tile, valid[place]) if valid[place].any() else tile)
        assert np.isnan(table.loc[at, list(LABELS)].astype(float)).all() == (row.valid_share < 0.5)
    expected = multi.predict(np.stack(tiles))
    known = table.valid_share >= 0.5
    np.testing.assert_allclose(table.loc[known, list(LABELS)], expected[known], atol=1e-4)
    for scores, labels in zip(table[list(LABELS)].to_numpy(), table['labels'], strict=True):
        assert list(labels) == [LABELS[k] for k in np.argsort(-scores, kind='stable') if scores[k] >= 0.5]


@pytest.mark.parametrize('options', [{}, {'threshold': 0.2}, {'threshold': 0.9, 'top_k': 1}, {'top_k': 2}])
def test_shares_are_those_of_the_table(path, multi, options):
    result = classify(path, multi, **options)
    assert result.shares == pytest.approx(shares_of(result.tiles))
    assert list(result.shares.values()) == sorted(result.shares.values(), reverse=True)
    assert result.tiles['labels'].map(len).max() <= options.get('top_k', 3)


def test_areas_add_up(saved, path):
    result, _ = saved
    with rasterio.open(path) as file:
        valid = int((file.dataset_mask() > 0).sum())
    assert result.tiles['area'].sum() == pytest.approx(valid * 100, rel=1e-3)  # UTM's own scale


def test_a_folder_named_like_a_file(geores, path, bundle, tmp_path):
    out = tmp_path / 'map.tif'
    answer = geores('classify', path, '--model', bundle, '--out', out)
    assert answer.code == 2
    assert f'{out} is named like a file, and several are written: name a folder' in answer.err
    with pytest.raises(OutputError, match='named like a file'):
        check_answers_writable(out, 'scene', ['Where is the water?'], overwrite=True)
    assert not out.exists()
    out.mkdir()
    check_answers_writable(out, 'scene', ['Where is the water?'], overwrite=True)


@pytest.mark.parametrize('options', [(), ('--stride', '20'), ('--top-k', '1'), ('--threshold', '0.3')])
def test_json(geores, path, bundle, tmp_path, options):
    other = write_scene(tmp_path / 'other.tif', height=70, width=70)
    answer = geores('classify', path, other, '--out', tmp_path, '--model', bundle, '--json', *options)
    assert answer.code == 0, answer
    assert answer.err == ''
    assert [record['scene'] for record in answer.records] == ['scene', 'other']
    run = json.loads((tmp_path / 'run.json').read_text())
    for record in answer.records:
        assert list(record) == KEYS
        assert list(record['outputs']) == ['classes', 'confidence', 'scores', 'tiles', 'map']
        table = gpd.read_parquet(record['outputs']['tiles'])
        assert record['tiles'] == len(table)
        assert record['labels'] == pytest.approx(shares_of(table), abs=1e-5)
        assert record['model'] == 'tiny-rgb'
        assert record['device'] == run['scenes'][record['scene']]['device']
        assert record['precision'] in {'fp32', 'bf16', 'fp16'}
        assert record['tiles_per_second'] > 0


def test_run_record(saved, path):
    result, paths = saved
    run = json.loads(paths['run'].read_text())
    record = run['scenes']['scene']
    assert record['inputs'] == [{'path': str(path), 'fingerprint': result.scene.rasters[0].fingerprint}]
    assert record['model_sha256'] == result.card.sha256
    assert record['options']['stride'] == 16
    assert record['labels'] == result.shares
    assert record['tiles'] == record['tiles_of_this_run'] == result.plan.tiling.count
    assert record['outputs'] == {kind: paths[kind].name for kind in ('labels', 'scores', 'tiles', 'map')}
    assert record['geores_version'] == run['geores_version']


def test_run_record_keeps_other_scenes(multi, saved, tmp_path):
    other = write_scene(tmp_path / 'other.tif', height=40, width=40)
    result, _ = saved
    result.save(tmp_path / 'out')
    paths = classify(other, multi).save(tmp_path / 'out')
    assert list(json.loads(paths['run'].read_text())['scenes']) == ['scene', 'other']


def test_run_record_of_runs_side_by_side(multi, saved, tmp_path, monkeypatch):
    result, _ = saved
    held = records.read_record

    def slowly(path):
        scenes = held(path)
        time.sleep(0.1)
        return scenes

    monkeypatch.setattr(records, 'read_record', slowly)
    monkeypatch.setattr(outputs, 'draw_map', lambda result: SimpleNamespace(write=Path.touch))
    names = ['north', 'south', 'west', 'east']
    with ThreadPoolExecutor(len(names)) as pool:
        saves = [
            pool.submit(replace(result, scene=replace(result.scene, name=name)).save, tmp_path)
            for name in names
        ]
        for save in saves:
            save.result()
    assert json.loads((tmp_path / 'run.json').read_text())['scenes'].keys() == set(names)
    assert {name for name in hold_files(tmp_path) if name.startswith('.')} == set()


@pytest.mark.parametrize('text', ['{"mine": 1}', '[1]', 'no JSON', '{"scenes": 3}', '{"scenes": {"a": 3}}'])
def test_a_file_that_is_no_record_is_not_lost(saved, tmp_path, text):
    result, _ = saved
    (tmp_path / 'run.json').write_text(text)
    with pytest.raises(OutputError, match=r'run\.json is no record of geores'):
        result.save(tmp_path)
    assert hold_files(tmp_path) == {'run.json'}
    assert (tmp_path / 'run.json').read_text() == text
    result.save(tmp_path, overwrite=True)
    assert list(json.loads((tmp_path / 'run.json').read_text())['scenes']) == ['scene']


def test_map_is_a_picture(saved):
    image = matplotlib.image.imread(saved[1]['map'])
    height, width = image.shape[:2]
    assert 300 < height < 4000
    assert 300 < width < 4000
    assert len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) > 10


def test_save_twice(saved, tmp_path):
    result, _ = saved
    result.save(tmp_path)
    with pytest.raises(OutputError, match='exists'):
        result.save(tmp_path)
    result.save(tmp_path, overwrite=True)


def test_out_writes_the_files_and_keeps_the_result(path, multi, saved, tmp_path):
    result = classify(path, multi, stride=16, precision='fp32', out=tmp_path / 'out')
    assert hold_files(tmp_path / 'out') == {
        'scene_labels.tif',
        'scene_labels.tif.aux.xml',
        'scene_labels.qml',
        'scene_scores.tif',
        'scene_tiles.parquet',
        'scene_map.png',
        'run.json',
    }
    xr.testing.assert_identical(result.scores, saved[0].scores)
    assert result.shares == saved[0].shares


def test_options_of_other_types(path, multi, tmp_path):
    """Paths and numpy's numbers are written out as what they stand for."""
    area = gpd.GeoSeries.from_wkt(
        ['POLYGON ((300000 5798000, 302000 5798000, 302000 5800000, 300000 5798000))']
    )
    area.set_crs('EPSG:32633').to_file(tmp_path / 'area.gpkg')
    result = classify(
        path, multi, stride=np.int64(16), bbox=np.array([300000.0, 5798000, 302000, 5800000], 'float32'),
        aoi=tmp_path / 'area.gpkg', threshold=np.float32(0.5), out=tmp_path / 'out',
    )  # fmt: skip
    options = json.loads((tmp_path / 'out' / 'run.json').read_text())['scenes']['scene']['options']
    assert options['stride'] == 16
    assert options['aoi'] == str(tmp_path / 'area.gpkg')
    assert np.isnan(result.scores[0, 0, 0])


def test_geographic_scene(multi, tmp_path):
    """Degrees become metres of the UTM zone, at the size that the pixels have on the ground."""
    grid = rasterio.transform.from_origin(13, 52, 1e-4, 1e-4)
    scene = write_scene(tmp_path / 'degrees.tif', height=150, width=200, crs='EPSG:4326', transform=grid)
    result = classify(scene, multi, bbox=(13.005, 51.99, 13.015, 51.995))
    assert result.scores.rio.crs == 'EPSG:32633'
    side = result.grid.affine.a
    assert side == pytest.approx(open_scene(scene).gsd, rel=1e-3)
    assert result.pixel_area == pytest.approx(side**2, rel=1e-3)
    west, south, east, north = result.tiles.to_crs('EPSG:4326').total_bounds
    assert (west, south, east, north) == pytest.approx((13.005, 51.99, 13.015, 51.995), abs=5e-4)
    finer = classify(scene, multi, resolution=5.0)
    assert finer.grid.affine.a == pytest.approx(5, rel=1e-3)

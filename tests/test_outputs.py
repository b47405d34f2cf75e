"""What a classification gives: files that other programs open, and arrays that agree with them."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dask.array as da
import geopandas as gpd
import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import rioxarray
import xarray as xr
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling

from geores import classify, load_model, open_scene
from geores.errors import OutputError, ReadError
from geores.pipelines import outputs, records

from .fixtures import LABELS, RGB, hold_files, noise, tiny_bundle, write_scene

KEYS = [
    'scene', 'model', 'device', 'precision', 'tiles', 'valid_share', 'labels', 'outputs', 'seconds',
    'tiles_per_second', 'notes',
]  # fmt: skip


@pytest.fixture(scope='module')
def multi(tmp_path_factory):
    """A bundle whose tiles may have several labels."""
    return load_model(
        tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny-multi', task='multi-label', seed=2)
    )


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """A scene with a corner of nodata."""
    values = noise(3, 205, 270)
    values[:, :90, :90] = 0
    return write_scene(tmp_path_factory.mktemp('scenes') / 'scene.tif', values=values, nodata=0)


@pytest.fixture(scope='module')
def saved(path, multi, tmp_path_factory):
    """A result, and the paths of its files."""
    result = classify(path, multi, stride=16, precision='fp32')
    return result, result.save(tmp_path_factory.mktemp('saved') / 'out')


def test_files(saved):
    _, paths = saved
    assert hold_files(paths['run'].parent) == {
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
    result = classify(scene, multi, tile=8, stride=1, resolution=10, bbox=(300000, 5799700, 306000, 5800000))
    paths = result.save(tmp_path)
    with rasterio.open(paths['scores']) as file:
        assert file.shape == (30, 600)
        assert file.overviews(1)
        np.testing.assert_array_equal(file.read(), result.scores.values)
        assert np.isfinite(file.read(1, out_shape=(8, 150), resampling=Resampling.average)).all()
    for part in ((slice(0, 7), slice(500, 600)), (slice(13, 30), slice(3, 258))):
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
    assert list(table.columns) == ['row', 'col', *LABELS, 'labels', 'valid_share', 'area', 'geometry']
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
        tile[:, ~valid[place]] = 120  # the card's mean
        tiles.append(tile)
        assert np.isnan(table.loc[at, list(LABELS)].astype(float)).all() == (row.valid_share < 0.5)
    expected = multi.predict(np.stack(tiles))
    known = table.valid_share >= 0.5
    np.testing.assert_allclose(table.loc[known, list(LABELS)], expected[known], atol=1e-4)
    for scores, labels in zip(table[list(LABELS)].to_numpy(), table['labels'], strict=True):
        assert list(labels) == [LABELS[k] for k in np.argsort(-scores, kind='stable') if scores[k] >= 0.5]


def shares_of(table):
    """Shares of area by the table alone."""
    known = table[table[LABELS[0]].notna()]
    area = known['area']
    return {
        label: area[[label in labels for labels in known['labels']]].sum() / area.sum() for label in LABELS
    }


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
        assert list(record['outputs']) == ['scores', 'tiles', 'map']
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
    assert record['outputs'] == {kind: paths[kind].name for kind in ('scores', 'tiles', 'map')}
    assert record['geores_version'] == run['geores_version']


def test_run_record_keeps_other_scenes(multi, saved, tmp_path):
    other = write_scene(tmp_path / 'other.tif', height=40, width=40)
    result, _ = saved
    result.save(tmp_path / 'out')
    paths = classify(other, multi).save(tmp_path / 'out')
    assert list(json.loads(paths['run'].read_text())['scenes']) == ['scene', 'other']


def test_run_record_of_runs_side_by_side(multi, saved, tmp_path, monkeypatch):
    result, _ = saved
    held = records._read

    def slowly(path):
        scenes = held(path)
        time.sleep(0.1)
        return scenes

    monkeypatch.setattr(records, '_read', slowly)
    monkeypatch.setattr(outputs, 'write_map', lambda result, path: path.touch())
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


def as_array(path, chunks=None):
    return rioxarray.open_rasterio(path, chunks=chunks).assign_coords(band=list(RGB))


def test_dask_in_dask_out(path, multi):
    with as_array(path) as array:
        eager = classify(array, multi, stride=16, precision='fp32')
    assert isinstance(eager.scores.data, np.ndarray)
    assert isinstance(eager.scores.valid_share.data, np.ndarray)
    with as_array(path, chunks={'x': 100, 'y': 100}) as array:
        lazy = classify(array, multi, stride=16, precision='fp32')
        assert isinstance(lazy.scores.data, da.Array)
        assert isinstance(lazy.scores.valid_share.data, da.Array)
        xr.testing.assert_identical(lazy.scores.compute(), eager.scores)
        assert_geodataframe_equal(lazy.tiles, eager.tiles)
        assert lazy.shares == eager.shares


def test_array_gives_what_its_file_gives(path, multi, saved):
    with as_array(path) as array:
        result = classify(array, multi, stride=16, precision='fp32')
    np.testing.assert_array_equal(result.scores.values, saved[0].scores.values)
    np.testing.assert_allclose(result.scores.x, saved[0].scores.x)
    np.testing.assert_allclose(result.scores.y, saved[0].scores.y)
    assert result.scores.rio.crs == saved[0].scores.rio.crs


def counted_array(touched, height=2100, width=2100, fail=False):
    """A dask-backed scene that remembers which of its blocks were computed."""

    def block(part, block_info):
        touched.append(block_info[0]['chunk-location'])
        if fail:
            raise OSError('the link is down')
        return part

    values = da.from_array(noise(3, height, width), chunks=(3, 350, 350)).map_blocks(
        block, meta=np.empty((0, 0, 0), 'uint8')
    )
    ys, xs = 5_800_000 - 10 * (np.arange(height) + 0.5), 300_000 + 10 * (np.arange(width) + 0.5)
    array = xr.DataArray(
        values, dims=('band', 'y', 'x'), coords={'band': list(RGB), 'y': ys, 'x': xs}, name='lazy'
    )
    return array.rio.write_crs('EPSG:32633')


def test_nothing_is_computed_before_it_is_asked_for(multi):
    touched = []
    result = classify(counted_array(touched), multi)
    scores = result.scores
    assert not touched
    corner = scores[:, :3, :3].compute()
    assert np.isfinite(corner).all()
    assert 0 < len(set(touched)) < 36 / 2


def test_failure_of_a_lazy_scene_is_a_read_error(multi, tmp_path):
    result = classify(counted_array([], fail=True), multi)
    with pytest.raises(ReadError, match='rows'):
        result.save(tmp_path)
    assert not hold_files(tmp_path)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.integers(8, 40),
    data=st.data(),
)
@settings(max_examples=15, deadline=None)
def test_files_agree_with_arrays(multi, tmp_path_factory, height, width, tile, data):
    stride = data.draw(st.integers(max(1, tile // 3), tile))
    folder = tmp_path_factory.mktemp('random')
    result = classify(
        write_scene(folder / 'scene.tif', height=height, width=width),
        multi,
        tile=tile,
        stride=stride,
        precision='fp32',
    )
    scores = result.scores
    assert scores.shape == (3, -(-height // stride), -(-width // stride))
    assert np.isfinite(scores).all()
    assert result.tiles['area'].sum() == pytest.approx(height * width * result.pixel_area)
    assert result.valid_share == 1
    assert result.shares == pytest.approx(shares_of(result.tiles))


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

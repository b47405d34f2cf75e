"""What `geores classify` says to input that it cannot use, and what it leaves behind: nothing."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from safetensors.numpy import load_file, save_file

from ..fixtures import RGB, hold_files, noise, tiny_bundle, write_scene

VRT = """<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32633</SRS>
<GeoTransform>300000,10,0,5800000,0,-10</GeoTransform>{}</VRTDataset>"""
MEASURED = """
import resource, time
import geores.bundle, geores.classification.classify
from geores.cli import main

used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, before = time.process_time(), used()
try:
    main()
finally:
    print(time.process_time() - start, used() - before)
"""
NOISE = np.random.default_rng(0).bytes(5000)
VRT_BAND = """<VRTRasterBand dataType="Byte" band="{0}"><SimpleSource>
<SourceFilename relativeToVRT="1">scene.tif</SourceFilename><SourceBand>{0}</SourceBand>
</SimpleSource></VRTRasterBand>"""


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif', height=64, width=96)


@pytest.fixture
def refused(geores, bundle, tmp_path):
    """Run `classify` and check that it ends with code 2, one line, and nothing left behind."""

    def run(*args, out=None, model=bundle):
        out = out or tmp_path / 'out'
        before = hold_files(tmp_path)
        folders = set(tmp_path.rglob('*'))
        answer = geores('classify', *args, '--out', out, '--model', model)
        assert answer.code == 2, answer
        assert answer.out == ''
        assert answer.err.startswith('geores: error: ')
        assert answer.err.count('\n') == 1, answer.err
        assert 'fault of geores' not in answer.err
        assert hold_files(tmp_path) == before
        assert set(tmp_path.rglob('*')) == folders
        return answer.err

    return run


def write_vrt(path):
    path.write_text(VRT.format(''.join(VRT_BAND.format(band) for band in (1, 2, 3))))
    return path


def test_scene_is_missing(refused, tmp_path):
    assert 'nowhere.tif: no such file' in refused(tmp_path / 'nowhere.tif')


@pytest.mark.parametrize('content', [b'some text\n', b'', b'II*\0', NOISE, b'\x89PNG\r\n\x1a\n'])
def test_scene_is_no_raster(refused, tmp_path, content):
    path = tmp_path / 'text.tif'
    path.write_bytes(content)
    assert 'text.tif' in refused(path)


def test_scene_folder_holds_no_bands(refused, tmp_path):
    (tmp_path / 'empty').mkdir()
    assert 'empty' in refused(tmp_path / 'empty')


@pytest.mark.parametrize(
    ('name', 'options'), [('scene2.tif', ()), ('scene2.vrt', ()), ('scene2.tif', ('--allow-vrt',))]
)
def test_vrt_is_not_followed(refused, scene, tmp_path, name, options):
    message = refused(write_vrt(tmp_path / name), *options)
    assert 'VRT' in message


def test_vrt_is_opened_where_allowed(geores, scene, bundle, tmp_path):
    path = write_vrt(tmp_path / 'virtual.vrt')
    out = tmp_path / 'out'
    bands = ','.join(RGB)
    answer = geores(
        'classify', path, '--allow-vrt', '--bands', bands, '--out', out, '--model', bundle, '--json'
    )
    assert answer.code == 0, answer
    assert answer.records[0]['tiles'] == 4


def test_bands_are_missing(refused, tmp_path):
    path = write_scene(tmp_path / 'two.tif', ('red', 'swir16'), height=40, width=40)
    message = refused(path)
    assert 'red, green, blue' in message
    assert 'red, swir16' in message


def test_no_shipped_model_fits(refused, tmp_path):
    path = write_scene(tmp_path / 'odd.tif', ('humidity',), height=40, width=40)
    message = refused(path, model='auto')
    assert 'humidity' in message


def test_wrong_number_of_band_names(refused, scene):
    assert '--bands' in refused(scene, '--bands', 'blue,red')


def test_output_is_too_large(scene, bundle, tmp_path):
    """A sparse header that declares 12 TB, refused before any pixel is read, with little memory."""
    path = tmp_path / 'huge.tif'
    profile = {
        'driver': 'GTiff', 'width': 2_000_000, 'height': 2_000_000, 'count': 3, 'dtype': 'uint8',
        'tiled': True, 'blockxsize': 16384, 'blockysize': 16384, 'sparse_ok': True, 'bigtiff': 'yes',
        'crs': 'EPSG:32633', 'transform': rasterio.transform.from_origin(0, 9_000_000, 1, 1),
        'compress': 'deflate',
    }  # fmt: skip
    with rasterio.open(path, 'w', **profile) as file:
        file.descriptions = RGB
    answer = subprocess.run(
        [sys.executable, '-c', MEASURED, 'classify', path, '--out', tmp_path / 'out', '--model', bundle],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert answer.returncode == 2, answer
    assert answer.stderr.count('\n') == 1
    assert '--max-output' in answer.stderr
    seconds, kilobytes = map(float, answer.stdout.split())
    assert seconds < 60  # of the processor
    assert kilobytes < 300_000
    assert not (tmp_path / 'out').exists()


def test_output_limit_is_an_option(refused, scene):
    assert '--max-output' in refused(scene, '--max-output', '1K')
    assert '8G' in refused(scene, '--max-output', 'plenty')


def test_unknown_model_suggests_the_nearest(refused, scene):
    assert "did you mean 'sentinel2'" in refused(scene, model='sentinel-2')
    assert 'did you mean' not in refused(scene, model='zzzzzzzzzz')


def test_bundle_with_a_wrong_tensor(refused, scene, bundle, tmp_path):
    broken = shutil.copytree(bundle, tmp_path / 'broken')
    tensors = load_file(broken / 'model.safetensors')
    tensors['fc.weight'] = tensors['fc.weight'][:, :-1].copy()
    save_file(tensors, broken / 'model.safetensors')
    message = refused(scene, model=broken)
    assert 'fc.weight' in message
    assert '(3, 63)' in message


@pytest.mark.parametrize('place', ['file', 'folder', 'renamed'])
def test_bundle_is_a_pickle(refused, scene, bundle, tmp_path, place):
    folder = shutil.copytree(bundle, tmp_path / 'pickled')
    name = {'file': 'model.pth', 'folder': 'model.pth', 'renamed': 'model.safetensors'}[place]
    (folder / 'model.safetensors').unlink()
    (folder / name).write_bytes(pickle.dumps({'a': 1}))
    message = refused(scene, model=folder / name if place == 'file' else folder)
    assert 'pickle' in message


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (('--stride', 0), 'stride'),
        (('--stride', -4), 'stride'),
        (('--stride', 33), 'stride'),
        (('--tile', 64, '--stride', 65), 'stride'),
        (('--tile', 0), 'tile'),
        (('--tile', 10**9), 'tile'),
        (('--tile', 'large'), 'tile'),
        (('--threshold', 0), 'threshold'),
        (('--threshold', 1), 'threshold'),
        (('--threshold', 1.5), 'threshold'),
        (('--threshold', 'nan'), 'threshold'),
        (('--top-k', 0), 'top-k'),
        (('--batch-size', 0), 'batch'),
        (('--batch-size', -1), 'batch'),
        (('--workers', 0), 'workers'),
        (('--min-valid', 1.5), 'min_valid'),
        (('--min-valid', 'nan'), 'min_valid'),
        (('--resolution', -1), 'resolution'),
        (('--resolution', 0), 'resolution'),
        (('--resolution', 'nan'), 'resolution'),
        (('--resolution', 'inf'), 'resolution'),
        (('--resolution', 1e-5), '--max-output'),
        (('--device', 'tpu'), "'tpu'"),
        (('--device', 'meta'), "'meta'"),
        (('--device', 'cuda:99'), 'cuda:99'),
        (('--precision', 'int4'), 'int4'),
        (('--bbox', 1, 1, 0, 0), 'bbox'),
        (('--bbox', 'nan', 0, 1, 1), 'bbox'),
        (('--bbox', '-inf', 0, 'inf', 1), 'bbox'),
        (('--bbox', 1, 2, 3), '--bbox'),
        (('--bbox', 300_000, 5_800_001, 300_100, 5_800_100), 'does not overlap'),
        (('--bbox', 299_000, 5_799_900, 299_990, 5_800_000), 'does not overlap'),
        (('--bbox', 301_000, 5_799_900, 301_100, 5_800_000), 'does not overlap'),
        (('--bbox', 300_000, 5_799_000, 300_100, 5_799_100), 'does not overlap'),
        (('--bbox', 0, 0, 1, 1, '--bbox-crs', 'EPSG:nothing'), 'bbox-crs'),
        (('--mask-values', '1,b'), '--mask-values'),
        (('--mask-values', '1,2'), 'mask'),
        (('--bbox-crs', 'EPSG:4326'), 'bbox'),
        (('--linear-s1',), '--linear-s1'),
        (('--aoi', 'nowhere.gpkg'), 'nowhere.gpkg'),
        (('--mask', 'nowhere.tif'), 'nowhere.tif'),
        (('--with', 'nowhere.tif'), 'nowhere.tif'),
        (('--colour', 'red'), '--colour'),
    ],
)  # fmt: skip
def test_option_out_of_range(refused, scene, options, said):
    assert said in refused(scene, *options)


def test_fp16_needs_cuda(refused, scene):
    assert 'fp16' in refused(scene, '--precision', 'fp16', '--device', 'cpu')


def geojson(path, *geometries):
    features = [{'type': 'Feature', 'properties': {}, 'geometry': geometry} for geometry in geometries]
    path.write_text(json.dumps({'type': 'FeatureCollection', 'features': features}))
    return path


def test_aoi_without_crs(refused, scene, tmp_path):
    path = tmp_path / 'area.shp'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that it has none
        gpd.GeoSeries([shapely.box(300_000, 5_799_000, 300_500, 5_800_000)]).to_file(path)
    assert 'no CRS' in refused(scene, '--aoi', path)


@pytest.mark.parametrize(
    'geometries',
    [
        (),
        (None,),
        ({'type': 'Point', 'coordinates': [12.1, 52.3]},),
        ({'type': 'Polygon', 'coordinates': []},),
        ({'type': 'Polygon', 'coordinates': [[[0, 0], [1, 0], [1, 1], [0, 0]]]},),
    ],
    ids=['no features', 'no geometry', 'point', 'empty polygon', 'far away'],
)
def test_aoi_without_a_polygon_on_the_scene(refused, scene, tmp_path, geometries):
    path = geojson(tmp_path / 'area.geojson', *geometries)
    assert 'area.geojson' in refused(scene, '--aoi', path)


@pytest.mark.parametrize('content', ['no vector file', 'a,b\n1,2\n'])
def test_aoi_is_no_vector_file(refused, scene, tmp_path, content):
    path = tmp_path / 'area.csv'
    path.write_text(content)
    assert 'area.csv' in refused(scene, '--aoi', path)


def test_mask_is_no_raster(refused, scene, tmp_path):
    path = tmp_path / 'mask.tif'
    path.write_text('no raster')
    assert 'mask.tif' in refused(scene, '--mask', path)


def test_mask_has_several_bands(refused, scene):
    assert '3 bands' in refused(scene, '--mask', scene)


def test_mask_cannot_be_placed(refused, scene, tmp_path):
    bare = write_scene(tmp_path / 'bare.tif', ('mask',), height=64, width=96, crs=None)
    assert 'no CRS' in refused(scene, '--mask', bare)
    away = rasterio.transform.from_origin(900_000, 5_800_000, 10, 10)
    away = write_scene(tmp_path / 'away.tif', ('mask',), height=64, width=96, transform=away)
    assert 'does not overlap' in refused(scene, '--mask', away)


def test_sources_cannot_be_laid_over_each_other(refused, tmp_path):
    path = write_scene(tmp_path / 'rg.tif', ('red', 'green'), height=64, width=64)
    bare = write_scene(tmp_path / 'b.tif', ('blue',), height=64, width=64, crs=None)
    assert 'b.tif has no CRS' in refused(path, '--with', bare)
    assert 'b.tif has no CRS' in refused(bare, '--with', path)
    assert "both have a band 'red'" in refused(path, '--with', shutil.copy(path, tmp_path / 'again.tif'))


def test_resolution_without_crs(refused, tmp_path):
    path = write_scene(tmp_path / 'bare.tif', height=64, width=64, crs=None)
    assert 'no CRS' in refused(path, '--resolution', 5)


def test_two_scenes_of_one_name(refused, scene, tmp_path):
    (tmp_path / 'sub').mkdir()
    other = shutil.copy(scene, tmp_path / 'sub' / 'scene.tif')
    assert "named 'scene'" in refused(scene, other)


def test_bad_second_scene_is_refused_before_any_work(refused, scene, tmp_path):
    other = write_scene(tmp_path / 'other.tif', ('red', 'green'), height=64, width=64)
    assert 'other' in refused(scene, other)


def test_results_exist(geores, refused, scene, bundle, tmp_path):
    args = (scene, '--out', tmp_path / 'out', '--model', bundle)
    assert geores('classify', *args).code == 0
    assert '--overwrite' in refused(scene, '--stride', '16')
    assert geores('classify', *args, '--overwrite').code == 0


@pytest.mark.parametrize('below', ['', 'sub', 'sub/sub'])
def test_output_folder_cannot_be_made(refused, scene, tmp_path, below):
    (tmp_path / 'taken').write_text('')
    assert 'taken' in refused(scene, out=tmp_path / 'taken' / below)


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may write anywhere')
def test_output_folder_is_read_only(refused, scene, tmp_path):
    (tmp_path / 'locked').mkdir(mode=0o500)
    assert 'locked' in refused(scene, out=tmp_path / 'locked' / 'out')


def test_scene_without_crs(geores, bundle, tmp_path):
    path = write_scene(tmp_path / 'bare.tif', height=64, width=70, crs=None)
    answer = geores('classify', path, '--out', tmp_path / 'out', '--model', bundle)
    assert answer.code == 0, answer
    assert 'no CRS' in answer.out
    assert answer.err == ''


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (1, 40), (40, 1), (20, 31), (31, 200), (3000, 2)])
def test_scene_smaller_than_a_tile(geores, bundle, tmp_path, height, width):
    path = write_scene(tmp_path / 'small.tif', height=height, width=width)
    answer = geores('classify', path, '--out', tmp_path / 'out', '--model', bundle)
    assert answer.code == 0, answer
    assert 'smaller than a tile' in answer.out
    assert answer.err == ''
    with rasterio.open(tmp_path / 'out' / 'small_scores.tif') as file:
        assert file.shape == (-(-height // 32), -(-width // 32))
        assert np.isfinite(file.read()).all()


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
def test_scene_without_valid_pixels(geores, bundle, tmp_path, dtype):
    values = np.zeros((3, 64, 96), dtype)
    path = write_scene(tmp_path / 'empty.tif', values=values, nodata=0)
    answer = geores('classify', path, '--out', tmp_path / 'out', '--model', bundle, '--json')
    assert answer.code == 0, answer
    assert set(answer.records[0]['labels'].values()) == {0.0}
    assert 'a sample has no valid pixel' in answer.records[0]['notes'][-1]
    with rasterio.open(tmp_path / 'out' / 'empty_scores.tif') as file:
        assert np.isnan(file.read()).all()


def test_units_are_guessed_from_pixels(geores, tmp_path):
    """A float scene of reflectances for a model of digital numbers: a note, no error."""
    bands = ('B04', 'B08')
    bundle = tiny_bundle(tmp_path / 'dn', bands, units='reflectance*10000', task='multi-label')
    values = noise(2, 64, 64, 'float32') / 250
    path = write_scene(tmp_path / 'scene.tif', bands, values=values)
    answer = geores('classify', path, '--out', tmp_path / 'out', '--model', bundle)
    assert answer.code == 0, answer
    assert 'reflectance from 0 to 1' in answer.out


def test_faults_are_one_line_too(geores, bundle, scene, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyError('inner\nmatter')

    monkeypatch.setattr('geores.classification.outputs.draw_map', fail)
    answer = geores('classify', scene, '--out', tmp_path / 'out', '--model', bundle)
    assert answer.code == 1
    assert answer.err.count('\n') == 1
    assert '--debug' in answer.err
    assert 'Traceback' not in answer.err

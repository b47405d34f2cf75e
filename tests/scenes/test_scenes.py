"""Opening files and folders: names of bands, scales, refusals."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from geores.errors import BandError, SceneError, UsageError
from geores.scenes import describe, open_scene

from ..scene_fixtures import SHARED, pixels, write_tiff

# rasterio and rioxarray multiply transforms in a way that affine 3 is about to deprecate.
pytestmark = pytest.mark.filterwarnings('ignore:Use `@` matmul:PendingDeprecationWarning')

VRT = (
    '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1">'
    '<SimpleSource><SourceFilename>{}</SourceFilename></SimpleSource>'
    '</VRTRasterBand></VRTDataset>'
)


def values_of(scene, name):
    band = scene.band(name)
    return band.raster.read([band.index], slice(None), slice(None))[0][0]


def test_bands_from_descriptions(tmp_path):
    values = pixels(4)
    descriptions = ('B2 (490 nm)', 'b8a', 'B11_20m', 'NDVI')
    path = write_tiff(tmp_path / 'my scene.tif', values, descriptions=descriptions)
    scene = open_scene(path)
    assert list(scene.bands) == ['B02', 'B8A', 'B11', 'NDVI']
    assert scene.name == 'my_scene'
    assert (scene.sensor, scene.units) == ('Sentinel-2', 'reflectance')
    assert (scene.shape, scene.resolution, scene.crs.epsg) == ((40, 50), (10.0, 10.0), 32633)
    for alias, index in {'blue': 0, 'B2': 0, 'nir08': 1, 'swir16': 2, 'NDVI': 3}.items():
        np.testing.assert_array_equal(values_of(scene, alias), values[index])
    assert scene.missing(['B02', 'B03', 'red', 'swir16']) == ['B03', 'red']
    assert list(scene.select(['swir16', 'B02']).bands) == ['B11', 'B02']
    with pytest.raises(BandError, match=r"my_scene.*no band 'B04'.*B02, B8A, B11, NDVI"):
        scene.band('B04')


def test_bands_named_by_the_user(tmp_path):
    path = write_tiff(tmp_path / 'plain.tif', pixels(3, dtype='float32'))
    scene = open_scene(path)
    assert list(scene.bands) == ['band1', 'band2', 'band3']
    assert any('--bands' in note for note in scene.notes)
    assert list(open_scene(path, bands=['B4', 'b03', 'B02']).bands) == ['B04', 'B03', 'B02']
    with pytest.raises(UsageError, match='names 2 bands but there are 3'):
        open_scene(path, bands=['B02', 'B03'])
    with pytest.raises(UsageError, match='each once'):
        open_scene(path, bands=['B02', 'B2', 'B03'])


def test_user_chooses_among_named_bands_or_renames_all(tmp_path):
    path = write_tiff(tmp_path / 'named.tif', pixels(2), descriptions=('B02', 'B03'))
    assert list(open_scene(path, bands=['green']).bands) == ['B03']
    assert list(open_scene(path, bands=['red', 'nir']).bands) == ['red', 'nir']
    with pytest.raises(UsageError, match=r'names 1 bands but there are 2 \(B02, B03\)'):
        open_scene(path, bands=['nir'])


def test_plain_colours_are_not_sentinel2(tmp_path):
    path = write_tiff(tmp_path / 'aerial.tif', pixels(3, dtype='uint8'), photometric='RGB')
    scene = open_scene(path)
    assert list(scene.bands) == ['red', 'green', 'blue']
    assert (scene.sensor, scene.units, scene.band('red').scale) == (None, '8-bit', None)
    assert scene.missing(['B04', 'red']) == ['B04']


def test_colours_in_any_order_and_alpha_as_validity(tmp_path):
    values = pixels(4, dtype='uint8')
    values[0] = 255
    values[0, :5] = 0
    path = write_tiff(tmp_path / 'rgba.tif', values, photometric='MINISBLACK', alpha='no')
    with rasterio.open(path, 'r+') as dataset:
        order = (ColorInterp.alpha, ColorInterp.blue, ColorInterp.green, ColorInterp.red)
        dataset.colorinterp = order
    scene = open_scene(path)
    assert {name: band.index for name, band in scene.bands.items()} == {'blue': 2, 'green': 3, 'red': 4}
    raster = scene.band('red').raster
    read, valid = raster.read([4, 2], slice(0, 10), slice(0, 8))
    np.testing.assert_array_equal(read, values[[3, 1], :10, :8])
    np.testing.assert_array_equal(valid, values[0, :10, :8] > 0)
    assert raster.read([4], slice(5, 10), slice(0, 8))[1] is None
    assert list(open_scene(path, bands=['alpha', 'nir', 'green', 'red']).bands) == ['nir', 'green', 'red']


def test_colours_are_guessed_and_said_so(tmp_path):
    path = write_tiff(tmp_path / 'grey.tif', pixels(3, dtype='uint8'), photometric='MINISBLACK')
    scene = open_scene(path)
    assert list(scene.bands) == ['red', 'green', 'blue']
    assert any('taken to be red, green, blue' in note for note in scene.notes)


@pytest.mark.parametrize(('driver', 'suffix'), [('PNG', '.png'), ('JPEG', '.jpg')])
@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_plain_images(tmp_path, driver, suffix):
    path = write_tiff(tmp_path / f'image{suffix}', pixels(3, dtype='uint8'), crs=None, driver=driver)
    scene = open_scene(path)
    assert (list(scene.bands), scene.crs, scene.gsd) == (['red', 'green', 'blue'], None, None)
    assert any(note.startswith('no CRS') for note in scene.notes)
    assert values_of(scene, 'red').shape == (40, 50)


def test_stems_name_single_bands_but_landsat_is_not_sentinel2(tmp_path):
    path = write_tiff(tmp_path / 'T33UUU_20170216T102101_B8A.tif', pixels())
    scene = open_scene(path)
    assert (list(scene.bands), scene.name, scene.date) == (['B8A'], 'T33UUU_20170216T102101', '2017-02-16')
    path = write_tiff(tmp_path / 'LC08_L1TP_193023_20170216_B4.tif', pixels())
    scene = open_scene(path)
    assert (list(scene.bands), scene.sensor, scene.processing_level) == (['red'], 'Landsat 8', 'L1')


def test_stac_names_of_sentinel2(tmp_path):
    names = ('red', 'nir', 'nir08', 'rededge074', 'swir22')
    scene = open_scene(write_tiff(tmp_path / 'stack.tif', pixels(5), descriptions=names))
    assert list(scene.bands) == ['red', 'nir', 'nir08', 'rededge2', 'swir22']
    assert scene.sensor == 'Sentinel-2'
    assert scene.missing(['B04', 'B08', 'B8A', 'B06', 'B12', 'rededge075']) == []


def test_scale_tags_of_the_file_win(tmp_path):
    path = write_tiff(tmp_path / 'cog.tif', pixels(2), descriptions=('B02', 'height'))
    with rasterio.open(path, 'r+') as dataset:
        dataset.scales, dataset.offsets = (0.0001, 0.5), (-0.1, 0.0)
        dataset.units = ('', 'm')
    scene = open_scene(path)
    blue, height = scene.bands.values()
    assert (blue.scale, blue.offset, blue.units) == (0.0001, -0.1, 'reflectance')
    assert (height.scale, height.offset, height.units) == (0.5, 0.0, 'm')


def test_units_of_radar(tmp_path):
    values = pixels(2, dtype='float32')
    path = write_tiff(tmp_path / 's1.tif', values, descriptions=('Sigma0_VV_db', 'Sigma0_VH_db'))
    scene = open_scene(path)
    assert (list(scene.bands), scene.sensor, scene.units) == (['VV', 'VH'], 'Sentinel-1', 'dB')
    assert scene.notes == ()
    amplitudes = open_scene(write_tiff(tmp_path / 'a.tif', pixels(2), descriptions=('VV', 'VH')))
    assert amplitudes.units is None


def test_several_sources_make_one_scene(tmp_path):
    optical = write_tiff(tmp_path / 's2.tif', pixels(2), descriptions=('B02', 'B03'))
    radar = write_tiff(
        tmp_path / 's1.tif', pixels(2, dtype='float32'), crs='EPSG:32634', descriptions=('VV', 'VH')
    )
    scene = open_scene([optical, str(radar)])
    assert (scene.name, list(scene.bands)) == ('s2', ['B02', 'B03', 'VV', 'VH'])
    assert [band.units for band in scene.bands.values()] == ['reflectance', 'reflectance', 'dB', 'dB']
    assert scene.band('VV').raster.geobox.crs.epsg == 32634
    assert scene.paths == (str(optical), str(radar))
    assert list(open_scene([optical, radar], bands=['VH', 'blue']).bands) == ['VH', 'B02']
    with pytest.raises(UsageError, match="both have a band 'B02'"):
        open_scene([optical, optical])
    with pytest.raises(UsageError, match='no source'):
        open_scene([])


@pytest.mark.parametrize(
    ('crs', 'resolution', 'expected'),
    [('EPSG:32633', 10.0, 10.0), ('EPSG:3857', 10.0, 6.2), ('EPSG:4326', 0.0001, 8.7)],
)
def test_ground_size_of_pixels(tmp_path, crs, resolution, expected):
    # About 52 degrees north; pixels of degrees are narrower than they are high.
    origin = {'EPSG:32633': (3e5, 58e5), 'EPSG:3857': (14e5, 68e5), 'EPSG:4326': (13.0, 52.0)}[crs]
    transform = rasterio.Affine(resolution, 0, origin[0], 0, -resolution, origin[1])
    scene = open_scene(write_tiff(tmp_path / 'a.tif', pixels(), crs=crs, transform=transform))
    assert scene.gsd == pytest.approx(expected, rel=0.02)


def test_rotated_and_south_up_grids_are_kept(tmp_path):
    rotated = rasterio.Affine(8, 6, 3e5, 6, -8, 58e5)
    scene = open_scene(write_tiff(tmp_path / 'rotated.tif', pixels(), transform=rotated))
    assert scene.geobox.affine == rotated
    assert scene.resolution == (10.0, 10.0)
    assert any('rotated' in note for note in scene.notes)
    south_up = rasterio.Affine(10, 0, 3e5, 0, 10, 57e5)
    scene = open_scene(write_tiff(tmp_path / 'south.tif', pixels(), transform=south_up))
    assert scene.geobox.affine == south_up
    assert any('south to north' in note for note in scene.notes)


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_ground_control_points_alone_are_refused(tmp_path):
    points = [GroundControlPoint(row, col, col * 10.0, row * -10.0) for row, col in ((0, 0), (0, 9), (9, 0))]
    path = write_tiff(tmp_path / 'gcp.tif', pixels(), crs=None)
    with rasterio.open(path, 'r+') as dataset:
        dataset.gcps = (points, 'EPSG:32633')
    with pytest.raises(SceneError, match=r'gcp\.tif.*warp it'):
        open_scene(path)


def bad_inputs(folder):
    """Paths that are no scenes, and what the message must say besides the path."""
    (folder / 'empty.tif').touch()
    (folder / 'text.tif').write_text('hello')
    (folder / 'header.tif').write_bytes(b'II*\0' + bytes(20))
    (folder / 'header.jp2').write_bytes(b'\0\0\0\x0cjP  \r\n\x87\n' + bytes(20))
    (folder / 'product.zip').write_bytes(b'PK\x03\x04' + bytes(20))
    (folder / 'real.vrt').write_text(VRT.format('/etc/hostname'))
    (folder / 'renamed.tif').write_text(VRT.format('/etc/hostname'))
    (folder / 'nothing').mkdir()
    write_tiff(folder / 'masks' / 'cloud_mask.tif', pixels(dtype='uint8'))
    write_tiff(folder / 'complex.tif', pixels(dtype='complex64'))
    for day in ('01', '02'):
        write_tiff(folder / 'two' / f'T33UUU_202306{day}T102021_B02.tif', pixels())
    return {
        'missing.tif': 'no such file',
        'empty.tif': '0 bytes',
        'text.tif': 'not a raster',
        'header.tif': 'damaged',
        'header.jp2': 'damaged',
        'product.zip': 'unpack it',
        'real.vrt': '--allow-vrt',
        'renamed.tif': '--allow-vrt',
        'nothing': 'no band files',
        'masks': 'no band files',
        'complex.tif': 'real numbers',
        'two': 'B02 twice',
        'x' * 300: 'no such file',
    }


def test_what_is_no_scene_is_refused_in_one_line(tmp_path):
    for name, reason in bad_inputs(tmp_path).items():
        with pytest.raises(SceneError) as caught:
            open_scene(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(str(tmp_path / name))
        assert reason in message
        assert '\n' not in message
    with pytest.raises(SceneError, match='not a path'):
        open_scene('')


def test_virtual_rasters_only_when_allowed_and_named_so(tmp_path):
    write_tiff(tmp_path / 'source.tif', pixels(dtype='uint8'))
    (tmp_path / 'real.vrt').write_text(VRT.format(tmp_path / 'source.tif'))
    (tmp_path / 'renamed.tif').write_text(VRT.format(tmp_path / 'source.tif'))
    with pytest.raises(SceneError, match='under another name'):
        open_scene(tmp_path / 'renamed.tif', allow_vrt=True)
    assert open_scene(tmp_path / 'real.vrt', allow_vrt=True).shape == (4, 4)


def test_mask_file_that_is_a_virtual_raster_is_refused(tmp_path):
    path = write_tiff(tmp_path / 'scene.tif', pixels(dtype='uint8'))
    (tmp_path / 'scene.tif.msk').write_text(VRT.format('/etc/hostname'))
    with pytest.raises(SceneError, match=r'scene\.tif\.msk'):
        open_scene(path)


@pytest.mark.timing
def test_terabytes_declared_open_at_once(tmp_path):
    path = tmp_path / 'huge.tif'
    options = {'tiled': True, 'blockxsize': 8192, 'blockysize': 8192, 'sparse_ok': True, 'bigtiff': 'yes'}
    options |= {'crs': 'EPSG:32633', 'transform': rasterio.Affine(10, 0, 0, 0, -10, 0)}
    with rasterio.open(
        path, 'w', 'GTiff', width=1_500_000, height=1_000_000, count=4, dtype='uint16', **options
    ):
        pass
    start = time.process_time()
    scene = open_scene(path)
    assert scene.shape == (1_000_000, 1_500_000)
    assert len(scene.fingerprint) == 64
    assert time.process_time() - start < 1


def test_fingerprint_follows_content_names_and_scales(tmp_path):
    path = write_tiff(tmp_path / 'a.tif', pixels(2))
    first = open_scene(path).fingerprint
    assert open_scene(path).fingerprint == first
    assert open_scene(path, bands=['B02', 'B03']).fingerprint != first
    os.utime(path, ns=(1, 1))
    assert open_scene(path).fingerprint != first


def test_description_is_plain_data(tmp_path):
    values = pixels(2, dtype='float32')
    path = write_tiff(tmp_path / 'a.tif', values, nodata=float('nan'), compress='deflate', tiled=True)
    told = json.loads(json.dumps(describe(open_scene(path)), allow_nan=False))
    assert (told['name'], told['crs'], told['size']) == ('a', 'EPSG:32633', [50, 40])
    assert told['bounds'] == [300000, 5799600, 300500, 5800000]
    row = told['bands'][1]
    assert (row['name'], row['index'], row['path']) == ('band2', 2, str(path))
    assert (row['driver'], row['compression'], row['nodata']) == ('GTiff', 'DEFLATE', 'nan')
    assert (row['blocks'], row['shape'], row['resolution']) == ([256, 256], [40, 50], [10, 10])


def test_importing_scenes_does_not_import_torch():
    code = 'import sys, geores.scenes; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


@pytest.mark.skipif(not (SHARED / 'data').is_dir(), reason='no ../shared/data beside the repository')
def test_real_scenes():
    scene = open_scene(next((SHARED / 'data' / 'scenes').iterdir()))
    assert len(scene.bands) == 12
    assert (scene.processing_level, scene.date, scene.nodata) == ('L2A', '2020-02-23', 0)
    patch = open_scene(next(iter(sorted((SHARED / 'data/s2-l2a/images').glob('*.tif')))))
    assert (list(patch.bands)[8], patch.crs, patch.units) == ('B8A', None, 'reflectance')
    for name, bands in {'BigEarthNet-S1': ['VV', 'VH'], 'BigEarthNet-S2': ['B12', 'B8A']}.items():
        folder = next((SHARED / 'data/reben/tiffs' / name).glob('*/*'))
        scene = open_scene(folder)
        assert scene.name == folder.name
        assert scene.missing(bands) == []

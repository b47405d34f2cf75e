"""Scenes from xarray, as rioxarray, odc-stac and stackstac give them."""

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros

from geores.errors import ReadError, SceneError, UsageError
from geores.scenes import describe, open_scene

from ..scene_fixtures import TILE, pixels, write_tiff

pytestmark = pytest.mark.filterwarnings('ignore:Use `@` matmul:PendingDeprecationWarning')

ALL = slice(None)


def stacked(data, *, shift=0.0, **attrs):
    """Make a stack as stackstac does: corners as coordinates, `epsg` beside them, one time step."""
    coords = {
        'time': [np.datetime64('2023-06-01T10:20')],
        'band': ['B04', 'B8A'],
        'y': 5800000 - 10.0 * np.arange(40) - shift,
        'x': 300000 + 10.0 * np.arange(50) + shift,
        'epsg': 32633,
    }
    attrs = {'transform': Affine(10, 0, 300000, 0, -10, 5800000), 'crs': 'epsg:32633'} | attrs
    return xr.DataArray(data[None], dims=('time', 'band', 'y', 'x'), coords=coords, attrs=attrs)


@pytest.mark.parametrize('chunks', [None, {'x': 20, 'y': 16}])
@pytest.mark.parametrize('nodata', [None, 9])
def test_rioxarray_equals_the_file(tmp_path, chunks, nodata):
    values = pixels(2, high=20)
    path = write_tiff(tmp_path / f'{TILE}.tif', values, descriptions=('B03', 'B08'), nodata=nodata)
    from_file = open_scene(path)
    array = rioxarray.open_rasterio(path, chunks=chunks)
    scene = open_scene(array)
    assert scene.geobox == from_file.geobox
    assert (list(scene.bands), scene.name, scene.date) == (['B03', 'B08'], TILE, '2023-06-01')
    assert scene.is_lazy == (chunks is not None)
    assert scene.band('B03').raster.block_shape == ((16, 20) if chunks else (40, 50))
    for left, right in zip(scene.bands.values(), from_file.bands.values(), strict=True):
        assert (left.scale, left.offset, left.units) == (right.scale, right.offset, right.units)
    read, valid = scene.band('nir').raster.read([2, 1], slice(3, 20), slice(30, 50))
    np.testing.assert_array_equal(read, values[::-1, 3:20, 30:50])
    if nodata:
        np.testing.assert_array_equal(valid, np.any(read != nodata, axis=0))
    else:
        assert valid is None
    array.close()


def test_slices_keep_their_place(tmp_path):
    array = rioxarray.open_rasterio(write_tiff(tmp_path / 'B02.tif', pixels()))
    scene = open_scene(array[0, 7:8, 9:20])
    assert scene.geobox.affine == Affine(10, 0, 300090, 0, -10, 5799930)
    assert (list(scene.bands), scene.shape) == (['B02'], (1, 11))
    array.close()


def test_values_that_xarray_has_scaled_are_physical(tmp_path):
    path = write_tiff(tmp_path / 'B02.tif', pixels())
    with rioxarray.open_rasterio(path) as array:
        array.attrs |= {'scale_factor': 0.0001, 'add_offset': -0.1}
        band = open_scene(array).band('B02')
        assert (band.scale, band.offset, band.units) == (0.0001, -0.1, 'reflectance')
        scaled = array * 1e-4 - 0.1
        scaled.encoding |= {'scale_factor': 0.0001, 'add_offset': -0.1}
        band = open_scene(scaled.rename('B02')).band('B02')
        assert (band.scale, band.offset, band.units) == (1.0, 0.0, 'reflectance')


def test_rotated_arrays(tmp_path):
    rotated = Affine(8, 6, 3e5, 6, -8, 58e5)
    with rioxarray.open_rasterio(write_tiff(tmp_path / 'a.tif', pixels(), transform=rotated)) as array:
        assert open_scene(array).geobox.affine == rotated


def test_odc_dataset_with_a_variable_for_each_band():
    geobox = GeoBox((30, 40), Affine(0.0001, 0, 13, 0, -0.0001, 52), 'EPSG:4326')
    layer = xr_zeros(geobox, 'uint16', chunks=(10, 10))
    assert layer.dims == ('latitude', 'longitude')
    source = xr.Dataset({name: layer.assign_attrs(nodata=0) for name in ('red', 'nir', 'rededge1')})
    source['scl'] = layer.astype('uint8')
    scene = open_scene(source.expand_dims(time=[np.datetime64('2020-01-02')]), name='a field/1')
    assert (list(scene.bands), scene.name) == (['red', 'nir', 'rededge1', 'scl'], 'a_field_1')
    assert (scene.sensor, scene.date, scene.is_lazy) == ('Sentinel-2', '2020-01-02', True)
    assert scene.crs.epsg == 4326
    np.testing.assert_allclose(scene.geobox.affine, geobox.affine, atol=1e-9)
    assert scene.gsd == pytest.approx(8.7, rel=0.02)
    band = scene.band('B08')
    assert (band.name, band.scale, band.units) == ('nir', 0.0001, 'reflectance')
    assert not band.raster.read([1], ALL, ALL)[1].any()
    assert describe(scene)['lazy'] is True


@pytest.mark.parametrize('shift', [0.0, 5.0])
def test_stackstac_corners_or_centres(shift):
    values = pixels(2, dtype='float64')
    scene = open_scene(stacked(values, shift=shift).rename(f'stackstac-{"0" * 32}'))
    assert scene.name == 'array'
    assert scene.geobox == GeoBox((40, 50), Affine(10, 0, 300000, 0, -10, 5800000), 'EPSG:32633')
    assert (list(scene.bands), scene.date) == (['B04', 'B8A'], '2023-06-01')
    np.testing.assert_array_equal(scene.band('red').raster.read([1], ALL, ALL)[0][0], values[0])
    part = open_scene(stacked(values, shift=shift)[:, :, 5:6, 7:8])
    assert part.geobox.affine == Affine(10, 0, 300070, 0, -10, 5799950)


def test_dask_computes_the_window_alone():
    computed = []

    def block(value, block_info=None):
        computed.append(block_info[None]['chunk-location'])
        return value

    lazy = da.zeros((2, 40, 50), chunks=(1, 10, 10)).map_blocks(block, dtype='float64')
    with dask.config.set(scheduler='synchronous'):
        scene = open_scene(stacked(lazy))
        assert (scene.is_lazy, len(scene.fingerprint)) == (True, 64)
        assert computed == []
        scene.band('B04').raster.read([1], slice(0, 10), slice(10, 20))
    assert computed == [(0, 0, 1)]


def test_reading_gives_a_copy():
    values = pixels(2, dtype='float64')
    read, _ = open_scene(stacked(values)).band('B04').raster.read([1], ALL, ALL)
    read[:] = 0
    assert values.all()


def test_errors_behind_an_array_tell_the_window():
    def fail(_):
        raise OSError('disk is gone')

    lazy = da.zeros((2, 40, 50)).map_blocks(fail, dtype='float64', meta=np.zeros((0, 0, 0)))
    with pytest.raises(ReadError, match=r'<array>: cannot read rows 3:5, columns 0:9.*disk is gone'):
        open_scene(stacked(lazy)).band('B04').raster.read([1], slice(3, 5), slice(0, 9))


def test_fingerprint_follows_the_values():
    values = pixels(2, dtype='float64')
    first = open_scene(stacked(values)).fingerprint
    assert open_scene(stacked(values.copy())).fingerprint == first
    assert open_scene(stacked(values, shift=2.0)).fingerprint != first
    values[1, 20, 20] += 1
    assert open_scene(stacked(values)).fingerprint != first


def test_names_by_the_user_and_without_coordinates():
    scene = open_scene(xr.DataArray(pixels(2), dims=('band', 'y', 'x')), bands=['B02', 'red'])
    assert (list(scene.bands), scene.crs, scene.shape) == (['B02', 'red'], None, (40, 50))
    assert any(note.startswith('no CRS') for note in scene.notes)
    scene = open_scene(xr.DataArray(pixels(3, dtype='uint8'), dims=('band', 'y', 'x')))
    assert list(scene.bands) == ['red', 'green', 'blue']
    assert list(open_scene(xr.DataArray(pixels()[0], dims=('y', 'x'), name='VV')).bands) == ['VV']


def test_arrays_that_are_no_scene():
    values = pixels(2, dtype='float64')
    times = xr.concat([stacked(values)] * 3, dim='time')
    with pytest.raises(UsageError, match=r"3 steps along 'time'; select one first.*isel\(time=0\)"):
        open_scene(times)
    with pytest.raises(UsageError, match="dimensions a, b; rename those in space to 'y' and 'x'"):
        open_scene(xr.DataArray(np.zeros((3, 4)), dims=('a', 'b')))
    uneven = stacked(values)
    uneven = uneven.assign_coords(x=np.arange(50.0) ** 2)
    with pytest.raises(SceneError, match="'x' is not evenly spaced"):
        open_scene(uneven)
    with pytest.raises(UsageError, match='bool values'):
        open_scene(stacked(values) > 0)
    with pytest.raises(SceneError, match='no variables'):
        open_scene(xr.Dataset())
    with pytest.raises(UsageError, match="'B02' twice"):
        open_scene(xr.Dataset({name: stacked(values)[0, 0].drop_vars('band') for name in ('b2', 'B02')}))

"""Scenes in places and CRS that few have: sites, other planets, the poles, half a continent."""

import warnings

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from geores.errors import SceneError, UsageError
from geores.inference import GridReader
from geores.inference.target import _metric_crs, target_grid
from geores.scenes import open_scene

from ..scene_fixtures import metadata, pixels, write_tiff

SITES = {
    'local': CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'),
    'engineering': CRS.from_wkt(
        'ENGCRS["site",EDATUM["peg"],CS[Cartesian,2],AXIS["(E)",east],AXIS["(N)",north],LENGTHUNIT["metre",1]]'
    ),
    'mars': CRS.from_string('+proj=eqc +R=3396190 +units=m'),
    'moon': CRS.from_string('+proj=longlat +R=1737400'),
    'geocentric': CRS.from_epsg(4978),
}


@pytest.mark.parametrize('name', SITES)
def test_a_crs_that_is_not_of_the_earth_is_taken_as_none(geores, tmp_path, name):
    image = pixels(3, 64, 64, 'uint8')
    options = {'crs': SITES[name], 'transform': from_origin(0, 64, 1, 1), 'photometric': 'RGB'}
    path = write_tiff(tmp_path / 'a.tif', image, **options)
    scene = open_scene(path)
    assert scene.crs is None
    assert scene.gsd is None
    assert any('taken as one without CRS' in note for note in scene.notes) or name == 'geocentric'
    assert geores('info', path).code == 0
    grid = target_grid(scene, (0.3, 30)).grid
    assert GridReader(scene, ['red'], grid).read(slice(0, 64), slice(0, 64))[0].mean() == image[0].mean()


def geographic(tmp_path, left, top, size, side=120):
    image = np.full((3, side, side), 90, 'uint8')
    options = {'crs': 'EPSG:4326', 'transform': from_origin(left, top, size, size), 'photometric': 'RGB'}
    return open_scene(write_tiff(tmp_path / 'a.tif', image, **options))


@pytest.mark.parametrize(
    ('left', 'top', 'size', 'crs'),
    [
        (20, 88, 1e-4, 'EPSG:5041'),
        (-179, 86, 1e-4, 'EPSG:5041'),
        (100, -81, 1e-4, 'EPSG:5042'),
        (-60, -85, 1e-4, 'EPSG:5042'),
        (20, 83.9, 1e-4, 'EPSG:32634'),
        (20, -79.9, 1e-4, 'EPSG:32734'),
        (0, 52, 0.2, 'laea'),
        (0, 52, 0.05, 'EPSG:32631'),
        (350, 52, 1e-4, 'EPSG:32629'),
    ],
)
def test_degrees_come_to_metres_everywhere(tmp_path, left, top, size, crs):
    scene = geographic(tmp_path, left, top, size)
    target = target_grid(scene, (scene.gsd, scene.gsd))
    found = target.grid.crs
    assert 'Azimuthal' in found.to_wkt() if crs == 'laea' else str(found) == crs
    rows, cols = target.grid.shape.yx
    values, valid = GridReader(scene, ['red', 'green', 'blue'], target.grid).read(
        slice(0, rows), slice(0, cols)
    )
    assert (values[:, valid] == 90).all()
    seen = valid.sum() * abs(target.grid.affine.determinant)
    degrees = 120 * size
    middle = np.radians(top - degrees / 2)
    ground = (np.radians(degrees) * 6371e3) ** 2 * np.cos(middle)
    assert seen == pytest.approx(ground, rel=0.05)


def test_scenes_of_half_the_world_are_refused_with_advice(tmp_path):
    with pytest.raises(UsageError, match='gdalwarp -t_srs EPSG:6933'):
        target_grid(geographic(tmp_path, -60, 60, 1.0), (1, 1e6))


@settings(max_examples=40, deadline=None)
@given(st.floats(-180, 179), st.floats(-89, 89.9), st.floats(1e-4, 8))
def test_a_crs_in_metres_is_found_for_every_place(left, top, span):
    step = span / 50
    box = GeoBox((50, 50), from_origin(left, max(top, -89.9 + span), step, step), 'EPSG:4326')
    assert _metric_crs(box)[0]


def test_placed_by_polynomials_alone_is_said(tmp_path):
    one = [1.0] + [0.0] * 19
    path = tmp_path / 'a.tif'
    write_tiff(path, pixels(3, 64, 64, 'uint8'), crs=None, photometric='RGB')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        file = rasterio.open(path, 'r+')
    with file:
        file.rpcs = RPC(0, 1, 52, 1, one, one, 32, 32, 12, 1, one, one, 32, 32, None, None)
    assert any('gdalwarp -rpc' in note for note in open_scene(path).notes)


@pytest.mark.parametrize('size', [1e-5, 2e-5, 1e-4])
def test_coordinates_in_single_precision(size):
    image = pixels(3, 64, 64, 'uint8')
    coords = {
        'band': ['red', 'green', 'blue'],
        'lat': (52 - size * np.arange(64)).astype('float32'),
        'lon': (12 + size * np.arange(64)).astype('float32'),
    }
    array = xr.DataArray(image, dims=('band', 'lat', 'lon'), coords=coords).rio.write_crs('EPSG:4326')
    assert open_scene(array).geobox.affine.a == pytest.approx(size, rel=0.02)
    uneven = array.assign_coords(lon=12 + size * np.arange(64) ** 1.1)
    with pytest.raises(SceneError, match='not evenly spaced'):
        open_scene(uneven)


def test_what_is_given_instead_of_a_scene_is_named(tmp_path):
    (tmp_path / 'MTD_MSIL2A.xml').write_text(metadata('L2A'))
    with pytest.raises(SceneError, match='metadata of a product; give its folder'):
        open_scene(tmp_path / 'MTD_MSIL2A.xml')
    with pytest.raises(SceneError, match='unpack it'):
        open_scene(f'/vsizip/{tmp_path}/a.zip/a.tif')

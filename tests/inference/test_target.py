"""The grid of a scene for a model."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from geores.errors import UsageError
from geores.inference import GridReader
from geores.inference.target import target_grid
from geores.scenes import open_scene

from ..reader_fixtures import CORNER, UTM, everywhere, noise, write


class TestTargetGrid:
    """The grid of a scene for a model."""

    @pytest.fixture
    def scene(self, tmp_path):
        return open_scene(write(tmp_path / 'scene.tif', noise((100, 60))[None]))

    def test_native_pixels_where_the_model_takes_them(self, scene):
        target = target_grid(scene, (8, 12))
        assert target.grid == scene.geobox
        assert target.gsd == pytest.approx(10, rel=0.01)

    def test_resampled_to_the_nearest_size_that_the_model_takes(self, scene):
        target = target_grid(scene, (20, 40))
        assert target.grid.shape.yx == (50, 30)
        assert target.grid.affine.a == pytest.approx(20, rel=0.01)
        assert target.notes

    def test_resolution_in_ground_metres(self, scene):
        assert target_grid(scene, (8, 12), resolution=30).grid.shape.yx == (34, 20)

    def test_ground_metres_in_web_mercator(self, tmp_path):
        path = write(tmp_path / 'mercator.tif', noise((100, 60))[None], 16.2, crs='EPSG:3857')
        scene = open_scene(path)
        target = target_grid(scene, (8, 12))
        assert target.grid == scene.geobox
        assert target.gsd == pytest.approx(11.3, abs=0.2)

    def test_pixels_that_are_no_squares_become_squares_of_their_area(self, tmp_path):
        path = tmp_path / 'wide.tif'
        with rasterio.open(
            path, 'w', driver='GTiff', count=1, height=80, width=40, dtype='uint8',
            crs=UTM, transform=Affine(20, 0, CORNER[0], 0, -10, CORNER[1]),
        ) as file:  # fmt: skip
            file.write(np.full((1, 80, 40), 7, 'uint8'))
        scene = open_scene(path)
        target = target_grid(scene, (8, 20))
        assert target.grid.affine.a == -target.grid.affine.e == pytest.approx(200**0.5)
        assert target.grid.shape.yx == (57, 57)
        assert target.grid.extent.contains(scene.geobox.extent)
        assert '20 x 10' in target.notes[0]
        values, valid = GridReader(scene, list(scene.bands), target.grid).read(*everywhere(target.grid))
        assert valid[:56, :56].all()
        assert (values[0][valid] == 7).all()
        assert target_grid(scene, (8, 20), resolution=10).grid.shape.yx == (81, 81)

    def test_geographic_scenes_come_to_utm(self, tmp_path):
        path = tmp_path / 'lonlat.tif'
        with rasterio.open(
            path, 'w', driver='GTiff', count=1, height=80, width=80, dtype='uint8',
            crs='EPSG:4326', transform=Affine(1e-4, 0, 12.0, 0, -1e-4, 52.0),
        ) as file:  # fmt: skip
            file.write(noise((1, 80, 80), dtype='uint8'))
        target = target_grid(open_scene(path), (5, 15))
        assert target.grid.crs.epsg == 32633
        assert target.notes

    def test_bbox_and_area_cut_whole_pixels(self, scene, tmp_path):
        left, top = CORNER
        target = target_grid(scene, (8, 12), bbox=(left + 15, top - 95, left + 200, top - 21))
        assert target.grid.shape.yx == (8, 19)
        assert target.grid.affine.c == left + 10
        assert target.grid.affine.f == top - 20
        triangle = shapely.Polygon([(left, top), (left + 300, top), (left, top - 300)])
        path = tmp_path / 'area.geojson'
        gpd.GeoDataFrame(geometry=[triangle], crs=UTM).to_crs(4326).to_file(path)
        target = target_grid(scene, (8, 12), aoi=path)
        _, valid = GridReader(scene, list(scene.bands), target.grid, area=target.area).read(
            *everywhere(target.grid)
        )
        assert valid.sum() == pytest.approx(450, abs=35)

    @pytest.mark.parametrize(
        ('options', 'match'),
        [
            ({'bbox': (0, 0, 10, 10)}, 'does not overlap'),
            ({'bbox': (10, 0, 0, 10)}, 'west, south'),
            ({'bbox': (0, 0, 1, 1), 'bbox_crs': 'nonsense'}, 'bbox-crs'),
            ({'aoi': 'nowhere.gpkg'}, 'nowhere'),
        ],
    )
    def test_bad_boxes(self, scene, options, match):
        with pytest.raises(UsageError, match=match):
            target_grid(scene, (8, 12), **options)

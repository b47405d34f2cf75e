"""Polygons of class maps: they cover the map, and their areas are its pixels'."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geores.cartography.areas import Tally
from geores.cartography.class_raster import confidence_raster, write_classes
from geores.cartography.polygons import Edges, class_polygons, outlines, polygon_files, sieved, write_polygons
from geores.errors import UsageError

from ..cartography_fixtures import GRIDS, LEGEND, blocks, class_array, grid, xml_of

MAPS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 4))
)


def written(folder, values, kind='utm'):
    path = folder / 'a_classes.tif'
    return path, write_classes(path, blocks(values), grid(values.shape, kind), LEGEND)


@given(values=MAPS, kind=st.sampled_from(['utm', 'turned', 'geographic']))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_areas_are_those_of_the_pixels(tmp_path, values, kind):
    path, tally = written(tmp_path, values, kind)
    frame = class_polygons(path, LEGEND, min_area=0)
    found = np.bincount(frame['value'], frame['area_m2'], 5)
    if kind == 'geographic':
        np.testing.assert_allclose(found[1:], tally.areas[1:], rtol=1e-9)
    else:
        assert (found[1:] == tally.areas[1:]).all()
        np.testing.assert_allclose(frame.area, frame['area_m2'], rtol=1e-6)
    assert frame.is_valid.all()
    assert (frame['label'] == np.array(LEGEND.labels)[frame['value'] - 1]).all()


@given(values=MAPS, rows=st.data())
@settings(max_examples=60, deadline=None)
def test_sums_over_polygons(values, rows):
    weights = rows.draw(arrays(np.uint8, values.shape))
    parts = list(outlines(values))
    edges = Edges.together(parts)
    count = sum(len(part.values) for part in parts)
    sums = edges.raster_sums(iter(weights), values.shape[1], count)
    numbers = np.concatenate([part.values for part in parts]) if parts else np.zeros(0, int)
    for value in range(1, 5):
        assert sums[numbers == value].sum() == weights[values == value].sum(dtype=int)
    pixels = edges.row_sums(np.ones(len(values)), count)
    assert pixels.sum() == (values > 0).sum()
    assert (sums <= 255 * pixels).all()


@given(values=MAPS, least=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_small_areas_go_to_a_neighbour(values, least):
    whole = sieved(values, least)
    assert ((whole > 0) == (values > 0)).all()  # nothing is left out, and nothing grows
    assert np.isin(whole, values).all()


def test_the_least_area(tmp_path):
    values = class_array()
    values[150, 150] = values[150, 151] % 4 + 1
    path, _ = written(tmp_path, values)
    whole, usual, large = (class_polygons(path, LEGEND, min_area=least) for least in (0, None, 20_000))
    assert len(whole) > len(usual) > len(large)
    assert whole['area_m2'].min() == 100
    assert usual['area_m2'].min() >= 500
    assert large['area_m2'].min() >= 20_000
    assert whole['area_m2'].sum() == usual['area_m2'].sum() == large['area_m2'].sum()


@pytest.mark.parametrize('kind', GRIDS)
def test_simplified_polygons_still_cover_the_map(tmp_path, kind):
    path, _ = written(tmp_path, class_array(), kind)
    tolerance = {'geographic': 1.5e-3, 'nowhere': 1.5}.get(kind, 15)
    plain, simple = (class_polygons(path, LEGEND, simplify=size) for size in (0, tolerance))
    assert len(plain) == len(simple)
    assert shapely.get_num_coordinates(simple.geometry.values).sum() < (
        shapely.get_num_coordinates(plain.geometry.values).sum()
    )
    assert shapely.coverage_is_valid(simple.geometry.values)
    assert simple.is_valid.all()
    unit = 'area_px' if kind == 'nowhere' else 'area_m2'
    assert (plain[unit] == simple[unit]).all()
    union = shapely.union_all(simple.geometry.values), shapely.union_all(plain.geometry.values)
    assert shapely.area(union[0]) == pytest.approx(shapely.area(union[1]), rel=0.01)


@pytest.mark.parametrize('suffix', ['.gpkg', '.parquet'])
@pytest.mark.parametrize('kind', GRIDS)
def test_files(tmp_path, suffix, kind):
    values = class_array()
    classes, tally = written(tmp_path, values, kind)
    confidence = tmp_path / 'a_confidence.tif'
    sure = np.where(values > 0, 51 * values, 0).astype('uint8')
    with confidence_raster(confidence, grid(values.shape, kind)) as bands:
        bands.write(slice(0, 300), slice(0, 280), sure)
    path = tmp_path / f'a_polygons{suffix}'
    count = write_polygons(classes, path, LEGEND, min_area=0, confidence=confidence)
    frame = gpd.read_parquet(path) if suffix == '.parquet' else gpd.read_file(path)
    assert len(frame) == count
    assert list(frame.columns[:2]) == ['label', 'value']
    np.testing.assert_allclose(frame['confidence'], frame['value'] / 5, rtol=1e-6)
    assert frame.iloc[:, 2].sum() == pytest.approx(tally.areas[1:].sum())
    assert (frame.crs is None) == (kind == 'nowhere')
    style = xml_of(polygon_files(path)[0])
    shown = {one.attrib['value'] for one in style.iter('category')}
    assert shown == set(LEGEND.labels)
    assert style.find('renderer-v2').attrib['attr'] == 'label'


@pytest.mark.parametrize('suffix', ['.gpkg', '.parquet'])
def test_a_map_of_nothing(tmp_path, suffix):
    classes, _ = written(tmp_path, np.zeros((30, 40), 'uint8'))
    path = tmp_path / f'a{suffix}'
    assert write_polygons(classes, path, LEGEND, simplify=10) == 0
    frame = gpd.read_parquet(path) if suffix == '.parquet' else gpd.read_file(path)
    assert frame.empty
    assert {'label', 'value', 'area_m2'} <= set(frame.columns)


@pytest.mark.parametrize(
    ('name', 'options', 'said'),
    [
        ('a.shp', {}, 'polygons are written as .gpkg or .parquet'),
        ('a.gpkg', {'min_area': -1}, 'min-area must be 0 or more'),
        ('a.gpkg', {'simplify': float('nan')}, 'simplify must be 0 or more'),
    ],
)
def test_options_out_of_range(tmp_path, name, options, said):
    with pytest.raises(UsageError, match=said):
        write_polygons(tmp_path / 'none.tif', tmp_path / name, LEGEND, **options)


def test_confidence_of_another_map_is_refused(tmp_path):
    classes, _ = written(tmp_path, class_array())
    other = tmp_path / 'other.tif'
    with confidence_raster(other, grid((10, 10))):
        pass
    with pytest.raises(UsageError, match='rows and columns'):
        class_polygons(classes, LEGEND, confidence=other)


def test_tally_of_no_windows():
    assert Tally.of(grid((3, 3)), LEGEND).areas.sum() == 0

"""Drawing a sample of a map."""

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.transform import Affine, from_origin

import geores as library
from geores.errors import UsageError

from ..fixtures import GRID, write_scene
from ..sample_fixtures import NAMES, class_values, value_at


@pytest.fixture
def class_map(tmp_path):
    return write_scene(tmp_path / 'map.tif', bands=('class',), values=class_values()[None], nodata=0)


def test_sample_holds_what_was_designed(class_map):
    drawn = library.sample(class_map, size=90, min_per_class=20, classes=NAMES, seed=3)
    values = class_values()
    counts = {stratum.map_class: stratum.sample for stratum in drawn.design.strata}
    assert sum(counts.values()) == 90
    assert counts['Water'] == counts['Forest'] == 20 or min(counts.values()) >= 20
    assert drawn.points['map_class'].value_counts().to_dict() == counts
    places, found = value_at(class_map, drawn.points)
    assert [NAMES[value] for value in found] == drawn.points['map_class'].tolist()
    assert len(set(places)) == 90
    assert drawn.points['id'].tolist() == list(range(1, 91))
    assert drawn.points['reference'].isna().all()
    assert drawn.points.crs == 'EPSG:32633'
    for stratum in drawn.design.strata:
        assert stratum.units == (values == stratum.value).sum()
        assert stratum.area == stratum.units * 100


def test_order_tells_nothing_of_the_map(class_map):
    points = library.sample(class_map, size=90, allocation='equal').points
    changes = (points['stratum'].diff().fillna(0) != 0).sum()
    assert changes > 40
    assert not points['y'].is_monotonic_decreasing


def test_same_seed_same_sample(class_map):
    first, again, other = (library.sample(class_map, size=40, seed=seed).points for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first, again)
    assert not first.geometry.equals(other.geometry)


@pytest.mark.parametrize('blocks', [16, 32, None])
@pytest.mark.parametrize('budget', [1, 700, 2**20])
def test_sample_does_not_depend_on_blocks(tmp_path, class_map, monkeypatch, blocks, budget):
    expected = library.sample(class_map, size=50, seed=1).points
    monkeypatch.setattr('geores.map_accuracy.class_maps.BLOCK_VALUES', budget)
    path = tmp_path / 'blocks.tif'
    write_scene(path, bands=('class',), values=class_values()[None], nodata=0, blocks=blocks)
    pd.testing.assert_frame_equal(library.sample(path, size=50, seed=1).points, expected)


@given(
    height=st.integers(3, 40),
    width=st.integers(3, 40),
    seed=st.integers(0, 1000),
    size=st.integers(8, 300),
    allocation=st.sampled_from(['recommended', 'proportional', 'equal']),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_map_any_size(tmp_path, height, width, seed, size, allocation):
    values = class_values(height, width, seed)
    values[0, 0] = 2
    path = write_scene(tmp_path / 'any.tif', bands=('class',), values=values[None], nodata=0)
    drawn = library.sample(path, size=size, allocation=allocation, seed=seed)
    assert len(drawn.points) == min(size, (values > 0).sum())
    places, found = value_at(path, drawn.points)
    assert len(set(places)) == len(places)
    assert list(map(str, found)) == drawn.points['map_class'].tolist()
    told = {stratum.map_class: stratum.sample for stratum in drawn.design.strata}
    assert drawn.points['map_class'].value_counts().to_dict() == {k: n for k, n in told.items() if n}


def test_every_pixel_is_equally_likely(tmp_path):
    values = np.ones((1, 5, 8), 'uint8')
    path = write_scene(tmp_path / 'one.tif', bands=('class',), values=values)
    hits = np.zeros((5, 8))
    for seed in range(80):
        points = library.sample(path, size=20, seed=seed).points
        cols, rows = ~GRID @ (points['x'].to_numpy(), points['y'].to_numpy())
        np.add.at(hits, (rows.astype(int), cols.astype(int)), 1)
    # Drawn without replacement: 39 degrees of freedom, and the value that one in a thousand exceeds.
    assert ((hits - 40) ** 2 / (40 * 0.5) * 39 / 40).sum() < 72.05


def test_scores_and_tiles_of_classify(tmp_path, bundle):
    scene = write_scene(tmp_path / 'scene.tif')
    result = library.classify(scene, bundle, tile=32, stride=16)
    paths = result.save(tmp_path / 'out')
    best = result.scores.values.argmax(0)
    cells = library.sample(paths['scores'], size=30, min_per_class=5)
    with rasterio.open(paths['scores']) as file:
        for _, row in cells.points.iterrows():
            place = file.index(row['x'], row['y'])
            assert result.card.labels[best[place]] == row['map_class']
    assert sum(stratum.units for stratum in cells.design.strata) == best.size
    tiles = library.sample(paths['tiles'], size=30, min_per_class=5, geometry='polygon')
    table = result.tiles.set_index(result.tiles.geometry.to_wkb())
    for _, row in tiles.points.iterrows():
        scores = table.loc[row.geometry.wkb, list(result.card.labels)]
        assert scores.astype(float).idxmax() == row['map_class']
    area = sum(stratum.area for stratum in tiles.design.strata)
    assert area == pytest.approx(200 * 264 * 100, rel=1e-3)  # on the ground, not in the UTM zone


def test_names_from_the_side_file(tmp_path, class_map):
    names = ''.join(f'<Category>{name}</Category>' for name in ('', 'Sea', 'Wood', 'Land'))
    side = tmp_path / 'map.tif.aux.xml'
    band = f'<PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand>'
    side.write_text(f'<PAMDataset>{band}</PAMDataset>')
    strata = library.sample(class_map, size=20).design.strata
    assert [stratum.map_class for stratum in strata] == ['Sea', 'Wood', 'Land']
    side.write_text(f'<!DOCTYPE a [<!ENTITY b "c">]><PAMDataset>{band}</PAMDataset>')
    assert [stratum.map_class for stratum in library.sample(class_map, size=20).design.strata] == list('123')


def test_names_from_an_attribute_table(tmp_path, class_map):
    fields = '<FieldDefn index="0"><Name>v</Name><Type>0</Type><Usage>5</Usage></FieldDefn>'
    fields += '<FieldDefn index="1"><Name>n</Name><Type>2</Type><Usage>2</Usage></FieldDefn>'
    rows = ''.join(f'<Row><F>{value}</F><F>{name}</F></Row>' for value, name in NAMES.items())
    table = f'<GDALRasterAttributeTable>{fields}{rows}</GDALRasterAttributeTable>'
    (tmp_path / 'map.tif.aux.xml').write_text(
        f'<PAMDataset><PAMRasterBand band="1">{table}</PAMRasterBand></PAMDataset>'
    )
    strata = library.sample(class_map, size=20).design.strata
    assert [stratum.map_class for stratum in strata] == list(NAMES.values())


def test_classes_leave_other_values_out(class_map):
    design = library.sample(class_map, size=20, classes={3: 'Field', 1: 'Water'}).design
    assert [(stratum.map_class, stratum.value) for stratum in design.strata] == [('Field', 3), ('Water', 1)]
    assert any('not listed' in note for note in design.notes)


def test_size_from_a_standard_error(class_map):
    expected = {'Water': 0.7, 'Forest': 0.8, 'Field': 0.9}
    each = library.sample(class_map, standard_error=0.02, expected_accuracy=expected, classes=NAMES)
    shares = np.array([stratum.area for stratum in each.design.strata])
    spread = np.sqrt(np.array(list(expected.values())) * (1 - np.array(list(expected.values()))))
    assert each.design.size <= np.ceil(((shares / shares.sum() * spread).sum() / 0.02) ** 2)
    assert each.design.size > 150
    with pytest.raises(UsageError, match="lacks 'Forest'"):
        library.sample(class_map, standard_error=0.02, expected_accuracy={'Water': 1}, classes=NAMES)
    with pytest.raises(UsageError, match="names 'Sea'"):
        library.sample(class_map, standard_error=0.02, expected_accuracy=expected | {'Sea': 1}, classes=NAMES)


def test_areas_on_the_ground(tmp_path):
    values = class_values(20, 10)[None]
    degrees = from_origin(13, 60, 0.5, 0.5)
    path = write_scene(
        tmp_path / 'degrees.tif',
        bands=('class',),
        values=values,
        nodata=0,
        crs='EPSG:4326',
        transform=degrees,
    )
    design = library.sample(path, size=20, classes=NAMES).design
    geod = Geod(ellps='WGS84')
    for stratum in design.strata:
        rows = np.nonzero(values[0] == stratum.value)[0]
        tops = 60 - 0.5 * rows
        # Along parallels, not geodesics: many short edges.
        lon = np.linspace(13, 13.5, 200)
        area = sum(
            -geod.polygon_area_perimeter([*lon, *lon[::-1]], [*np.full(200, top), *np.full(200, top - 0.5)])[
                0
            ]
            for top in tops
        )
        assert stratum.area == pytest.approx(area, rel=1e-5)
    assert any('equally likely' in note for note in design.notes)
    mercator = from_origin(1_450_000, 6_800_000, 100, 100)
    path = write_scene(
        tmp_path / 'mercator.tif', bands=('class',), values=values, crs='EPSG:3857', transform=mercator
    )
    design = library.sample(path, size=20).design
    total = sum(stratum.area for stratum in design.strata)
    assert total == pytest.approx(200 * 100**2 * np.cos(np.radians(52)) ** 2, rel=0.02)
    assert any('distorts' in note for note in design.notes)


def test_pixels_of_a_turned_map(tmp_path):
    turned = GRID * Affine.rotation(30)
    path = write_scene(
        tmp_path / 'turned.tif', bands=('class',), values=class_values()[None], nodata=0, transform=turned
    )
    points = library.sample(path, size=30, geometry='polygon').points
    np.testing.assert_allclose(points.area, 100)
    _, found = value_at(path, points)
    assert list(map(str, found)) == points['map_class'].tolist()

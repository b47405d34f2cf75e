"""True areas, sizes, shapes, and which objects lie in a tile."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from shapely import affinity
from shapely.geometry import LineString, MultiPolygon, Point, box

from geores.osm import Features, Ground, OSMObject, collect, shape_of, size_of
from geores.osm.features import default_limits
from geores.question_sets.tiles import Counting, SceneObjects
from geores.questions.forms import Area, Comparison, Count, Objects, Presence, Relation, RuralUrban

GEOD = Geod(ellps='WGS84')
COUNTING = Counting(min_share=0.5, limits=(3_000.0, 10_000.0), next_to=100.0)
TILE = (500_000.0, 5_700_000.0, 501_000.0, 5_701_000.0)
UTM = 'EPSG:32633'


def features(*parts):
    """Objects given in UTM 33N, relative to the tile's lower left."""
    back = Transformer.from_crs(UTM, 'EPSG:4326', always_xy=True)
    found = []
    for number, (category, shape) in enumerate(parts):
        moved = affinity.translate(shape, TILE[0], TILE[1])
        lonlat = shapely.transform(moved, lambda xy: np.column_stack(back.transform(*xy.T)))
        kind = 'line' if shape.geom_type == 'LineString' else 'area'
        found.append(OSMObject(f'way/{number}', kind, (category,), lonlat))
    return collect(found)


def tile(*parts, counting=COUNTING, bounds=TILE):
    return SceneObjects.place(features(*parts), Ground(15.0, 51.4, UTM), 10.0).tile(bounds, counting)


@settings(deadline=None, max_examples=40)
@given(
    st.floats(-175, 175),
    st.floats(-75, 75),
    st.floats(20, 2_000),
    st.integers(0, 359),
    st.sampled_from(['utm', 'mercator']),
)
def test_areas_agree_with_geodesic_areas(longitude, latitude, side, turn, grid):
    zone = int((longitude + 180) // 6) + 1
    crs = 'EPSG:3857' if grid == 'mercator' else f'EPSG:{(32600 if latitude >= 0 else 32700) + zone}'
    ring = GEOD.fwd([longitude] * 4, [latitude] * 4, np.arange(4) * 90.0 + turn, [side] * 4)
    polygon = shapely.Polygon(np.column_stack(ring[:2]))
    true = abs(GEOD.geometry_area_perimeter(polygon)[0])
    ground = Ground(longitude + 0.3, latitude - 0.3, crs)
    area = shapely.area(ground.level(ground.place(np.array([polygon], object))))[0]
    assert area == pytest.approx(true, rel=0.005)


def test_sizes_have_limits_by_resolution():
    assert default_limits(0.15) == (100, 500)
    assert default_limits(10) == (3_000, 10_000)
    areas = np.array([0, 2_999.9, 3_000, 9_999, 10_000])
    assert list(size_of(areas, default_limits(10))) == ['small', 'small', 'medium', 'medium', 'large']


@settings(deadline=None)
@given(st.floats(5, 500), st.floats(0, 360), st.floats(1, 1.2), st.floats(1.4, 8))
def test_shapes_do_not_depend_on_size_or_direction(side, turn, even, long):
    shapes = [
        affinity.rotate(box(0, 0, side * even, side), turn),
        affinity.rotate(box(0, 0, side * long, side), turn),
        Point(0, 0).buffer(side, quad_segs=4),
    ]
    assert list(shape_of(np.array(shapes, object))) == ['square', 'rectangular', 'circular']


def test_odd_outlines_have_no_shape():
    bent = shapely.union(box(0, 0, 10, 2), box(0, 0, 2, 10))
    odd = [bent, shapely.Polygon([(0, 0), (10, 0), (5, 8)]), MultiPolygon([box(0, 0, 1, 1), box(3, 3, 4, 4)])]
    assert list(shape_of(np.array([*odd, shapely.Polygon()], object))) == [None] * 4


def test_a_courtyard_does_not_change_a_shape():
    ring = shapely.difference(box(0, 0, 10, 10), box(2, 2, 8, 8))
    assert list(shape_of(np.array([ring], object))) == ['square']


def test_objects_count_by_share_centroid_or_cover():
    facts = tile(
        ('inside', box(100, 100, 200, 200)),
        ('half', box(-100, 500, 110, 550)),  # its centroid lies inside
        ('little', box(-190, 300, 20, 330)),
        ('huge', box(-9_000, -9_000, 9_000, 150)),
        ('outside', box(2_000, 0, 2_100, 100)),
        ('touching', box(1_000, 0, 1_100, 100)),
    )
    counted = {names[0] for names, yes in zip(facts.categories, facts.counted, strict=True) if yes}
    assert counted == {'inside', 'half', 'huge'}
    assert {names[0] for names in facts.categories} == {'inside', 'half', 'huge', 'little'}
    strict = tile(('part', box(-50, 0, 51, 10)), counting=Counting(0.6, (1, 2), 1))
    assert strict.counted.all()  # the centroid
    assert not tile(('part', box(-60, 0, 50, 10)), counting=Counting(0.6, (1, 2), 1)).counted.any()


def test_sizes_are_of_the_part_inside_and_only_whole_objects_have_a_shape():
    facts = tile(('forest', box(-200, 0, 50, 100)), ('forest', box(300, 300, 400, 400)))
    assert list(facts.sizes) == ['medium', 'medium' if facts.areas[1] < 10_000 else 'large']
    assert list(facts.shapes) == [None, 'square']


def test_a_few_pixels_of_what_is_cut_off_are_not_seen():
    assert not len(tile(('forest', box(-100, 0, 5, 10))).ids)
    assert len(tile(('forest', box(1, 1, 2, 2))).ids)  # whole objects are, however small


def answer(facts, form):
    fact = facts.answer(form)
    return None if fact is None else fact.answer


def test_answers_follow_from_the_objects():
    facts = tile(
        ('forest', box(0, 0, 100, 100)),
        ('forest', box(50, 0, 150, 100)),
        ('lake', box(400, 700, 450, 750)),
        ('road', LineString([(0, 500), (1_000, 500)])),
        ('meadow', box(-100, 900, 30, 930)),
    )
    forest, lake, road = Objects('forest'), Objects('lake'), Objects('road')
    assert answer(facts, Count(forest)) == '2'
    assert answer(facts, Presence(lake)) == 'yes'
    assert answer(facts, Presence(Objects('lake', size='large'))) == 'no'
    assert answer(facts, Presence(Objects('meadow'))) is None  # too little of it to say
    # UTM's scale in the middle of its zone is 0.9996: 15,000 m² of the grid are 15,012 on the ground.
    assert answer(facts, Area(forest)) == '15012m2'
    assert answer(facts, Comparison('more', forest, lake)) == 'yes'
    assert answer(facts, Comparison('equal', road, lake)) == 'yes'
    assert answer(facts, Comparison('less', forest, lake)) == 'no'
    assert answer(facts, RuralUrban()) == 'rural'


def test_places_are_those_of_the_image_and_distances_those_of_the_ground():
    facts = tile(
        ('lake', box(400, 400, 600, 600)),
        ('forest', box(0, 501, 50, 550)),
        ('forest', box(690, 400, 800, 450)),
        ('forest', box(705, 100, 750, 150)),
    )

    def count(place):
        return answer(facts, Count(Objects('forest', relation=Relation(place, Objects('lake')))))

    assert [count(place) for place in ('top', 'bottom', 'left', 'right', 'next')] == ['1', '2', '1', '2', '1']
    beside = Objects('lake', relation=Relation('next', Objects('lake')))
    assert answer(facts, Presence(beside)) == 'no'  # nothing lies next to itself


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(-300, 1_200), st.integers(-300, 1_200), st.integers(5, 400)), max_size=8)
)
def test_what_lies_outside_changes_nothing(places):
    parts = [('forest', box(x, y, x + side, y + side)) for x, y, side in places]
    frame = box(0, 0, 1_000, 1_000)
    mine = [part for part in parts if part[1].intersects(frame)]
    if not mine:
        return
    one, other = tile(*parts), tile(*mine)
    assert len(one.ids) == len(other.ids)
    assert np.allclose(np.sort(one.areas), np.sort(other.areas))
    for form in (
        Count(Objects('forest')),
        Area(Objects('forest')),
        Presence(Objects('forest', size='small')),
    ):
        assert answer(one, form) == answer(other, form)


def test_no_objects_at_all():
    empty = Features(np.array([], object), (), np.array([], object))
    facts = SceneObjects.place(empty, Ground(15.0, 51.4, UTM), 10.0).tile(TILE, COUNTING)
    assert facts.present == ()
    assert answer(facts, Count(Objects('forest'))) == '0'

import pickle

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import LineString, Point, Polygon, box

from geores import ModelCard, load_model, open_scene
from geores.datasets import SceneTiles, SceneTilesDataModule, split_tiles
from geores.errors import BandError, DatasetError, SceneError
from geores.inference import GridReader
from geores.testing import check_dataset

from ..fixtures import GRID, RGB, noise, write_scene

CRS = 'EPSG:32633'
SIZE = 32


def rect(row, col, height=SIZE, width=SIZE):
    """A rectangle of the scene's pixels."""
    left, top = GRID @ (col, row)
    return box(left, top - 10 * height, left + 10 * width, top)


def features(geometries, classes, crs=CRS, column='kind'):
    return gpd.GeoDataFrame({column: classes}, geometry=geometries, crs=crs)


def spot(row, col):
    return Point(*(GRID @ (col, row)))


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp('scenes') / 'scene.tif', height=128, width=160)


def tiles(scene, labels, size=SIZE, **options):
    return SceneTiles(scene, labels, 'kind', RGB, size, **({'units': '8-bit'} | options))


def classes(dataset):
    """First row and column of each tile -> its class."""
    starts = [tuple(map(int, name.split('/')[1].split('_'))) for name in dataset.ids]
    return dict(zip(starts, dataset.strata, strict=True))


def test_class_is_what_covers_most_of_a_tile_from_the_share_on(scene):
    polygons = [rect(0, 0), rect(0, 32, width=16), rect(0, 48, width=10), rect(0, 64, width=15)]
    found = tiles(scene, features(polygons, ['lake', 'lake', 'wood', 'wood']))
    assert classes(found) == {(0, 0): 'lake', (0, 32): 'lake'}  # a half is enough, 15 of 32 is not
    assert found.left_out == {'share': 1, 'no label': 17, 'invalid': 0}
    assert any('1 tiles of which no class covers 0.5' in note for note in found.notes)
    assert found.positions['share'].tolist() == pytest.approx([1.0, 0.5])
    assert found.labels == ('lake',)
    lower = tiles(scene, features(polygons, ['lake', 'lake', 'wood', 'wood']), min_share=0.4)
    assert classes(lower) == {(0, 0): 'lake', (0, 32): 'lake', (0, 64): 'wood'}
    assert lower.labels == ('lake', 'wood')
    assert lower.targets.tolist() == [0, 0, 1]


def test_polygons_of_a_class_count_together_and_overlaps_once(scene):
    twice = [rect(0, 0, width=10), rect(0, 0, width=10)]
    assert not_any(scene, features(twice, ['lake', 'lake'])) == 'no class covers 0.5'
    beside = [rect(0, 0, width=10), rect(0, 10, width=10)]
    assert classes(tiles(scene, features(beside, ['lake', 'lake']))) == {(0, 0): 'lake'}


def not_any(scene, labels, **options):
    with pytest.raises(DatasetError) as error:
        tiles(scene, labels, **options)
    message = str(error.value)
    assert '\n' not in message
    return next(
        (part for part in ('no class covers 0.5', 'no tile has one class') if part in message), message
    )


def test_two_classes_that_cover_the_same_decide_nothing(scene):
    same = features([rect(0, 0), rect(0, 0), rect(32, 0)], ['lake', 'wood', 'wood'])
    found = tiles(scene, same)
    assert classes(found) == {(32, 0): 'wood'}
    assert found.left_out['several'] == 1


def test_grid_is_that_of_classify_at_the_stride(scene):
    everywhere = features([rect(0, 0, 128, 160)], ['lake'])
    assert len(tiles(scene, everywhere)) == 4 * 5
    half = tiles(scene, everywhere, stride=16)
    assert len(half) == 7 * 9
    assert sorted(classes(half)) == [(r, c) for r in range(0, 97, 16) for c in range(0, 129, 16)]


def test_points_decide_by_the_class_inside(scene):
    points = [spot(40, 40), spot(41, 42), spot(100, 100), spot(110, 110), spot(5, 150)]
    named = ['lake', 'lake', 'wood', 'lake', 'wood']
    found = tiles(scene, features(points, named), placement='grid')
    assert classes(found) == {(32, 32): 'lake', (0, 128): 'wood'}
    assert found.left_out['several'] == 1
    assert any('points of two classes' in note for note in found.notes)


def test_points_are_centred_by_default_and_tiles_lie_whole_in_the_scene(scene):
    found = tiles(scene, features([spot(60, 70), spot(2, 3), spot(127, 159)], ['a', 'b', 'c']))
    assert classes(found) == {(44, 54): 'a', (0, 0): 'b', (96, 128): 'c'}


def test_centred_polygons(scene):
    small = features([rect(50, 50, 8, 8), rect(100, 20, 24, 24)], ['a', 'b'])
    found = tiles(scene, small, placement='centred', min_share=0.05)
    assert classes(found) == {(38, 38): 'a', (96, 16): 'b'}


def test_pixels_are_those_that_inference_reads(scene):
    found = tiles(scene, features([rect(32, 64)], ['lake']))
    opened = open_scene(scene)
    values, _ = GridReader(opened, RGB, opened.geobox).read(slice(32, 64), slice(64, 96))
    sample = found[0]
    assert np.array_equal(sample['image'].numpy(), values)
    assert sample['label'] == 0
    assert sample['bounds'] == rect(32, 64).bounds
    assert sample['source'] == 'scene'
    assert found.side == 320.0


def test_units_are_brought_to_the_cards(tmp_path):
    fractions = noise(3, 128, 160, 'float32') / 1000
    path = write_scene(tmp_path / 'reflectance.tif', values=fractions)
    found = tiles(path, features([rect(0, 0)], ['lake']), units='reflectance*10000')
    assert np.allclose(found[0]['image'], fractions[:, :32, :32] * 1e4, rtol=1e-5)
    assert any('states no scale' in note for note in found.notes)


def test_for_card_takes_everything_from_the_card(scene, bundle):
    card = load_model(bundle).card
    found = SceneTiles.for_card(card, scene, features([rect(0, 0)], ['lake']), 'kind')
    assert (found.bands, found.size) == (card.bands, card.input_size)
    coarse = ModelCard(**(card.to_dict() | {'gsd': (20.0, 20.0), 'format_version': 1}))
    coarser = SceneTiles.for_card(coarse, scene, features([rect(0, 0, 64, 64)], ['lake']), 'kind')
    assert coarser.side == 640.0
    assert any('brought to 20 m' in note for note in coarser.notes)


def test_labels_of_another_crs_are_reprojected_and_that_is_said(scene, tmp_path):
    labels = features([rect(0, 0), rect(32, 32)], ['lake', 'wood'])
    labels.to_crs('EPSG:4326').to_file(tmp_path / 'labels.gpkg')
    found = tiles(scene, tmp_path / 'labels.gpkg')
    assert classes(found) == {(0, 0): 'lake', (32, 32): 'wood'}
    assert 'labels.gpkg: reprojected from EPSG:4326 to EPSG:32633' in found.notes
    assert found.positions.crs == CRS


def test_invalid_polygons_are_mended_and_empty_ones_dropped(scene):
    (left, bottom, right, top) = rect(0, 0, 64, 64).bounds
    bowtie = Polygon([(left, top), (right, bottom), (right, top), (left, bottom)])
    given = [bowtie, Polygon(), None, rect(64, 64), rect(96, 96)]
    found = tiles(scene, features(given, ['lake', 'lake', 'wood', 'wood', None]))
    assert classes(found) == {
        (0, 0): 'lake',
        (0, 32): 'lake',
        (32, 0): 'lake',
        (32, 32): 'lake',
        (64, 64): 'wood',
    }
    assert {note.split(': ')[1] for note in found.notes} >= {
        '1 invalid polygons mended',
        '2 features without geometry left out',
        '1 features without kind left out',
    }


@pytest.mark.parametrize(
    ('values', 'names'),
    [
        ([1.0, 2.0, np.nan], ('1', '2')),
        ([True, False, True], ('False', 'True')),
        ([' a', 'b ', ''], ('a', 'b')),
    ],
)
def test_classes_become_text(scene, values, names):
    found = tiles(scene, features([rect(0, 0), rect(0, 32), rect(0, 64)], values))
    assert found.labels == names


def test_invalid_pixels_are_filled_and_tiles_of_few_left_out(tmp_path):
    values = noise(3, 128, 160)
    values[:, :, 24:] = 0  # nodata: most of the second tile of a row
    path = write_scene(tmp_path / 'holes.tif', values=values, nodata=0)
    labels = features([rect(0, 0, 32, 96)], ['lake'])
    found = tiles(path, labels, fill=(1.0, 2.0, 3.0))
    assert classes(found) == {(0, 0): 'lake'}
    assert found.left_out['invalid'] == 2
    assert (found[0]['image'][:, :, 24:].mean((1, 2)).numpy() == (1, 2, 3)).all()
    mirrored = tiles(path, labels)
    assert np.array_equal(mirrored[0]['image'][:, :, 24:], values[:, :32, 22:14:-1])
    with pytest.raises(DatasetError, match='valid pixels'):
        tiles(path, features([rect(0, 64)], ['lake']))


def test_tiles_too_many_for_memory_are_read_again(scene):
    labels = features([rect(0, 0), rect(32, 32)], ['lake', 'wood'])
    held, read = tiles(scene, labels), tiles(scene, labels, budget=10)
    assert all(np.array_equal(held[i]['image'], read[i]['image']) for i in range(2))
    with pytest.raises(DatasetError, match='worker process'):
        pickle.dumps(read)


def test_several_scenes_of_other_zones(scene, tmp_path):
    other = write_scene(tmp_path / 'east.tif', height=64, width=64, crs='EPSG:32634', seed=1)
    east = gpd.GeoSeries([rect(0, 0)], crs='EPSG:32634').to_crs(CRS)
    found = tiles([scene, other], features([rect(0, 0), east[0]], ['lake', 'wood']))
    assert found.sources == ['scene', 'east']
    assert found.strata == ['lake', 'wood']
    assert found.positions.crs == CRS
    assert found.positions.geometry[1].intersection(east[0]).area == pytest.approx(east[0].area, rel=1e-3)
    lone = tiles([scene, other], features([rect(0, 0)], ['lake']))
    assert 'east: no label lies on it' in lone.notes


def test_keep_leaves_some_classes(scene):
    found = tiles(scene, features([rect(0, 0), rect(0, 32), rect(0, 64)], ['a', 'b', 'c'])).keep(['a', 'c'])
    assert found.labels == ('a', 'c')
    assert found.targets.tolist() == [0, 1]
    assert len(found.images) == len(found) == 2
    check_dataset(found)


def test_geographic_split_of_a_datamodule(scene, tmp_path):
    features([rect(0, 0, 128, 80), rect(0, 80, 128, 80)], ['lake', 'wood']).to_file(tmp_path / 'l.gpkg')
    options = {'units': '8-bit', 'stride': 8}
    data = SceneTilesDataModule(
        str(scene), str(tmp_path / 'l.gpkg'), 'kind', list(RGB), 16, val_share=0.3, options=options
    )
    data.setup()
    assert data.split == split_tiles(data.dataset, 0.3)
    assert data.split.id.startswith('blocks-640m-')
    parts = [data.dataset.positions.iloc[part] for part in (data.split.train, data.split.val)]
    assert not parts[0].union_all().intersection(parts[1].union_all()).area
    assert {label for part in parts for label in part['label']} == {'lake', 'wood'}
    assert next(iter(data.val_dataloader()))['image'].shape[1:] == (3, 16, 16)
    check_dataset(data.dataset)
    data = SceneTilesDataModule(
        str(scene), str(tmp_path / 'l.gpkg'), 'kind', list(RGB), 16, split='random', options=options
    )
    assert data.split.id.startswith('stratified-')


LAKE = features([rect(0, 0)], ['lake'])


@pytest.mark.parametrize(
    ('labels', 'options', 'said'),
    [
        (LAKE, {'min_share': 0}, 'min_share'),
        (LAKE, {'min_share': 1.1}, 'min_share'),
        (LAKE, {'min_share': float('nan')}, 'min_share'),
        (LAKE, {'stride': 0}, 'stride'),
        (LAKE, {'stride': 33}, 'stride'),
        (LAKE, {'min_valid': 2}, 'min_valid'),
        (LAKE, {'placement': 'middle'}, "placement has to be one of .* not 'middle'"),
        (LAKE, {'size': 129}, 'smaller than a tile of 129'),
        (LAKE.rename(columns={'kind': 'Kinds'}), {}, "no column 'kind': did you mean 'Kinds'"),
        (LAKE.set_crs(None, allow_override=True), {}, 'states no CRS'),
        (
            LAKE.translate(1e6).to_frame('geometry').assign(kind='x'),
            {},
            'no label lies on scene, whose bounds',
        ),
        (features([rect(0, 0), spot(1, 1)], ['a', 'b']), {}, 'polygons and points'),
        (features([LineString([(0, 0), (1, 1)])], ['a']), {}, 'no polygons and no points'),
        (features([], []), {}, 'no polygons and no points'),
        (features([rect(0, 0, 9, 9)], ['a']), {}, r'covers 0.5 of any tile of 32 pixels \(at best 0.079\)'),
        (features([spot(9, 9), spot(9, 9)], ['a', 'b']), {}, 'no tile has one class'),
    ],
)
def test_what_cannot_be_used(scene, labels, options, said):
    with pytest.raises(DatasetError, match=said) as error:
        tiles(scene, labels, **options)
    assert '\n' not in str(error.value)


def test_files_that_cannot_be_used(scene, tmp_path):
    path = tmp_path / 'labels.gpkg'
    LAKE.to_file(path, layer='one')
    with pytest.raises(DatasetError, match=r"no such vector file.*did you mean 'labels.gpkg'"):
        tiles(scene, tmp_path / 'label.gpkg')
    with pytest.raises(DatasetError, match="no layer 'on': did you mean 'one'"):
        tiles(scene, path, layer='on')
    LAKE.to_file(path, layer='two')
    with pytest.raises(DatasetError, match='has several layers, name one: one, two'):
        tiles(scene, path)
    assert len(tiles(scene, path, layer='two')) == 1
    (tmp_path / 'text.gpkg').write_text('no')
    with pytest.raises(DatasetError, match='cannot be read'):
        tiles(scene, tmp_path / 'text.gpkg')
    (tmp_path / 'table.csv').write_text('kind\nlake\n')
    with pytest.raises(DatasetError, match='is no GeoPackage'):
        tiles(scene, tmp_path / 'table.csv')


def test_scenes_that_cannot_be_used(scene, tmp_path):
    with pytest.raises(BandError, match="'nir'"):
        SceneTiles(scene, LAKE, 'kind', ('red', 'nir'), SIZE)
    with pytest.raises(SceneError):
        tiles(tmp_path / 'missing.tif', LAKE)
    with pytest.raises(DatasetError, match='two scenes are named'):
        tiles([scene, scene], LAKE)
    with pytest.raises(DatasetError, match='no scene'):
        tiles([], LAKE)
    bare = write_scene(tmp_path / 'bare.tif', crs=None)
    with pytest.raises(DatasetError, match='has no CRS'):
        tiles(bare, LAKE)


def test_long_edges_bend_with_the_ground(scene):
    """A parallel is no straight line in UTM: between far vertices it would lie kilometres off."""
    place = gpd.GeoSeries([rect(64, 80, 0, 0).centroid], crs=CRS).to_crs('EPSG:4326')
    parallel = place.y.iloc[0]
    halves = features([box(0, parallel, 24, 60), box(0, 40, 24, parallel)], ['north', 'south'], 'EPSG:4326')
    found = classes(tiles(scene, halves))
    assert len(found) == 20
    assert all(name == ('north' if row < 64 else 'south') for (row, _), name in found.items())

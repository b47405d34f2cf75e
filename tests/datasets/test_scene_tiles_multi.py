"""Tiles of scenes that may show several classes."""

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Point, box

from geores.datasets import SceneTiles, SceneTilesDataModule
from geores.errors import DatasetError
from geores.testing import check_dataset

from ..fixtures import GRID, RGB, write_scene

CRS = 'EPSG:32633'
SIDE, SIZE = 48, 16
SLACK = 1e-6


def rect(top, left, bottom, right):
    """A rectangle between lines of the scene's pixels."""
    return box(*(GRID @ (left, bottom)), *(GRID @ (right, top)))


def features(geometries, classes):
    return gpd.GeoDataFrame({'kind': classes}, geometry=geometries, crs=CRS)


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp('scenes') / 'scene.tif', height=SIDE, width=SIDE)


def tiles(scene, labels, **options):
    return SceneTiles(scene, labels, 'kind', RGB, SIZE, units='8-bit', task='multi-label', **options)


def shown(dataset):
    """First row and column of each tile -> its classes."""
    starts = [tuple(map(int, name.split('/')[1].split('_'))) for name in dataset.ids]
    return {
        start: {label for label, there in zip(dataset.labels, row, strict=True) if there}
        for start, row in zip(starts, dataset.targets, strict=True)
    }


def test_a_tile_has_each_class_that_covers_enough_of_it(scene):
    land = [rect(0, 0, 16, 8), rect(0, 8, 16, 32), rect(0, 15, 1, 16), rect(16, 0, 16 + 8, 16)]
    found = tiles(scene, features(land, ['lake', 'wood', 'hut', 'wood']))
    assert shown(found) == {(0, 0): {'lake', 'wood'}, (0, 16): {'wood'}}  # a hut of 1 of 256 pixels is not
    assert found.labels == ('hut', 'lake', 'wood')
    assert found.left_out == {'cover': 1, 'no label': 6, 'invalid': 0}
    assert '1 tiles of which labels cover less than 0.9 left out' in found.notes
    assert found.strata == ['lake, wood', 'wood']
    assert found.positions['label'].tolist() == found.strata
    lower = tiles(scene, features(land, ['lake', 'wood', 'hut', 'wood']), min_share=1 / 256, min_cover=0.5)
    assert shown(lower) == {(0, 0): {'hut', 'lake', 'wood'}, (0, 16): {'wood'}, (16, 0): {'wood'}}
    check_dataset(found)


def test_complete_labels_say_what_is_not_there(scene):
    found = tiles(scene, features([rect(4, 4, 8, 8)], ['hut']), min_cover=0)
    assert len(found) == 9
    assert found.targets.sum() == 1
    assert found[1]['label'].tolist() == [0.0]
    assert 'ground under no label is taken to show none' in found.notes
    spots = features([Point(*(GRID @ (5, 5))), Point(*(GRID @ (6, 5))), Point(*(GRID @ (6, 6)))], list('aab'))
    with pytest.raises(DatasetError, match='a min_cover of 0 takes them as all there are'):
        tiles(scene, spots, placement='grid')
    found = tiles(scene, spots, placement='grid', min_cover=0)
    assert shown(found)[0, 0] == {'a', 'b'}
    assert found.targets.sum() == 2


@given(
    st.lists(
        st.tuples(
            st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(1, 30), st.integers(1, 30),
            st.sampled_from('abc'),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    st.sampled_from([0.0, 0.25, 0.9, 1.0]),
)  # fmt: skip
def test_shares_are_those_of_counted_pixels(scene, drawn, min_share, min_cover):
    maps = {name: np.zeros((SIDE, SIDE), bool) for name in sorted({name for *_, name in drawn})}
    for row, col, height, width, name in drawn:
        maps[name][row : row + height, col : col + width] = True
    shapes = [
        rect(row, col, min(row + height, SIDE), min(col + width, SIDE))
        for row, col, height, width, _ in drawn
    ]
    expected = {}
    for row in range(0, SIDE, SIZE):
        for col in range(0, SIDE, SIZE):
            window = np.s_[row : row + SIZE, col : col + SIZE]
            parts = {name: plane[window] for name, plane in maps.items()}
            if np.any(list(parts.values()), axis=0).mean() >= min_cover - SLACK:
                expected[row, col] = {
                    name for name, part in parts.items() if part.mean() >= min_share - SLACK
                }
    labels = features(shapes, [name for *_, name in drawn])
    if not expected:
        with pytest.raises(DatasetError, match=r'labels cover .* of no tile'):
            tiles(scene, labels, min_share=min_share, min_cover=min_cover)
        return
    assert shown(tiles(scene, labels, min_share=min_share, min_cover=min_cover)) == expected


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'min_cover': 1.1}, 'min_cover has to be between 0 and 1'),
        ({'min_cover': float('nan')}, 'min_cover has to be between 0 and 1'),
        ({'min_share': 0}, 'min_share has to be above 0'),
        ({'task': 'vqa'}, 'task has to be one of single-label, multi-label'),
        ({'task': 'single-label', 'min_cover': 0.5}, 'min_cover goes with the task multi-label'),
    ],
)
def test_what_cannot_be_used(scene, options, said):
    options = {'task': 'multi-label'} | options
    with pytest.raises(DatasetError, match=said):
        SceneTiles(scene, features([rect(0, 0, 16, 16)], ['a']), 'kind', RGB, SIZE, units='8-bit', **options)


def test_tiles_of_several_classes_train(scene, tmp_path):
    land = [rect(0, 0, 48, 24), rect(0, 20, 48, 48)]
    features(land, ['lake', 'wood']).to_file(tmp_path / 'l.gpkg')
    data = SceneTilesDataModule(
        str(scene), str(tmp_path / 'l.gpkg'), 'kind', list(RGB), SIZE, split='random', val_share=0.3,
        options={'units': '8-bit', 'stride': 8, 'task': 'multi-label'},
    )  # fmt: skip
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch['label'].shape[1:] == (2,)
    assert data.task == 'multi-label'
    assert set(data.dataset.strata) == {'lake', 'lake, wood', 'wood'}

"""The official split of reBEN, from names alone."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geores.errors import DatasetError
from geores.splits import reben_rings, reben_split

SHARED = Path(__file__).parents[3] / 'shared' / 'data' / 'reben'
NAME = 'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{:02}_{:02}'


def test_rings_of_a_whole_tile():
    columns, rows = np.divmod(np.arange(91 * 91), 91)
    rings = reben_rings(columns, rows).reshape(91, 91)
    assert np.bincount(rings.ravel()).tolist() == [4056, 2109, 2116]  # spec 1.6
    assert (rings == rings.T).all()
    ring = np.where((np.arange(91) <= 12) | (np.arange(91) >= 78), 0, 2)
    ring[13:23] = ring[69:78] = 1
    assert (rings[45] == ring).all()


def test_parts_by_name():
    names = [NAME.format(26, 57), NAME.format(0, 45), NAME.format(45, 13)]
    assert reben_split(names).tolist() == ['test', 'train', 'validation']
    assert reben_split(pd.Series(names, dtype='string')).tolist() == ['test', 'train', 'validation']
    assert reben_split([]).tolist() == []


@pytest.mark.parametrize('bad', ['tile_1_2', NAME.format(91, 3), NAME.format(3, 4) + '\n', '', None])
def test_other_names_are_refused(bad):
    with pytest.raises(DatasetError, match='is no reBEN patch id') as error:
        reben_split([NAME.format(1, 2), bad])
    assert repr(bad) in str(error.value)


@pytest.fixture(scope='module')
def published():
    """All rows of the published tables."""
    if not SHARED.is_dir():
        pytest.skip(f'{SHARED} is absent')
    files = ['metadata.parquet', 'metadata_for_patches_with_snow_cloud_or_shadow.parquet']
    return pd.concat([pd.read_parquet(SHARED / name, columns=['patch_id', 'split']) for name in files])


def test_all_published_rows(published):
    assert len(published) == 549_488
    assert (reben_split(published['patch_id']) == published['split'].to_numpy(object)).all()


@pytest.mark.timing
def test_all_published_rows_take_two_seconds(published):
    start = time.process_time()
    reben_split(published['patch_id'])
    assert time.process_time() - start < 2

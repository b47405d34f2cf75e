"""Stacked arrays give what the LMDB gives, and say when a file is not whole."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.bigearthnet.lmdb_store import LmdbStore
from geores.bigearthnet.stacked import StackedStore
from geores.bigearthnet.stores import S1_BANDS, S2_BANDS
from geores.errors import DatasetError, ReadError
from geores.pipelines.converting.convert import convert_reben

from .reben_fixtures import make_reben


@pytest.fixture(scope='module')
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp('stores')
    make_reben(root / 'tiff', count=4)
    for form in ('lmdb', 'stacked'):
        convert_reben(root / 'tiff', root / form, form)
    return LmdbStore(root / 'lmdb'), StackedStore(root / 'stacked')


def copied(store, folder):
    folder.mkdir()
    for path in store.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_gives_what_the_lmdb_gives(stores, data):
    one, other = stores
    of_s1 = data.draw(st.booleans())
    known = [name for name in one.names() if name.startswith('S1') == of_s1 and 'map' not in name]
    names = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=5))
    bands = data.draw(st.lists(st.sampled_from(S1_BANDS if of_s1 else S2_BANDS), unique=True, min_size=1))
    np.testing.assert_array_equal(one.read_batch(names, bands), other.read_batch(names, bands))
    mine, its = one.read_native(names, bands), other.read_native(names, bands)
    assert mine.keys() == its.keys()
    for side, stack in mine.items():
        assert stack.dtype == its[side].dtype
        np.testing.assert_array_equal(stack, its[side])
    for band, pixels in one.read(names[0], bands).items():
        np.testing.assert_array_equal(pixels, other.read(names[0], bands)[band])


def test_maps(stores):
    name = next(name for name in stores[0].names() if name.endswith('map'))
    np.testing.assert_array_equal(*(store.read(name, ['Data'])['Data'] for store in stores))


def test_pickled(stores):
    again = pickle.loads(pickle.dumps(stores[1]))  # noqa: S301
    assert again.names() == stores[1].names() == stores[0].names()


def test_missing_patch_and_band(stores):
    name = stores[1].names()[0]
    with pytest.raises(DatasetError, match='has no patch nowhere'):
        stores[1].read('nowhere', ['B02'])
    with pytest.raises(DatasetError, match=f'patch {name} has no band B02'):
        stores[1].read_batch([name], ['B02'])


def test_a_file_cut_short(stores, tmp_path):
    folder = copied(stores[1], tmp_path / 'bad')
    os.truncate(folder / 's2_20m.npy', 1000)
    with pytest.raises(ReadError, match=r's2_20m\.npy: cannot be read'):
        StackedStore(folder)


def test_a_file_gone(stores, tmp_path):
    folder = copied(stores[1], tmp_path / 'bad')
    (folder / 's1.npy').unlink()
    with pytest.raises(DatasetError, match=r's1\.npy: no such file'):
        StackedStore(folder)


def test_no_index(tmp_path):
    with pytest.raises(DatasetError, match=r'there is no index\.parquet'):
        StackedStore(tmp_path)
    (tmp_path / 'index.parquet').write_bytes(b'PAR1')
    with pytest.raises(ReadError, match=r'index\.parquet: cannot be read'):
        StackedStore(tmp_path)

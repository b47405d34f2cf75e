"""Patches read from an LMDB are those that were put in, in any process, and damage is named."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.bigearthnet.opening import LmdbStore
from geores.bigearthnet.stores import (
    S1_BANDS,
    S2_BANDS,
    ValueFormatError,
    encode_patch,
    expand_into,
    layout_of,
    native_form,
)
from geores.datasets import ReBEN
from geores.errors import DatasetError, ReadError

from ..reben_fixtures import real_lmdb

S2 = 'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_00_00'
S1 = 'S1A_IW_GRDH_1SDV_20170613T165043_33UUP_0_0'


def make_patch(bands, seed=0):
    draw = np.random.default_rng(seed)
    patch = {}
    for band in bands:
        side, dtype = native_form(band)
        patch[band] = (draw.random((side, side)) * 10_000).astype(dtype)
    return patch


def write_lmdb(folder, values):
    folder.mkdir()
    with lmdb.open(str(folder), map_size=2**26, lock=False) as env, env.begin(write=True) as txn:
        for name, value in values.items():
            txn.put(name.encode(), value)
    return folder


@pytest.fixture(scope='module')
def patches():
    return {S1: make_patch(S1_BANDS), S2: make_patch(S2_BANDS, 1)}


@pytest.fixture(scope='module')
def store(patches, tmp_path_factory):
    folder = tmp_path_factory.mktemp('store') / 'lmdb'
    return LmdbStore(write_lmdb(folder, {name: encode_patch(patch) for name, patch in patches.items()}))


class TestReading:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.sampled_from(S2_BANDS), unique=True, min_size=1))
    def test_any_bands_in_any_order(self, store, patches, bands):
        found = store.read(S2, bands)
        assert list(found) == bands or set(found) == set(bands)
        native = store.read_native([S2, S2], bands)
        for band in bands:
            np.testing.assert_array_equal(found[band], patches[S2][band])
        for side, stack in native.items():
            of_side = [band for band in bands if native_form(band)[0] == side]
            np.testing.assert_array_equal(stack[1], np.stack([patches[S2][band] for band in of_side]))
        out = store.read_batch([S2], bands)[0]
        for image, band in zip(out, bands, strict=True):
            times = 120 // native_form(band)[0]
            np.testing.assert_array_equal(image, patches[S2][band].repeat(times, 0).repeat(times, 1))

    def test_real_values_equal_safetensors(self):
        load = pytest.importorskip('safetensors.numpy').load
        real = LmdbStore(real_lmdb() / 'BigEarthNet-V2-LMDB')
        assert len(real) == 48
        for name in real.names():
            bands = S1_BANDS if name.startswith('S1') else S2_BANDS
            found = real.read(name, bands)
            for band, pixels in load(real.value(name)).items():
                np.testing.assert_array_equal(found[band], pixels)
                assert found[band].dtype == pixels.dtype
            assert encode_patch(found) == real.value(name)

    def test_what_is_read_is_ones_own(self, store, patches):
        store.read(S1, S1_BANDS)['VV'][:] = 0
        np.testing.assert_array_equal(store.read(S1, S1_BANDS)['VV'], patches[S1]['VV'])

    def test_batches_of_a_data_set(self):
        dataset = ReBEN(real_lmdb() / 'BigEarthNet-V2-LMDB', 'all', 'all')
        batch = dataset.read_batch([2, 0])
        np.testing.assert_array_equal(batch[0], dataset[2]['image'])
        np.testing.assert_array_equal(batch[1], dataset[0]['image'])

    def test_lookalike_floats(self):
        pixels = np.array([[np.nan, -0.0], [np.inf, -np.inf]], np.float32).repeat(30, 0).repeat(30, 1)[None]
        out = np.empty((1, 120, 120), np.float32)
        expand_into(pixels, out)
        assert out.tobytes() == pixels.repeat(2, 1).repeat(2, 2).tobytes()


class TestProcesses:
    def test_pickled(self, store, patches):
        again = pickle.loads(pickle.dumps(store))  # noqa: S301
        np.testing.assert_array_equal(again.read(S1, ['VH'])['VH'], patches[S1]['VH'])

    def test_several_stores_of_one_file(self, store, patches):
        other = LmdbStore(store.path)
        del other
        np.testing.assert_array_equal(store.read(S1, ['VH'])['VH'], patches[S1]['VH'])

    def test_forked(self, store, patches):
        store.read(S2, ['B02'])
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(write, store.read(S2, ['B01'])['B01'].tobytes())
                LmdbStore(store.path).read(S1, ['VV'])
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(read, 10_000) == patches[S2]['B01'].tobytes()
        os.close(read)
        os.close(write)

    def test_threads(self, store, patches):
        with ThreadPoolExecutor(8) as pool:
            images = list(pool.map(lambda _: store.read_batch([S2] * 4, S2_BANDS), range(24)))
        assert all(np.array_equal(image, images[0]) for image in images)


class TestDamage:
    def test_no_lmdb(self, tmp_path):
        with pytest.raises(DatasetError, match=r'there is no data\.mdb in it'):
            LmdbStore(tmp_path)

    def test_no_lmdb_by_content(self, tmp_path):
        (tmp_path / 'data.mdb').write_bytes(b'x' * 10_000)
        with pytest.raises(DatasetError, match='cannot be opened as an LMDB'):
            LmdbStore(tmp_path)

    @pytest.mark.parametrize('share', [0.3, 0.6, 0.99])
    def test_cut_off(self, patches, tmp_path, share):
        values = {name: encode_patch(patch) for name, patch in patches.items()}
        file = write_lmdb(tmp_path / 'lmdb', values) / 'data.mdb'
        with lmdb.open(str(file.parent), lock=False, readonly=True) as env:
            size = env.stat()['psize'] * (env.info()['last_pgno'] + 1)
        os.truncate(file, size)
        assert LmdbStore(file.parent).names() == sorted(values)
        os.truncate(file, int(size * share))
        with pytest.raises(ReadError, match=r'data\.mdb: is cut off: .* bytes, and it speaks of'):
            LmdbStore(file.parent)

    def test_missing_patch_and_band(self, store):
        with pytest.raises(DatasetError, match='has no patch nowhere'):
            store.read('nowhere', ['B02'])
        with pytest.raises(DatasetError, match=f'patch {S1} has no band B02'):
            store.read(S1, ['B02'])

    @pytest.mark.parametrize('cut', [0, 5, 100, -1])
    def test_cut_values(self, patches, tmp_path, cut):
        value = encode_patch(patches[S2])
        damaged = LmdbStore(write_lmdb(tmp_path / 'lmdb', {S2: value[:cut] or b'', S1: value}))
        for read in (damaged.read, lambda name, bands: damaged.read_batch([name], bands)):
            with pytest.raises(ReadError, match=f'the value of patch {S2} is damaged'):
                read(S2, ['B02'])

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 900), st.integers(0, 255))
    def test_any_byte_of_the_header(self, patches, place, byte):
        value = bytearray(encode_patch(patches[S2]))
        value[place] = byte
        try:
            layout = layout_of(bytes(value))
        except ValueFormatError:
            return
        assert layout.size == len(value)
        for offset in layout.offsets.values():
            assert 0 < offset < len(value)

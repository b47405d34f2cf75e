"""Converting reBEN from any layout to any other loses nothing, and says what the source lacks."""

import csv
import io
import json
import os
import shutil
import tarfile

import lmdb
import numpy as np
import pytest
import rasterio

from geores.bigearthnet import writers as workers
from geores.bigearthnet.convert import convert_reben, verify_reben
from geores.bigearthnet.opening import CHECKSUMS, open_store
from geores.bigearthnet.patch_id import modality
from geores.bigearthnet.sources import partial_folder
from geores.bigearthnet.stores import bands_of
from geores.datasets import ReBEN
from geores.errors import DatasetError, JournalError, OutputError, ReadError, WriteError
from geores.io.journal import Journal

from ..fixtures import hold_files
from ..reben_fixtures import SHARED, make_reben, needs_shared, real_lmdb


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    root = tmp_path_factory.mktemp('released')
    make_reben(root, count=5, snow=1)
    return root


@pytest.fixture(scope='module')
def stored(released, tmp_path_factory):
    folder = tmp_path_factory.mktemp('stored') / 'lmdb'
    convert_reben(released, folder, 'lmdb')
    return folder


def values(path):
    """Every key and value of an LMDB."""
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as txn:
        return {bytes(key): bytes(value) for key, value in txn.cursor()}


def assert_same_patches(one, other):
    one, other = open_store(one), open_store(other)
    assert one.names() == other.names()
    for name in one.names():
        mine, its = (store.read(name, bands_of(name)) for store in (one, other))
        for band in bands_of(name):
            assert mine[band].dtype == its[band].dtype
            np.testing.assert_array_equal(mine[band], its[band])


def tar_of(root, path, prefix=''):
    with tarfile.open(path, 'w') as tar:
        for folder in ('BigEarthNet-S1', 'BigEarthNet-S2', 'Reference_Maps'):
            tar.add(root / folder, f'{prefix}{folder}')
    return path


class TestLayouts:
    @pytest.mark.parametrize('form', ['lmdb', 'tiff'])
    def test_keeps_every_pixel(self, released, tmp_path, form):
        done = convert_reben(released, tmp_path / 'out', form)
        assert done.counts == {'s1': 5, 's2': 5, 'map': 5}
        assert not done.faults
        assert_same_patches(released, tmp_path / 'out')
        found = verify_reben(tmp_path / 'out')
        assert (found.form, found.summed, found.faults) == (form, 15, [])

    @pytest.mark.parametrize('source', ['lmdb', 'tiff'])
    def test_from_each_to_the_same_lmdb(self, released, stored, tmp_path, source):
        convert_reben(released, tmp_path / 'a', source)
        convert_reben(tmp_path / 'a', tmp_path / 'b', 'lmdb')
        assert (tmp_path / 'b/data.mdb').read_bytes() == (stored / 'data.mdb').read_bytes()

    def test_processes_write_the_same(self, released, tmp_path, monkeypatch):
        monkeypatch.setattr(workers, 'CHUNK', 4)
        for form in ('lmdb', 'tiff'):
            for jobs in (1, 2):
                convert_reben(released, tmp_path / f'{form}{jobs}', form, jobs=jobs)
            one, two = tmp_path / f'{form}1', tmp_path / f'{form}2'
            assert hold_files(one) == hold_files(two)
            for name in hold_files(one):
                assert (one / name).read_bytes() == (two / name).read_bytes()

    def test_tables_come_along(self, released, stored):
        for name in ('metadata.parquet', 'metadata_for_patches_with_snow_cloud_or_shadow.parquet'):
            assert (stored / name).read_bytes() == (released / name).read_bytes()


class TestPartOfTheData:
    @pytest.fixture
    def part(self, tmp_path):
        """Two of the patches that the tables name, one of them without its radar partner."""
        root = tmp_path / 'part'
        make_reben(root, count=2)
        shutil.rmtree(next((root / 'BigEarthNet-S1').glob('*/*_1_0')))
        make_reben(tmp_path / 'all', count=7, snow=2, bands=(), maps=False)
        for name in ('metadata.parquet', 'metadata_for_patches_with_snow_cloud_or_shadow.parquet'):
            shutil.copyfile(tmp_path / 'all' / name, root / name)
        return root

    def test_rows_of_which_nothing_is_there_are_left_out(self, geores, part, tmp_path):
        given = ('convert', 'reben', part, tmp_path / 'out', '--format', 'lmdb', '--jobs', 1)
        answer = geores(*given, '--only-present')
        assert answer.code == 1
        assert '5 rows of the metadata left out, for nothing of them is there' in answer.out
        assert '1 patches are missing' in answer.err  # the partner of a patch that is there
        assert '_1_0: is named in metadata.parquet, and is not here' in answer.err
        assert len(ReBEN(tmp_path / 'out', 'all', 's2')) == 2
        assert geores(*given, '--overwrite').err.count('is named in') == 5  # and the rest counted

    def test_verify_leaves_them_out_too(self, geores, part):
        make_reben(part, count=2)  # whole, with a table of its own
        shutil.copyfile(part.parent / 'all/metadata.parquet', part / 'metadata.parquet')
        answer = geores('verify', part, '--jobs', 1, '--json')
        assert (answer.code, answer.records[0]['rows_left_out']) == (1, 0)
        answer = geores('verify', part, '--jobs', 1, '--json', '--only-present')
        assert (answer.code, answer.records[0]['rows_left_out']) == (0, 3)
        assert not answer.records[0]['faults']

    def test_a_table_of_other_patches(self, part):
        (part.parent / 'all/metadata.parquet').unlink()
        for folder in ('BigEarthNet-S1', 'BigEarthNet-S2', 'Reference_Maps'):
            for path in sorted((part / folder).glob('*/*')):
                path.rename(path.with_name(path.name.replace('_0', '_8')))
        store = {name for name in open_store(part).names() if modality(name) == 's2'}
        assert store
        with pytest.raises(DatasetError, match='names none of the'):
            verify_reben(part, only_present=True)


class TestReal:
    def test_all_48_values_come_back_byte_equal(self, tmp_path):
        source = real_lmdb() / 'BigEarthNet-V2-LMDB'
        convert_reben(source, tmp_path / 'tiffs', 'tiff')
        convert_reben(tmp_path / 'tiffs', tmp_path / 'back', 'lmdb')
        assert len(values(source)) == 48
        assert values(tmp_path / 'back') == values(source)

    @needs_shared
    def test_tiffs_are_as_released(self, tmp_path):
        convert_reben(SHARED / 'tiffs', tmp_path / 'out', 'tiff', metadata=None)
        files = sorted(SHARED.glob('tiffs/*/*/*/*.tif'))
        assert len(files) == 15
        for path in files:
            with (
                rasterio.open(path) as real,
                rasterio.open(tmp_path / 'out' / path.relative_to(SHARED / 'tiffs')) as ours,
            ):
                assert ours.profile == real.profile
                assert ours.tags(ns='IMAGE_STRUCTURE') == real.tags(ns='IMAGE_STRUCTURE')
                np.testing.assert_array_equal(ours.read(), real.read())


class TestArchives:
    def test_reads_a_tar(self, released, stored, tmp_path, monkeypatch):
        monkeypatch.setattr(workers, 'CHUNK', 4)
        tar_of(released, tmp_path / 'all.tar')
        convert_reben(tmp_path / 'all.tar', tmp_path / 'out', 'lmdb', jobs=2)
        assert values(tmp_path / 'out') == values(stored)

    @pytest.mark.parametrize('prefix', ['../', 'a/../../', '/'])
    def test_refuses_members_that_lead_out(self, released, tmp_path, prefix):
        path = tmp_path / 'bad.tar'
        with tarfile.open(path, 'w') as tar:
            info = tarfile.TarInfo(f'{prefix}x.tif')
            info.size = 3
            tar.addfile(info, io.BytesIO(b'abc'))
        with pytest.raises(DatasetError, match='leads out of the archive'):
            convert_reben(path, tmp_path / 'out', 'lmdb')
        assert hold_files(tmp_path) == {'bad.tar'}

    def test_refuses_links(self, tmp_path):
        with tarfile.open(tmp_path / 'bad.tar', 'w') as tar:
            info = tarfile.TarInfo('BigEarthNet-S2/link')
            info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
            tar.addfile(info)
        with pytest.raises(DatasetError, match='is a link or device'):
            convert_reben(tmp_path / 'bad.tar', tmp_path / 'out', 'lmdb')

    def test_says_what_to_do_with_compressed_ones(self, tmp_path):
        (tmp_path / 'BigEarthNet-S2.tar.zst').write_bytes(b'(\xb5/\xfd')
        with pytest.raises(DatasetError, match='decompress it first'):
            convert_reben(tmp_path / 'BigEarthNet-S2.tar.zst', tmp_path / 'out', 'lmdb')

    def test_says_so_of_a_folder_of_compressed_ones(self, tmp_path):
        (tmp_path / 'BigEarthNet-S2.tar.zst').write_bytes(b'(\xb5/\xfd')
        with pytest.raises(
            DatasetError, match=r'no reBEN patches.*decompress BigEarthNet-S2\.tar\.zst first'
        ):
            convert_reben(tmp_path, tmp_path / 'out', 'lmdb')

    def test_one_beside_unpacked_folders_is_not_left_out(self, released, tmp_path):
        source = tmp_path / 'source'
        shutil.copytree(released / 'BigEarthNet-S2', source / 'BigEarthNet-S2')
        with tarfile.open(source / 'BigEarthNet-S1.tar', 'w') as tar:
            tar.add(released / 'BigEarthNet-S1', 'BigEarthNet-S1')
        with pytest.raises(DatasetError, match=r'S1\.tar: lies beside unpacked folders'):
            convert_reben(source, tmp_path / 'out', 'lmdb')
        assert not (tmp_path / 'out').exists()
        shutil.copytree(released / 'BigEarthNet-S1', source / 'BigEarthNet-S1')
        assert set(convert_reben(source, tmp_path / 'out', 'lmdb').counts) == {'s1', 's2'}

    def test_a_cut_archive(self, released, tmp_path):
        path = tar_of(released, tmp_path / 'all.tar')
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(DatasetError, match='no whole, uncompressed tar'):
            convert_reben(path, tmp_path / 'out', 'lmdb')


class TestFaults:
    def damaged(self, tmp_path):
        """A source with a file missing, one cut short and one folder missing that the table names."""
        root = tmp_path / 'src'
        rows = make_reben(root, count=4)
        gone, cut, lost = (row['patch_id'] for row in rows[:3])
        product = gone.rsplit('_', 2)[0]
        (root / 'BigEarthNet-S2' / product / gone / f'{gone}_B04.tif').unlink()
        (root / 'BigEarthNet-S2' / product / gone / f'{gone}_B11.tif').write_bytes(b'')
        os.truncate(root / 'BigEarthNet-S2' / product / cut / f'{cut}_B08.tif', 2000)
        folder = root / 'Reference_Maps' / product / lost
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        return root, gone, cut, lost

    @pytest.mark.parametrize('form', ['lmdb', 'tiff'])
    def test_are_listed(self, geores, tmp_path, form):
        root, gone, cut, lost = self.damaged(tmp_path)
        answer = geores('convert', 'reben', root, tmp_path / 'out', '--format', form, '--jobs', 1, '--json')
        assert answer.code == 1
        assert '3 patches are missing or could not be read' in answer.err
        record = json.loads(answer.out)
        assert record['patches'] == {'s1': 4, 's2': 2, 'map': 3}
        with open(record['faults_file'], newline='') as file:
            found = {(row['patch'], row['reason']) for row in csv.DictReader(file)}
        assert {patch for patch, _ in found} == {gone, cut, f'{lost}_reference_map'}
        reasons = '\n'.join(reason for _, reason in found)
        for file in (f'{gone}_B04.tif', f'{gone}_B11.tif', f'{cut}_B08.tif'):
            assert file in reasons
        names = open_store(tmp_path / 'out').names()
        assert len(names) == 9
        assert not {gone, cut} & set(names)

    def test_none_can_be_read(self, tmp_path):
        root = tmp_path / 'src'
        make_reben(root, count=1, maps=False, bands=('VV', 'VH'))
        for path in root.rglob('*_VV.tif'):
            path.write_bytes(b'II*\0')
        with pytest.raises(ReadError, match='not one of 1 patches could be read'):
            convert_reben(root, tmp_path / 'out', 'lmdb')
        assert not (tmp_path / 'out').exists()


class TestRefusals:
    def test_wrong_root(self, geores, tmp_path):
        answer = geores('convert', 'reben', tmp_path / 'none', tmp_path / 'out', '--format', 'lmdb')
        assert answer.code == 2
        assert 'looked for the folders BigEarthNet-S2' in answer.err
        assert not hold_files(tmp_path)

    def test_unknown_format(self, geores, released, tmp_path):
        answer = geores('convert', 'reben', released, tmp_path / 'out', '--format', 'zip')
        assert answer.code == 2
        assert '--format is one of lmdb, tiff' in answer.err

    def test_existing_destination(self, stored, released):
        before = values(stored)
        with pytest.raises(OutputError, match='exists: give --overwrite'):
            convert_reben(released, stored, 'lmdb')
        assert values(stored) == before

    def test_overwrite_replaces(self, released, stored, tmp_path):
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out/old').write_text('')
        with pytest.raises(OutputError, match='is no converted data set, and nothing else is replaced'):
            convert_reben(released, tmp_path / 'out', 'lmdb', overwrite=True)
        (tmp_path / 'out' / CHECKSUMS).write_text('')
        convert_reben(released, tmp_path / 'out', 'lmdb', overwrite=True)
        assert values(tmp_path / 'out') == values(stored)
        assert not (tmp_path / 'out/old').exists()
        assert [path.name for path in tmp_path.iterdir()] == ['out']

    def test_onto_the_source(self, stored):
        with pytest.raises(OutputError, match='is or holds the source'):
            convert_reben(stored, stored.parent, 'tiff', overwrite=True)

    @pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
    def test_unwritable(self, released, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match='no folder that you may write to'):
            convert_reben(released, tmp_path / 'out', 'lmdb')

    def test_under_a_file(self, released, tmp_path):
        (tmp_path / 'file').write_text('')
        with pytest.raises(OutputError, match='cannot be written'):
            convert_reben(released, tmp_path / 'file/out', 'lmdb')

    def test_disk_too_small(self, released, tmp_path, monkeypatch):
        usage = type('Usage', (), {'free': 2**20})
        monkeypatch.setattr('shutil.disk_usage', lambda _: usage)
        with pytest.raises(OutputError, match='of the disk are free'):
            convert_reben(released, tmp_path / 'out', 'lmdb')

    @pytest.mark.parametrize('form', ['lmdb', 'tiff'])
    def test_disk_full_while_writing(self, released, tmp_path, form):
        if not os.path.exists('/dev/full'):
            pytest.skip('this system has no /dev/full')
        resource = pytest.importorskip('resource')
        import signal

        limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # As near to a full disk as a test may go: no file may grow beyond 20 kB.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(WriteError):
                convert_reben(released, tmp_path / 'out', form)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert not (tmp_path / 'out').exists()
        convert_reben(released, tmp_path / 'out', form)
        assert_same_patches(released, tmp_path / 'out')

    def test_unfinished_work_of_another_kind(self, released, tmp_path):
        work = partial_folder(tmp_path / 'out')
        for options in ({'overwrite': True}, {'resume': False}):
            with Journal(work, {'source': 'other'}) as journal:
                journal.add({'number': 0, 'sums': {}, 'faults': []})
                (work / 'store').mkdir()
            with pytest.raises(JournalError, match='--overwrite to start anew'):
                convert_reben(released, tmp_path / 'out', 'lmdb')
            convert_reben(released, tmp_path / 'out', 'lmdb', **options)
            assert not work.exists()
            shutil.rmtree(tmp_path / 'out')


class TestVerify:
    def test_names_a_damaged_value(self, geores, stored, tmp_path):
        name = next(name for name in open_store(stored).names() if modality(name) == 's2')
        data = bytearray((stored / 'data.mdb').read_bytes())
        pixels = open_store(stored).read(name, ['B02'])['B02'].tobytes()
        data[data.index(pixels) + 100] ^= 1
        (tmp_path / 'bad').mkdir()
        (tmp_path / 'bad/data.mdb').write_bytes(data)
        (tmp_path / 'bad/checksums.parquet').write_bytes((stored / 'checksums.parquet').read_bytes())
        answer = geores('verify', tmp_path / 'bad', '--jobs', 1)
        assert answer.code == 1
        assert f'{name}: its pixels are not those that were written' in answer.err
        assert '1 patches are missing or broken' in answer.err

    def test_names_what_the_table_names(self, released, stored, tmp_path):
        convert_reben(released, tmp_path / 'out', 'tiff')
        gone = next((tmp_path / 'out').glob('BigEarthNet-S1/*/*'))
        for path in gone.iterdir():
            path.unlink()
        gone.rmdir()
        found = verify_reben(tmp_path / 'out')
        assert {fault.patch for fault in found.faults} == {gone.name}

    def test_a_sound_store(self, geores, stored):
        answer = geores('verify', stored, '--jobs', 1, '--json')
        assert answer.code == 0
        record = json.loads(answer.out)
        assert record['patches'] == {'s1': 5, 's2': 5, 'map': 5}
        assert (record['compared_with_checksums'], record['faults']) == (15, [])

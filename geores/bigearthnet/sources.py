"""Sources of a conversion, and its state on disk: the journal of finished chunks, and the work folder.

Tar archives are indexed once and read in place, without unpacking them.

A conversion that was killed resumes after the last chunk in its journal.
"""

import os
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geores.bigearthnet.opening import CHECKSUMS, LMDB_FILE, open_store
from geores.bigearthnet.patch_id import PatchId, S1Name, modality
from geores.bigearthnet.stores import MAP_BAND, TIFF_FOLDERS, PatchStore, bands_of, native_form
from geores.bigearthnet.tiffs import TiffError, parse_tiff
from geores.errors import DatasetError, JournalError, OutputError, ReadError, UsageError
from geores.io.journal import Journal
from geores.io.whole_files import check_folder_free

__all__ = [
    'Fault',
    'PatchChunk',
    'PatchJournal',
    'TarStore',
    'check_destination',
    'check_space',
    'count_by_kind',
    'open_source',
    'partial_folder',
    'read_patch',
]

_COMPRESSED = ('.zst', '.gz', '.tgz', '.bz2', '.xz')
_MEMBER = re.compile(r'(?P<name>S[12]\w+?)(?:_(?P<band>B\w\w|VV|VH)|(?P<map>_reference_map))\.tif')


class TarStore:
    """A store of the patches in tar archives of the release.

    Raises:
        DatasetError: if one is damaged, or has members that lead out of it (`../`, links, devices).
    """

    kind: Literal['tiff', 'lmdb'] = 'tiff'

    def __init__(self, path: Path | str, archives: Sequence[Path]) -> None:
        self.path = Path(path)
        self._archives = [Path(archive) for archive in archives]
        self._members: dict[str, dict[str, tuple[int, int, int]]] = {}
        for number, archive in enumerate(self._archives):
            self._index(number, archive)
        if not self._members:
            raise DatasetError(f'{path}: no reBEN patches in {", ".join(one.name for one in self._archives)}')

    def names(self) -> list[str]:
        """Names of all patches in the archives, sorted."""
        return sorted(self._members)

    def part(self, names: Sequence[str]) -> 'TarStore':
        """A store of only some patches, small enough to be sent to another process."""
        part = object.__new__(TarStore)
        part.path, part._archives = self.path, self._archives
        part._members = {name: self._members[name] for name in names if name in self._members}
        return part

    def read(self, name: str, bands: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Bands of one patch at their native sizes; see `PatchStore.read`."""
        members = self._members.get(name)
        if members is None:
            raise DatasetError(f'{self.path}: has no patch {name}')
        return {band: self._read(name, band, members.get(band)) for band in bands}

    def _read(self, name: str, band: str, member: tuple[int, int, int] | None) -> NDArray[Any]:
        file = f'{name}.tif' if band == MAP_BAND else f'{name}_{band}.tif'
        if member is None:
            raise DatasetError(f'{self.path}: no member {file}, and patch {name} needs it')
        number, offset, size = member
        archive = self._archives[number]
        try:
            descriptor = os.open(archive, os.O_RDONLY)
            try:
                data = os.pread(descriptor, size, offset)
            finally:
                os.close(descriptor)
            pixels = _decode(data) if len(data) == size else None
        except (OSError, TiffError) as error:
            raise ReadError(f'{archive}: member {file} cannot be read: {error}') from None
        side, dtype = native_form(band)
        if pixels is None or pixels.shape != (side, side) or pixels.dtype != dtype:
            raise ReadError(
                f'{archive}: member {file} is not {dtype} of {side} x {side} pixels, or is cut short'
            )
        return pixels

    def _index(self, number: int, archive: Path) -> None:
        try:
            with tarfile.open(archive, 'r:') as tar:
                for member in tar:
                    _check_member(archive, member)
                    if member.isfile():
                        self._take(number, member)
        except (tarfile.TarError, OSError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(
                f'{archive}: is no whole, uncompressed tar archive ({error}): download it again, and '
                'decompress it first if it is compressed'
            ) from error

    def _take(self, number: int, member: tarfile.TarInfo) -> None:
        match = _MEMBER.fullmatch(PurePosixPath(member.name).name)
        if match is None:
            return
        name = f'{match["name"]}{match["map"] or ""}'
        try:
            (S1Name if name.startswith('S1') else PatchId).parse(name)
        except UsageError:
            return
        bands = self._members.setdefault(name, {})
        bands[match['band'] or MAP_BAND] = (number, member.offset_data, member.size)


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or '..' in path.parts:
        raise DatasetError(
            f'{archive}: member {member.name!r} leads out of the archive; it is not the release'
        )
    if not (member.isfile() or member.isdir()):
        raise DatasetError(f'{archive}: member {member.name!r} is a link or device; it is not the release')


def _decode(data: bytes) -> NDArray[Any]:
    header = parse_tiff(data)
    if header is not None and header.is_plain:
        return np.frombuffer(data, header.dtype, header.count, header.offset).reshape(
            header.height, header.width
        )
    import rasterio
    from rasterio.io import MemoryFile

    from geores.scenes.gdal import reading_env

    try:
        with reading_env(), MemoryFile(data) as memory, memory.open(driver='GTiff') as file:
            pixels: NDArray[Any] = file.read(1)
    except rasterio.errors.RasterioError as error:
        raise TiffError(' '.join(str(error).split())) from error
    return pixels


@dataclass(frozen=True, order=True)
class Fault:
    """A patch that is missing or damaged.

    Attributes:
        patch: name of the patch.
        reason: description of the problem, with the file if there is one.
    """

    patch: str
    reason: str


def open_source(path: Path | str) -> PatchStore:
    """Open a source of patches, whatever its layout.

    Args:
        path: released folders, an LMDB, a `.tar` archive of the release, or a folder of such archives.

    Raises:
        DatasetError: if nothing of the kind is there, an archive is not to be trusted, or a part of the
            release is an archive beside unpacked parts, where it would be left out.
    """
    path = Path(path)
    archives = [path] if path.is_file() else sorted(path.glob('*.tar')) if path.is_dir() else []
    if path.is_file() and path.name.lower().endswith(_COMPRESSED):
        raise DatasetError(
            f'{path}: is compressed, so that no patch in it can be read by itself; decompress it first '
            '(as with `unzstd` or `gunzip`) and give the .tar'
        )
    try:
        store = open_store(path)
    except DatasetError as error:
        if not archives:
            raise _with_compressed(path, error) from None
    else:
        _check_unpacked(store)
        return store
    return TarStore(path, archives)


def _check_unpacked(store: PatchStore) -> None:
    folders = TIFF_FOLDERS.values() if store.kind == 'tiff' else ()
    for name in folders:
        archive = store.path / f'{name}.tar'
        if archive.is_file() and not (store.path / name).is_dir():
            raise DatasetError(
                f'{archive}: lies beside unpacked folders, and would be left out: unpack it too, move it '
                'away, or give a folder with archives alone'
            )


def _with_compressed(path: Path, error: DatasetError) -> DatasetError:
    """Add to an error that there are compressed archives, which would have to be decompressed."""
    found = sorted(one.name for one in path.glob('*.tar.*') if one.name.endswith(_COMPRESSED))
    if not found:
        return error
    return DatasetError(f'{error}; decompress {", ".join(found)} first (as with `unzstd`)')


def read_patch(store: PatchStore, name: str) -> tuple[dict[str, NDArray[Any]], list[Fault]]:
    """Read all bands of a patch, or find everything that is wrong with it.

    Returns:
        Pixels by band name (empty if there are faults), and the faults.
    """
    bands = bands_of(name)
    try:
        return store.read(name, bands), []
    except (DatasetError, ReadError) as error:
        first = str(error)
    faults = []
    for band in bands:
        try:
            store.read(name, [band])
        except (DatasetError, ReadError) as error:
            faults.append(Fault(name, str(error)))
    # A damaged value in an LMDB fails for every band alike: report it once.
    return {}, sorted(set(faults)) or [Fault(name, first)]


_BYTES = {'s2': 160_832, 's1': 115_344, 'map': 28_872}
"""Bytes per patch of each kind in an LMDB; other layouts exceed them by less than `_OVERHEAD`."""
_OVERHEAD = 1.04


@dataclass
class PatchChunk:
    """Result of converting one chunk of patches.

    Attributes:
        number: number of the chunk, from 0, in the order of patch names.
        sums: checksums of the patches read, by name.
        faults: problems with the patches that could not be read.
        values: encoded patches for the parent to write, if workers do not write; not kept in the journal.
    """

    number: int
    sums: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)


class PatchJournal:
    """Finished chunks of a conversion, in the journal of its work folder.

    Attributes:
        chunks: finished chunks, in order.

    Raises:
        JournalError: if a record of the journal is no chunk.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        try:
            self.chunks = [
                PatchChunk(one['number'], one['sums'], [Fault(**fault) for fault in one['faults']])
                for one in journal.records
            ]
        except (TypeError, KeyError) as error:
            raise JournalError(f'{journal.folder} is damaged: give --no-resume to start anew') from error

    def add(self, chunk: PatchChunk) -> None:
        """Record that a chunk is finished."""
        self._journal.add({
            'number': chunk.number,
            'sums': chunk.sums,
            'faults': [asdict(fault) for fault in chunk.faults],
        })  # fmt: skip
        self.chunks.append(chunk)

    def drop_last(self) -> None:
        """Remove the last chunk, which was recorded but not written."""
        self.chunks.pop()
        self._journal.drop_last()

    @property
    def sums(self) -> dict[str, int]:
        """Checksums of all patches written, in order."""
        return {name: value for chunk in self.chunks for name, value in chunk.sums.items()}

    @property
    def entries(self) -> int:
        """Number of patches written so far."""
        return sum(len(chunk.sums) for chunk in self.chunks)


def partial_folder(folder: Path) -> Path:
    """Folder of unfinished work, beside the destination."""
    return folder.with_name(f'.{folder.name}.partial')


def check_destination(folder: Path, source: Path, *, overwrite: bool) -> None:
    """Check that the result can be written, before any work is done.

    Raises:
        OutputError: if the destination exists, is a file, holds the source, or cannot be written.
    """
    if folder.resolve() == source.resolve() or folder.resolve() in source.resolve().parents:
        raise OutputError(f'{folder}: is or holds the source {source}; name another destination')
    check_folder_free(folder, overwrite=overwrite, kind='converted data set', marks=[CHECKSUMS, LMDB_FILE])


def check_space(folder: Path, names: list[str]) -> None:
    """Check that the result fits on the disk, counting the space that unfinished work takes already.

    Raises:
        OutputError: if there is too little free space.
    """
    needed = int(_OVERHEAD * sum(_BYTES[modality(name)] for name in names))
    taken = sum(path.stat().st_blocks * 512 for path in folder.glob('store/*') if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + taken < needed:
        raise OutputError(
            f'{folder.parent}: the result takes {needed / 2**30:,.1f} GiB, and '
            f'{free / 2**30:,.1f} GiB of the disk are free'
        )


def count_by_kind(names: 'list[str] | Mapping[str, int]') -> dict[str, int]:
    """Count patches per kind."""
    counts: dict[str, int] = {}
    for name in names:
        counts[modality(name)] = counts.get(modality(name), 0) + 1
    return counts

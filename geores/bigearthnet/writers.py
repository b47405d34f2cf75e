"""Writers of the layouts that patches are converted to, and what worker processes do with chunks.

Worker processes call `write` and `flush`; everything else runs in the parent process.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from affine import Affine
from numpy.typing import NDArray

from geores.bigearthnet.opening import CHECKSUMS, LMDB_FILE, LmdbStore, checksum, write_checksums
from geores.bigearthnet.patch_id import PATCH_SIDE, PatchId, S1Name, modality, parse_tile
from geores.bigearthnet.sources import Fault, PatchChunk, PatchJournal, TarStore, read_patch
from geores.bigearthnet.stores import PatchStore, encode_patch
from geores.bigearthnet.tiffs import TiffStore
from geores.errors import DatasetError, GeoresError, UsageError, WriteError, import_extra
from geores.scenes import gdal_env

if TYPE_CHECKING:
    import lmdb

__all__ = [
    'CHUNK',
    'FORMATS',
    'CheckChunk',
    'ChunkTask',
    'ConvertChunk',
    'LmdbWriter',
    'Progress',
    'TiffWriter',
    'Writer',
    'chunk_count',
    'chunk_of',
    'chunk_tasks',
    'writer_for',
]

_PROFILES: dict[str, dict[str, Any]] = {
    's2': {'nodata': 0},
    's1': {},
    'map': {'nodata': 0, 'compress': 'deflate', 'predictor': 2},
}
"""Creation options of the released files; only the maps are compressed."""

_MAX_PATCH_BYTES = 200_000
"""Upper bound of the bytes of a patch in an LMDB, with its share of the B+ tree."""
FORMATS = ('lmdb', 'tiff')


class TiffWriter:
    """Writes one georeferenced GeoTIFF per band, in the UTM zone of the tile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, journal: PatchJournal) -> None:
        """No-op: TIFFs have no shared state to prepare."""

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """Write the files of a patch and read them back."""
        import rasterio

        kind = modality(name)
        patch = (S1Name if kind == 's1' else PatchId).parse(name)
        tile = parse_tile(patch.tile_name)
        west, north = tile.left + PATCH_SIDE * patch.column, tile.top - PATCH_SIDE * patch.row
        store = TiffStore(self.folder)
        paths = store.files(name, list(arrays))
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with gdal_env():
            for path, pixels in zip(paths, arrays.values(), strict=True):
                height, width = pixels.shape
                step = PATCH_SIDE / width
                with rasterio.open(
                    path,
                    'w',
                    driver='GTiff',
                    count=1,
                    height=height,
                    width=width,
                    dtype=pixels.dtype.name,
                    crs=f'EPSG:{tile.epsg}',
                    transform=Affine(step, 0, west, 0, -step, north),
                    **_PROFILES[kind],
                ) as file:
                    file.write(pixels, 1)
        self._compare(store, name, arrays)
        return None

    def _compare(self, store: TiffStore, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Read a patch back: GDAL closes files that a full disk cut short without an error."""
        try:
            written = store.read(name, list(arrays))
        except GeoresError as error:
            raise WriteError(f'{self.folder}: patch {name} was not written whole ({error})') from error
        for band, pixels in arrays.items():
            if written[band].tobytes() != pixels.tobytes():
                raise WriteError(f'{self.folder}: {band} of patch {name} was not written as it was read')

    def flush(self) -> None:
        """No-op: files are closed already."""

    def commit(self, chunk: PatchChunk) -> None:
        """No-op: workers have written the files."""

    def finish(self, journal: PatchJournal) -> None:
        """Write the checksums."""
        write_checksums(self.folder / CHECKSUMS, journal.sums.items())

    def open(self) -> TiffStore:
        """Open the result."""
        return TiffStore(self.folder)


class LmdbWriter:
    """Writes an LMDB: workers encode patches, the parent commits one transaction per chunk in key order.

    The environment is reopened for every chunk. What a transaction writes then depends on the file and the
    chunk alone, not on pages that the process happened to keep, so a conversion that was killed and resumed
    ends with the same bytes as an uninterrupted one.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self._size = 2**20 + _MAX_PATCH_BYTES * len(names)

    def prepare(self, journal: PatchJournal) -> None:
        """Drop the last chunk of the journal if its transaction was not committed."""
        if not journal.chunks:
            (self.folder / LMDB_FILE).unlink(missing_ok=True)
            return
        env = self._open()
        entries = env.stat()['entries']
        env.close()
        if entries != journal.entries:
            journal.drop_last()
        if entries != journal.entries:
            raise WriteError(
                f'{self.folder}: unfinished work holds {entries} patches, and its journal says '
                f'{journal.entries}: give --no-resume to start anew'
            )

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """Encode a patch."""
        return encode_patch(arrays)

    def flush(self) -> None:
        """No-op: workers write nothing."""

    def commit(self, chunk: PatchChunk) -> None:
        """Write the patches of a chunk in one transaction."""
        import lmdb

        if not chunk.values:
            return
        try:
            env = self._open()
            try:
                with env.begin(write=True) as txn:
                    for name, value in chunk.values.items():
                        txn.put(name.encode(), value, append=True, overwrite=False)
            finally:
                env.close()
        except lmdb.Error as error:
            raise WriteError(f'{self.folder} cannot be written: {error}') from error

    def finish(self, journal: PatchJournal) -> None:
        """Write the checksums; an LMDB itself has none."""
        if not (self.folder / LMDB_FILE).exists():
            self._open().close()
        write_checksums(self.folder / CHECKSUMS, journal.sums.items())

    def open(self) -> LmdbStore:
        """Open the result."""
        return LmdbStore(self.folder, readahead=True)

    def _open(self) -> 'lmdb.Environment':
        import_extra('lmdb')
        import lmdb

        # The work folder is locked against other writers, so LMDB needs no lock file of its own.
        return lmdb.open(str(self.folder), map_size=self._size, lock=False, readahead=False)


class Writer(Protocol):
    """Writes one layout; it is pickled into the worker processes."""

    def prepare(self, journal: PatchJournal) -> None:
        """Prepare the files that all chunks share, and make them and the journal agree."""
        ...

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """Write a patch, in a worker.

        Returns:
            The encoded patch if the parent has to write it, as the layout allows one writer only.
        """
        ...

    def flush(self) -> None:
        """Flush written files to disk, in a worker, at the end of a chunk."""
        ...

    def commit(self, chunk: PatchChunk) -> None:
        """Write what workers left to the parent; chunks come in order."""
        ...

    def finish(self, journal: PatchJournal) -> None:
        """Write files about the whole result, such as checksums."""
        ...

    def open(self) -> PatchStore:
        """Open the result for reading."""
        ...


def writer_for(form: str, folder: Path, names: Sequence[str]) -> Writer:
    """Make the writer of a layout.

    Raises:
        UsageError: if there is no such layout.
    """
    if form == 'lmdb':
        return LmdbWriter(folder, names)
    if form == 'tiff':
        return TiffWriter(folder)
    raise UsageError(f'--format is one of {", ".join(FORMATS)}, not {form!r}')


Item = TypeVar('Item')
Result = TypeVar('Result')
CHUNK = 128
"""Patches per chunk: about 18 MB, one LMDB transaction."""

Progress = Callable[[int, int], None]
"""Called with the number of patches done since the last call, and the total."""


@dataclass(frozen=True)
class ChunkTask:
    """The work on one chunk of patches.

    Attributes:
        number: number of the chunk.
        names: names of its patches.
        sums: known checksums of the patches.
        store: store to read from, if the worker has none of its own.
    """

    number: int
    names: tuple[str, ...]
    sums: Mapping[str, int] | None = None
    store: PatchStore | None = None


def chunk_count(names: Sequence[str]) -> int:
    """Number of chunks that patches are divided into."""
    return -(-len(names) // CHUNK)


def chunk_of(names: Sequence[str], number: int) -> Sequence[str]:
    """The patches of a chunk."""
    return names[number * CHUNK : (number + 1) * CHUNK]


def chunk_tasks(
    names: Sequence[str], store: PatchStore, *, first: int = 0, sums: Mapping[str, int] | None = None
) -> Iterator[ChunkTask]:
    """Yield the tasks of all chunks from `first` on.

    Args:
        names: names of all patches.
        store: store to read from. A task on tar archives gets only its part of their index.
        first: number of the first chunk.
        sums: known checksums by patch name.
    """
    for number in range(first, chunk_count(names)):
        part = tuple(chunk_of(names, number))
        known = None if sums is None else {name: sums[name] for name in part if name in sums}
        own = store.part(part) if isinstance(store, TarStore) else None
        yield ChunkTask(number, part, known, own)


@dataclass(frozen=True)
class ConvertChunk:
    """Convert the patches of a chunk, in a worker process.

    Attributes:
        store: store to read from; None if each task brings its own.
        writer: writer of the destination layout.
    """

    store: PatchStore | None
    writer: Writer

    def __call__(self, task: ChunkTask) -> PatchChunk:
        """Return checksums, faults, and encoded patches that the parent has to write."""
        chunk = PatchChunk(task.number)
        store = task.store or self.store
        if store is None:
            raise DatasetError(f'chunk {task.number} comes without a store, and none is shared')
        for name in task.names:
            arrays, faults = read_patch(store, name)
            chunk.faults += faults
            if faults:
                continue
            value = self.writer.write(name, arrays)
            chunk.sums[name] = checksum(name, arrays)
            if value is not None:
                chunk.values[name] = value
        self.writer.flush()
        return chunk


@dataclass(frozen=True)
class CheckChunk:
    """Read the patches of a chunk and compare their checksums, in a worker process.

    Attributes:
        store: store to read from.
    """

    store: PatchStore

    def __call__(self, task: ChunkTask) -> tuple[int, list[Fault]]:
        """Return the number of patches and their faults."""
        found: list[Fault] = []
        for name in task.names:
            arrays, faults = read_patch(self.store, name)
            found += faults
            known = None if task.sums is None else task.sums.get(name)
            if not faults and known is not None and checksum(name, arrays) != known:
                found.append(Fault(name, 'its pixels are not those that were written: the checksum differs'))
        return len(task.names), found

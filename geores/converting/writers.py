"""Writers of the layouts that patches are converted to: GeoTIFFs as released, or an LMDB as of rico-hdl.

Worker processes call `write` and `flush`; everything else runs in the parent process.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from affine import Affine
from numpy.typing import NDArray

from geores.bigearthnet.lmdb_store import LMDB_FILE, LmdbStore
from geores.bigearthnet.opening import CHECKSUMS, write_checksums
from geores.bigearthnet.patch_id import PATCH_SIDE, PatchId, S1Name, modality
from geores.bigearthnet.patch_values import encode_patch
from geores.bigearthnet.stores import PatchStore
from geores.bigearthnet.tiffs import TiffStore
from geores.bigearthnet.tile_grid import parse_tile
from geores.converting.journal import Chunk, Journal
from geores.errors import GeoresError, UsageError, WriteError
from geores.scenes import gdal_env

if TYPE_CHECKING:
    import lmdb

__all__ = ['FORMATS', 'LmdbWriter', 'TiffWriter', 'Writer', 'writer_for']

_PROFILES: dict[str, dict[str, Any]] = {
    's2': {'nodata': 0},
    's1': {},
    'map': {'nodata': 0, 'compress': 'deflate', 'predictor': 2},
}
"""As the released files are, which are plain but for the maps."""


class TiffWriter:
    """A file a band, on the patch's place in the UTM zone of its tile.

    Args:
        folder: destination.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, journal: Journal) -> None:
        """Nothing: files share nothing."""

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """Write the files of a patch."""
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
        """Read a patch again: GDAL closes a file that a full disk cut short without an error."""
        try:
            written = store.read(name, list(arrays))
        except GeoresError as error:
            raise WriteError(f'{self.folder}: patch {name} was not written whole ({error})') from error
        for band, pixels in arrays.items():
            if written[band].tobytes() != pixels.tobytes():
                raise WriteError(f'{self.folder}: {band} of patch {name} was not written as it was read')

    def flush(self) -> None:
        """Nothing: files are closed, and read again before they are put in place."""

    def commit(self, chunk: Chunk) -> None:
        """Nothing: workers have written."""

    def finish(self, journal: Journal) -> None:
        """Write the checksums."""
        write_checksums(self.folder / CHECKSUMS, journal.sums.items())

    def open(self) -> TiffStore:
        """What was written."""
        return TiffStore(self.folder)


_LARGEST = 200_000
"""More bytes than any patch takes with its share of the tree."""


class LmdbWriter:
    """Workers encode, the parent puts: one transaction a chunk, keys in their order.

    The environment is opened anew for every chunk. So what a transaction writes follows from the file
    and the chunk alone, not from pages that the process happened to keep, and a conversion that was
    killed and started again ends with the same bytes as one that was left alone.

    Args:
        folder: destination.
        names: names of all patches, sorted.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self._size = 2**20 + _LARGEST * len(names)

    def prepare(self, journal: Journal) -> None:
        """Take back the journal's last line where its transaction did not come about."""
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
                f'{journal.entries}: give --overwrite to start anew'
            )

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """The value of a patch."""
        return encode_patch(arrays)

    def flush(self) -> None:
        """Nothing: workers write nothing."""

    def commit(self, chunk: Chunk) -> None:
        """Put the values of a chunk."""
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

    def finish(self, journal: Journal) -> None:
        """Write the checksums, which the layout itself has none of."""
        if not (self.folder / LMDB_FILE).exists():
            self._open().close()
        write_checksums(self.folder / CHECKSUMS, journal.sums.items())

    def open(self) -> LmdbStore:
        """What was written."""
        return LmdbStore(self.folder, readahead=True)

    def _open(self) -> 'lmdb.Environment':
        import lmdb

        # Nobody else may write here (the folder is locked), so LMDB needs no lock file of its own.
        return lmdb.open(str(self.folder), map_size=self._size, lock=False, readahead=False)


FORMATS = ('lmdb', 'tiff')


class Writer(Protocol):
    """One layout. Workers get a copy of it by pickling."""

    def prepare(self, journal: Journal) -> None:
        """Make the files that all chunks share, or see to it that they and the journal agree.

        Args:
            journal: chunks that an earlier run finished.
        """
        ...

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """Write a patch, in a worker.

        Args:
            name: name of the patch.
            arrays: all its bands.

        Returns:
            What the parent has to write instead, if the layout takes one writer only.
        """
        ...

    def flush(self) -> None:
        """Bring to disk what was written, in a worker, when a chunk is done."""
        ...

    def commit(self, chunk: Chunk) -> None:
        """Write what workers left to the parent; chunks come in their order.

        Args:
            chunk: the next.
        """
        ...

    def finish(self, journal: Journal) -> None:
        """Write what describes the whole, as an index.

        Args:
            journal: all that was finished.
        """
        ...

    def open(self) -> PatchStore:
        """What was written, to be read."""
        ...


def writer_for(form: str, folder: Path, names: Sequence[str]) -> Writer:
    """The writer of a layout.

    Args:
        form: layout, one of `FORMATS`.
        folder: destination.
        names: names of all patches, sorted.

    Raises:
        UsageError: if there is no such layout.
    """
    if form == 'lmdb':
        return LmdbWriter(folder, names)
    if form == 'tiff':
        return TiffWriter(folder)
    raise UsageError(f'--format is one of {", ".join(FORMATS)}, not {form!r}')

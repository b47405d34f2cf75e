"""Writing an LMDB as rico-hdl does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from geores.bigearthnet.checksums import CHECKSUMS, write_checksums
from geores.bigearthnet.lmdb_store import LMDB_FILE, LmdbStore
from geores.bigearthnet.patch_values import encode_patch
from geores.errors import WriteError
from geores.pipelines.converting.journal import Chunk, Journal

if TYPE_CHECKING:
    import lmdb

__all__ = ['LmdbWriter']

_LARGEST = 200_000
"""More bytes than any patch takes with its share of the tree."""


class LmdbWriter:
    """Workers encode, the parent puts: one transaction a chunk, keys in their order.

    The environment is opened anew for every chunk. So what a transaction writes follows from the file
    and the chunk alone, not from pages that the process happened to keep, and a conversion that was
    killed and started again ends with the same bytes as one that was left alone.

    Args:
        folder: To write into.
        names: Of all patches, sorted.
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

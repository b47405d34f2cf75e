"""Layouts that patches are converted to: what a worker does with them, and what is left to the parent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from geores.bigearthnet.stores import PatchStore
from geores.errors import UsageError
from geores.pipelines.converting.journal import Chunk, Journal
from geores.pipelines.converting.lmdb_writer import LmdbWriter
from geores.pipelines.converting.tiff_writer import TiffWriter

__all__ = ['FORMATS', 'Writer', 'writer_for']

FORMATS = ('lmdb', 'tiff')


class Writer(Protocol):
    """One layout. Workers get a copy of it by pickling."""

    def prepare(self, journal: Journal) -> None:
        """Make the files that all chunks share, or see to it that they and the journal agree.

        Args:
            journal: What was finished before.
        """
        ...

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """Write a patch, in a worker.

        Args:
            name: Of the patch.
            arrays: All its bands.

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
            chunk: The next.
        """
        ...

    def finish(self, journal: Journal) -> None:
        """Write what describes the whole, as an index.

        Args:
            journal: All that was finished.
        """
        ...

    def open(self) -> PatchStore:
        """What was written, to be read."""
        ...


def writer_for(form: str, folder: Path, names: Sequence[str]) -> Writer:
    """The writer of a layout.

    Args:
        form: One of `FORMATS`.
        folder: To write into.
        names: Of all patches, sorted.

    Raises:
        UsageError: If there is no such layout.
    """
    if form == 'lmdb':
        return LmdbWriter(folder, names)
    if form == 'tiff':
        return TiffWriter(folder)
    raise UsageError(f'--format is one of {", ".join(FORMATS)}, not {form!r}')

"""State of a conversion on disk: the journal of finished chunks, and the work folder.

A conversion that was killed resumes after the last chunk in its journal.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from geores.bigearthnet.opening import CHECKSUMS, LMDB_FILE
from geores.bigearthnet.patch_id import modality
from geores.converting.sources import Fault
from geores.errors import JournalError, OutputError
from geores.io.journal import Journal
from geores.io.whole_files import check_folder_free

__all__ = [
    'PatchChunk',
    'PatchJournal',
    'check_destination',
    'check_space',
    'count_by_kind',
    'partial_folder',
]

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

    Args:
        journal: the journal.

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
        """Record that a chunk is finished.

        Args:
            chunk: the next chunk.
        """
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
    """Folder of unfinished work, beside the destination.

    Args:
        folder: destination folder.
    """
    return folder.with_name(f'.{folder.name}.partial')


def check_destination(folder: Path, source: Path, *, overwrite: bool) -> None:
    """Check that the result can be written, before any work is done.

    Args:
        folder: destination folder.
        source: path that is read.
        overwrite: whether the result of an earlier conversion may be replaced.

    Raises:
        OutputError: if the destination exists, is a file, holds the source, or cannot be written.
    """
    if folder.resolve() == source.resolve() or folder.resolve() in source.resolve().parents:
        raise OutputError(f'{folder}: is or holds the source {source}; name another destination')
    check_folder_free(folder, overwrite=overwrite, kind='converted data set', marks=[CHECKSUMS, LMDB_FILE])


def check_space(folder: Path, names: list[str]) -> None:
    """Check that the result fits on the disk, counting the space that unfinished work takes already.

    Args:
        folder: the work folder.
        names: names of all patches.

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
    """Count patches per kind.

    Args:
        names: names of patches.
    """
    counts: dict[str, int] = {}
    for name in names:
        counts[modality(name)] = counts.get(modality(name), 0) + 1
    return counts

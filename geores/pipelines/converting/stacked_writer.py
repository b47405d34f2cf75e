"""Writing stacked arrays: every worker writes rows of its own into files that are there already."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geores.bigearthnet.patch_id import modality
from geores.bigearthnet.stacked import GROUPS, INDEX, StackedStore, groups_of
from geores.bigearthnet.stores import native_form
from geores.pipelines.converting.journal import Chunk, Journal
from geores.pipelines.converting.writers import all_sums

__all__ = ['StackedWriter']


class StackedWriter:
    """Rows of a patch follow from its place among the names of its kind; those of faulty ones stay zero.

    Args:
        folder: To write into.
        names: Of all patches, sorted.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self._rows: dict[str, int] = {}
        self._counts = {'s1': 0, 's2': 0, 'map': 0}
        for name in names:
            kind = modality(name)
            self._rows[name] = self._counts[kind]
            self._counts[kind] += 1
        self._touched: set[str] = set()

    def prepare(self, journal: Journal) -> None:
        """Make the files at their full size, so that a disk that is too small shows now."""
        if journal.chunks:
            return
        for kind, count in self._counts.items():
            for group in groups_of(kind) if count else ():
                self._allocate(group, count)

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """Write the rows of a patch."""
        for group in groups_of(modality(name)):
            data = np.stack([arrays[band] for band in GROUPS[group]]).tobytes()
            file = self._files[group]
            start = _header(group, self._counts[group.split('_')[0]])
            done, offset = 0, len(start) + self._rows[name] * len(data)
            while done < len(data):
                done += os.pwrite(file, data[done:], offset + done)
            self._touched.add(group)
        return None

    def flush(self) -> None:
        """Bring the rows to disk."""
        for group in self._touched:
            os.fsync(self._files[group])
        self._touched.clear()

    def commit(self, chunk: Chunk) -> None:
        """Nothing: workers have written."""

    def finish(self, journal: Journal) -> None:
        """Write the index."""
        sums = all_sums(journal)
        names = list(sums)
        table = pa.table({
            'name': pa.array(names, pa.string()),
            'kind': pa.array([modality(name) for name in names], pa.string()),
            'row': pa.array([self._rows[name] for name in names], pa.int64()),
            'crc32': pa.array(sums.values(), pa.uint32()),
        })  # fmt: skip
        pq.write_table(table, self.folder / INDEX, compression='zstd')

    def open(self) -> StackedStore:
        """What was written."""
        return StackedStore(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != '_files'}

    @cached_property
    def _files(self) -> dict[str, int]:
        """Open files of this process, by group."""
        kinds = [kind for kind, count in self._counts.items() if count]
        groups = [group for kind in kinds for group in groups_of(kind)]
        return {group: os.open(self._path(group), os.O_WRONLY) for group in groups}

    def _path(self, group: str) -> Path:
        return self.folder / f'{group}.npy'

    def _allocate(self, group: str, count: int) -> None:
        side, dtype = native_form(GROUPS[group][0])
        header = _header(group, count)
        size = len(header) + count * len(GROUPS[group]) * side * side * dtype.itemsize
        with self._path(group).open('wb') as file:
            file.write(header)
            file.flush()
            if hasattr(os, 'posix_fallocate'):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)


def _header(group: str, count: int) -> bytes:
    """The first bytes of a .npy file (NumPy format 1.0)."""
    import io

    side, dtype = native_form(GROUPS[group][0])
    description: dict[str, Any] = {
        'descr': np.lib.format.dtype_to_descr(dtype.newbyteorder('<')),
        'fortran_order': False,
        'shape': (count, len(GROUPS[group]), side, side),
    }
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()

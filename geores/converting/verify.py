"""Verify a store of reBEN against its checksums and the released tables: `geores verify`."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geores.bigearthnet.metadata import METADATA, SNOW_METADATA, find_metadata, read_metadata
from geores.bigearthnet.opening import CHECKSUMS, read_checksums
from geores.bigearthnet.patch_id import MAP_SUFFIX, PatchId, S1Name, modality
from geores.converting.journal import count_by_kind
from geores.converting.sources import Fault, open_source
from geores.converting.workers import CheckChunk, Progress, chunk_count, chunk_tasks
from geores.errors import DatasetError, UsageError
from geores.io.process_map import ordered_map

__all__ = ['Verification', 'copy_tables', 'missing_patches', 'tables_for', 'verify_reben']


def tables_for(root: Path, metadata: Path | None) -> Path | None:
    """Find the table of clean patches; None if there is none and none was given.

    Args:
        root: folder of the patches.
        metadata: the table or its folder, if given.

    Raises:
        DatasetError: if the given table does not exist.
    """
    try:
        return find_metadata(root, metadata)
    except DatasetError:
        if metadata is not None:
            raise
        return None


def missing_patches(
    names: Sequence[str], table: Path, *, only_present: bool = False
) -> tuple[list[Fault], int]:
    """Find patches that the tables list and the store lacks, among the kinds that the store holds.

    Args:
        names: names of the patches in the store.
        table: path of `metadata.parquet`; the table of patches with snow and clouds beside it counts too.
        only_present: leave out rows with no patch in the store, for parts of the data set.

    Returns:
        The missing patches, and the number of rows that were left out.

    Raises:
        DatasetError: if a table cannot be read, or every row would be left out.
    """
    here, kinds = set(names), {modality(name) for name in names}
    rows = read_metadata(table, snow_and_clouds=table.with_name(SNOW_METADATA).is_file())
    total = len(rows)
    rows = rows.filter(_present(rows, here)) if only_present else rows
    if not len(rows):
        raise DatasetError(f'{table}: names none of the {len(here):,} patches that are here')
    ids = rows['patch_id'].to_pylist()
    named = ids if 's2' in kinds else []
    if 's1' in kinds and 's1_name' in rows.column_names:
        named = named + rows['s1_name'].to_pylist()
    if 'map' in kinds:
        named = named + [f'{patch}{MAP_SUFFIX}' for patch in ids]
    reason = f'is named in {table.name}, and is not here'
    return [Fault(name, reason) for name in sorted(set(named) - here)], total - len(rows)


def copy_tables(table: Path, folder: Path, present: Sequence[str] | None = None) -> None:
    """Copy the tables beside the patches, where `geores.datasets.ReBEN` looks for them.

    Args:
        table: path of `metadata.parquet`.
        folder: destination.
        present: names of the patches in the store, to copy only their rows; None copies all rows.
    """
    for path, name in ((table, METADATA), (table.with_name(SNOW_METADATA), SNOW_METADATA)):
        if not path.is_file():
            continue
        if present is None:
            shutil.copyfile(path, folder / name)
        else:
            rows = pq.read_table(path)
            pq.write_table(rows.filter(_present(rows, set(present))), folder / name)


def _present(rows: pa.Table, here: set[str]) -> pa.Array:
    """Mask of the rows with at least one patch of any kind in the store."""
    ids = rows['patch_id'].to_pylist()
    partners = rows['s1_name'].to_pylist() if 's1_name' in rows.column_names else ids
    return pa.array([
        not here.isdisjoint((patch, partner, f'{patch}{MAP_SUFFIX}'))
        for patch, partner in zip(ids, partners, strict=True)
    ], pa.bool_())  # fmt: skip


@dataclass(frozen=True)
class Verification:
    """Result of verifying a store.

    Attributes:
        path: path of the store.
        form: layout, 'lmdb' or 'tiff'.
        counts: number of patches per kind: 's2', 's1', 'map'.
        summed: number of patches compared with a checksum.
        table: released table that the patches were compared with, if there is one.
        faults: missing or damaged patches, with the reason.
        seconds: run time.
        left_out: number of table rows left out because the store has none of their patches.
    """

    path: Path
    form: str
    counts: dict[str, int]
    summed: int
    table: Path | None
    faults: list[Fault]
    seconds: float
    left_out: int = 0


def verify_reben(
    path: Path | str,
    *,
    metadata: Path | None = None,
    only_present: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Verification:
    """Verify every patch of a store.

    Each patch must have all its bands with their size and type, and the checksum recorded at its conversion.
    Every patch that the released tables list must be there, for the kinds that the store holds.

    Args:
        path: released folders, `.tar` archives, or an LMDB.
        metadata: `metadata.parquet` or its folder, if it is not with the patches or above them.
        only_present: leave out table rows with no patch in the store, for parts of the data set.
        jobs: number of worker processes.
        progress: called with the number of patches just done and the total.

    Raises:
        UsageError: if there is no store, or an option is not usable.
        ReadError: if the whole cannot be read, as a damaged index.
    """
    if jobs < 1:
        raise UsageError(f'--jobs is 1 or more, not {jobs}')
    began, path = time.perf_counter(), Path(path)
    store = open_source(path)
    names = store.names()
    if not names:
        raise DatasetError(f'{path}: there is not one reBEN patch in it')
    table = tables_for(path, metadata)
    sums = read_checksums(store.path / CHECKSUMS) or {}
    known = [name for name in names if _is_patch(name)]
    found = [Fault(name, 'is no name of a reBEN patch') for name in sorted(set(names) - set(known))]
    found += [Fault(name, 'has a checksum, and is not here') for name in sorted(set(sums) - set(names))]
    missing, left_out = ([], 0) if table is None else missing_patches(known, table, only_present=only_present)
    found += missing
    for number, wrong in ordered_map(
        CheckChunk(store), chunk_tasks(known, store, sums=sums), min(jobs, chunk_count(names))
    ):
        found += wrong
        if progress is not None:
            progress(number, len(known))
    summed = len(set(sums) & set(known))
    faults, seconds = sorted(set(found)), time.perf_counter() - began
    return Verification(path, store.kind, count_by_kind(known), summed, table, faults, seconds, left_out)


def _is_patch(name: str) -> bool:
    try:
        (S1Name if modality(name) == 's1' else PatchId).parse(name)
    except UsageError:
        return False
    return True

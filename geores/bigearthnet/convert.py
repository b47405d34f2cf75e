"""Convert reBEN from one layout to another, and verify a store by its checksums and the released tables."""

import csv
import hashlib
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
from geores.bigearthnet.sources import (
    Fault,
    PatchJournal,
    TarStore,
    check_destination,
    check_space,
    count_by_kind,
    open_source,
    partial_folder,
)
from geores.bigearthnet.stores import PatchStore
from geores.bigearthnet.writers import (
    FORMATS,
    CheckChunk,
    ConvertChunk,
    Progress,
    Writer,
    chunk_count,
    chunk_of,
    chunk_tasks,
    writer_for,
)
from geores.errors import DatasetError, ReadError, UsageError, WriteError
from geores.io.journal import Journal
from geores.io.process_map import ordered_map
from geores.io.tables import csv_cell
from geores.io.whole_files import failing, put_folder

__all__ = [
    'FAULTS',
    'Conversion',
    'Verification',
    'convert_reben',
    'copy_tables',
    'missing_patches',
    'tables_for',
    'verify_reben',
]


def tables_for(root: Path, metadata: Path | None) -> Path | None:
    """Find the table of clean patches; None if there is none and none was given.

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


FAULTS = 'faults.csv'


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        folder: destination folder.
        form: layout, 'lmdb' or 'tiff'.
        counts: number of patches written per kind: 's2', 's1', 'map'.
        faults: patches that are missing or could not be read, with the reason.
        seconds: run time, without that of an earlier run that was resumed.
        left_out: number of metadata rows left out because none of their patches is in the source.
    """

    folder: Path
    form: str
    counts: dict[str, int]
    faults: list[Fault]
    seconds: float
    left_out: int = 0

    @property
    def faults_file(self) -> Path:
        """The file that lists the faults; it exists only if there are any."""
        return self.folder / FAULTS


def convert_reben(
    source: Path | str,
    folder: Path | str,
    form: str,
    *,
    metadata: Path | None = None,
    only_present: bool = False,
    jobs: int = 1,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert patches to another layout; the destination appears complete and verified, or not at all.

    A conversion that was killed resumes when it is started again, and ends with the same bytes as one that
    was not interrupted.

    Args:
        source: released folders, `.tar` archives of the release, or an LMDB.
        folder: destination; problems with the source are listed in its `faults.csv`.
        form: 'lmdb' (as rico-hdl writes) or 'tiff' (as released).
        metadata: `metadata.parquet` or its folder, if it is not with the patches or above them. Patches
            that it names and the source lacks count as faults; it is copied to the result.
        only_present: leave out metadata rows with no patch in the source, also in the copied table; for parts
            of the data set.
        jobs: number of worker processes.
        resume: continue unfinished work.
        overwrite: replace the result of an earlier conversion, and begin anew where unfinished work is of
            something else.
        progress: called with the number of patches just done and the total.

    Raises:
        UsageError: if the source, the destination or an option is not usable; nothing has been written.
        ReadError: if not one patch could be read.
        WriteError: if writing failed, or what was written does not read as it was.
    """
    began, source, folder = time.perf_counter(), Path(source), Path(folder)
    if form not in FORMATS:
        raise UsageError(f'--format is one of {", ".join(FORMATS)}, not {form!r}')
    if jobs < 1:
        raise UsageError(f'--jobs is 1 or more, not {jobs}')
    check_destination(folder, source, overwrite=overwrite)
    store = open_source(source)
    table = tables_for(source, metadata)
    names = store.names()
    if not names:
        raise DatasetError(f'{source}: there is not one reBEN patch in it')
    missing, left_out = ([], 0) if table is None else missing_patches(names, table, only_present=only_present)
    work = partial_folder(folder)
    jobs = min(jobs, chunk_count(names))
    with (
        failing(folder.absolute().parent),
        _open_journal(work, source, form, names, resume=resume, overwrite=overwrite) as kept,
    ):
        journal, writer = PatchJournal(kept), writer_for(form, work / 'store', names)
        (work / 'store').mkdir(exist_ok=True)
        check_space(work, names)
        writer.prepare(journal)
        _convert_chunks(store, names, journal, writer, jobs, progress or _silent)
        _finish(kept, journal, writer, names, jobs, progress or _silent)
        faults = sorted([*missing, *(fault for chunk in journal.chunks for fault in chunk.faults)])
        if table is not None:
            copy_tables(table, work / 'store', names if only_present else None)
        if faults:
            _list_faults(work / 'store' / FAULTS, faults)
        put_folder(work / 'store', folder)
        kept.remove()
    seconds = time.perf_counter() - began
    return Conversion(folder, form, count_by_kind(journal.sums), faults, seconds, left_out)


def _open_journal(
    work: Path, source: Path, form: str, names: list[str], *, resume: bool, overwrite: bool
) -> Journal:
    """Open the journal of unfinished work of the same kind, or of new work."""
    digest = hashlib.sha256('\n'.join(names).encode()).hexdigest()
    key = {'source': str(source.resolve()), 'format': form, 'names': digest}
    # A kill between the last two steps leaves a journal of what stands in its place already.
    resume = resume and (not work.exists() or (work / 'store').exists())
    return Journal(work, key, resume=resume, overwrite=overwrite)


def _convert_chunks(
    store: PatchStore, names: list[str], journal: PatchJournal, writer: Writer, jobs: int, progress: Progress
) -> None:
    """Convert the chunks that the journal does not list yet."""
    first, total = len(journal.chunks), 2 * len(names)
    progress(sum(len(chunk_of(names, number)) for number in range(first)), total)
    work = ConvertChunk(None if isinstance(store, TarStore) else store, writer)
    for chunk in ordered_map(work, chunk_tasks(names, store, first=first), jobs):
        # The journal comes first: after a kill the LMDB itself shows whether its transaction was committed.
        journal.add(chunk)
        writer.commit(chunk)
        chunk.values.clear()
        progress(len(chunk_of(names, chunk.number)), total)


def _finish(
    kept: Journal, journal: PatchJournal, writer: Writer, names: list[str], jobs: int, progress: Progress
) -> None:
    """Write the checksums, then read everything back and compare."""
    sums = journal.sums
    if not sums:
        fault = journal.chunks[0].faults[0]
        raise ReadError(f'not one of {len(names):,} patches could be read; the first: {fault.reason}')
    writer.finish(journal)
    written, total = writer.open(), 2 * len(names)
    progress(len(names) - len(sums), total)
    for number, faults in ordered_map(CheckChunk(written), chunk_tasks(list(sums), written, sums=sums), jobs):
        if faults:
            # Otherwise the next run would take it for finished work.
            kept.remove()
            raise WriteError(
                f'patch {faults[0].patch} was not written as it was read ({faults[0].reason}): is the '
                'disk sound? What was written is removed'
            )
        progress(number, total)


def _list_faults(path: Path, faults: list[Fault]) -> None:
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['patch', 'reason'])
        writer.writerows([csv_cell(fault.patch), csv_cell(fault.reason)] for fault in faults)


def _silent(_: int, __: int) -> None:
    """Progress callback that does nothing."""

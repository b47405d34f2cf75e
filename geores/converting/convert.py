"""Convert reBEN from one layout to another: `geores convert reben`."""

import csv
import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geores.bigearthnet.stores import PatchStore
from geores.converting.journal import (
    Journal,
    check_destination,
    check_space,
    count_by_kind,
    locked,
    partial_folder,
)
from geores.converting.sources import Fault, TarStore, open_source
from geores.converting.verify import copy_tables, missing_patches, tables_for
from geores.converting.workers import (
    CheckChunk,
    ConvertChunk,
    Progress,
    chunk_count,
    chunk_of,
    chunk_tasks,
    ordered_map,
)
from geores.converting.writers import FORMATS, Writer, writer_for
from geores.errors import DatasetError, JournalError, ReadError, UsageError, WriteError
from geores.io.whole_files import failing, put_folder

__all__ = ['FAULTS', 'Conversion', 'convert_reben']

FAULTS = 'faults.csv'
JOURNAL = 'journal.jsonl'


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
        overwrite: replace what stands at `folder`, and begin anew where unfinished work is of something else.
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
    with failing(folder.absolute().parent):
        work.parent.mkdir(parents=True, exist_ok=True)
        with locked(work):
            journal, writer = _start_or_resume(work, source, form, names, overwrite=overwrite)
            _convert_chunks(store, names, journal, writer, jobs, progress or _silent)
            _finish(work, journal, writer, names, jobs, progress or _silent)
            faults = sorted([*missing, *(fault for chunk in journal.chunks for fault in chunk.faults)])
            if table is not None:
                copy_tables(table, work / 'store', names if only_present else None)
            if faults:
                _list_faults(work / 'store' / FAULTS, faults)
            _publish(work, folder)
    seconds = time.perf_counter() - began
    return Conversion(folder, form, count_by_kind(journal.sums), faults, seconds, left_out)


def _start_or_resume(
    work: Path, source: Path, form: str, names: list[str], *, overwrite: bool
) -> tuple[Journal, Writer]:
    """Resume unfinished work of the same kind, or start anew."""
    digest = hashlib.sha256('\n'.join(names).encode()).hexdigest()
    key: dict[str, Any] = {'source': str(source.resolve()), 'format': form, 'names': digest}
    store = work / 'store'
    if work.exists() and (not store.exists() or (overwrite and not _can_resume(work, key))):
        shutil.rmtree(work)
    store.mkdir(parents=True, exist_ok=True)
    check_space(work, names)
    journal, writer = Journal(work / JOURNAL, key), writer_for(form, store, names)
    writer.prepare(journal)
    return journal, writer


def _can_resume(work: Path, key: dict[str, Any]) -> bool:
    """Whether unfinished work has this key and can be resumed."""
    try:
        Journal(work / JOURNAL, key)
    except (JournalError, ValueError, KeyError):
        return False
    return True


def _convert_chunks(
    store: PatchStore, names: list[str], journal: Journal, writer: Writer, jobs: int, progress: Progress
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
    work: Path, journal: Journal, writer: Writer, names: list[str], jobs: int, progress: Progress
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
            shutil.rmtree(work)
            raise WriteError(
                f'patch {faults[0].patch} was not written as it was read ({faults[0].reason}): is the '
                'disk sound? What was written is removed'
            )
        progress(number, total)


def _list_faults(path: Path, faults: list[Fault]) -> None:
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['patch', 'reason'])
        writer.writerows([fault.patch, fault.reason] for fault in faults)


def _publish(work: Path, folder: Path) -> None:
    """Move the result to its destination and remove the work folder."""
    put_folder(work / 'store', folder)
    shutil.rmtree(work)


def _silent(_: int, __: int) -> None:
    """Progress callback that does nothing."""

"""Convert reBEN from one layout to another: `geores convert reben`."""

import csv
import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geores.bigearthnet.stores import PatchStore
from geores.converting.journal import Journal, check_destination, check_space, counts_of, locked, work_folder
from geores.converting.sources import Fault, TarStore, open_source
from geores.converting.verify import copy_tables, missing_patches, tables_for
from geores.converting.workers import Check, Convert, Progress, chunk_of, chunks_of, ordered_map, tasks
from geores.converting.writers import FORMATS, Writer, writer_for
from geores.errors import DatasetError, JournalError, ReadError, UsageError, WriteError
from geores.io.whole_files import failing

__all__ = ['FAULTS', 'Conversion', 'convert_reben']

FAULTS = 'faults.csv'
JOURNAL = 'journal.jsonl'


@dataclass(frozen=True)
class Conversion:
    """What came of a conversion.

    Attributes:
        folder: destination folder.
        form: layout: 'lmdb' or 'tiff'.
        counts: patches written, by kind: 's2', 's1', 'map'.
        faults: patches that are missing or could not be read, and why.
        seconds: run time, without that of an earlier run that was resumed.
        left_out: rows of the metadata of which nothing was there, where those were left out.
    """

    folder: Path
    form: str
    counts: dict[str, int]
    faults: list[Fault]
    seconds: float
    left_out: int = 0

    @property
    def faults_file(self) -> Path:
        """Where the faults are listed, if there are any."""
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
    """Convert patches; the folder stands there complete and checked, or not at all.

    A conversion that was killed goes on where it was when it is started again, and ends with the same
    bytes as one that was left alone.

    Args:
        source: released folders, `.tar` archives of the release, or an LMDB.
        folder: destination; problems with the source are listed in its `faults.csv`.
        form: 'lmdb' (as rico-hdl writes) or 'tiff' (as released).
        metadata: `metadata.parquet` or its folder, if it is not with the patches or above them. Patches
            that it names and the source lacks count as faults; it is copied to the result.
        only_present: leave out rows of the metadata of which the source has nothing, in the copy too; for
            parts of the data set.
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
    work = work_folder(folder)
    jobs = min(jobs, chunks_of(names))
    with failing(folder.absolute().parent):
        work.parent.mkdir(parents=True, exist_ok=True)
        with locked(work):
            journal, writer = _begin(work, source, form, names, overwrite=overwrite)
            _work(store, names, journal, writer, jobs, progress or _silent)
            _end(work, journal, writer, names, jobs, progress or _silent)
            faults = sorted([*missing, *(fault for chunk in journal.chunks for fault in chunk.faults)])
            if table is not None:
                copy_tables(table, work / 'store', names if only_present else None)
            if faults:
                _list_faults(work / 'store' / FAULTS, faults)
            _put(work, folder)
    seconds = time.perf_counter() - began
    return Conversion(folder, form, counts_of(journal.sums), faults, seconds, left_out)


def _begin(
    work: Path, source: Path, form: str, names: list[str], *, overwrite: bool
) -> tuple[Journal, Writer]:
    """Take up unfinished work, or begin."""
    digest = hashlib.sha256('\n'.join(names).encode()).hexdigest()
    key: dict[str, Any] = {'source': str(source.resolve()), 'format': form, 'names': digest}
    store = work / 'store'
    if work.exists() and (not store.exists() or (overwrite and not _is_of(work, key))):
        shutil.rmtree(work)
    store.mkdir(parents=True, exist_ok=True)
    check_space(work, names)
    journal, writer = Journal(work / JOURNAL, key), writer_for(form, store, names)
    writer.prepare(journal)
    return journal, writer


def _is_of(work: Path, key: dict[str, Any]) -> bool:
    """Whether unfinished work is of this kind, and can be taken up."""
    try:
        Journal(work / JOURNAL, key)
    except (JournalError, ValueError, KeyError):
        return False
    return True


def _work(
    store: PatchStore, names: list[str], journal: Journal, writer: Writer, jobs: int, progress: Progress
) -> None:
    """Convert what is left."""
    first, total = len(journal.chunks), 2 * len(names)
    progress(sum(len(chunk_of(names, number)) for number in range(first)), total)
    work = Convert(None if isinstance(store, TarStore) else store, writer)
    for chunk in ordered_map(work, tasks(names, store, first=first), jobs):
        # Noted before it is put into an LMDB, which tells by itself whether that came about.
        journal.add(chunk)
        writer.commit(chunk)
        chunk.values.clear()
        progress(len(chunk_of(names, chunk.number)), total)


def _end(
    work: Path, journal: Journal, writer: Writer, names: list[str], jobs: int, progress: Progress
) -> None:
    """Write what describes the whole, then read all of it again."""
    sums = journal.sums
    if not sums:
        fault = journal.chunks[0].faults[0]
        raise ReadError(f'not one of {len(names):,} patches could be read; the first: {fault.reason}')
    writer.finish(journal)
    written, total = writer.open(), 2 * len(names)
    progress(len(names) - len(sums), total)
    for number, faults in ordered_map(Check(written), tasks(list(sums), written, sums=sums), jobs):
        if faults:
            # It would be taken for finished work by the next run.
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


def _put(work: Path, folder: Path) -> None:
    """Give the result its name, and take the rest of the work away."""
    from geores.bundle import put_folder

    put_folder(work / 'store', folder)
    shutil.rmtree(work)


def _silent(_: int, __: int) -> None:
    """Show nothing."""

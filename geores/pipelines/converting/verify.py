"""Checking a store of reBEN: `geores verify`."""

import time
from dataclasses import dataclass
from pathlib import Path

from geores.bigearthnet.checksums import CHECKSUMS, read_checksums
from geores.bigearthnet.patch_id import PatchId, S1Name, modality
from geores.errors import DatasetError, UsageError
from geores.pipelines.converting.destination import counts_of
from geores.pipelines.converting.expected import missing_patches, tables_for
from geores.pipelines.converting.pool import ordered_map
from geores.pipelines.converting.sources import Fault, open_source
from geores.pipelines.converting.workers import Check, Progress, chunks_of, tasks

__all__ = ['Verification', 'verify_reben']


@dataclass(frozen=True)
class Verification:
    """What stands in a store, and what is wrong with it.

    Attributes:
        path: Of the store.
        form: Layout: 'lmdb' or 'tiff'.
        counts: Patches by kind: 's2', 's1', 'map'.
        summed: Number of patches that were compared with a checksum.
        table: The released table that patches were counted against, if there is one.
        faults: Patches that are missing or broken, and why.
        seconds: It took.
        left_out: Rows of the table of which nothing is there, where those were left out.
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
    """Read every patch of a store.

    Each has to have all its bands at their sizes and types, and the checksum that was noted when it was
    converted; every patch that the released tables name has to be there, of those kinds that are there.

    Args:
        path: Released folders, `.tar` archives, or an LMDB.
        metadata: `metadata.parquet` or its folder, if it is not with the patches or above them.
        only_present: Leave out rows of the tables of which nothing is there; for parts of the data set.
        jobs: Processes that work.
        progress: Called with the patches that were done and their number in all.

    Raises:
        UsageError: If there is no store, or an option is not usable.
        ReadError: If the whole cannot be read, as a damaged index.
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
        Check(store), tasks(known, store, sums=sums), min(jobs, chunks_of(names))
    ):
        found += wrong
        if progress is not None:
            progress(number, len(known))
    summed = len(set(sums) & set(known))
    faults, seconds = sorted(set(found)), time.perf_counter() - began
    return Verification(path, store.kind, counts_of(known), summed, table, faults, seconds, left_out)


def _is_patch(name: str) -> bool:
    try:
        (S1Name if modality(name) == 's1' else PatchId).parse(name)
    except UsageError:
        return False
    return True

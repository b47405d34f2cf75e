"""Where a conversion writes: a folder that appears whole, and its work in progress beside it."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from geores.bigearthnet.patch_id import modality
from geores.errors import OutputError
from geores.io.whole_files import check_writable

__all__ = ['check_destination', 'check_space', 'locked', 'work_folder']

_BYTES = {'s2': 160_832, 's1': 115_344, 'map': 28_872}
"""Of a patch of each kind in an LMDB; other layouts add no more to the pixels than `_SPARE`."""
_SPARE = 1.04


def work_folder(folder: Path) -> Path:
    """Where unfinished work is kept.

    Args:
        folder: The destination.
    """
    return folder.with_name(f'.{folder.name}.partial')


def check_destination(folder: Path, source: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` where the result could not be put, before any work is done.

    Args:
        folder: The destination.
        source: What is read.
        overwrite: Whether what stands there may be replaced.
    """
    if folder.resolve() == source.resolve() or folder.resolve() in source.resolve().parents:
        raise OutputError(f'{folder}: is or holds the source {source}; name another destination')
    check_writable(folder, folder.absolute().parent)
    if folder.is_file():
        raise OutputError(f'{folder} is a file: name a folder')
    if folder.exists() and not overwrite:
        raise OutputError(f'{folder} exists: give --overwrite to replace it, or another destination')


def check_space(folder: Path, names: list[str]) -> None:
    """Raise `OutputError` where the disk is too small, counting what unfinished work takes already.

    Args:
        folder: The work folder.
        names: Of all patches.
    """
    needed = int(_SPARE * sum(_BYTES[modality(name)] for name in names))
    taken = sum(path.stat().st_blocks * 512 for path in folder.glob('store/*') if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + taken < needed:
        raise OutputError(
            f'{folder.parent}: the result takes {needed / 2**30:,.1f} GiB, and '
            f'{free / 2**30:,.1f} GiB of the disk are free'
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second conversion away from the same work.

    Args:
        folder: The work folder.

    Raises:
        OutputError: If one is under way.
    """
    lock = FileLock(folder.with_name(f'{folder.name}.lock'))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f'{folder}: another conversion is at work there; wait for it') from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def counts_of(names: 'list[str] | Mapping[str, int]') -> dict[str, int]:
    """Number of patches of each kind.

    Args:
        names: Of patches.
    """
    counts: dict[str, int] = {}
    for name in names:
        counts[modality(name)] = counts.get(modality(name), 0) + 1
    return counts

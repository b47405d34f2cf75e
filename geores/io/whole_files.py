"""Files and folders that appear complete, or not at all, and the one lock among processes.

What is being written lies in a folder of its own beside its destination, whose name cannot be guessed and
which nobody else may write to. Links that stand under temporary names are therefore never followed, and a
link that stands under a final name is replaced, while the file that it points to keeps its content.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from geores.errors import GeoresError, OutputError, WriteError

__all__ = [
    'PathLock',
    'check_folder_free',
    'check_folder_name',
    'check_free',
    'check_writable',
    'failing',
    'lock_beside',
    'put_folder',
    'remove_tree',
    'whole_files',
    'whole_folder',
    'write_whole',
]

LOCK_SECONDS = 60
"""How long to wait for another process that is about to give files their names."""


class PathLock:
    """Lock of a path among processes; a process that dies lets go of it.

    As a context manager it waits up to a minute, which suits what is held for moments.

    Args:
        path: of the lock file, whose folder must exist. A link of that name is removed and not followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Not bound to a thread: training may let go of a lock in another thread than it took it.
        self._lock = FileLock(path, thread_local=False)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return bool(self._lock.is_locked)

    def acquire(self, seconds: float = 0.0) -> bool:
        """Take the lock, and tell whether that succeeded.

        Args:
            seconds: how long to wait for a process that holds it.

        Raises:
            OSError: if the lock file cannot be made.
        """
        if self.path.is_symlink():
            self.path.unlink()
        try:
            self._lock.acquire(timeout=seconds)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Remove the lock file and let go of the lock, if this object holds it."""
        if not self.held:
            return
        # While it is held: a process that waits for it notices, and makes another file. Windows does not
        # remove open files, and there the file stays.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._lock.release(force=True)

    def __enter__(self) -> Self:
        if not self.acquire(LOCK_SECONDS):
            raise OutputError(f'{self.path}: another run has held this lock for a minute: run again later')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock_beside(path: Path) -> PathLock:
    """Make the lock of a file or folder, which lies hidden beside it.

    Args:
        path: of the file or folder; it need not exist.
    """
    return PathLock(path.with_name(f'.{path.name.removeprefix(".")}.lock'))


_SUFFIX = '.writing'
_PRIVATE = re.compile(r'\..*\.\w{8}\.writing', re.DOTALL)
_LOCK = '.lock'
_OLD = '.old'
_LONGEST = 60
"""Characters of a name that the name of its private folder repeats, so that it does not grow too long."""
_FILES = frozenset(('.tif', '.tiff', '.vrt', '.jp2', '.png', '.jpg', '.gpkg', '.geojson', '.shp', '.json',
                    '.jsonl', '.csv', '.txt', '.parquet'))  # fmt: skip
"""Endings of what users ask for as one file."""
_swept: set[Path] = set()
"""Folders in which this process has looked for what killed runs left."""


def check_writable(path: Path, folder: Path | None = None) -> None:
    """Raise `OutputError` where something could not be written, before any work is done.

    Args:
        path: the path to write.
        folder: the folder that has to take it, or the nearest above it that exists; None for the path itself,
            which is a folder then.
    """
    folder = (path if folder is None else folder).absolute()
    while not os.path.exists(folder):  # unlike Path.exists, answers where it may not look
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f'{path} cannot be written: {folder} is no folder that you may write to')


def check_folder_name(folder: Path) -> None:
    """Raise `OutputError` where a folder that is not there yet is named like a file.

    Args:
        folder: that several files are to be written to.
    """
    if folder.suffix.lower() in _FILES and not folder.exists():
        raise OutputError(
            f'{folder} is named like a file, and several are written: name a folder, such as '
            f'{folder.with_suffix("")}'
        )


def check_free(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Raise `OutputError` where files could not be written, before any work is done.

    Args:
        paths: of the files.
        overwrite: whether files that stand there, or links, may be replaced.
    """
    for path in paths:
        check_writable(path, path.parent)
        if path.is_dir():
            raise OutputError(f'{path} is a folder: name a file')
        if os.path.lexists(path) and not overwrite:
            raise OutputError(f'{path} exists: give --overwrite to replace it, or another --out')


def check_folder_free(folder: Path, *, overwrite: bool, kind: str, marks: Collection[str]) -> None:
    """Raise `OutputError` where a folder could not be written as a whole, before any work is done.

    Args:
        folder: the destination; an empty folder is free.
        overwrite: whether one of the same kind that stands there may be replaced; nothing else is.
        kind: what is written, for the message, such as 'bundle'.
        marks: names of files, one of which every folder of that kind holds.
    """
    check_writable(folder, folder.absolute().parent)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f'{folder} is a file: name a folder')
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise OutputError(f'{folder} exists: give --overwrite to replace it, or another destination')
    if not any((folder / mark).exists() for mark in marks):
        raise OutputError(f'{folder} is no {kind}, and nothing else is replaced: name another destination')


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give names to write under; when all is well the files take their own names, else they are removed.

    Folders that are not there are made, and do not stay empty. Names are taken one after the other, while no
    other process takes names of the same set: the last of several is the file that the others belong to, and
    stands only where all of this run do.

    Yields:
        A path for each: its own file name, in a private folder beside it. Other files that are made there,
        such as those of a database, are removed.

    Raises:
        WriteError: if writing failed, as on a full disk; what stood under the names stays.
    """
    parents = list(dict.fromkeys(path.parent for path in paths))
    with failing(parents[0]), _made(parents), ExitStack() as stack:
        private = {one: stack.enter_context(_private_folder(one, paths[-1].name)) for one in parents}
        partial = [private[path.parent] / path.name for path in paths]
        yield partial
        for path in partial:
            _sync(path)
        if len(paths) == 1:
            os.replace(partial[0], paths[0])
            return
        with lock_beside(paths[-1]):
            paths[-1].unlink(missing_ok=True)  # or a kill would leave an old one beside new others
            for path, final in zip(partial[:-1], paths[:-1], strict=True):
                os.replace(path, final)
            os.replace(partial[-1], paths[-1])


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a small file that appears complete, or not at all.

    Args:
        path: of the file.
        content: bytes, or text, which is written in UTF-8.

    Raises:
        WriteError: if writing failed, as on a full disk; what stood under the name stays.
    """
    with whole_files([path]) as (partial,):
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_folder(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Give a folder to write into, which takes its own name when all is well, else is removed.

    The files directly in it are on the disk before it takes its name.

    Args:
        path: the folder; one that stands there is replaced. `check_folder_free` refuses that beforehand.
        keep: keep a folder that another run has put there meanwhile.

    Yields:
        A new folder of that name, in a private folder beside it.

    Raises:
        WriteError: if writing failed, as on a full disk; what stood under the name stays.
    """
    path = path.absolute()
    with failing(path.parent), _made([path.parent]), _private_folder(path.parent, path.name) as private:
        part = private / path.name
        part.mkdir()
        yield part
        for file in part.iterdir():
            if file.is_file():
                _sync(file)
        put_folder(part, path, keep=keep)


def put_folder(part: Path, folder: Path, *, keep: bool = False) -> None:
    """Give a finished folder its own name, in the place of one that stands there.

    Args:
        part: the finished folder, on the same file system, in a folder for unfinished work.
        folder: its own name. A link there is replaced; what it points to stays.
        keep: keep a folder that stands there already, and leave the finished one where it is.
    """
    # A folder that is not empty cannot be replaced in one step, so the old one steps aside. Where a kill
    # comes between the two steps, the old one is put back when something is written beside it again.
    old = part.with_name(folder.name + _OLD)
    with lock_beside(folder):
        standing = os.path.lexists(folder)
        if standing and keep:
            return
        if standing:
            os.replace(folder, old)
        try:
            os.replace(part, folder)
        except OSError:
            if standing:
                os.replace(old, folder)
            raise
    remove_tree(old)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, a file or a link, if it is there; a link is not followed."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def failing(folder: Path, *, kept: bool = False) -> Iterator[None]:
    """Turn errors of the file system, of GDAL and of OGR into a `WriteError`.

    Args:
        folder: the folder that is written to.
        kept: whether finished work is kept, which the message then says.
    """
    try:
        yield
    except GeoresError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not _of_gdal(error):
            raise
        text = ' '.join(str(error).split())
        full = ' (the disk is full)' if _is_full(folder, error, text) else ''
        more = '; finished work is kept, run again to continue' if kept else ''
        raise WriteError(f'cannot write to {folder}: {text}{full}{more}') from error


def _of_gdal(error: Exception) -> bool:
    # Imported here: whoever writes JSON alone need not load GDAL for it.
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
    from rasterio.errors import RasterioError

    return isinstance(error, RasterioError | DataSourceError | DataLayerError | FeatureError)


def _is_full(folder: Path, error: Exception, text: str) -> bool:
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or 'No space left' in text:
        return True
    # GDAL says that it cannot write, and not why.
    disk = shutil.disk_usage(folder) if folder.exists() else None
    return disk is not None and disk.free < 2**20 <= disk.total


@contextmanager
def _made(folders: Sequence[Path]) -> Iterator[None]:
    """Make folders that are not there, with those above them, and remove those that stay empty."""
    missing = {one for folder in folders for one in (folder, *folder.parents) if not one.exists()}
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in sorted(missing, key=lambda one: len(one.parts), reverse=True):
            with suppress(OSError):  # it holds what was written
                folder.rmdir()


@contextmanager
def _private_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder that only this user may write to, with a name that nobody can guess; it is removed."""
    parent = parent.absolute()
    if parent not in _swept:
        _sweep(parent)
        _swept.add(parent)
    folder, lock = _claimed(parent, name)
    try:
        yield folder
    finally:
        lock.release()
        remove_tree(folder)


def _claimed(parent: Path, name: str) -> tuple[Path, PathLock]:
    """Make a private folder and lock it, so that no other process takes it for one that was left behind.

    Another process may do so before it is locked, and has then removed it: that is noticed.
    """
    while True:
        folder = Path(tempfile.mkdtemp(_SUFFIX, f'.{name[:_LONGEST]}.', parent))
        with suppress(FileNotFoundError):
            made, lock = folder.stat(), PathLock(folder / _LOCK)
            if lock.acquire():
                if os.path.samestat(folder.stat(), made):
                    return folder, lock
                lock.release()
                remove_tree(folder)  # which the lock has made again


def _sweep(parent: Path) -> None:
    """Remove private folders that killed runs have left; a process that lives holds the lock of its own."""
    for folder in parent.glob(f'.*{_SUFFIX}'):
        if not _PRIVATE.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(OSError):
            lock = PathLock(folder / _LOCK)
            if lock.acquire():
                _put_back(folder, parent)
                lock.release()
                remove_tree(folder)


def _put_back(private: Path, parent: Path) -> None:
    """Give folders back their name that a kill kept from being replaced after they had stepped aside."""
    for old in private.glob(f'*{_OLD}'):
        folder = parent / old.name.removesuffix(_OLD)
        with lock_beside(folder):
            if not os.path.lexists(folder):
                os.replace(old, folder)


def _sync(path: Path) -> None:
    with path.open('rb') as file:
        os.fsync(file.fileno())

"""One lock among processes: a file that is there only while a process holds it."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from geores.errors import OutputError

__all__ = ['PathLock', 'lock_beside']

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

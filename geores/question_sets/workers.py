"""Make tiles in several processes, in a folder that appears when done and that a later run continues."""

import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from filelock import FileLock, Timeout

from geores.errors import GeoresError, JournalError, OutputError, WriteError
from geores.io.whole_files import check_writable, failing
from geores.question_sets.tiles import TileMaker

__all__ = ['FEW', 'WorkFolder', 'Workers', 'check_dataset_folder', 'warm_up']


def check_dataset_folder(out: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if a dataset could not be written, before any work is done."""
    check_writable(out, out.absolute().parent)
    if out.exists() and not out.is_dir():
        raise OutputError(f'{out} is a file: name a folder')
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            raise OutputError(f'{out} exists: give --overwrite to replace it, or another --out')
        if not (out / 'manifest.json').exists():
            raise OutputError(f'{out} is no dataset of questions: it is not replaced, name another --out')


class WorkFolder:
    """Folder for work in progress, beside the folder that it will become.

    Args:
        out: the finished folder.
        key: everything that decides the tiles; unfinished work with another key is refused.
        overwrite: whether to replace ``out``, and to drop work with another key.

    Raises:
        JournalError: if there is unfinished work with other inputs or options, or another run is active.
        WriteError: if the folder cannot be made.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, overwrite: bool) -> None:
        self.out = out.absolute()
        self.folder = self.out.with_name(f'.{self.out.name}.partial')
        self.tiles, self.final = self.folder / 'tiles', self.folder / 'dataset'
        self._key = json.loads(json.dumps(key))
        self._overwrite = overwrite
        self._lock = FileLock(self.out.with_name(f'.{self.out.name}.lock'), timeout=0)

    def __enter__(self) -> Self:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._open()
        except Timeout as error:
            raise JournalError(
                f'{self.out} is being made by another run: wait, or name another --out'
            ) from error
        except OSError as error:
            raise WriteError(f'cannot write to {self.folder}: {error}') from error
        return self

    def _open(self) -> None:
        journal = self.folder / 'journal.json'
        if journal.exists():
            found = json.loads(journal.read_text())
            differ = sorted(name for name in self._key if found.get(name) != self._key[name])
            if differ and not self._overwrite:
                raise JournalError(
                    f'{self.folder} holds unfinished work with other {", ".join(differ)}: '
                    'repeat that command, or give --overwrite to begin anew'
                )
            if differ:
                shutil.rmtree(self.folder)
        elif self.folder.exists():  # killed before the journal was written
            shutil.rmtree(self.folder)
        shutil.rmtree(self.final, ignore_errors=True)
        self.tiles.mkdir(parents=True, exist_ok=True)
        partial = journal.with_suffix('.partial')
        partial.write_text(json.dumps(self._key, indent=1))
        partial.replace(journal)
        self.final.mkdir()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the work of an interrupted run; remove it if the run failed before any tile was made."""
        if isinstance(error, GeoresError) and not any(self.tiles.glob('*.tif')):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def finish(self) -> None:
        """Move the finished dataset to its place."""
        with failing(self.out):
            old = self.folder / 'replaced'
            if self.out.exists():
                os.replace(self.out, old)
            os.replace(self.final, self.out)
            shutil.rmtree(self.folder)


FEW = 64
"""Number of tiles up to which starting processes takes longer than it saves."""
AHEAD = 2
"""Number of work items that are queued per process, so that none is idle."""

Share = TypeVar('Share')
Result = TypeVar('Result')
Work = Callable[[Sequence[TileMaker], Share], Result]


def _context() -> BaseContext:
    """Processes are not forked from this one, because GDAL's threads do not survive a fork."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context('forkserver' if 'forkserver' in methods else 'spawn')


def warm_up() -> None:
    """Start the imports that processes will need in the background."""
    context = _context()
    if context.get_start_method() == 'forkserver':
        from multiprocessing.forkserver import ensure_running

        context.set_forkserver_preload([__name__])
        ensure_running()


class Workers:
    """This process and others that hold the makers of tiles.

    The others get work once they have started; until then this process does all of it.

    Args:
        makers: one maker per scene.
        jobs: number of processes including this one.
    """

    def __init__(self, makers: Sequence[TileMaker], jobs: int) -> None:
        self.makers = makers
        self._others = jobs - 1
        self._pool: ProcessPoolExecutor | None = None
        self._started: Future[None] | None = None

    def __enter__(self) -> Self:
        if self._others:
            self._pool = ProcessPoolExecutor(self._others, _context(), _start, (list(self.makers),))
            self._started = self._pool.submit(_nothing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, work: Work[Share, Result], shares: Sequence[Share]) -> Iterator[Result]:
        """Run a function over work items.

        Args:
            work: function of the makers and one item; it has to be importable.
            shares: the items.

        Yields:
            Results in the order in which they are finished.
        """
        queue, given = deque(shares), set[Future[Result]]()
        while queue or given:
            # Take items from the end: neighbours, which share blocks of a file, stay in one process.
            while queue and self._pool is not None and len(given) < self._room():
                given.add(self._pool.submit(_call, work, queue.pop()))
            if queue:
                yield work(self.makers, queue.popleft())
            done, given = wait(given, 0 if queue else None, FIRST_COMPLETED)
            for one in done:
                yield one.result()

    def _room(self) -> int:
        return AHEAD * self._others if self._started is not None and self._started.done() else 0


_MAKERS: list[TileMaker] = []


def _start(makers: list[TileMaker]) -> None:
    _MAKERS[:] = makers


def _nothing() -> None:
    """A task that is finished once a process has started."""


def _call(work: Work[Any, Any], share: Any) -> Any:  # noqa: ANN401 - whatever the work is of
    return work(_MAKERS, share)

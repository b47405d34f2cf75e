"""Make tiles in several processes, in a folder that appears when done and that a later run continues."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from geores.errors import GeoresError
from geores.io.journal import Journal
from geores.io.whole_files import failing, put_folder, remove_tree
from geores.question_sets.tiles import TileMaker

__all__ = ['FEW', 'WorkFolder', 'Workers', 'warm_up']


class WorkFolder:
    """Folder for work in progress, beside the folder that it will become; a later run continues it.

    Args:
        out: the finished folder.
        key: everything that decides the tiles.
        resume: whether to continue unfinished work.
        overwrite: whether to replace ``out``, and to drop work with another key.

    Raises:
        JournalError: if there is unfinished work with other inputs or options.
        OutputError: if another run is at work there.
        WriteError: if the folder cannot be made.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, resume: bool = True, overwrite: bool) -> None:
        self.out = out.absolute()
        self.folder = self.out.with_name(f'.{self.out.name}.partial')
        self.tiles, self.final = self.folder / 'tiles', self.folder / 'dataset'
        self._open = partial(Journal, self.folder, key, resume=resume, overwrite=overwrite)

    def __enter__(self) -> Self:
        self._journal = self._open()
        with failing(self.folder):
            remove_tree(self.final)  # of a run that was stopped while it wrote the dataset
            self.tiles.mkdir(exist_ok=True)
            self.final.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the work of an interrupted run; remove it if the run failed before any tile was made."""
        if isinstance(error, GeoresError) and not any(self.tiles.glob('*.tif')):
            self._journal.remove()
        self._journal.__exit__(kind, error, trace)

    def finish(self) -> None:
        """Move the finished dataset to its place."""
        with failing(self.out):
            put_folder(self.final, self.out)
        self._journal.remove()


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

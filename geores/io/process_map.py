"""One ordered map over processes: results come in the order of the items, whichever process made them."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from geores.errors import GeoresError

__all__ = ['ProcessMap', 'ordered_map', 'warm_up']

State = TypeVar('State')
Item = TypeVar('Item')
Result = TypeVar('Result')

_AHEAD = 3
"""Items that are submitted ahead per process, so that none is idle; it bounds the results held in memory."""
_HELD = 4
"""Times as many results are held, at most, where this process goes ahead of a slow one."""
_STATE: list[Any] = []
"""The state in another process, kept so that it is sent once and not with each item."""


class ProcessMap(Generic[State]):
    """Processes that hold a state, and apply functions to it and to items.

    Args:
        state: what every process holds; it has to be picklable if there is more than one.
        jobs: number of processes; 1 works in this one.
        helping: count this process among them. It works alone until the others have started.

    Raises:
        GeoresError: from `map`, if a process died, for example when memory ran out.
    """

    def __init__(self, state: State, jobs: int, *, helping: bool = False) -> None:
        self.state = state
        self._others = jobs - 1 if helping or jobs == 1 else jobs
        self._helps = helping or not self._others
        self._pool: ProcessPoolExecutor | None = None
        self._started: Future[None] | None = None

    def __enter__(self) -> Self:
        if self._others:
            self._pool = ProcessPoolExecutor(self._others, _context(), _start, (self.state,))
            self._started = self._pool.submit(_nothing) if self._helps else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[[State, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply a function of the state and one item to all items.

        Args:
            function: function to apply; it has to be importable if there is more than one process.
            items: taken as they are needed, a few ahead.

        Yields:
            Results in the order of the items.
        """
        left, waiting = iter(items), deque[Future[Result]]()
        try:
            for item in left:
                if self._pool is not None and self._room(waiting):
                    waiting.append(self._pool.submit(_call, function, item))
                else:
                    waiting.append(_done(function(self.state, item)))
                while waiting and (waiting[0].done() or not self._may_go_on(waiting)):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise GeoresError(
                'a worker process died, perhaps for want of memory; run again to continue, with fewer --jobs'
            ) from error

    def _room(self, waiting: deque[Future[Result]]) -> bool:
        """Whether the other processes take another item."""
        if not self._helps:
            return True
        begun = self._started is not None and self._started.done()
        return begun and sum(not one.done() for one in waiting) < _AHEAD * self._others

    def _may_go_on(self, waiting: deque[Future[Result]]) -> bool:
        """Whether another item may be begun before the first result is there."""
        most = _AHEAD * self._others
        return len(waiting) < (_HELD * most if self._helps else most)


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    """Apply a function to items in other processes, and yield the results in order.

    Args:
        function: function to apply; it is pickled once per process.
        items: taken as they are needed, a few ahead.
        jobs: number of processes; 1 works in this one.

    Raises:
        GeoresError: if a process died, for example when memory ran out.
    """
    with ProcessMap(function, jobs) as processes:
        yield from processes.map(_apply, items)


def warm_up(module: str) -> None:
    """Start the imports that processes will need in the background."""
    context = _context()
    if context.get_start_method() == 'forkserver':
        from multiprocessing.forkserver import ensure_running

        context.set_forkserver_preload([module])
        ensure_running()


def _context() -> BaseContext:
    """Processes are not forked from this one: locks of threads, GDAL and LMDB do not survive that."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context('forkserver' if 'forkserver' in methods else 'spawn')


def _start(state: Any) -> None:  # noqa: ANN401 - whatever the state is
    """Keep the state, and exit when the parent process is killed."""
    _STATE[:] = [state]
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _nothing() -> None:
    """A task that is finished once a process has started."""


def _call(function: Callable[[Any, Any], Any], item: Any) -> Any:  # noqa: ANN401 - whatever the work is of
    return function(_STATE[0], item)


def _apply(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def _done(result: Result) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(result)
    return future

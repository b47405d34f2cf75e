"""Work spread over processes, its results in order and only a few ahead of who takes them."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from geores.errors import GeoresError

__all__ = ['ordered_map']

Item = TypeVar('Item')
Result = TypeVar('Result')
_AHEAD = 3
_FUNCTIONS: list[Callable[[Any], Any]] = []


def ordered_map(function: Callable[[Item], Result], tasks: Iterable[Item], jobs: int) -> Iterator[Result]:
    """Results of tasks, in their order.

    Args:
        function: What to do; sent once to each process.
        tasks: What to do it on.
        jobs: Processes; 1 works in this one.

    Raises:
        GeoresError: If a process died, as when memory runs out.
    """
    if jobs == 1:
        yield from map(function, tasks)
        return
    # Forking would copy threads that hold locks, and LMDB environments.
    context = multiprocessing.get_context('spawn')
    executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(function,))
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(_call, task))
            if len(waiting) >= jobs * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise GeoresError(
            'a worker process died, perhaps for want of memory; run again to continue, with fewer --jobs'
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _start(function: Callable[[Any], Any]) -> None:
    """Keep the function, and let no worker outlive a parent that was killed."""
    _FUNCTIONS[:] = [function]
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _call(task: Any) -> Any:  # noqa: ANN401
    return _FUNCTIONS[0](task)


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)

"""Where a network runs, and how many threads it takes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from geores.errors import UsageError

__all__ = ['one_thread_each', 'pick_device']


def pick_device(name: str) -> str:
    """A device's name for torch: ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: the device is not there.
    """
    if name == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise UsageError(f'device {name!r} is unknown: use auto, cpu, cuda or cuda:N') from error
    if kind not in ('cpu', 'cuda'):
        raise UsageError(f'device {name!r} is not supported: use auto, cpu, cuda or cuda:N')
    if kind == 'cuda' and not torch.cuda.is_available():
        raise UsageError(f'device {name!r} is not available here: use cpu')
    return name


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let every computing thread use one core, so that batches, not operators, run side by side.

    Faster than threads within operators, and results do not depend on the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

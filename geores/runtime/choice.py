"""Which runtime computes a network fastest here: measured in less than a second, and remembered.

What was measured stands in the user's cache, by network, tile, precision, processor and versions, so that the
same command makes the same choice again.
"""

import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch

from geores.errors import GeoresError
from geores.runtime.base import Precision, Runtime, one_thread_each
from geores.runtime.eager import EagerRuntime
from geores.runtime.exported import (
    OpenVinoRuntime,
    RuntimeName,
    Shape,
    cache_folder,
    digest_network,
    installed_runtimes,
    is_kept,
    package_version,
    to_onnx_runtime,
)

__all__ = ['Rates', 'Workload', 'fastest_runtime', 'make_exported', 'measure_rate']

Rates = Mapping[RuntimeName, float]
"""Tiles a second of each runtime that was measured, in one thread."""

ROUND_SECONDS = 0.1
"""A measured batch is so large that torch takes about this long for it."""

ROUNDS = 3
"""Batches that are timed, of which the quickest counts: other work on the machine can only slow one."""

WORTH_SECONDS = 15.0
"""Shortest work, by torch, for which a network is converted: that takes seconds."""

START_SECONDS = 2.0
"""Shortest work, by torch, for which a converted network is loaded: that takes tenths of a second."""

COARSE = 1e-3
"""Seconds between ticks of a clock that is too coarse to time batches."""

CLOCK = time.process_time if time.get_clock_info('process_time').resolution < COARSE else time.perf_counter
"""Seconds of the processor where they can be told: what else the machine does is none of them."""

GAIN = 1.1
"""How much faster than torch another runtime has to be to be taken."""


@dataclass(frozen=True)
class Workload:
    """What a runtime will be given.

    Attributes:
        shape: channels, height and width of the tiles.
        batch_size: most tiles at once.
        tiles: tiles in all.
        workers: threads that compute.
    """

    shape: Shape
    batch_size: int
    tiles: int
    workers: int


def fastest_runtime(
    network: torch.nn.Module, precision: Precision, work: Workload, plain: Runtime | None = None
) -> tuple[RuntimeName, Rates]:
    """Find the runtime that does a piece of work soonest, on the CPU.

    Args:
        network: the network, in evaluation mode.
        precision: 'fp32' or 'bf16'.
        work: what will be computed. Where it is little, torch starts soonest.
        plain: the network under torch, where that is made already.

    Returns:
        The runtime's name, and what was measured; nothing where torch was taken without a measurement.
    """
    names = [name for name in installed_runtimes()[1:] if precision == 'fp32' or name == 'openvino']
    if not names:
        return 'torch', {}
    digest = digest_network(network)
    memory = _Memory(cache_folder() / 'runtimes.json')
    key = _key(digest, precision, work.shape, names)
    rates = memory.get(key)
    # Little work is remembered by its size: a machine that is busier at the next try must not choose
    # otherwise, for the journal of a run that was stopped is of the runtime that it began with.
    little = f'{key}-{work.tiles}-{work.workers}'
    if memory.get(little) is not None:
        return 'torch', {}
    if rates is None:
        slow = measure_rate(plain or EagerRuntime(network, precision, torch.device('cpu')), work)
        if work.tiles / (slow * work.workers) < WORTH_SECONDS:
            memory.put(little, {'torch': slow})
            return 'torch', {}
        rates = {'torch': slow}
        for name in names:
            with suppress(GeoresError):  # not every network can be converted
                rates[name] = measure_rate(make_exported(name, network, precision, work.shape, digest), work)
        memory.put(key, rates)
    best: Any = max(rates, key=lambda name: rates[name])
    seconds = work.tiles / (rates['torch'] * work.workers)
    started = best != 'openvino' or is_kept(digest, work.shape) or seconds >= WORTH_SECONDS
    if rates[best] < GAIN * rates['torch'] or seconds < START_SECONDS or not started:
        best = 'torch'
    return best, rates


def make_exported(
    name: RuntimeName,
    network: torch.nn.Module,
    precision: Precision,
    shape: Shape,
    digest: str | None = None,
) -> Runtime:
    """Put a network of torch under another runtime.

    Args:
        name: 'openvino' or 'onnxruntime'.
        network: in evaluation mode, on the CPU.
        precision: 'fp32' or 'bf16'.
        shape: channels, height and width of the tiles.
        digest: of the network, where it is known.

    Raises:
        UsageError: if the runtime is not installed.
        GeoresError: if it cannot take the network.
    """
    if name == 'openvino':
        return OpenVinoRuntime(network, shape, precision, digest=digest)
    return to_onnx_runtime(network, shape)


@torch.inference_mode()
def measure_rate(runtime: Runtime, work: Workload) -> float:
    """Measure how many tiles a second a runtime computes in one thread, in some tenths of a second.

    On noise, for the time does not depend on the values.

    Args:
        runtime: the runtime.
        work: shape and number of the tiles.
    """
    noise = torch.randn(1, *work.shape, generator=torch.Generator().manual_seed(0))

    def seconds(count: int) -> float:
        images = noise.repeat(count, 1, 1, 1)
        start = CLOCK()
        runtime(images)
        return CLOCK() - start

    with one_thread_each():
        seconds(1)  # lays out and compiles what it needs
        one = max(seconds(1), 1e-6)
        if work.tiles * one / work.workers < WORTH_SECONDS:  # little work, of which batches take less still
            return 1 / one
        count = int(min(work.batch_size, max(1, ROUND_SECONDS // one)))
        if count > 1:
            seconds(count)  # the same for this size
        return count / min(seconds(count) for _ in range(ROUNDS))


def _key(digest: str, precision: str, shape: Shape, names: list[RuntimeName]) -> str:
    """Everything that a measurement depends on, as a digest."""
    versions = [package_version(name) for name in ('geores', 'torch', *names)]
    isa = [os.environ.get(name) for name in ('ONEDNN_MAX_CPU_ISA', 'ATEN_CPU_CAPABILITY')]
    machine = [platform.machine(), _processor(), torch.backends.cpu.get_cpu_capability(), *isa]
    return sha256(json.dumps([digest, precision, shape, names, versions, machine]).encode()).hexdigest()


def _processor() -> str:
    """Name of the processor, as far as it is told."""
    with suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor()


class _Memory:
    """Measured rates in a file; one that cannot be read or written is as good as none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _all(self) -> dict[str, dict[RuntimeName, float]]:
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(self._path.read_text(encoding='utf-8'))
            if isinstance(found, dict):
                return found
        return {}

    def get(self, key: str) -> dict[RuntimeName, float] | None:
        rates = self._all().get(key)
        sound = isinstance(rates, dict) and all(
            isinstance(rate, float) and rate > 0 for rate in rates.values()
        )
        return rates if sound and rates is not None and 'torch' in rates else None

    def put(self, key: str, rates: dict[RuntimeName, float]) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile('w', dir=self._path.parent, suffix='.tmp', delete=False) as file:
                json.dump(self._all() | {key: rates}, file, indent=1)
            Path(file.name).replace(self._path)

"""Which runtime a model gets: each is made once and timed on tiles of the scene, and the choice kept.

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
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from geores.errors import GeoresError, UsageError
from geores.model import Model
from geores.runtime.base import Precision, Runtime, has_bfloat16, one_thread_each
from geores.runtime.eager import EagerRuntime, keep_runtime
from geores.runtime.exported import (
    OpenVinoRuntime,
    RuntimeName,
    Shape,
    cache_folder,
    digest_network,
    installed_runtimes,
    is_kept,
    make_quantised,
    package_version,
    to_onnx_runtime,
)
from geores.runtime.nearness import LabelRule, NearTies, measure_ties, widen_probe
from geores.runtime.onnx import OnnxNetwork, OnnxRuntime

__all__ = [
    'TIED',
    'Rates',
    'Runtimes',
    'Workload',
    'fastest_runtime',
    'make_exported',
    'make_runtime',
    'measure_rate',
]

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
    started = best != 'openvino' or is_kept(digest, work.shape, precision) or seconds >= WORTH_SECONDS
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


PROBE_PIXELS = 2**19
"""Pixels of the probe that another runtime is checked on, at most; one tile at least."""

LABELS_TILES = ('single-label', 'multi-label')
"""Tasks whose tiles have labels."""

FEW = 128
"""Tiles that are computed in float32 without a look at narrower types, which takes as long."""

FEW_PIXELS = 4 * PROBE_PIXELS
"""The same where every pixel has a label, in pixels."""

TIED = 0.4
"""Most tiles that may be nearly tied for a narrow type to be taken where nothing was timed: it saves half."""


class Runtimes:
    """The runtimes of a model that are compared: each is made once, for that takes as long as a small scene.

    Args:
        model: a model on its device.
        probe: some tiles of the scene.
        rule: how scores become labels.
        work: what will be computed.
        compile: let torch compile the network.
    """

    def __init__(
        self,
        model: Model,
        probe: NDArray[np.float32],
        rule: LabelRule,
        work: Workload | None,
        *,
        compile: bool,
    ) -> None:
        self._model, self._probe, self._rule, self._work = model, probe, rule, work
        self._compile = compile
        self._made: dict[tuple[RuntimeName, Precision], Runtime] = {}
        self._ties: dict[tuple[RuntimeName, Precision], NearTies | None] = {}
        self._rates: dict[tuple[RuntimeName, Precision], float] = {}

    def get(self, name: RuntimeName, precision: Precision) -> Runtime:
        """The network under a runtime."""
        key = (name, precision)
        if key not in self._made:
            if precision == 'int8':
                tiles = torch.from_numpy(widen_probe(self.tiles(name)))
                shown = self._model.normalise_(tiles).numpy()
                self._made[key] = make_quantised(self._model.network, self._shape, shown)
            elif name == 'torch' or self._work is None:
                self._made[key] = make_runtime(self._model, precision, compile=self._compile)
            else:
                self._made[key] = make_exported(name, self._model.network, precision, self._shape)
        return self._made[key]

    @property
    def _shape(self) -> Shape:
        """Channels, height and width of the tiles."""
        channels, height, width = self._probe.shape[1:] if self._work is None else self._work.shape
        return channels, height, width

    def tiles(self, name: RuntimeName) -> NDArray[np.float32]:
        """The probe, at the one size that other runtimes than torch take."""
        if name == 'torch' or self._work is None:
            return self._probe
        return _whole_tiles(self._probe, self._work)

    def ties(self, name: RuntimeName, precision: Precision) -> NearTies | None:
        """Measure which tiles are nearly tied.

        None in float32, for networks that label pixels, and where no tiles of the scene are known.
        """
        labels = self._model.card.task in LABELS_TILES
        if precision == 'fp32' or not (labels and len(self._probe)):
            return None
        if (name, precision) not in self._ties:
            runtimes = (self.get(name, precision), self.get(name, 'fp32'))
            self._ties[name, precision] = measure_ties(self._model, self._rule, *runtimes, self.tiles(name))
        return self._ties[name, precision]

    def candidates(
        self, chosen: Precision | Literal['auto'], named: RuntimeName | Literal['auto']
    ) -> list[tuple[RuntimeName, Precision]]:
        """Runtimes and precisions to try, the fastest first; the last one of torch is always good."""
        kinds = self._precisions(named) if chosen == 'auto' else [chosen]
        if named != 'auto':
            return [(named, kind) for kind in kinds if kind == kinds[-1] or self._few_tied(kind)]
        found: dict[tuple[RuntimeName, Precision], None] = {}
        for kind in kinds if len(self._probe) else ():
            work, plain = self._work, self.get('torch', kind)
            name, rates = fastest_runtime(self._model.network, kind, work, plain) if work else ('torch', {})
            if not rates:  # too little work to time anything
                return [('torch', kind) for kind in kinds if kind == kinds[-1] or self._few_tied(kind)]
            self._rates |= {(one, kind): rate for one, rate in rates.items()}
            found |= {(name, kind): None, ('torch', kind): None}
        return sorted(found, key=self._seconds) or [('torch', kinds[-1])]

    def _precisions(self, named: RuntimeName | Literal['auto']) -> list[Precision]:
        """Precisions that 'auto' chooses among: fp32, and a narrow one where its errors can be told."""
        card, device = self._model.card, self._model.device.type
        as_it_is = isinstance(self._model.network, OnnxNetwork)
        # Values in units of their own may need digits, and ONNX Runtime has no other precision on a CPU.
        if not len(self._probe) or card.activation == 'identity' or as_it_is:
            return ['fp32']
        if device == 'cuda':
            return ['fp16', 'fp32']
        narrow = has_bfloat16() and named != 'onnxruntime' and not self._is_little()
        return ['bf16', 'fp32'] if narrow else ['fp32']

    def _is_little(self) -> bool:
        """Whether the work is done in float32 before it is known that a narrow type may do it."""
        if self._work is None:
            return False
        tiles, (_, height, width) = self._work.tiles, self._work.shape
        return tiles <= FEW if self._model.card.task in LABELS_TILES else tiles * height * width <= FEW_PIXELS

    def _few_tied(self, precision: Precision) -> bool:
        ties = self.ties('torch', precision)
        return ties is None or ties.share <= TIED

    def _seconds(self, one: tuple[RuntimeName, Precision]) -> float:
        """Seconds that a tile takes, with its share of those that are computed again."""
        name, precision = one
        ties = self.ties('torch', precision)
        exact = self._rates.get((name, 'fp32')) or self._rates.get(('torch', 'fp32'))
        return 1 / self._rates[one] + (ties.share / exact if ties is not None and exact else 0.0)

    def told(self, name: RuntimeName, precision: Precision) -> str:
        """What was measured, for a note."""
        if (name, precision) not in self._rates:
            return ''
        rates = (float(f'{self._rates[one]:.2g}') for one in ((name, precision), ('torch', precision)))
        return ': {:,g} tiles a second a core here, torch {:,g}'.format(*rates)


def _whole_tiles(probe: NDArray[np.float32], work: Workload) -> NDArray[np.float32]:
    """Some tiles of the work's size, made of the probe where that is smaller, by repeating it."""
    _, height, width = work.shape
    tiles = probe[: max(1, PROBE_PIXELS // (height * width))]
    more = [(0, max(0, have - got)) for have, got in zip((height, width), tiles.shape[2:], strict=True)]
    return np.pad(tiles, [(0, 0), (0, 0), *more], mode='wrap')[..., :height, :width]


def make_runtime(model: Model, precision: Precision, *, compile: bool = False) -> Runtime:
    """Make the runtime of a model: ONNX Runtime for networks that are ONNX files, else torch.

    Args:
        model: a model on its device.
        precision: precision of the forward pass.
        compile: let torch compile the network.

    Raises:
        UsageError: if an ONNX file is asked for another precision than its own.
    """
    if isinstance(model.network, OnnxNetwork):
        if precision != 'fp32' or compile:
            asked = '--compile' if compile else f'--precision {precision}'
            raise UsageError(f'model {model.name!r} is an ONNX file, which runs as it is: drop {asked}')
        return OnnxRuntime(model.network)
    if compile:
        return EagerRuntime(model.network, precision, model.device, compile=True)
    return keep_runtime(model.network, precision, model.device, EagerRuntime)

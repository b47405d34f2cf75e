"""The runtimes that a model can get: each made once, and those named that pay."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from geores.errors import UsageError
from geores.model import Model
from geores.runtime.base import Precision, Runtime, has_bfloat16
from geores.runtime.choice import Workload, fastest_runtime, make_exported
from geores.runtime.eager import EagerRuntime, keep_runtime
from geores.runtime.exported import RuntimeName, Shape
from geores.runtime.nearness import LabelRule, NearTies, measure_ties, widen_probe
from geores.runtime.onnx import OnnxNetwork, OnnxRuntime
from geores.runtime.quantised import make_quantised

__all__ = ['TIED', 'Runtimes', 'make_runtime']

PROBE_PIXELS = 2**19
"""Pixels of the probe that another runtime is checked on, at most; one tile at least."""

LABELS_TILES = ('single-label', 'multi-label')
"""Tasks whose tiles have labels."""

FEW = 128
"""Tiles that are computed in float32 without a look at narrower types, which takes as long."""

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
        """What is nearly tied; None in float32, of pixels, on CUDA and where the scene is not known."""
        cpu, labels = self._model.device.type == 'cpu', self._model.card.task in LABELS_TILES
        if precision == 'fp32' or not (cpu and labels and len(self._probe)):
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
        few = self._work is not None and self._work.tiles <= FEW and card.task in LABELS_TILES
        as_it_is = isinstance(self._model.network, OnnxNetwork)
        # Values in units of their own may need digits, and ONNX Runtime has no other precision on a CPU.
        if not len(self._probe) or card.activation == 'identity' or as_it_is:
            return ['fp32']
        if device == 'cuda':
            return ['fp16', 'fp32']
        return ['bf16', 'fp32'] if has_bfloat16() and named != 'onnxruntime' and not few else ['fp32']

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
        rate, plain = self._rates[name, precision], self._rates['torch', precision]
        return f': {rate:,.0f} tiles a second a core here, torch {plain:,.0f}'


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

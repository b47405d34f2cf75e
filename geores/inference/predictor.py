"""The network as a step of the engine, at the best precision that the device supports."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from threading import local
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geores.errors import UsageError
from geores.inference.folding import fold_batch_norms
from geores.inference.packing import pack_convolutions
from geores.model import Model

__all__ = [
    'TOLERANCE',
    'Precision',
    'Predictor',
    'check_precision',
    'choose_predictor',
    'one_thread_each',
    'pick_device',
]

Precision = Literal['fp32', 'bf16', 'fp16']
DTYPES: dict[Precision, torch.dtype] = {
    'fp32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}

TOLERANCE = 0.05
"""Most that a probability may move from float32 on the probe tiles for bf16 to be chosen on a CPU."""


class Predictor:
    """Maps batches of tiles to ``scores``: probabilities (N, K) float32.

    Channels-last throughout. On CUDA each calling thread has a stream of its own and copies from pinned
    memory, so that two threads keep the device busy while one of them copies. Safe to call from many
    threads; the model is not changed.

    Args:
        model: on the device where it shall run.
        precision: of the forward pass, under autocast.
        compile: let torch compile the network (slow to start, pays on large scenes).
    """

    def __init__(self, model: Model, precision: Precision = 'fp32', *, compile: bool = False) -> None:
        self.model = model
        self.precision = precision
        packed = precision == 'bf16' and model.device.type == 'cpu' and not compile
        network = _prepared(model.network, DTYPES[precision], packed=packed)
        self._forward = torch.compile(network) if compile else network
        self._thread = local()

    @torch.inference_mode()
    def __call__(self, tiles: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Probabilities of tiles (N, C, H, W) in the card's units, which are overwritten."""
        if self.model.device.type != 'cuda':
            return {'scores': self._scores(torch.from_numpy(tiles)).numpy()}
        with torch.cuda.stream(self._stream()):
            pinned = torch.from_numpy(tiles).pin_memory()
            scores = self._scores(pinned.to(self.model.device, non_blocking=True))
            # The copy back waits for this stream alone; it also keeps `pinned` alive long enough.
            return {'scores': scores.cpu().numpy()}

    def _scores(self, images: Tensor) -> Tensor:
        images = self.model.normalise_(images)
        dtype = DTYPES[self.precision]
        # Narrowed before it is turned: half the bytes to move.
        images = images.to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            logits = self._forward(images)
        return self.model.activate(logits)

    def _stream(self) -> 'torch.cuda.Stream':
        if not hasattr(self._thread, 'stream'):
            self._thread.stream = torch.cuda.Stream(self.model.device)
        stream: torch.cuda.Stream = self._thread.stream
        return stream


def _prepared(network: nn.Module, dtype: torch.dtype, *, packed: bool) -> nn.Module:
    """A copy for inference: channels-last, and convolutions and matrices in the type they compute in.

    Autocast alone would cast all weights anew for every batch, to the same bits. In bfloat16, which has
    float32's range, batch normalisation is folded into the convolutions; float16 could lose small weights.
    """
    # The weights are made anew below: copying them first would only cost time and memory.
    network = deepcopy(network, {id(weights): weights for *_, weights in _weights(network)})
    if dtype == torch.bfloat16:
        fold_batch_norms(network)
    if packed:
        pack_convolutions(network)
    for module, name, weights in _weights(network):
        layout = torch.channels_last if weights.ndim == 4 else torch.contiguous_format
        moved = weights.to(dtype, memory_format=layout)
        setattr(module, name, nn.Parameter(moved, requires_grad=False))
    return network


def _weights(network: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Weights and biases of convolutions and matrices, each with its module and its name there."""
    return [
        (module, name, weights)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        for name, weights in module.named_parameters(recurse=False)
    ]


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


def choose_predictor(
    model: Model, precision: str, probe: NDArray[np.float32], *, compile: bool = False
) -> Predictor:
    """A predictor at the precision to run at.

    ``auto`` is fp16 on CUDA; on a CPU bf16 where the processor computes in it and no probability of the
    probe moves by more than `TOLERANCE` from float32, else fp32. It is fp32 for values of any size, and
    where there is no probe.

    Args:
        model: on its device.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        probe: some tiles of the scene, (N, C, H, W); N may be 0.
        compile: let torch compile the network.

    Raises:
        UsageError: no such precision, or fp16 on a CPU.
    """
    asked = check_precision(model, precision)
    if asked != 'auto':
        return Predictor(model, asked, compile=compile)
    if model.card.activation == 'identity':  # in units of its own, of which 0.05 may be much
        return Predictor(model, 'fp32', compile=compile)
    if model.device.type == 'cuda':
        return Predictor(model, 'fp16', compile=compile)
    if len(probe) and _has_bf16() and _close(rough := Predictor(model, 'bf16'), probe):
        return Predictor(model, 'bf16', compile=True) if compile else rough
    return Predictor(model, 'fp32', compile=compile)


def check_precision(model: Model, precision: str) -> Precision | Literal['auto']:
    """See that there is such a precision where the model is.

    Args:
        model: on its device.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        UsageError: no such precision, or fp16 on a CPU.
    """
    kinds = get_args(Precision)
    if precision not in ('auto', *kinds):
        raise UsageError(f'precision {precision!r} is unknown: use auto, {", ".join(kinds)}')
    if precision == 'fp16' and model.device.type != 'cuda':
        raise UsageError('precision fp16 needs a CUDA device: use bf16 or fp32 on a CPU')
    return cast(Precision | Literal['auto'], precision)


def _has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@torch.inference_mode()
def _close(rough: Predictor, probe: NDArray[np.float32]) -> bool:
    model = rough.model
    exact = model.activate(model.network(model.normalise(torch.from_numpy(probe)))).numpy()
    return bool(np.abs(exact - rough(probe.copy())['scores']).max() <= TOLERANCE)


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

"""A model under a runtime: from tiles in the card's units to named arrays, and which runtime it gets.

The runtime of torch itself, at the best precision that the device supports, stands here too.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from threading import local
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geores.errors import GeoresError, UsageError
from geores.model import Model
from geores.runtime.base import DTYPES, Precision, Runtime, has_bfloat16
from geores.runtime.onnx import OnnxNetwork, OnnxRuntime
from geores.runtime.rewriting import fold_batch_norms, pack_convolutions, quicken_mish

__all__ = [
    'TOLERANCE',
    'EagerRuntime',
    'Outputs',
    'Predictor',
    'check_precision',
    'choose_predictor',
    'make_runtime',
    'scores_of_tiles',
]


class EagerRuntime:
    """A copy of a network, laid out for inference; the network itself is not changed.

    Channels-last throughout, and weights in the type that they compute in.

    Args:
        network: a network in evaluation mode, on the device where it shall run.
        precision: precision of the forward pass, under autocast.
        device: device on which it runs.
        compile: let torch compile the network (slow to start, pays on large scenes).
    """

    name = 'torch'

    def __init__(
        self, network: nn.Module, precision: Precision, device: torch.device, *, compile: bool = False
    ) -> None:
        self.precision = precision
        self._device = device
        plain_cpu = device.type == 'cpu' and not compile
        prepared = _prepared(network, DTYPES[precision], tuned=plain_cpu)
        self._forward = torch.compile(prepared) if compile else prepared

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits of normalised images, as `geores.runtime.base.Runtime` says."""
        dtype = DTYPES[self.precision]
        # Narrowed before it is turned: half the bytes to move.
        images = images.to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
            logits: Tensor = self._forward(images)
        return logits


def _prepared(network: nn.Module, dtype: torch.dtype, *, tuned: bool) -> nn.Module:
    """Make a copy for inference: channels-last, and convolutions and matrices in the type they compute in.

    Autocast alone would cast all weights anew for every batch, to the same bits. In bfloat16, which has
    float32's range, batch normalisation is folded into the convolutions; float16 could lose small weights.
    """
    # The weights are made anew below: copying them first would only cost time and memory.
    network = deepcopy(network, {id(weights): weights for *_, weights in _weights(network)})
    if dtype == torch.bfloat16:
        fold_batch_norms(network)
    if tuned:  # for a CPU; torch.compile fuses by itself
        quicken_mish(network)
        if dtype == torch.bfloat16:
            pack_convolutions(network)
    for module, name, weights in _weights(network):
        layout = torch.channels_last if weights.ndim == 4 else torch.contiguous_format
        moved = weights.to(dtype, memory_format=layout)
        setattr(module, name, nn.Parameter(moved, requires_grad=False))
    return network


def _weights(network: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """List weights and biases of convolutions and matrices, each with its module and its name there."""
    return [
        (module, name, weights)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        for name, weights in module.named_parameters(recurse=False)
    ]


TOLERANCE = 0.05
"""Most that a probability may move from float32 on the probe tiles for bf16 to be chosen on a CPU."""

OUTLIERS = 1e-3
"""Share of pixels that may move by more: there are millions, and some lie on the edge of two labels."""

FLIPS = 5e-3
"""Share of pixels whose label may be another."""

Outputs: TypeAlias = Callable[[Tensor], Mapping[str, Tensor]]
"""Maps probabilities, (N, K) or (N, K, H, W) float32 on the model's device, to named arrays of N entries."""


def scores_of_tiles(probabilities: Tensor) -> Mapping[str, Tensor]:
    """Keep the probabilities themselves, as ``scores``."""
    return {'scores': probabilities}


class Predictor:
    """Maps batches of tiles to named arrays: a step of the engine.

    On CUDA each calling thread has a stream of its own and copies from pinned memory, so that two threads
    keep the device busy while one of them copies. Safe to call from many threads; the model is not changed.

    Args:
        model: a model on the device where it shall run.
        precision: precision of the forward pass.
        compile: let torch compile the network (slow to start, pays on large scenes).
        outputs: what is made of the probabilities, on the device; ``scores`` by default.
    """

    def __init__(
        self,
        model: Model,
        precision: Precision = 'fp32',
        *,
        compile: bool = False,
        outputs: Outputs = scores_of_tiles,
    ) -> None:
        self.model = model
        self.runtime = make_runtime(model, precision, compile=compile)
        self.outputs = outputs
        self._thread = local()

    @property
    def precision(self) -> Precision:
        """Precision in which the runtime computes."""
        return self.runtime.precision

    @torch.inference_mode()
    def __call__(self, tiles: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Compute what `outputs` makes of tiles (N, C, H, W) in the card's units, which are overwritten."""
        if self.model.device.type != 'cuda':
            arrays = self.outputs(self.probabilities(torch.from_numpy(tiles)))
            return {name: array.numpy() for name, array in arrays.items()}
        with torch.cuda.stream(self._stream()):
            pinned = torch.from_numpy(tiles).pin_memory()
            arrays = self.outputs(self.probabilities(pinned.to(self.model.device, non_blocking=True)))
            # The copy back waits for this stream alone; it also keeps `pinned` alive long enough.
            return {name: array.cpu().numpy() for name, array in arrays.items()}

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities, or a regression's values, of images in the card's units, which are overwritten.

        Args:
            images: (N, C, H, W), float32, on the model's device.

        Returns:
            (N, K) or (N, K, H, W), float32.

        Raises:
            GeoresError: if the network answers with numbers that are not finite.
        """
        answers = self.model.activate(self.runtime(self.model.normalise_(images)))
        if not torch.isfinite(
            answers
        ).all():  # NaN stands for no data in results, so it must not pass as such
            raise GeoresError(
                f'model {self.model.name!r} answers with numbers that are not finite in {self.precision}: '
                'try --precision fp32'
            )
        return answers

    def _stream(self) -> 'torch.cuda.Stream':
        if not hasattr(self._thread, 'stream'):
            self._thread.stream = torch.cuda.Stream(self.model.device)
        stream: torch.cuda.Stream = self._thread.stream
        return stream


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
    return EagerRuntime(model.network, precision, model.device, compile=compile)


def choose_predictor(
    model: Model,
    precision: str,
    probe: NDArray[np.float32],
    *,
    compile: bool = False,
    outputs: Outputs = scores_of_tiles,
) -> Predictor:
    """Make a predictor at the precision to run at.

    ``auto`` is fp16 on CUDA; on a CPU bf16 where the processor computes in it and no probability of the
    probe moves by more than `TOLERANCE` from float32 (of pixels, of all but `OUTLIERS`), else fp32. It is
    fp32 for values of any size, for ONNX files, and where there is no probe.

    Args:
        model: a model on its device.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        probe: some tiles of the scene, (N, C, H, W); N may be 0.
        compile: let torch compile the network.
        outputs: what the predictor makes of the probabilities.

    Raises:
        UsageError: if there is no such precision, or fp16 is asked for on a CPU.
    """
    chosen = check_precision(model, precision)
    if chosen == 'auto':
        chosen = _fastest(model, probe)
    return Predictor(model, chosen, compile=compile, outputs=outputs)


def _fastest(model: Model, probe: NDArray[np.float32]) -> Precision:
    """Find the fastest precision whose answers are near enough to float32."""
    if model.card.activation == 'identity':  # in units of its own, of which 0.05 may be much
        return 'fp32'
    if isinstance(model.network, OnnxNetwork):
        return 'fp32'
    if model.device.type == 'cuda':
        return 'fp16'
    return 'bf16' if len(probe) and has_bfloat16() and _close(Predictor(model, 'bf16'), probe) else 'fp32'


def check_precision(model: Model, precision: str) -> Precision | Literal['auto']:
    """Check that the model's device has a precision.

    Args:
        model: a model on its device.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        UsageError: if there is no such precision, or fp16 is asked for on a CPU.
    """
    kinds = get_args(Precision)
    if precision not in ('auto', *kinds):
        raise UsageError(f'precision {precision!r} is unknown: use auto, {", ".join(kinds)}')
    if precision == 'fp16' and model.device.type != 'cuda':
        raise UsageError('precision fp16 needs a CUDA device: use bf16 or fp32 on a CPU')
    return cast(Precision | Literal['auto'], precision)


@torch.inference_mode()
def _close(rough: Predictor, probe: NDArray[np.float32]) -> bool:
    """Whether no probability moves by more than `TOLERANCE`.

    Of pixels, all but `OUTLIERS` have to stay near, and all but `FLIPS` have to keep their label.
    """
    model = rough.model
    exact = model.activate(model.network(model.normalise(torch.from_numpy(probe))))
    try:
        found = rough.probabilities(torch.from_numpy(probe.copy()))
    except GeoresError:  # beyond what bfloat16 holds
        return False
    far = float(((exact - found).abs().amax(dim=1) > TOLERANCE).float().mean())
    if model.card.task != 'segmentation':
        return far == 0
    flips = float((exact.argmax(dim=1) != found.argmax(dim=1)).float().mean())
    return far <= OUTLIERS and flips <= FLIPS

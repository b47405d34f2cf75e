"""A model under a runtime: from tiles in the card's units to named arrays, and which runtime it gets."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from threading import local
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.errors import GeoresError, UsageError, import_extra
from geores.model import Model
from geores.runtime.base import Precision, Runtime, exact_float32, has_bfloat16
from geores.runtime.choice import Rates, Workload, fastest_runtime, make_exported
from geores.runtime.eager import EagerRuntime
from geores.runtime.exported import RuntimeName, installed_runtimes, package_version
from geores.runtime.onnx import OnnxNetwork, OnnxRuntime

__all__ = [
    'FP32_TOLERANCE',
    'RUNTIME',
    'TOLERANCE',
    'Outputs',
    'Predictor',
    'check_precision',
    'check_runtime',
    'choose_predictor',
    'make_runtime',
    'scores_of_tiles',
]


TOLERANCE = 0.05
"""Most that a probability may move from float32 on the probe tiles for bf16 to be chosen on a CPU."""

FP32_TOLERANCE = 1e-3
"""The same for another runtime than torch in float32; of values of any size, as a share of the largest."""

RUNTIME = 'GEORES_RUNTIME'
"""Environment variable that names the runtime where no option does."""

PROBE_PIXELS = 2**19
"""Pixels of the probe that another runtime is checked on, at most; one tile at least."""

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
        runtime: what runs the network; torch, or ONNX Runtime for an ONNX file, where not given.
        full: fill up batches to that size, with a tile again, where each size would be compiled by itself.
        notes: what the user should know about the choice of the runtime, one sentence each.
    """

    def __init__(
        self,
        model: Model,
        precision: Precision = 'fp32',
        *,
        compile: bool = False,
        outputs: Outputs = scores_of_tiles,
        runtime: Runtime | None = None,
        full: int = 0,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.model = model
        self.full = full
        self.runtime = runtime or make_runtime(model, precision, compile=compile)
        self.outputs = outputs
        self.notes = notes
        self._thread = local()
        if model.device.type == 'cuda':  # the threads' streams do not wait for the weights by themselves
            torch.cuda.synchronize(model.device)

    @property
    def precision(self) -> Precision:
        """Precision in which the runtime computes."""
        return self.runtime.precision

    @torch.inference_mode()
    def __call__(self, tiles: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Compute what `outputs` makes of tiles (N, C, H, W) in the card's units, which are overwritten."""
        count = len(tiles)
        if 0 < count < self.full:
            tiles = np.concatenate([tiles, np.repeat(tiles[-1:], self.full - count, axis=0)])
        if self.model.device.type != 'cuda':
            arrays = self.outputs(self.probabilities(torch.from_numpy(tiles)))
            return {name: array[:count].numpy() for name, array in arrays.items()}
        try:
            with torch.cuda.stream(self._stream()):
                pinned = torch.from_numpy(tiles).pin_memory()
                arrays = self.outputs(self.probabilities(pinned.to(self.model.device, non_blocking=True)))
                # The copy back waits for this stream alone; it also keeps `pinned` alive long enough.
                return {name: array[:count].cpu().numpy() for name, array in arrays.items()}
        except torch.cuda.OutOfMemoryError as error:
            raise GeoresError(
                f'the device has no memory for {len(tiles)} tiles at once: give a smaller --batch-size'
            ) from error

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities, or a regression's values, of images in the card's units, which are overwritten.

        Args:
            images: (N, C, H, W), float32, on the model's device.

        Returns:
            (N, K) or (N, K, H, W), float32.

        Raises:
            GeoresError: if the network answers with numbers that are not finite.
        """
        images = self.model.normalise_(images)
        answers = self.model.activate(self.runtime(images))
        # NaN stands for no data in results, so it must not pass as such.
        if not torch.isfinite(answers).all() and self.precision != 'fp32':
            answers = self.model.activate(self._exact(images))
        if not torch.isfinite(answers).all():
            raise GeoresError(
                f'model {self.model.name!r} answers with NaN or numbers that are not finite: is it damaged?'
            )
        return answers

    @cached_property
    def _exact(self) -> Runtime:
        """The network in float32, for batches in which a narrower type overflows."""
        return make_runtime(self.model, 'fp32')

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
    runtime: str = 'torch',
    work: Workload | None = None,
) -> Predictor:
    """Make a predictor at the precision to run at, under the runtime that is fastest here.

    ``auto`` is fp16 on CUDA and on a CPU bf16 where the processor computes in it, if no probability of the
    probe moves by more than `TOLERANCE` from float32 (of pixels, of all but `OUTLIERS`), else fp32. It is
    fp32 for values of any size, for ONNX files, and where there is no probe.

    The runtime ``auto`` is torch, unless another that is installed is faster (`geores.runtime.choice`) and
    stays as near: in float32 within `FP32_TOLERANCE`.

    Args:
        model: a model on its device.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        probe: some tiles of the scene, (N, C, H, W); N may be 0.
        compile: let torch compile the network.
        outputs: what the predictor makes of the probabilities.
        runtime: ``auto``, ``torch``, ``openvino`` or ``onnxruntime``.
        work: what will be computed; without it, torch is taken.

    Raises:
        UsageError: if there is no such precision or runtime, or it does not suit the device.
        GeoresError: if the named runtime cannot take the network, or moves its answers.
    """
    chosen = check_precision(model, precision)
    named = check_runtime(model, runtime, chosen, compile=compile)
    with exact_float32():
        made: Runtime | None = None
        if chosen == 'auto':  # ONNX Runtime has no other precision on a CPU
            made = None if named == 'onnxruntime' else _fastest(model, probe)
            chosen = 'fp32' if made is None else made.precision
        if made is None or compile:  # made once: laying a network out takes longer than a small scene
            made = make_runtime(model, chosen, compile=compile)
        notes: tuple[str, ...] = ()
        if named != 'torch' and work is not None and (named != 'auto' or len(probe)):
            other, notes = _under_other(model, made, named, probe, work)
            if other is not None:
                return Predictor(model, chosen, outputs=outputs, runtime=other, notes=notes)
        one_size = compile or model.device.type == 'cuda'
        full = work.batch_size if work is not None and one_size else 0
        return Predictor(model, chosen, outputs=outputs, runtime=made, full=full, notes=notes)


def _under_other(
    model: Model,
    plain: Runtime,
    named: RuntimeName | Literal['auto'],
    probe: NDArray[np.float32],
    work: Workload,
) -> tuple[Runtime | None, tuple[str, ...]]:
    """Put a network under another runtime, where one is named or is faster and as near to float32.

    Returns:
        The runtime, None for torch, and what to say about it.
    """
    name: RuntimeName | Literal['auto'] = named
    precision = plain.precision
    rates: Rates = {}
    if name == 'auto':
        name, rates = fastest_runtime(model.network, precision, work, plain)
        if name == 'torch':
            return None, ()
    made = make_exported(name, model.network, precision, work.shape)
    if len(probe) and not _close(Predictor(model, precision, runtime=made), _whole_tiles(probe, work)):
        if named != 'auto':
            raise GeoresError(f'{name} moves the answers of model {model.name!r}: use --runtime torch')
        return None, (f'{name} was not used: it moves the answers of model {model.name!r} on this scene',)
    told = f': {rates[name]:,.0f} tiles a second a core here, torch {rates["torch"]:,.0f}' if rates else ''
    return made, (f'the network runs under {name} {package_version(name)} in {precision}{told}',)


def _whole_tiles(probe: NDArray[np.float32], work: Workload) -> NDArray[np.float32]:
    """Some tiles of the work's size, made of the probe where that is smaller, by repeating it."""
    _, height, width = work.shape
    tiles = probe[: max(1, PROBE_PIXELS // (height * width))]
    more = [(0, max(0, have - got)) for have, got in zip((height, width), tiles.shape[2:], strict=True)]
    return np.pad(tiles, [(0, 0), (0, 0), *more], mode='wrap')[..., :height, :width]


def _fastest(model: Model, probe: NDArray[np.float32]) -> Runtime | None:
    """The network in a narrower type, where that is faster and its answers are near enough to float32."""
    if model.card.activation == 'identity':  # in units of its own, of which 0.05 may be much
        return None
    if isinstance(model.network, OnnxNetwork):
        return None
    narrow: Precision = 'fp16' if model.device.type == 'cuda' else 'bf16'
    if not len(probe) or (narrow == 'bf16' and not has_bfloat16()):
        return None
    made = make_runtime(model, narrow)
    return made if _close(Predictor(model, narrow, runtime=made), probe) else None


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


def check_runtime(
    model: Model, runtime: str, precision: Precision | Literal['auto'], *, compile: bool = False
) -> RuntimeName | Literal['auto']:
    """Check that a model can run under a runtime.

    Args:
        model: a model on its device.
        runtime: ``auto``, which `RUNTIME` in the environment decides where it is set, or a name.
        precision: that is asked for.
        compile: whether torch shall compile the network.

    Raises:
        UsageError: if there is no such runtime, it is not installed, or something else needs torch.
    """
    kinds = get_args(RuntimeName)
    asked = runtime if runtime != 'auto' else os.environ.get(RUNTIME) or 'auto'
    if asked not in ('auto', *kinds):
        raise UsageError(f'runtime {asked!r} is unknown: use auto, {", ".join(kinds)}')
    bound = model.device.type != 'cpu' or compile or isinstance(model.network, OnnxNetwork)
    if asked == 'torch' or bound:
        if runtime not in ('auto', 'torch'):
            raise UsageError(f'runtime {asked} runs networks of torch on the CPU as they are: drop --runtime')
        return 'torch'
    if asked != 'auto' and asked not in installed_runtimes():
        import_extra('onnx' if asked == 'onnxruntime' else asked)
        import_extra(asked)
    if asked == 'onnxruntime' and precision == 'bf16':
        raise UsageError('runtime onnxruntime computes in fp32 alone: drop --precision bf16')
    return cast(RuntimeName | Literal['auto'], asked)


@torch.inference_mode()
def _close(rough: Predictor, probe: NDArray[np.float32]) -> bool:
    """Whether no answer moves by more than `TOLERANCE`, or in float32 by more than `FP32_TOLERANCE`.

    Of pixels, all but `OUTLIERS` have to stay near, and all but `FLIPS` have to keep their label.
    """
    model = rough.model
    images = model.normalise(torch.from_numpy(probe).to(model.device))
    exact = model.activate(model.network(images))
    found = model.activate(rough.runtime(images))
    if found.shape != exact.shape or not torch.isfinite(found).all():  # beyond what a narrow type holds
        return False
    most = TOLERANCE if rough.precision != 'fp32' else FP32_TOLERANCE
    if model.card.activation == 'identity':
        most *= float(exact.abs().max())
    far = float(((exact - found).abs().amax(dim=1) > most).float().mean())
    if model.card.task != 'segmentation':
        return far == 0
    flips = float((exact.argmax(dim=1) != found.argmax(dim=1)).float().mean())
    return far <= OUTLIERS and flips <= FLIPS

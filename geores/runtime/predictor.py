"""A model under a runtime: from tiles in the card's units to named arrays, and which runtime it gets."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from functools import cache, cached_property
from itertools import count
from threading import Lock, local
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.errors import GeoresError, UsageError, import_extra
from geores.model import Model
from geores.runtime.base import PlacedTiles, Precision, Runtime, enough_memory, exact_float32, one_thread_each
from geores.runtime.choice import TIED, Runtimes, Workload, make_runtime
from geores.runtime.exported import RuntimeName, installed_runtimes, package_version
from geores.runtime.nearness import LabelRule, NearTies, is_near
from geores.runtime.onnx import OnnxNetwork

__all__ = [
    'RUNTIME',
    'ManyDevices',
    'Outputs',
    'Predictor',
    'check_precision',
    'check_runtime',
    'choose_predictor',
    'make_runtime',
    'scores_of_tiles',
]

RUNTIME = 'GEORES_RUNTIME'
"""Environment variable that names the runtime where no option does."""

STREAMS = 2
"""Streams of a CUDA device: one computes while the other copies."""

Outputs: TypeAlias = Callable[[Tensor], Mapping[str, Tensor]]
"""Maps probabilities, (N, K) or (N, K, H, W) float32 on the model's device, to named arrays of N entries."""


@cache
def device_streams(device: torch.device) -> tuple['torch.cuda.Stream', ...]:
    """Streams of a CUDA device, the same for every scene: torch keeps memory for each stream apart."""
    return tuple(torch.cuda.Stream(device) for _ in range(STREAMS))


def _streams_of(device: torch.device) -> tuple['torch.cuda.Stream', ...]:
    with _STREAMS_LOCK:  # `cache` alone would let two threads make some each
        return device_streams(device)


_STREAMS_LOCK, _EXACT_LOCK = Lock(), Lock()


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
        ties: tells the tiles that are computed again in float32; none where not given.
        exact: runs the network in float32; torch where not given.
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
        ties: NearTies | None = None,
        exact: Runtime | None = None,
    ) -> None:
        self.model = model
        self.ties = ties
        self.full = full
        self.runtime = runtime or make_runtime(model, precision, compile=compile)
        self.outputs = outputs
        self.notes = notes
        self._thread = local()
        self._numbers = count()
        if exact is not None:
            self._exact = exact
        if model.device.type == 'cuda':  # the threads' streams do not wait for the weights by themselves
            torch.cuda.synchronize(model.device)

    @property
    def precision(self) -> Precision:
        """Precision in which the runtime computes."""
        return self.runtime.precision

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Devices on which tiles are computed."""
        return (self.model.device,)

    def __call__(self, tiles: NDArray[np.float32] | PlacedTiles) -> dict[str, NDArray[Any]]:
        """Compute what `outputs` makes of tiles (N, C, H, W) in the card's units, which are overwritten."""
        return self._compute(tiles, self.runtime, self.full)

    @torch.inference_mode()
    def _compute(
        self, tiles: NDArray[np.float32] | PlacedTiles, runtime: Runtime, full: int = 0
    ) -> dict[str, NDArray[Any]]:
        """Compute tiles, at least `full` of them at once, on the model's device."""
        asked = len(tiles)
        stream = torch.cuda.stream(self._stream()) if self.model.device.type == 'cuda' else nullcontext()
        with enough_memory(max(asked, full)), stream:
            # The copy back waits for this stream alone.
            arrays = self.outputs(self.probabilities(self._images(tiles, full), runtime))
            return {name: array[:asked].cpu().numpy() for name, array in arrays.items()}

    def _images(self, tiles: NDArray[np.float32] | PlacedTiles, full: int) -> Tensor:
        """Tiles on the model's device, at least `full` of them, to be written over."""
        device = self.model.device
        if not isinstance(tiles, np.ndarray):
            return tiles.on(device, full)
        if 0 < len(tiles) < full:
            tiles = np.concatenate([tiles, np.repeat(tiles[-1:], full - len(tiles), axis=0)])
        images = torch.from_numpy(tiles)
        # torch keeps pinned memory until what was copied from it is there.
        return images.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else images

    @property
    def revises(self) -> bool:
        """Whether some tiles have to be computed again."""
        return self.ties is not None

    def doubtful(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Tell the tiles that have to be computed again by what was computed of them, (N,)."""
        if self.ties is None:
            return np.zeros(len(next(iter(arrays.values()))), bool)
        return self.ties.find(torch.from_numpy(arrays['scores'])).numpy()

    def revise(self, tiles: NDArray[np.float32] | PlacedTiles) -> dict[str, NDArray[Any]]:
        """Compute tiles (N, C, H, W) in float32, which are overwritten."""
        return self._compute(tiles, self._exact)

    def revised(self, tiles: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Compute tiles, and those that have to be again; for callers that are not the engine."""
        if not self.revises:
            return self(tiles)
        arrays = self(tiles.copy())
        again = self.doubtful(arrays)
        for name, array in (self.revise(tiles[again]) if again.any() else {}).items():
            arrays[name][again] = array
        return arrays

    def probabilities(self, images: Tensor, runtime: Runtime | None = None) -> Tensor:
        """Probabilities, or a regression's values, of images in the card's units, which are overwritten.

        Args:
            images: (N, C, H, W), float32, on the model's device.
            runtime: what runs the network; the predictor's own where not given.

        Returns:
            (N, K) or (N, K, H, W), float32.

        Raises:
            GeoresError: if the network answers with numbers that are not finite.
        """
        images, runtime = self.model.normalise_(images), runtime or self.runtime
        logits = runtime(images)
        # NaN stands for no data in results, so it must not pass as such.
        if runtime.precision != 'fp32' and not torch.isfinite(logits).all():
            logits = self._exact(images)
        return self._finite(logits)

    def _finite(self, logits: Tensor) -> Tensor:
        """Activate logits, which have to be finite."""
        answers = self.model.activate(logits)
        if not torch.isfinite(answers).all():
            raise GeoresError(
                f'model {self.model.name!r} answers with NaN or numbers that are not finite: is it damaged?'
            )
        return answers

    @cached_property
    def _exact(self) -> Runtime:
        """The network in float32, for what a narrower type cannot tell."""
        with _EXACT_LOCK:  # one copy, whose weights are there before another stream uses it
            made = make_runtime(self.model, 'fp32')
            if self.model.device.type == 'cuda':
                torch.cuda.synchronize(self.model.device)
        return made

    def _stream(self) -> 'torch.cuda.Stream':
        if not hasattr(self._thread, 'number'):
            self._thread.number = next(self._numbers)
        number: int = self._thread.number
        return _streams_of(self.model.device)[number % STREAMS]


class ManyDevices(Predictor):
    """A step whose threads each compute on one of several devices, in turn.

    Batches are those of one device, and every batch is computed as one device would.

    Args:
        first: the predictor on the first device, which has decided precision and runtime.
        devices: all devices, of one kind.
    """

    def __init__(self, first: Predictor, devices: Sequence[str]) -> None:
        vars(self).update(vars(first))
        self.each = (first, *(_on_device(first, device) for device in devices[1:]))
        self._own, self._turns = local(), count()

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Devices on which tiles are computed."""
        return tuple(one.model.device for one in self.each)

    def __call__(self, tiles: NDArray[np.float32] | PlacedTiles) -> dict[str, NDArray[Any]]:
        """Compute tiles as `Predictor` does, on the device of this thread."""
        return self._of_thread()(tiles)

    def revise(self, tiles: NDArray[np.float32] | PlacedTiles) -> dict[str, NDArray[Any]]:
        """Compute tiles in float32, likewise."""
        return self._of_thread().revise(tiles)

    def _of_thread(self) -> Predictor:
        if not hasattr(self._own, 'predictor'):
            self._own.predictor = self.each[next(self._turns) % len(self.each)]
        return cast(Predictor, self._own.predictor)


def _on_device(first: Predictor, device: str) -> Predictor:
    """The same on another device, with a copy of the network."""
    model = Model(first.model.card, deepcopy(first.model.network), device)
    shared = None if first.runtime.name == 'torch' else first.runtime  # which runs on the CPU alone
    exact = None if shared is None or first.ties is None else first._exact
    return Predictor(
        model, first.precision, outputs=first.outputs, runtime=shared, full=first.full, exact=exact
    )


def choose_predictor(
    model: Model,
    precision: str,
    probe: NDArray[np.float32],
    *,
    compile: bool = False,
    outputs: Outputs = scores_of_tiles,
    runtime: str = 'torch',
    work: Workload | None = None,
    rule: LabelRule | None = None,
) -> Predictor:
    """Make a predictor at the precision to run at, under the runtime that is fastest here.

    ``auto`` is fp16 on CUDA and on a CPU bf16 where the processor computes in it, if no probability of the
    probe moves by more than `TOLERANCE` from float32 (of pixels, of all but `OUTLIERS`) and it is faster with
    what is computed again, else fp32. It is fp32 for values of any size, for ONNX files, for little work and
    where there is no probe. Tiles that are nearly tied in a narrow type are computed again in float32.

    The runtime ``auto`` is torch, unless another that is installed is faster (`geores.runtime.choice`) and
    stays as near: in float32 within `FP32_TOLERANCE`.

    Args:
        model: a model on its device.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``, which ``auto`` never is.
        probe: some tiles of the scene, (N, C, H, W); N may be 0.
        compile: let torch compile the network.
        outputs: what the predictor makes of the probabilities.
        runtime: ``auto``, ``torch``, ``openvino`` or ``onnxruntime``.
        work: what will be computed; without it, torch is taken.
        rule: how scores become labels; the card's where not given.

    Raises:
        UsageError: if there is no such precision or runtime, or it does not suit the device.
        GeoresError: if the named runtime cannot take the network, or moves its answers.
    """
    chosen = check_precision(model, precision)
    named = check_runtime(model, runtime, chosen, compile=compile)
    made = Runtimes(model, probe, rule or LabelRule.of(model.card), work, compile=compile)
    notes: list[str] = []
    if chosen == 'int8' and not len(probe):
        raise UsageError(
            'precision int8 needs tiles that show ranges, and this scene is not read yet: drop it'
        )
    with exact_float32(), one_thread_each():
        for name, kind in made.candidates(chosen, named if work is not None or chosen == 'int8' else 'torch'):
            ties = made.ties(name, kind)
            sure = not len(probe) or (name == 'torch' and kind in (chosen, 'fp32'))
            if sure or is_near(model, made.get(name, kind), made.tiles(name), ties):
                break
            told = f'it moves the answers of model {model.name!r} on this scene'
            if chosen == 'int8':
                raise GeoresError(f'precision int8 cannot be used: {told}; use bf16 or fp32')
            if named == name != 'torch' and kind in (chosen, 'fp32'):
                raise GeoresError(f'{name} cannot be used: {told}; use --runtime torch')
            if name != 'torch':
                notes.append(f'{name} was not used in {kind}: {told}')
        if name != 'torch':
            notes.append(
                f'the network runs under {name} {package_version(name)} in {kind}{made.told(name, kind)}'
            )
        if ties is not None:
            slow = f'; they are {ties.share:.0%} of a sample, so that fp32 may be faster' * (
                ties.share > TIED
            )
            notes.append(f'tiles whose labels are nearly tied in {kind} were computed again in float32{slow}')
        one_size = name == 'torch' and (compile or model.device.type == 'cuda')
        return Predictor(
            model,
            kind,
            outputs=outputs,
            runtime=made.get(name, kind),
            full=work.batch_size if work is not None and one_size else 0,
            notes=tuple(notes),
            ties=ties,
            exact=made.get(name, 'fp32') if ties is not None else None,
        )


def check_precision(model: Model, precision: str) -> Precision | Literal['auto']:
    """Check that the model's device has a precision.

    Args:
        model: a model on its device.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``.

    Raises:
        UsageError: if there is no such precision, or the device or the model does not have it.
    """
    kinds = get_args(Precision)
    if precision not in ('auto', *kinds):
        raise UsageError(f'precision {precision!r} is unknown: use auto, {", ".join(kinds)}')
    if precision == 'fp16' and model.device.type != 'cuda':
        raise UsageError('precision fp16 needs a CUDA device: use bf16 or fp32 on a CPU')
    if precision == 'int8':
        card = model.card
        if model.device.type != 'cpu':
            raise UsageError('precision int8 is for CPUs: use fp16, or --device cpu')
        kinds_of_models = {'vqa': 'answers questions', 'regression': 'gives values'}
        what = 'is an ONNX file' if isinstance(model.network, OnnxNetwork) else kinds_of_models.get(card.task)
        if what is not None:
            raise UsageError(f'precision int8 cannot be used: model {model.name!r} {what}; use fp32')
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
    if precision == 'int8':
        if compile or runtime not in ('auto', 'openvino'):
            cure = 'drop --compile' if compile else 'use --runtime openvino'
            raise UsageError(f'precision int8 is computed by OpenVINO: {cure}')
        for package in ('openvino', 'onnx', 'onnxruntime'):  # the last one quantises
            import_extra(package)
        return 'openvino'
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

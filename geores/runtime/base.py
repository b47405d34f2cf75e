"""What every model runs on: a runtime that maps normalised images to logits, devices, threads, a precision.

What this machine's processor can compute in is asked here alone, so that tests can set it.
`GEORES_BFLOAT16=0` in the environment makes geores compute as on a processor without bfloat16.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import product
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from geores.errors import GeoresError, UsageError

__all__ = [
    'BFLOAT16',
    'DTYPES',
    'PlacedTiles',
    'Precision',
    'Runtime',
    'describe_runtime',
    'enough_memory',
    'exact_float32',
    'has_bfloat16',
    'layer_weights',
    'one_thread_each',
    'packs_bfloat16',
    'packs_float32',
    'pick_device',
    'pick_devices',
    'round_keeping_sums',
]

Precision = Literal['fp32', 'bf16', 'fp16', 'int8']

DTYPES: dict[Precision, torch.dtype] = {
    'fp32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}
"""Types that torch computes in; what is in int8 is left to other runtimes."""

BFLOAT16 = 'GEORES_BFLOAT16'
"""Environment variable; '0' turns bfloat16 on CPUs off."""

SHORT = 9
"""Weights of a filter of which all ways to round them are tried: 512."""

ALIKE = 10.0
"""How much of what a filter sees is the same for all of its weights, beside what differs."""


class Runtime(Protocol):
    """A network ready to run; safe to call from many threads.

    Attributes:
        name: such as 'torch' or 'onnxruntime', as notes and records say it.
        precision: precision in which it computes.
    """

    name: str
    precision: Precision

    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits of normalised images.

        Args:
            images: (N, C, H, W), float32, on the model's device; may be overwritten.

        Returns:
            (N, K), or (N, K, H, W) of a network that labels pixels, of any float type.
        """


class PlacedTiles(Protocol):
    """Tiles of a region that was sent to a device, where they are cut: `geores.inference.on_device`."""

    def __len__(self) -> int:
        """Number of tiles."""

    def on(self, device: torch.device, count: int = 0) -> Tensor:
        """Cut the tiles: (N, C, H, W), float32, in the card's units, to be written over.

        Args:
            device: where to.
            count: fill them up to that number, with one of them again.
        """


def pick_device(name: str) -> str:
    """Choose a device, by its name for torch: ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: if the device is not there.
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


def describe_runtime(name: str, device: torch.device) -> dict[str, Any]:
    """Name what decides the last bits of a runtime's answers: its version, and what it computes on.

    Args:
        name: of the runtime.
        device: where it runs.
    """
    described: dict[str, Any] = {'runtime': f'{name} {version(name)}'}
    if device.type == 'cuda':
        cuda = {'gpu': torch.cuda.get_device_name(device), 'cudnn': torch.backends.cudnn.version()}
        return described | cuda
    limits = {name: os.environ[name] for name in (BFLOAT16, 'ONEDNN_MAX_CPU_ISA') if name in os.environ}
    return described | {'instructions': torch.backends.cpu.get_cpu_capability()} | limits


@contextmanager
def enough_memory(tiles: int) -> Iterator[None]:
    """Say in one line that a device has no memory for so many tiles at once."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise GeoresError(
            f'the device has no memory for {tiles} tiles at once: give a smaller --batch-size'
        ) from error


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


@contextmanager
def exact_float32() -> Iterator[None]:
    """Let convolutions and products in float32 be float32 on CUDA, and not TensorFloat-32 of 10 bits.

    torch's own default is TensorFloat-32 in convolutions. The setting is the process's: enter it around a
    whole run, not in each of its threads.
    """
    backends: Any = torch.backends  # its types do not know the newer settings
    parts = (backends.cudnn.conv, backends.cuda.matmul)
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = 'ieee'
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 itself, so that it is faster than float32."""
    if os.environ.get(BFLOAT16) == '0':
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def packs_bfloat16() -> bool:
    """Whether oneDNN convolves in bfloat16 here, with weights in a layout of its own."""
    if os.environ.get(BFLOAT16) == '0' or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packs_float32() -> bool:
    """Whether oneDNN convolves and activates in one step here; on ARM, by torch's own rule, it does not."""
    here = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return bool(here and not torch.ops.mkldnn._is_mkldnn_acl_supported())


def pick_devices(names: str) -> tuple[str, ...]:
    """Choose devices: one as `pick_device` does, several with commas between them, or 'all' GPUs.

    Raises:
        UsageError: if one is not there, or they are of different kinds, whose results differ.
    """
    if names == 'all':
        found = torch.cuda.device_count()
        if not found:
            raise UsageError('device all: no CUDA device is here: use cpu')
        return _alike(tuple(f'cuda:{number}' for number in range(found)))
    return _alike(tuple(pick_device(name.strip()) for name in names.split(',')))


def _alike(devices: tuple[str, ...]) -> tuple[str, ...]:
    if len(devices) > 1:
        kinds = {torch.cuda.get_device_name(one) if one.startswith('cuda') else 'cpu' for one in devices}
        if len(kinds) > 1:
            raise UsageError(
                f'devices {",".join(devices)} are of different kinds ({", ".join(sorted(kinds))}), '
                'whose results differ in their last digits: give those of one kind'
            )
    return devices


@torch.no_grad()
def round_keeping_sums(network: nn.Module) -> nn.Module:
    """Round weights of convolutions and matrices to values of bfloat16 so that each filter keeps its sum.

    Rounded each to the nearest, the weights of a filter sum to something else, which moves its whole map:
    most maps are of numbers above 0, so that the errors of a filter do not cancel. Here some weights, those
    nearest to the middle, are rounded the other way; of short filters, as those of one channel each are, all
    ways are tried. Data-free, as Nagel et al. (2019) correct biases.

    Args:
        network: whose weights are float32; they are replaced in place, its tensors are left alone.

    Returns:
        The network itself.
    """
    for module, name, weights in layer_weights(network):
        if weights.ndim > 1:
            filters = weights.detach().flatten(1)
            keep = _try_all if filters.shape[1] <= SHORT else _keep_sums
            rounded = keep(filters).view_as(weights)
            setattr(module, name, nn.Parameter(rounded, requires_grad=False))
    return network


def _keep_sums(filters: Tensor) -> Tensor:
    """Round filters (O, K), float32, to values of bfloat16, each row towards its sum.

    Weights are moved in the order of what that costs them, as many as bring the sum nearest.
    """
    near, other = _both_neighbours(filters)
    wrong = (near.double() - filters.double()).sum(dim=1, keepdim=True)
    helps = (other - near) * wrong < 0
    farther = (other - filters).abs() - (near - filters).abs()
    order = torch.where(helps, farther, torch.inf).argsort(dim=1)
    steps = torch.where(helps, other - near, 0.0).gather(1, order).double().cumsum(dim=1)
    moved = torch.cat([wrong, wrong + steps], dim=1).abs().argmin(dim=1, keepdim=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return torch.where(helps & (rank < moved), other, near)


def _try_all(filters: Tensor) -> Tensor:
    """The same of filters of up to `SHORT` weights: of all ways to round them that of the least error.

    That is on maps whose neighbouring pixels are alike: a large part of it is that of the sum.
    """
    near, other = _both_neighbours(filters)
    count = filters.shape[1]
    ways = torch.tensor(list(product((False, True), repeat=count)), device=filters.device)
    first, step = (near - filters).double(), (other - near).double()
    # The sum over a way's weights of their squared errors, and the square of the sum of their errors.
    own = first.square().sum(dim=1, keepdim=True) + (2 * first * step + step.square()) @ ways.double().T
    total = first.sum(dim=1, keepdim=True) + step @ ways.double().T
    best = (own + ALIKE * total.square()).argmin(dim=1)
    return torch.where(ways[best], other, near)


def _both_neighbours(filters: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest value of bfloat16 of each weight, and the next one on its other side, as float32."""
    near = filters.bfloat16()
    # The next larger or smaller pattern of bits.
    away = torch.where(filters.abs() > near.float().abs(), 1, -1).to(torch.int16)
    other = (near.view(torch.int16) + away).view(torch.bfloat16).float()
    return near.float(), torch.where(near.float() == filters, near.float(), other)


def layer_weights(network: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """List weights and biases of convolutions and matrices, each with its module and its name there."""
    return [
        (module, name, weights)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        for name, weights in module.named_parameters(recurse=False)
    ]

"""What tasks share about fitting: optimizer and learning rate, frozen parts, values per band."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from geores.errors import UsageError

__all__ = ['check_schedule', 'freeze_parts', 'make_optimizer', 'per_band']


def check_schedule(warmup: float, steps: int | None, start: float, end: float) -> None:
    """Refuse a schedule that cannot be.

    Args:
        warmup: Share of all steps in which the learning rate rises.
        steps: That many steps instead.
        start: The learning rate of the first step, as a share.
        end: The learning rate of the last step, likewise.

    Raises:
        UsageError: A number is out of range.
    """
    if not 0 <= warmup <= 1 or (steps is not None and steps < 0):
        raise UsageError(
            'warmup is a share from 0 to 1 of all steps, and warmup_steps a whole number not below 0'
        )
    if not 0 < start <= 1 or not 0 <= end <= 1:
        raise UsageError('warmup_start and rate_end are shares of the learning rate, and the first above 0')


def make_optimizer(
    network: nn.Module,
    steps: int,
    *,
    learning_rate: float,
    weight_decay: float,
    decay_norms: bool,
    warmup: float,
    warmup_steps: int | None,
    warmup_start: float,
    rate_end: float,
) -> OptimizerLRSchedulerConfig:
    """AdamW, with warm-up and cosine decay step by step (Loshchilov and Hutter 2017, equation 5).

    Args:
        network: To fit; frozen parameters are left out.
        steps: Of the whole training.
        learning_rate: After warm-up.
        weight_decay: Of matrices and kernels.
        decay_norms: Whether biases and norms are drawn towards zero too.
        warmup: Share of all steps in which the learning rate rises.
        warmup_steps: That many steps instead, at most all but one.
        warmup_start: The learning rate of the first step, as a share.
        rate_end: The learning rate of the last step, likewise.
    """
    parameters = [one for one in network.parameters() if one.requires_grad]
    groups: list[dict[str, Any]] = [{'params': parameters}]
    if not decay_norms:
        groups = [
            {'params': [part for part in parameters if part.ndim > 1]},
            # Biases and norms are not drawn towards zero.
            {'params': [part for part in parameters if part.ndim <= 1], 'weight_decay': 0.0},
        ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay)
    steps = max(steps, 2)
    rise = min(max(round(warmup * steps) if warmup_steps is None else warmup_steps, 1), steps - 1)
    parts = [
        LinearLR(optimizer, warmup_start, total_iters=rise),
        CosineAnnealingLR(optimizer, T_max=steps - rise, eta_min=rate_end * learning_rate),
    ]
    scheduler = SequentialLR(optimizer, parts, milestones=[rise])
    return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}


def freeze_parts(network: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Parts of a network that keep their weights from now on.

    Args:
        network: Whose parameters are frozen, in place.
        names: Of its modules, such as 'blocks.0'.

    Raises:
        UsageError: It has no such part.
    """
    modules = dict(network.named_modules())
    missing = [name for name in names if name not in modules]
    if missing:
        parts = ', '.join(name for name, _ in network.named_children())
        raise UsageError(f'freeze: the network has no part {missing[0]!r}; parts are {parts}')
    return [modules[name].requires_grad_(requires_grad=False) for name in names]


def per_band(values: Sequence[float] | None, bands: Sequence[str], default: float) -> Tensor:
    """One number a band, to calculate with images (N, C, H, W).

    Args:
        values: One a band; None takes the default for all.
        bands: Their names.
        default: See `values`.

    Returns:
        (C, 1, 1), float32.

    Raises:
        UsageError: There are not as many values as bands.
    """
    values = [default] * len(bands) if values is None else values
    if len(values) != len(bands):
        raise UsageError(f'{len(values)} values of mean or std for {len(bands)} bands')
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)

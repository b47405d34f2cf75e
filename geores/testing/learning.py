"""Watches a task learn one batch."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from geores.testing.require import require

__all__ = ['OneBatch']

FALL = 0.1
"""Least share of its first value by which the loss has to fall."""


class OneBatch(Callback):
    """Shows a task the first batch again and again, and keeps what comes of it.

    Args:
        steps: How often it will be shown.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []
        self.idle: list[str] = []
        self._batch: dict[str, Any] | None = None
        self._before: dict[str, Tensor] = {}
        self._changed = False

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Put the first batch in the place of each other."""
        require(
            isinstance(batch, dict) and isinstance(batch.get('image'), Tensor),
            f'a batch of the data is {type(batch).__name__}',
            "let the dataset return dicts with 'image' (geores.testing.check_dataset)",
        )
        if self._batch is None:
            self._batch = {key: _copied(value) for key, value in batch.items()}
            self._before = {name: part.detach().clone() for name, part in _trained(pl_module).items()}
            require(self._before, 'the task has no weights to train', 'leave some with requires_grad')
        batch.clear()
        batch.update({key: _copied(value) for key, value in self._batch.items()})

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which weights the loss does not depend on."""
        if not self.losses:
            self.idle = [name for name, part in _trained(pl_module).items() if part.grad is None]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Keep the loss, and whether the first step has changed anything."""
        loss = outputs.get('loss') if isinstance(outputs, Mapping) else outputs
        require(
            isinstance(loss, Tensor),
            f'training_step gives {type(loss).__name__}',
            'return the loss of the batch from it',
        )
        value = float(loss) if isinstance(loss, Tensor) else math.nan
        step = len(self.losses) + 1
        require(
            math.isfinite(value),
            f'the loss is {value} in step {step}',
            'look for a division or logarithm of 0, unscaled images, or too high a learning rate',
        )
        self.losses.append(value)
        if step == 1:
            parts = _trained(pl_module)
            self._changed = any(not torch.equal(old, parts[name]) for name, old in self._before.items())

    def check(self, task: LightningModule) -> None:
        """Raise `AssertionError` where the task has not learnt.

        Args:
            task: That was trained.
        """
        require(
            len(self.losses) == self.steps,
            f'training ended after {len(self.losses)} of {self.steps} steps',
            'let the data have at least one batch of training samples',
        )
        require(
            self._changed,
            'a training step changes no weights',
            'give configure_optimizers the parameters of the network, and a learning rate above 0',
        )
        require(
            not self.idle,
            f'the loss does not depend on {", ".join(self.idle[:3])}',
            'use them in training_step, or set requires_grad to False',
        )
        few = max(len(self.losses) // 5, 1)
        first, last = sum(self.losses[:few]) / few, sum(self.losses[-few:]) / few
        require(
            last <= first - FALL * abs(first) or abs(last) < 1e-6,
            f'the loss does not fall on one batch shown {self.steps} times ({first:.4g} to {last:.4g})',
            'compare the loss with the targets, and try another learning rate or more steps',
        )


def _trained(task: LightningModule) -> dict[str, torch.nn.Parameter]:
    return {name: part for name, part in task.named_parameters() if part.requires_grad}


def _copied(value: Any) -> Any:  # noqa: ANN401
    return value.clone() if isinstance(value, Tensor) else value

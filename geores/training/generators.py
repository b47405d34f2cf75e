"""Save, restore and seed the random generators that training draws from."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

__all__ = ['Generators', 'Stream', 'generator_states', 'reseed', 'seed_of', 'set_generators']

_FIRST: 'WeakKeyDictionary[torch.Generator, int]' = WeakKeyDictionary()


def seed_of(*parts: int) -> int:
    """Derive a 32-bit seed from several whole numbers.

    Args:
        *parts: non-negative numbers, such as a seed, an epoch and the number of a batch.
    """
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def generator_states() -> dict[str, Any]:
    """States of the global generators of torch (CPU and CUDA), numpy and Python, as tensors and numbers."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - what others draw from
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = [name, torch.from_numpy(np.asarray(keys, np.int64)), *rest]
    return {'torch': torch.get_rng_state(), 'cuda': cuda, 'numpy': numpy, 'python': random.getstate()}


def set_generators(states: Mapping[str, Any]) -> None:
    """Set the global generators.

    Args:
        states: states of `generator_states`; those of CUDA are left where there are other devices now.
    """
    torch.set_rng_state(states['torch'])
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, numbers, gauss = states['python']
    random.setstate((version, tuple(numbers), gauss))
    if torch.cuda.is_available() and len(states['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states['cuda'])


class Stream:
    """A stream of random numbers that the global CPU generators yield for a while, without being advanced.

    Args:
        *parts: parts of its seed, as in `seed_of`.
    """

    def __init__(self, *parts: int) -> None:
        seed = seed_of(*parts)
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._numpy = np.random.RandomState(seed).get_state()
        self._python = random.Random(seed).getstate()  # noqa: S311 - nothing secret

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Make the global generators yield the numbers of this stream within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)
        self._torch, self._numpy, self._python = kept


def reseed(owner: object, *parts: int) -> None:
    """Seed the random generators that an object and its samplers own.

    Args:
        owner: a sampler, a batch sampler or a loader.
        *parts: parts of the seed; the one that a generator of torch had at first counts as well.
    """
    for one in list(getattr(owner, '__dict__', {}).values()):
        if isinstance(one, torch.Generator):
            first = _FIRST.setdefault(
                one, one.initial_seed()
            )  # each seed that is set counts as the initial one
            one.manual_seed(seed_of(*parts, first))
        elif isinstance(one, np.random.Generator):
            one.bit_generator.state = type(one.bit_generator)(seed_of(*parts)).state
        elif isinstance(one, np.random.RandomState | random.Random):
            one.seed(seed_of(*parts))
    for name in ('sampler', 'batch_sampler'):
        inner = getattr(owner, name, None)
        if inner is not None and inner is not owner:
            reseed(inner, *parts)


class Generators(Callback):
    """Keeps the states of the global generators in checkpoints, and restores them as late as possible.

    It has to be the first callback: what others draw at the start of an epoch is drawn again.
    """

    def __init__(self) -> None:
        self._waiting: Mapping[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states, of each process.

        Args:
            trainer: the trainer that runs the fit.
            pl_module: the task that is trained.
            checkpoint: the checkpoint, changed in place.
        """
        states: list[Any] = [generator_states()]
        if trainer.world_size > 1:
            states = states * trainer.world_size
            distributed.all_gather_object(states, generator_states())
        checkpoint['generators'] = states

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the states of this process.

        Args:
            trainer: the trainer that runs the fit.
            pl_module: the task that is trained.
            checkpoint: as `on_save_checkpoint` filled it.
        """
        states = checkpoint['generators']
        self._waiting = states[trainer.global_rank] if len(states) == trainer.world_size else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set them where a run goes on with an epoch."""
        self._set()

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Set them where a run goes on within an epoch."""
        self._set()

    def _set(self) -> None:
        if self._waiting is not None:
            set_generators(self._waiting)
            self._waiting = None

"""Training batches whose order and random draws depend on seed, epoch and position in the epoch alone.

A run that was stopped in the middle of an epoch thus resumes with the very batch that came next, however
many processes read. Torch's own order depends on all that was drawn before: a resumed run would repeat the
order of the first epoch. The random generators that training draws from are saved, restored and seeded
here.
"""

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from torch import distributed
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

__all__ = [
    'Generators',
    'Order',
    'Stream',
    'generator_states',
    'reseed',
    'seed_of',
    'serve_in_order',
    'set_generators',
]

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
        """Add the states, of each process."""
        states: list[Any] = [generator_states()]
        if trainer.world_size > 1:
            states = states * trainer.world_size
            distributed.all_gather_object(states, generator_states())
        checkpoint['generators'] = states

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the states of this process."""
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


_ORDER, _READING = range(2)
"""Streams of random numbers of an epoch; those of batches come behind."""


class Order:
    """Position of a training in its batches.

    Args:
        seed: seed of all orders and draws.

    Attributes:
        seed: as given, or that of the checkpoint that was loaded.
        epoch: number of the epoch, from 0.
        skip: batches to leave out when the next epoch is begun, for they were trained on before.
        single: whether there is one loader, in whose batches a run can be continued.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epoch = 0
        self.skip = 0
        self.single = False

    def begin(self) -> int:
        """Begin an epoch, and return the number of batches to skip."""
        skip, self.skip = self.skip, 0
        return skip


def serve_in_order(source: Any, order: Order) -> None:  # noqa: ANN401 - a datamodule or a task
    """Make a datamodule, or a task with its own data, serve its training batches in a reproducible order.

    Args:
        source: source whose `train_dataloader` is wrapped.
        order: order to follow.
    """
    given = source.train_dataloader

    @functools.wraps(given)
    def train_dataloader() -> Any:  # noqa: ANN401 - whatever Lightning takes
        return _wrapped(given(), order)

    source.train_dataloader = train_dataloader


def _wrapped(loaders: Any, order: Order) -> Any:  # noqa: ANN401
    order.single = not isinstance(loaders, CombinedLoader | dict | list | tuple)
    if isinstance(loaders, CombinedLoader):
        loaders.flattened = [_wrap(one, order) for one in loaders.flattened]
        return loaders
    if isinstance(loaders, dict):
        return {name: _wrap(one, order) for name, one in loaders.items()}
    if isinstance(loaders, list | tuple):
        return [_wrap(one, order) for one in loaders]
    return _wrap(loaders, order)


def _wrap(loader: Any, order: Order) -> Any:  # noqa: ANN401
    if isinstance(loader, dict | list | tuple):
        return loader
    # A class of its own may read in ways of its own: its batches are read again and passed over.
    plain = type(loader) is DataLoader and not isinstance(loader.dataset, IterableDataset)
    return _OrderedLoader(loader, order) if plain else _OrderedBatches(loader, order)


class _Places(Sampler[Any]):
    """Sampler that yields, per batch, the key of its random numbers and the indices of its samples."""

    def __init__(self, inner: Any, order: Order) -> None:  # noqa: ANN401 - a sampler
        self.inner = inner
        self.order = order

    def __len__(self) -> int:
        return len(self.inner)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to samplers that take it."""
        self.order.epoch = epoch
        for one in (self.inner, getattr(self.inner, 'sampler', None)):
            if callable(getattr(one, 'set_epoch', None)):
                one.set_epoch(epoch)  # type: ignore[union-attr]

    def __iter__(self) -> Iterator[Any]:
        seed, epoch, skip = self.order.seed, self.order.epoch, self.order.begin()
        stream = Stream(seed, epoch, _ORDER)
        reseed(self.inner, seed, epoch)
        with stream.drawn():
            places = iter(self.inner)
        for number in itertools.count():
            with stream.drawn():
                try:
                    some = next(places)
                except StopIteration:
                    return
            if number >= skip:
                yield (seed, epoch, number), some


class _Batches(Dataset[Any]):
    """Whole batches of a dataset, each read with random numbers of its own."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any], *, batched: bool) -> None:  # noqa: ANN401
        self.dataset = dataset
        self.collate = collate
        self.batched = batched

    def __getitem__(self, key: tuple[tuple[int, int, int], Any]) -> Any:  # noqa: ANN401
        (seed, epoch, number), places = key
        with Stream(seed, epoch, 1 + _READING + number).drawn():
            return self.collate(self._read(places))

    def _read(self, places: Any) -> Any:  # noqa: ANN401
        if not self.batched:
            return self.dataset[places]
        if getattr(self.dataset, '__getitems__', None):
            return self.dataset.__getitems__(places)
        return [self.dataset[place] for place in places]


class _OrderedLoader(DataLoader[Any]):
    """A loader that skips batches without reading them."""

    def __init__(self, loader: DataLoader[Any], order: Order) -> None:
        batched = loader.batch_sampler is not None
        super().__init__(
            _Batches(loader.dataset, loader.collate_fn, batched=batched),
            batch_size=None,
            sampler=_Places(loader.batch_sampler if batched else loader.sampler, order),
            num_workers=loader.num_workers,
            collate_fn=_as_it_is,
            # A copy from pinned memory does not wait, and processes that read live as long as the run.
            pin_memory=loader.pin_memory or torch.cuda.is_available(),
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.num_workers > 0,
        )
        self._order = order

    def __iter__(self) -> Any:  # noqa: ANN401 - an iterator, where torch has its own kind
        # Begun when the first batch is asked for: Lightning says the epoch after it has called `iter`.
        with Stream(self._order.seed, self._order.epoch, _READING).drawn():
            batches = super().__iter__()
        yield from batches

    def state_dict(self) -> dict[str, Any]:
        """Empty state: its presence tells Lightning that a run can resume within an epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""


class _OrderedBatches:
    """Batches of any loader; batches to skip are read and dropped."""

    def __init__(self, loader: Any, order: Order) -> None:  # noqa: ANN401
        self.loader = loader
        self.sampler = self
        self._order = order

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to samplers that take it."""
        self._order.epoch = epoch
        batched = getattr(self.loader, 'batch_sampler', None)
        for one in (self.loader, getattr(self.loader, 'sampler', None), getattr(batched, 'sampler', None)):
            if callable(getattr(one, 'set_epoch', None)):
                one.set_epoch(epoch)  # type: ignore[union-attr]

    def __iter__(self) -> Iterator[Any]:
        seed, epoch, skip = self._order.seed, self._order.epoch, self._order.begin()
        stream = Stream(seed, epoch, _READING)
        reseed(self.loader, seed, epoch)
        with stream.drawn():
            batches = iter(self.loader)
        for number in itertools.count():
            with stream.drawn():
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            if number >= skip:
                yield batch

    state_dict = _OrderedLoader.state_dict
    load_state_dict = _OrderedLoader.load_state_dict


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401
    return batch

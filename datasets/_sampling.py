"""Which samples each of several processes takes."""

from collections.abc import Iterator

import torch
from torch import distributed
from torch.utils.data import DistributedSampler

__all__ = ['ProcessSampler', 'process_count']


def process_count() -> int:
    """How many processes share the work; 1 outside distributed training."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class ProcessSampler(DistributedSampler[int]):
    """The share of this process, in which no sample stands for another.

    Lightning's own sampler repeats samples until all processes have as many, which counts them twice in an
    evaluation. Here evaluation takes every sample once, so that processes may have one more than others;
    training leaves out the few that do not divide. The order of training depends on seed and epoch
    alone: a batch of one process and the batches of n processes of an n-th of its size hold the same samples.

    Args:
        count: Of samples.
        shuffle: Whether to train: another order each epoch.
        seed: Of the order.
    """

    def __init__(self, count: int, *, shuffle: bool, seed: int = 0) -> None:
        processes = process_count()
        rank = distributed.get_rank() if processes > 1 else 0
        super().__init__(range(count), processes, rank, shuffle, seed)  # type: ignore[arg-type]
        shared = count - count % processes if shuffle else count
        self.positions = range(rank, shared, processes)

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(self.positions)
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        return iter(order[self.positions.start :: self.num_replicas][: len(self)].tolist())

    def __len__(self) -> int:
        return len(self.positions)

"""Sample tiles: where they lie, which classes they get, and which process reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import DistributedSampler

from geores.datasets._vector import LabelledFeatures
from geores.errors import DatasetError
from geores.grid import Tiling

__all__ = [
    'Decision',
    'LabelRule',
    'Placement',
    'ProcessSampler',
    'Task',
    'decide',
    'process_count',
    'windows_centred',
    'windows_on_grid',
]

Placement = Literal['auto', 'grid', 'centred']
Task = Literal['single-label', 'multi-label']
ROUNDING = 1e-9
"""Tolerance of area shares, so that rounding does not decide."""


def process_count() -> int:
    """Number of processes of distributed training; 1 outside it."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class ProcessSampler(DistributedSampler[int]):
    """Samples of this process in distributed training, without repeats.

    Lightning's own sampler repeats samples until all processes have equally many, so that an evaluation
    counts some twice. Here evaluation takes every sample once, and some processes may have one more than
    others; training drops the remainder. The order of training depends on seed and epoch alone: one batch of
    a single process holds the same samples as the n batches, an n-th of its size, of n processes.

    Args:
        count: number of samples.
        shuffle: whether to train: another order each epoch.
        seed: random seed of the order.
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


class Decision(NamedTuple):
    """Classes of tiles, as decided from the labels.

    Attributes:
        present: (N, K) bool, the classes of each tile.
        shares: (N,) part of the tile that its class covers, or, of several, all of them; 1 where points
            decide.
        reasons: (N,) why nothing is decided: 'no label', 'share' (no class covers enough), 'several' (two
            cover the same, or points of two classes) or 'cover' (too much is under no label); '' where it is.
    """

    present: NDArray[np.bool_]
    shares: NDArray[np.float64]
    reasons: NDArray[np.object_]


@dataclass(frozen=True)
class LabelRule:
    """Rule that decides the class, or classes, of a tile.

    Attributes:
        task: 'single-label' takes the class that covers most; 'multi-label' each that covers enough.
        min_share: minimum share of a tile that a class has to cover.
        min_cover: for 'multi-label', minimum share of a tile that labels of any class cover.
    """

    task: Task
    min_share: float
    min_cover: float = 0.0

    @classmethod
    def with_defaults(cls, task: Task, min_share: float | None, min_cover: float | None) -> Self:
        """Make a rule; defaults are a share of 0.5, for multi-label 0.01 and a cover of 0.9.

        Args:
            task: as in the class.
            min_share: as in the class; None takes the default.
            min_cover: as in the class; None takes the default.

        Raises:
            DatasetError: if one is out of range, or has no effect.
        """
        if task not in get_args(Task):
            raise DatasetError(f'task has to be one of {", ".join(get_args(Task))}, not {task!r}')
        if min_share is not None and not 0 < min_share <= 1:
            raise DatasetError(f'min_share has to be above 0 and at most 1, not {min_share}')
        if min_cover is not None and not 0 <= min_cover <= 1:
            raise DatasetError(f'min_cover has to be between 0 and 1, not {min_cover}')
        if task == 'multi-label':
            return cls(
                task, 0.01 if min_share is None else min_share, 0.9 if min_cover is None else min_cover
            )
        if min_cover is not None:
            raise DatasetError('min_cover goes with the task multi-label: a tile of one class has min_share')
        return cls(task, 0.5 if min_share is None else min_share)


def windows_on_grid(shape: tuple[int, int], size: int, stride: int) -> NDArray[np.int64]:
    """First row and column of the tiles that inference would read, (N, 2), row-major.

    Args:
        shape: height and width of the grid, in pixels.
        size: side of a tile in pixels.
        stride: step from tile to tile in pixels.
    """
    tiling = Tiling(*shape, size, stride)
    rows, cols = np.meshgrid(tiling.y.starts, tiling.x.starts, indexing='ij')
    return np.stack([rows.ravel(), cols.ravel()], axis=1).astype(np.int64)


def windows_centred(
    shape: tuple[int, int], size: int, cols: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.int64]:
    """First row and column of a tile around each centre; tiles are moved to lie inside the grid.

    Args:
        shape: height and width of the grid, in pixels.
        size: side of a tile in pixels.
        cols: column of each centre, (M,), in pixels.
        rows: row of each centre, (M,), in pixels.

    Returns:
        (N, 2), each once, row-major.
    """
    inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    centres = np.stack([rows[inside], cols[inside]], axis=1)
    starts = np.clip(np.floor(centres - size / 2 + 0.5), 0, np.array(shape) - size)
    return np.unique(starts.astype(np.int64), axis=0)


def decide(
    boxes: NDArray[np.object_], features: LabelledFeatures, names: NDArray[np.str_], rule: LabelRule
) -> Decision:
    """Decide the class, or classes, of each tile.

    One class: that which covers the largest area of the tile, if that is at least `min_share` of the whole
    tile; two that cover the same area decide nothing. Of points, the class of those inside; tiles with
    points of two classes are left undecided. Several: each that covers at least `min_share` of the tile, or
    has a point in it, where at least `min_cover` of the tile is under labels. Polygons that overlap count
    once.

    Args:
        boxes: the tiles, (N,), in the CRS of the features.
        features: polygons or points.
        names: the K classes, sorted.
        rule: says which.

    Raises:
        DatasetError: if the features are points and the rule has a `min_cover`.
    """
    tiles, found = shapely.STRtree(features.geometries).query(boxes, predicate='intersects')
    codes = np.searchsorted(names, features.classes[found].astype(str))
    if features.kind == 'point':
        if rule.min_cover:
            raise DatasetError(
                f'{features.name}: points say where a class is and not where it is not: a min_cover of 0 '
                'takes them as all there are'
            )
        cover, whole = np.zeros((len(boxes), len(names))), np.ones(len(boxes))
        cover[tiles, codes] = 1.0  # two classes then tie
        return _several(cover, whole, rule) if rule.task == 'multi-label' else _one(cover, 0.0)
    parts = shapely.intersection(boxes[tiles], features.geometries[found])
    cover = _areas(boxes, tiles, codes, parts, len(names))
    if rule.task == 'single-label':
        return _one(cover, rule.min_share)
    return _several(cover, _areas(boxes, tiles, np.zeros_like(codes), parts, 1)[:, 0], rule)


def _one(cover: NDArray[np.float64], min_share: float) -> Decision:
    """The class of each tile, from the cover of each class, (N, K)."""
    everyone = np.arange(len(cover))
    best = cover.argmax(axis=1)
    share = cover[everyone, best]
    tied = (np.isclose(cover, share[:, None], rtol=0, atol=ROUNDING).sum(axis=1) > 1) & (share > 0)
    reasons = np.full(len(cover), '', object)
    reasons[tied] = 'several'
    reasons[share < min_share - ROUNDING] = 'share'
    reasons[share <= 0] = 'no label'
    present = np.zeros(cover.shape, bool)
    present[everyone, best] = reasons == ''
    return Decision(present, share, reasons)


def _several(cover: NDArray[np.float64], whole: NDArray[np.float64], rule: LabelRule) -> Decision:
    """The classes of each tile, from the cover of each, (N, K), and of all together, (N,)."""
    reasons = np.full(len(cover), '', object)
    reasons[whole < rule.min_cover - ROUNDING] = 'cover'
    if rule.min_cover:
        reasons[whole <= 0] = 'no label'
    return Decision(cover >= rule.min_share - ROUNDING, whole, reasons)


def _areas(
    boxes: NDArray[np.object_],
    tiles: NDArray[np.int64],
    codes: NDArray[np.int64],
    parts: NDArray[np.object_],
    count: int,
) -> NDArray[np.float64]:
    """Share of each tile that each code covers, (N, count), where parts of tiles have a code each."""
    groups = tiles * count + codes
    order = np.argsort(groups, kind='stable')
    cover = np.zeros((len(boxes), count))
    for group in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(group):
            ground = parts[group[0]] if len(group) == 1 else shapely.union_all(parts[group])
            cover[tiles[group[0]], codes[group[0]]] = shapely.area(ground)
    shares: NDArray[np.float64] = cover / shapely.area(boxes)[:, None]
    return shares

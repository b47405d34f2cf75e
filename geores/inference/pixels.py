"""What is kept of each chunk where a network labels every pixel, and class maps read from it afterwards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from geores.grid import Blocks
from geores.inference.engine import Region
from geores.inference.plan import PixelPlan
from geores.inference.reader import Arrays, ChunkStore

__all__ = [
    'NO_PROBABILITY',
    'PROBABILITY_STEPS',
    'STEPS',
    'ClassSink',
    'LabelPixels',
    'PixelTable',
    'class_dtype',
]

STEPS = 255
"""A confidence p is kept as round(255 p); 0 is no data, which no best of K labels comes near."""

PROBABILITY_STEPS = 254
"""A probability p of a label is kept as round(254 p)."""

NO_PROBABILITY = 255
"""What stands for the probability of an invalid pixel."""


def class_dtype(labels: int) -> DTypeLike:
    """Choose the type of a class map: 0 is no data, and label i is i + 1."""
    return np.uint8 if labels <= 254 else np.uint16


class LabelPixels:
    """What is kept of the probabilities of a batch of tiles, without their margins.

    Gives ``classes`` (N, h, w), 1 for the first label; ``confidence`` (N, h, w) uint8, the probability of
    that label times 255; ``probabilities`` (N, K, h, w) uint8, times 254, where wanted.

    Args:
        blocks: the blocks of the scene.
        probabilities: whether to keep them.
    """

    def __init__(self, blocks: Blocks, *, probabilities: bool = False) -> None:
        self._rows = slice(blocks.y.margin, blocks.y.margin + blocks.y.block)
        self._cols = slice(blocks.x.margin, blocks.x.margin + blocks.x.block)
        self._keep = probabilities

    def __call__(self, probabilities: Tensor) -> Mapping[str, Tensor]:
        """Arrays of a batch from probabilities (N, K, tile height, tile width)."""
        inner = probabilities[:, :, self._rows, self._cols]
        best, index = inner.max(dim=1)
        kind = torch.uint8 if inner.shape[1] <= 254 else torch.int32
        kept = {'classes': (index + 1).to(kind), 'confidence': _as_bytes(best, STEPS)}
        if self._keep:
            kept['probabilities'] = _as_bytes(inner, PROBABILITY_STEPS)
        return kept


def _as_bytes(shares: Tensor, steps: int) -> Tensor:
    return (shares * steps).round_().to(torch.uint8)


class ClassSink:
    """Keeps the labels of a chunk's own pixels.

    Keeps ``classes`` (h, w) and ``confidence`` (h, w) uint8, both 0 where invalid; ``counts`` (K, 256) int64,
    valid pixels by label and confidence; ``probabilities`` (K, h, w) uint8 where the step gives them, 255
    where invalid.

    Args:
        size: k, the number of labels.
        probabilities: whether the step gives them.
    """

    def __init__(self, size: int, *, probabilities: bool = False) -> None:
        self.size = size
        self._keep = probabilities

    def reduce(self, plan: PixelPlan, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> Arrays:
        """Keep the labels of the chunk's own pixels."""
        rows, cols = plan.owned(region.chunk)
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        top, left = rows.start - region.top, cols.start - region.left
        valid = region.valid[top : top + shape[0], left : left + shape[1]]
        classes = np.zeros(shape, class_dtype(self.size))
        confidence = np.zeros(shape, np.uint8)
        kept: dict[str, NDArray[Any]] = {'classes': classes, 'confidence': confidence}
        if self._keep:
            kept['probabilities'] = np.full((self.size, *shape), NO_PROBABILITY, np.uint8)
        y, x = plan.tiling.y.edges, plan.tiling.x.edges
        for position, (row, col) in enumerate(tiles):
            down, across = slice(int(y[row]), int(y[row + 1])), slice(int(x[col]), int(x[col + 1]))
            # The first block may begin before the grid.
            above = down.start - int(plan.tiling.y.starts[row]) - plan.tiling.y.margin
            before = across.start - int(plan.tiling.x.starts[col]) - plan.tiling.x.margin
            inside = np.s_[
                above : above + down.stop - down.start, before : before + across.stop - across.start
            ]
            place = np.s_[
                down.start - rows.start : down.stop - rows.start,
                across.start - cols.start : across.stop - cols.start,
            ]
            for name, array in kept.items():
                array[..., *place] = outputs[name][position, ..., *inside]
        for name, array in kept.items():
            array[..., ~valid] = NO_PROBABILITY if name == 'probabilities' else 0
        kept['counts'] = _histogram(classes, confidence, self.size)
        return kept


def _histogram(
    classes: NDArray[np.integer[Any]], confidence: NDArray[np.uint8], labels: int
) -> NDArray[np.int64]:
    """Count valid pixels by label and confidence, (K, 256)."""
    joint = classes.astype(np.int64) * 256 + confidence
    counts = np.bincount(joint.ravel(), minlength=(labels + 1) * 256)
    return counts.reshape(labels + 1, 256)[1:]


@dataclass(frozen=True)
class PixelTable:
    """Reads what a `ClassSink` kept as if it were whole rasters, a window at a time.

    Attributes:
        plan: the plan of the run.
        store: its finished chunks.
    """

    plan: PixelPlan
    store: ChunkStore

    @cached_property
    def _get(self) -> Any:  # noqa: ANN401 - an lru_cache
        return lru_cache(maxsize=16)(self.store.get)

    def read(self, name: str, rows: slice, cols: slice, step: int = 1) -> NDArray[Any]:
        """Read ``classes``, ``confidence`` or ``probabilities`` of a window of the grid.

        Args:
            name: what to read.
            rows: rows of pixels.
            cols: columns of pixels.
            step: every how many pixels, counted from pixel 0 of the grid.

        Returns:
            (..., h, w).
        """
        lines = []
        for chunk_row in self._touched(self.plan.tiling.y.edges, self.plan.chunk_shape[0], rows):
            parts = [
                self._part(name, chunk_row, chunk_col, rows, cols, step)
                for chunk_col in self._touched(self.plan.tiling.x.edges, self.plan.chunk_shape[1], cols)
            ]
            lines.append(np.concatenate(parts, axis=-1))
        return np.concatenate(lines, axis=-2)

    @staticmethod
    def _touched(edges: NDArray[np.int64], blocks: int, span: slice) -> range:
        """Find the chunks along an axis that hold some of a span of pixels."""
        ends = np.append(edges[blocks:-1:blocks], edges[-1])
        first = int(np.searchsorted(ends, span.start, side='right'))
        last = int(np.searchsorted(ends, span.stop, side='left'))
        return range(first, last + 1)

    def _part(
        self, name: str, chunk_row: int, chunk_col: int, rows: slice, cols: slice, step: int
    ) -> NDArray[Any]:
        chunk = self.plan.chunk(chunk_row, chunk_col)
        array: NDArray[Any] = self._get(chunk.index)[name]
        down, across = (
            slice(_from(span, own, step) - own.start, min(span.stop, own.stop) - own.start, step)
            for span, own in zip((rows, cols), self.plan.owned(chunk), strict=True)
        )
        return array[..., down, across]

    def blocks(self, name: str) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
        """Read a raster in pieces that partition the grid, chunk by chunk: rows, columns and values."""
        for chunk in self.plan:
            rows, cols = self.plan.owned(chunk)
            yield rows, cols, self.store.get(chunk.index)[name]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Valid pixels by label and confidence, (K, 256)."""
        total: NDArray[np.int64] = sum(
            (self.store.get(chunk.index)['counts'] for chunk in self.plan), start=np.zeros((1, 1), np.int64)
        )
        return total


def _from(span: slice, own: slice, step: int) -> int:
    """Find the first multiple of a step in a span of pixels that a chunk owns."""
    return int(-(-max(span.start, own.start) // step) * step)

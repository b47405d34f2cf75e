"""What is kept of each chunk, of tiles or of pixels, and what is made of it afterwards.

`VectorSink` keeps one vector per tile; `TileTable` reads them as one array and averages them per cell. Where
a network labels every pixel, `ClassSink` keeps class maps and `PixelTable` reads them. `Quicklook` keeps a
small picture of the scene while it streams by, for networks of either kind.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geores.grid import Blocks
from geores.inference.engine import Region
from geores.inference.plan import AnyPlan, Chunk, PixelPlan, TilePlan
from geores.inference.reader import Arrays, ChunkStore

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    'NO_PROBABILITY',
    'PROBABILITY_STEPS',
    'STEPS',
    'ClassSink',
    'LabelPixels',
    'PixelTable',
    'Quicklook',
    'TileTable',
    'VectorSink',
    'class_dtype',
]


class VectorSink:
    """Keeps one vector per tile, and what cells, tables and shares need beside it.

    Keeps ``scores`` (rows, cols, K) float32, NaN for skipped tiles; ``valid`` and ``owned`` (rows,
    cols), valid pixels in the tile and in the part of it that it owns; ``cell_valid`` (cell rows, cell
    cols), valid pixels in each cell.

    Args:
        size: k, the vector's length.
        name: the step's array to keep.
    """

    def __init__(self, size: int, name: str = 'scores') -> None:
        self.size = size
        self.name = name

    def reduce(self, plan: TilePlan, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> Arrays:
        """Keep the vectors of the chunk's own tiles, and its counts of valid pixels."""
        chunk, y, x = region.chunk, plan.tiling.y, plan.tiling.x
        rows, cols = chunk.rows, chunk.cols
        scores = np.full((rows.stop - rows.start, cols.stop - cols.start, self.size), np.nan, np.float32)
        row, col = tiles.T
        own = (row >= rows.start) & (row < rows.stop) & (col >= cols.start) & (col < cols.stop)
        if own.any():
            scores[row[own] - rows.start, col[own] - cols.start] = outputs[self.name][own]
        cell_rows, cell_cols = plan.cells(chunk)
        return {
            'scores': scores,
            'valid': region.count((y.starts[rows], y.stops[rows]), (x.starts[cols], x.stops[cols])),
            'owned': region.count(_spans(y.edges, rows), _spans(x.edges, cols)),
            'cell_valid': region.count(_spans(y.cell_edges, cell_rows), _spans(x.cell_edges, cell_cols)),
        }


class TileTable:
    """Reads what a `VectorSink` kept as if it were whole arrays, a window at a time.

    Args:
        plan: the plan of the run.
        store: its finished chunks.
    """

    def __init__(self, plan: TilePlan, store: ChunkStore) -> None:
        self.plan = plan
        self._get = lru_cache(maxsize=64)(store.get)

    def read(self, name: str, rows: slice, cols: slice) -> NDArray[np.float32]:
        """Read ``scores``, ``valid`` or ``owned`` of a block of tiles, (rows, cols, ...)."""
        height, width = self.plan.chunk_shape
        parts = [
            [
                self._part(name, self.plan.chunk(row, col).index, rows, cols, row * height, col * width)
                for col in range(cols.start // width, -(-cols.stop // width))
            ]
            for row in range(rows.start // height, -(-rows.stop // height))
        ]
        return np.concatenate([np.concatenate(line, axis=1) for line in parts], axis=0)

    def _part(
        self, name: str, index: int, rows: slice, cols: slice, top: int, left: int
    ) -> NDArray[np.float32]:
        array = self._get(index)[name]
        return array[max(rows.start - top, 0) : rows.stop - top, max(cols.start - left, 0) : cols.stop - left]

    def cells(self, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the mean vector and the valid share of each cell in a block of cells.

        A cell is the mean of the tiles that cover it, weighted by the pixels they share; skipped tiles
        take no part. A cell without valid pixels, or covered by skipped tiles alone, is NaN.

        A cell has the same bits in whichever block it is asked for: sparse products add one tile after
        the other, where dense ones take sums apart by the block's shape.

        Returns:
            Means (K, rows, cols) and valid shares (rows, cols), both float32.
        """
        from scipy.sparse import csr_array  # takes tenths of a second, and the first tiles need none

        y, x = self.plan.tiling.y, self.plan.tiling.x
        tile_rows = y.touching(int(y.cell_edges[rows.start]), int(y.cell_edges[rows.stop]))
        tile_cols = x.touching(int(x.cell_edges[cols.start]), int(x.cell_edges[cols.stop]))
        scores = self.read('scores', tile_rows, tile_cols).astype(np.float64)
        known = ~np.isnan(scores[..., 0])
        down, across = (
            csr_array(overlap.T, dtype=np.float64)
            for overlap in (y.overlap(tile_rows, rows), x.overlap(tile_cols, cols))
        )
        # Weights are separable: a tile shares with a cell the pixels along y times those along x. The first
        # layer sums the weights, the others sum weighted scores.
        layers = np.concatenate([known[None], np.moveaxis(np.where(known[..., None], scores, 0), -1, 0)])
        sums = np.stack([(across @ (down @ layer).T).T for layer in layers])
        weight, total = sums[0], sums[1:]
        share = self.cell_valid(rows, cols) / _areas(y.cell_edges, rows, x.cell_edges, cols)
        seen = (weight > 0) & (share > 0)
        means = np.full(total.shape, np.nan)
        np.divide(total, weight, out=means, where=seen)
        return means.astype(np.float32), share.astype(np.float32)

    def cell_valid(self, rows: slice, cols: slice) -> NDArray[np.int64]:
        """Count the valid pixels of each cell in a block of cells, (rows, cols)."""
        counts = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.int64)
        for chunk in self._chunks_of_cells(rows, cols):
            chunk_rows, chunk_cols = self.plan.cells(chunk)
            held = self._get(chunk.index)['cell_valid']
            here, there = _shared(rows, chunk_rows), _shared(cols, chunk_cols)
            counts[here[0], there[0]] = held[here[1], there[1]]
        return counts

    def _chunks_of_cells(self, rows: slice, cols: slice) -> list[Chunk]:
        last = [count - 1 for count in self.plan.shape]
        height, width = self.plan.chunk_shape
        return [
            self.plan.chunk(row, col)
            for row in range(min(rows.start // height, last[0]), min((rows.stop - 1) // height, last[0]) + 1)
            for col in range(min(cols.start // width, last[1]), min((cols.stop - 1) // width, last[1]) + 1)
        ]


def _spans(edges: NDArray[np.int64], part: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return edges[part], edges[1:][part]


def _areas(
    rows: NDArray[np.int64], row_part: slice, cols: NDArray[np.int64], col_part: slice
) -> NDArray[np.int64]:
    return np.outer(np.diff(rows)[row_part], np.diff(cols)[col_part])


def _shared(wanted: slice, held: slice) -> tuple[slice, slice]:
    """Find where two spans meet, counted from the start of each."""
    start, stop = max(wanted.start, held.start), min(wanted.stop, held.stop)
    return (
        slice(start - wanted.start, stop - wanted.start),
        slice(start - held.start, stop - held.start),
    )


class Quicklook:
    """Keeps every n-th pixel of some bands, for a picture of the scene without reading it again.

    Args:
        bands: positions of the bands among those that are read.
        step: n.
    """

    def __init__(self, bands: Sequence[int], step: int) -> None:
        self.bands = list(bands)
        self.step = step

    def reduce(self, plan: AnyPlan, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> Arrays:
        """Keep every n-th pixel of those that the chunk owns, NaN where invalid."""
        rows, cols = (self.pixels(window) for window in plan.owned(region.chunk))
        rows, cols = rows - region.top, cols - region.left
        look = region.pixels.look(self.bands, rows, cols)
        look[:, ~region.valid[np.ix_(rows, cols)]] = np.nan
        return {'quicklook': look}

    def pixels(self, window: slice) -> NDArray[np.int64]:
        """Positions of the pixels of a window that are kept, along one axis."""
        return np.arange(-(-window.start // self.step) * self.step, window.stop, self.step)

    def assemble(self, plan: AnyPlan, store: ChunkStore) -> NDArray[np.float32]:
        """Put the whole picture together, (bands, h, w)."""
        shape = (-(-plan.tiling.height // self.step), -(-plan.tiling.width // self.step))
        picture = np.full((len(self.bands), *shape), np.nan, np.float32)
        for chunk in plan:
            rows, cols = (self.pixels(window) // self.step for window in plan.owned(chunk))
            picture[:, rows[:, None], cols[None]] = store.get(chunk.index)['quicklook']
        return picture


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
    """Make class, confidence and probability arrays of a batch of tiles, without the margins of the tiles.

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

    def __call__(self, probabilities: 'Tensor') -> 'Mapping[str, Tensor]':
        """Arrays of a batch from probabilities (N, K, tile height, tile width)."""
        inner = probabilities[:, :, self._rows, self._cols]
        best, index = inner.max(dim=1)
        classes = (index + 1).byte() if inner.shape[1] <= 254 else (index + 1).int()
        kept = {'classes': classes, 'confidence': _as_bytes(best, STEPS)}
        if self._keep:
            kept['probabilities'] = _as_bytes(inner, PROBABILITY_STEPS)
        return kept


def _as_bytes(shares: 'Tensor', steps: int) -> 'Tensor':
    return (shares * steps).round_().byte()


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

"""The plan of a run: which tiles are read together, and which go through the network together.

A chunk is a block of neighbouring tiles and the unit of reading, of the journal and of sharing work
out. Each chunk is cut into batches by itself, so that its results are the same bits whoever computes
it, in whatever order, in one run or in two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import Any, Generic, TypeAlias, TypeVar

from geores.errors import UsageError
from geores.grid import Blocks, Tiling

__all__ = ['AnyPlan', 'Chunk', 'PixelPlan', 'Plan', 'TilePlan', 'plan_chunks']

TilingT = TypeVar('TilingT', Tiling, Blocks)

CHUNK_PIXELS = 1024
"""Pixels along each side of a chunk, about."""

CHUNK_TILES = 4096
"""Most tiles in a chunk."""

CHUNK_WORK = 2**21
"""Most pixels that go through the network for a chunk, overlaps counted again: seconds on a CPU, so that a
run that is stopped loses little."""

STRIP_BYTES = 96 * 2**20
"""Most bytes of the source that one row of chunks over the whole width takes."""


@dataclass(frozen=True)
class Chunk:
    """A block of tiles: rows and columns of tiles, half-open."""

    index: int
    rows: slice
    cols: slice


@dataclass(frozen=True)
class Plan(Generic[TilingT]):
    """How a grid is worked through.

    Attributes:
        tiling: the tiles, or the blocks of pixels with their margins.
        chunk_shape: rows and columns of tiles in a chunk.
        batch_size: most tiles in one forward pass.
        min_valid: share of a tile's pixels that must be valid for it to be classified, 0 to 1.
    """

    tiling: TilingT
    chunk_shape: tuple[int, int]
    batch_size: int
    min_valid: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be worked through."""
        if self.batch_size < 1:
            raise UsageError(f'batch size must be at least 1, not {self.batch_size}')
        if not 0 <= self.min_valid <= 1:
            raise UsageError(f'min_valid must lie between 0 and 1, not {self.min_valid}')

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of chunks."""
        rows, cols = self.tiling.shape
        return -(-rows // self.chunk_shape[0]), -(-cols // self.chunk_shape[1])

    def __len__(self) -> int:
        """Number of chunks."""
        return self.shape[0] * self.shape[1]

    def chunk(self, row: int, col: int) -> Chunk:
        """The chunk at a row and column of chunks."""
        (height, width), (rows, cols) = self.chunk_shape, self.tiling.shape
        return Chunk(
            row * self.shape[1] + col,
            slice(row * height, min((row + 1) * height, rows)),
            slice(col * width, min((col + 1) * width, cols)),
        )

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks in row-major order."""
        return (self.chunk(r, c) for r in range(self.shape[0]) for c in range(self.shape[1]))

    def reach(self, rows: slice, cols: slice) -> tuple[slice, slice]:
        """Pixels that a block of tiles covers; they may reach past the grid."""
        y, x = self.tiling.y, self.tiling.x
        return (
            slice(int(y.starts[rows.start]), int(y.ends[rows.stop - 1])),
            slice(int(x.starts[cols.start]), int(x.ends[cols.stop - 1])),
        )

    def window(self, rows: slice, cols: slice) -> tuple[slice, slice]:
        """Pixels that a block of tiles covers, inside the grid."""
        down, across = self.reach(rows, cols)
        return _inside(down, self.tiling.height), _inside(across, self.tiling.width)

    def windows(self) -> tuple[list[slice], list[slice]]:
        """Rows and columns of pixels of the chunks' windows."""
        down = [self.chunk(row, 0) for row in range(self.shape[0])]
        across = [self.chunk(0, col) for col in range(self.shape[1])]
        rows = [self.window(chunk.rows, chunk.cols)[0] for chunk in down]
        cols = [self.window(chunk.rows, chunk.cols)[1] for chunk in across]
        return rows, cols

    def owned(self, chunk: Chunk) -> tuple[slice, slice]:
        """Pixels that a chunk's tiles own; over all chunks they partition the grid."""
        y, x = self.tiling.y.edges, self.tiling.x.edges
        return (
            slice(int(y[chunk.rows.start]), int(y[chunk.rows.stop])),
            slice(int(x[chunk.cols.start]), int(x[chunk.cols.stop])),
        )

    def cells(self: 'TilePlan', chunk: Chunk) -> tuple[slice, slice]:
        """Cells that a chunk accounts for; over all chunks they partition the cells."""
        tiles, cells = self.tiling.shape, self.tiling.cell_shape
        return (
            slice(chunk.rows.start, cells[0] if chunk.rows.stop == tiles[0] else chunk.rows.stop),
            slice(chunk.cols.start, cells[1] if chunk.cols.stop == tiles[1] else chunk.cols.stop),
        )


TilePlan: TypeAlias = Plan[Tiling]
"""The plan of a network that answers once per tile."""

PixelPlan: TypeAlias = Plan[Blocks]
"""The plan of a network that answers for every pixel."""

AnyPlan: TypeAlias = Plan[Any]
"""The plan of either kind of network, where only the windows matter."""


def plan_chunks(tiling: Tiling | Blocks, *, bytes_per_pixel: int) -> tuple[int, int]:
    """Choose how many rows and columns of tiles make a chunk.

    Chunks are about 1024 pixels square, and smaller where tiles overlap so much that they would hold more
    than `CHUNK_WORK`. On very wide grids they are lower and wider, so that one row
    of chunks over the whole width stays within 96 MiB and source blocks at the seams are still cached
    when the next row needs them.

    Args:
        tiling: the tiles.
        bytes_per_pixel: what one pixel of the grid takes in the source, all bands together.
    """
    y, x = tiling.y, tiling.x
    strip = STRIP_BYTES // max(1, bytes_per_pixel * tiling.width)
    fits = 1 + max(0, min(CHUNK_PIXELS, strip) - y.tile) // y.stride
    most = max(1, min(CHUNK_TILES, CHUNK_WORK // (y.tile * x.tile)))
    rows = min(fits, tiling.shape[0], isqrt(most))
    height = (rows - 1) * y.stride + y.tile
    width = max(CHUNK_PIXELS, CHUNK_PIXELS**2 // height)
    cols = 1 + max(0, width - x.tile) // x.stride
    return rows, min(cols, tiling.shape[1], most // rows)


def _inside(span: slice, size: int) -> slice:
    return slice(max(span.start, 0), min(span.stop, size))

"""Where a model looks at a scene, and in which chunks and batches.

A layout is a grid, the tiles or blocks on it, and the mask over it. A chunk is a block of neighbouring
tiles and the unit of reading, of the journal and of sharing work out. Each chunk is cut into batches by
itself, so that its results are the same bits whoever computes it, in whatever order, in one run or in two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import Any, Generic, TypeAlias, TypeVar

from geores.card import ModelCard
from geores.errors import OutputError, UsageError
from geores.grid import Blocks, Tiling
from geores.inference.masks import MaskChoice, choose_mask
from geores.inference.target import Target, target_grid
from geores.options import SceneOptions
from geores.scenes import Scene

__all__ = [
    'AnyPlan',
    'Chunk',
    'PixelPlan',
    'Plan',
    'SceneLayout',
    'TilePlan',
    'lay_out_scene',
    'plan_chunks',
]

ROW_BYTES = 200
"""Size of a row of the table of tiles, without its scores."""

PIXEL_TILE = 768
"""Pixels along each side that a network which labels pixels sees at once.

The larger, the less its margins cost, and the more memory its feature maps take.
"""


@dataclass(frozen=True)
class SceneLayout:
    """Decided from headers alone.

    Attributes:
        target: the grid.
        tiling: tiles of a model that answers once per tile, or blocks of one that labels pixels.
        mask: which mask is laid over the grid, if any.
    """

    target: Target
    tiling: Tiling | Blocks
    mask: MaskChoice

    @property
    def samples(self) -> Tiling:
        """Tiles to take a sample of pixels from."""
        if isinstance(self.tiling, Tiling):
            return self.tiling
        side = min(256, max(self.tiling.y.block, self.tiling.x.block))
        step = self.tiling.alignment
        side = max(side // step, 1) * step
        return Tiling(self.tiling.height, self.tiling.width, side, side)


def lay_out_scene(scene: Scene, card: ModelCard, options: SceneOptions) -> SceneLayout:
    """Lay out a scene for a model: the grid, the tiles and the mask over them.

    Args:
        scene: a scene with the bands of the model.
        card: the model's card.
        options: the user's options.

    Raises:
        UsageError: if an option does not fit the scene or the model, or the results would be too large.
    """
    # In the scene's own order: the grid is the first source's, whatever the model's first band is.
    needed = {scene.band(name).name for name in card.bands}
    target = target_grid(
        scene.select([name for name in scene.bands if name in needed]),
        card.gsd,
        resolution=options.resolution,
        bbox=options.bbox,
        bbox_crs=options.bbox_crs,
        aoi=options.aoi,
    )
    height, width = target.grid.shape.yx
    tiling: Tiling | Blocks
    if card.task == 'segmentation':
        tile = options.tile or max(card.input_size, PIXEL_TILE)
        tiling = Blocks(height, width, tile, card.context or 0, card.alignment, target.origin)
        size = (2 if len(card.labels) <= 254 else 3) * height * width
    else:
        tile = options.tile or card.input_size
        tiling = Tiling(height, width, tile, options.stride or tile)
        cells = tiling.cell_shape[0] * tiling.cell_shape[1]
        size = 4 * len(card.labels) * (cells + tiling.count) + ROW_BYTES * tiling.count
    _check_size(tiling, size, options.max_output)
    mask = choose_mask(
        scene, target.grid, mask=options.mask, values=options.mask_values, clouds=options.clouds
    )
    return SceneLayout(target, tiling, mask)


def _check_size(tiling: Tiling | Blocks, size: int, limit: int) -> None:
    """Refuse results that are too large, from the header alone."""
    if size > limit:
        cure = 'a larger --stride' if isinstance(tiling, Tiling) else 'a coarser --resolution'
        raise OutputError(
            f'a grid of {tiling.width} x {tiling.height} pixels gives {tiling.count:,} tiles and about '
            f'{_in_units(size)} of results, more than --max-output {_in_units(limit)}: '
            f'raise it, or use {cure} or a --bbox'
        )


def _in_units(size: int) -> str:
    """Format a number of bytes for people."""
    for unit, bytes_ in (('GiB', 2**30), ('MiB', 2**20), ('KiB', 2**10)):
        if size >= bytes_:
            return f'{size / bytes_:,.1f} {unit}'
    return f'{size} bytes'


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

LARGER = {'cpu': (1, 1, 1), 'cuda': (2, 32, 4)}
"""How many times these three are for each kind of device: a GPU wants batches that are full."""


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


def plan_chunks(
    tiling: Tiling | Blocks, *, bytes_per_pixel: int, dense: bool = False, device: str = 'cpu'
) -> tuple[int, int]:
    """Choose how many rows and columns of tiles make a chunk.

    Chunks are `CHUNK_PIXELS` square, about, and smaller where tiles overlap so much that they would hold more
    than `CHUNK_WORK`. On very wide grids they are lower and wider, so that one row of chunks over the whole
    width stays within `STRIP_BYTES` and source blocks at the seams are still cached when the next row needs
    them.

    Args:
        tiling: the tiles.
        bytes_per_pixel: what one pixel of the grid takes in the source, all bands together.
        dense: whether overlaps cost nothing, so that only the pixels count.
        device: kind of device that computes, 'cpu' or 'cuda'.
    """
    y, x, larger = tiling.y, tiling.x, LARGER[device]
    side, strip = CHUNK_PIXELS * larger[0], STRIP_BYTES * larger[2] // max(1, bytes_per_pixel * tiling.width)
    fits = 1 + max(0, min(side, strip) - y.tile) // y.stride
    most = CHUNK_TILES if dense else max(1, min(CHUNK_TILES, CHUNK_WORK * larger[1] // (y.tile * x.tile)))
    rows = min(fits, tiling.shape[0], isqrt(most))
    height = (rows - 1) * y.stride + y.tile
    width = max(side, side**2 // height)
    cols = 1 + max(0, width - x.tile) // x.stride
    return rows, min(cols, tiling.shape[1], most // rows)


def _inside(span: slice, size: int) -> slice:
    return slice(max(span.start, 0), min(span.stop, size))

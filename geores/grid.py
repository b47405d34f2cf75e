"""Target grids, and the tiles or blocks of pixels that cover them: immutable value objects.

A target grid is an `odc.geo.geobox.GeoBox`: CRS, transform and shape. Tiles are counted along each
axis on its own, so that everything here is arithmetic on one axis; a `Tiling` or `Blocks` pairs two of them.
`Tiling` is for networks that answer once per tile, `Blocks` for those that answer for every pixel.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geores.errors import UsageError

__all__ = ['Axis', 'BlockAxis', 'Blocks', 'Tiling']


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of a grid.

    Tile ``i`` starts at pixel ``i * stride``; the last is shifted back to end with the grid, so that
    every pixel is covered. Cells of ``stride`` pixels start at pixel 0, the last one may be shorter.

    Attributes:
        size: pixels along the axis.
        tile: pixels a tile spans; where ``size`` is smaller, the one tile reaches past the grid.
        stride: pixels from one tile's start to the next, at most ``tile``.
    """

    size: int
    tile: int
    stride: int

    def __post_init__(self) -> None:
        """Refuse what would leave pixels uncovered."""
        if self.size < 1:
            raise UsageError(f'a grid needs at least one pixel along each axis, not {self.size}')
        if self.tile < 1:
            raise UsageError(f'tile must be at least 1 pixel, not {self.tile}')
        if not 1 <= self.stride <= self.tile:
            raise UsageError(
                f'stride must lie between 1 and the tile size {self.tile}, not {self.stride}: '
                'a larger stride would leave pixels uncovered'
            )

    @property
    def count(self) -> int:
        """Number of tiles."""
        return 1 + max(0, -(-(self.size - self.tile) // self.stride))

    @property
    def cell_count(self) -> int:
        """Number of cells."""
        return -(-self.size // self.stride)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First pixel of each tile, (count,)."""
        return np.minimum(np.arange(self.count) * self.stride, max(self.size - self.tile, 0))

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """One past the last pixel of each tile, past the grid where it is smaller than a tile, (count,)."""
        return self.starts + self.tile

    @cached_property
    def stops(self) -> NDArray[np.int64]:
        """One past the last pixel of each tile inside the grid, (count,)."""
        return np.minimum(self.ends, self.size)

    @property
    def deciding(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Spans whose valid pixels decide whether a tile is computed: all of the tile inside the grid."""
        return self.starts, self.stops

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Ownership: tile ``i`` owns pixels ``edges[i]`` to ``edges[i + 1]``, (count + 1,).

        Neighbours share their overlap half and half, so that owned spans partition the axis.
        """
        middles = (self.starts[1:] + self.stops[:-1]) // 2
        return np.concatenate(([0], middles, [self.size]))

    @cached_property
    def cell_edges(self) -> NDArray[np.int64]:
        """Cell ``j`` spans pixels ``cell_edges[j]`` to ``cell_edges[j + 1]``, (cell_count + 1,)."""
        return np.minimum(np.arange(self.cell_count + 1) * self.stride, self.size)

    def touching(self, start: int, stop: int) -> slice:
        """Find the tiles that hold at least one of the pixels ``start`` to ``stop``."""
        first = int(np.searchsorted(self.stops, start, side='right'))
        last = int(np.searchsorted(self.starts, stop, side='left'))
        return slice(first, last)

    def overlap(self, tiles: slice, cells: slice) -> NDArray[np.float64]:
        """Count the pixels that each of ``tiles`` shares with each of ``cells``, (tiles, cells)."""
        low = np.maximum(self.starts[tiles, None], self.cell_edges[:-1][None, cells])
        high = np.minimum(self.stops[tiles, None], self.cell_edges[1:][None, cells])
        pixels: NDArray[np.float64] = np.maximum(high - low, 0).astype(np.float64)
        return pixels


@dataclass(frozen=True)
class Tiling:
    """Square tiles over a grid of ``height`` x ``width`` pixels, in row-major order."""

    height: int
    width: int
    tile: int
    stride: int

    def __post_init__(self) -> None:
        """Check both axes at once."""
        _ = self.y, self.x

    @cached_property
    def y(self) -> Axis:
        """The tile rows."""
        return Axis(self.height, self.tile, self.stride)

    @cached_property
    def x(self) -> Axis:
        """The tile columns."""
        return Axis(self.width, self.tile, self.stride)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return self.y.count, self.x.count

    @property
    def cell_shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.y.cell_count, self.x.cell_count

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.y.count * self.x.count

    @property
    def padded(self) -> bool:
        """Whether the grid is smaller than a tile along an axis."""
        return self.height < self.tile or self.width < self.tile


@dataclass(frozen=True)
class BlockAxis:
    """Blocks of pixels along one axis of a grid, each seen with a margin around it.

    Block ``i`` starts at pixel ``i * block - phase``, and blocks partition the axis. A tile is a block and
    the margin on both sides of it, so that it reaches past the grid at both ends, where pixels are reflected.

    Attributes:
        size: pixels along the axis.
        block: pixels that a block spans; the first and the last may be shorter.
        margin: pixels on both sides.
        phase: pixels of the first block that lie before the axis.
    """

    size: int
    block: int
    margin: int
    phase: int = 0

    def __post_init__(self) -> None:
        """Refuse what would leave pixels uncovered."""
        if self.size < 1:
            raise UsageError(f'a grid needs at least one pixel along each axis, not {self.size}')
        if self.block < 1 or self.margin < 0:
            raise UsageError(
                f'a tile needs at least one pixel between its margins of {self.margin}, not {self.block}'
            )

    @property
    def tile(self) -> int:
        """Pixels that a tile spans."""
        return self.block + 2 * self.margin

    @property
    def stride(self) -> int:
        """Pixels from one tile to the next."""
        return self.block

    @property
    def count(self) -> int:
        """Number of blocks."""
        return -(-(self.size + self.phase) // self.block)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First pixel of each tile, before the grid for the first, (count,)."""
        return np.arange(self.count) * self.block - self.phase - self.margin

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """One past the last pixel of each tile, past the grid for the last, (count,)."""
        return self.starts + self.tile

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Block ``i`` spans pixels ``edges[i]`` to ``edges[i + 1]``, (count + 1,)."""
        return np.clip(np.arange(self.count + 1) * self.block - self.phase, 0, self.size)

    @property
    def deciding(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Spans whose valid pixels decide whether a tile is computed: the block alone."""
        return self.edges[:-1], self.edges[1:]


@dataclass(frozen=True)
class Blocks:
    """Blocks of pixels over a grid, each of which a network labels at once, in row-major order.

    Attributes:
        height: pixels of the grid.
        width: pixels of the grid.
        tile: most pixels along each side of what the network sees at once.
        margin: pixels around a block that its labels depend on.
        alignment: blocks start at multiples of it, and tiles are multiples of it long.
        origin: row and column from which multiples are counted, before the grid.
    """

    height: int
    width: int
    tile: int
    margin: int
    alignment: int = 1
    origin: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        """Check both axes at once."""
        _ = self.y, self.x

    @cached_property
    def y(self) -> BlockAxis:
        """The rows of blocks."""
        return self._axis(self.height, self.origin[0] % self.alignment)

    @cached_property
    def x(self) -> BlockAxis:
        """The columns of blocks."""
        return self._axis(self.width, self.origin[1] % self.alignment)

    def _axis(self, size: int, phase: int) -> BlockAxis:
        """Cut an axis into blocks of about one length, so that the last is not mostly padding."""
        step = self.alignment
        margin = -(-self.margin // step) * step
        most = (self.tile - 2 * margin) // step * step
        if most < step:
            raise UsageError(
                f'tile must be at least {2 * margin + step} pixels, not {self.tile}: labels depend on '
                f'{self.margin} pixels around'
            )
        count = -(-(size + phase) // most)
        block = -(-(size + phase) // (count * step)) * step
        return BlockAxis(size, block, margin, phase)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return self.y.count, self.x.count

    @property
    def count(self) -> int:
        """Number of blocks."""
        return self.y.count * self.x.count

    @property
    def padded(self) -> bool:
        """Whether the grid is smaller than the margin, so that reflections are reflected."""
        return min(self.height, self.width) <= self.margin

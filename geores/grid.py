"""Target grids and the tiles that cover them: immutable value objects.

A target grid is an `odc.geo.geobox.GeoBox`: CRS, transform and shape. Tiles are counted along each
axis on its own, so that everything here is arithmetic on one `Axis`; a `Tiling` pairs two of them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geores.errors import UsageError

__all__ = ['Axis', 'Tiling']


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
    def stops(self) -> NDArray[np.int64]:
        """One past the last pixel of each tile inside the grid, (count,)."""
        return np.minimum(self.starts + self.tile, self.size)

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
        """Tiles that hold at least one of the pixels ``start`` to ``stop``."""
        first = int(np.searchsorted(self.stops, start, side='right'))
        last = int(np.searchsorted(self.starts, stop, side='left'))
        return slice(first, last)

    def overlap(self, tiles: slice, cells: slice) -> NDArray[np.float64]:
        """Pixels that each of ``tiles`` shares with each of ``cells``, (tiles, cells)."""
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

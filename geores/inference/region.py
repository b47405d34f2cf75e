"""The pixels of a chunk, and its tiles: which of them are valid, where they lie, and what they are made of.

One set of rules for pixels in the memory of the host and for those that were sent to a device
(`geores.inference.on_device`): only what holds them differs (`Pixels`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geores.grid import Tiling
from geores.inference.layer import StoredWindow
from geores.inference.plan import AnyPlan, Chunk
from geores.scenes.borders import mirrored_places

__all__ = [
    'HostPixels',
    'Pixels',
    'Placement',
    'Reader',
    'Region',
    'StoredReader',
    'cut_tiles',
    'places_of',
    'read_region',
    'valid_tiles',
]


class Pixels(Protocol):
    """The pixels of a region: on the host (`HostPixels`), or sent to devices (`geores.inference.on_device`).

    Attributes:
        values: (bands, h, w), float32, in the model's units.
    """

    @property
    def values(self) -> NDArray[np.float32]: ...  # noqa: D102

    def cut(
        self, places: NDArray[np.int64], shape: tuple[int, int], mirrors: Mapping[int, NDArray[np.int64]]
    ) -> Any:  # noqa: ANN401 - an array, or what a step of geores takes instead
        """Cut tiles out.

        Args:
            places: top and left of each tile, (n, 2).
            shape: height and width of the tiles.
            mirrors: of tiles with pixels not their own, by position: which pixel of the tile, counted
                row by row, each of them takes its value from, (height, width).
        """

    def look(
        self, bands: Sequence[int], rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Pick pixels where some rows and columns cross, (bands, rows, columns)."""


@dataclass(frozen=True)
class HostPixels:
    """Pixels that lie in the memory of the host.

    Attributes:
        values: (bands, h, w), in the model's units.
    """

    values: NDArray[np.float32]

    def cut(
        self, places: NDArray[np.int64], shape: tuple[int, int], mirrors: Mapping[int, NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Cut tiles out, (n, bands, height, width): see `Pixels.cut`."""
        (height, width), bands = shape, len(self.values)
        images = np.empty((len(places), bands, height, width), np.float32)
        for image, (top, left) in zip(images, places.tolist(), strict=True):
            image[:] = self.values[:, top : top + height, left : left + width]
        for position, mirror in mirrors.items():
            images[position] = images[position].reshape(bands, -1)[:, mirror]
        return images

    def look(
        self, bands: Sequence[int], rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Pick pixels where some rows and columns cross, (bands, rows, columns)."""
        return np.stack([self.values[band][np.ix_(rows, cols)] for band in bands])


class Placement(Protocol):
    """What sends the pixels of regions to where they are computed."""

    def __call__(
        self, window: StoredWindow, fill: Sequence[float], past: Sequence[tuple[int, int]]
    ) -> Pixels:
        """Send a window as it is stored.

        Args:
            window: the pixels, which belong to the placement from now on.
            fill: value of invalid pixels in each band.
            past: rows and columns past the grid to reflect the window into, before and after it.
        """


@runtime_checkable
class StoredReader(Protocol):
    """A reader that gives windows as they are stored, too; `geores.inference.GridReader` is one."""

    def read_stored(self, rows: slice, cols: slice) -> StoredWindow:
        """Read one window as it is stored."""


class Reader(Protocol):
    """Anything that reads windows of the target grid; `geores.inference.GridReader` is one."""

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read values (bands, h, w) and validity (h, w)."""


@dataclass(frozen=True)
class Region:
    """A chunk that has been read.

    Attributes:
        chunk: the chunk.
        top: first row of pixels, on the grid; below 0 where the first tiles reach past it.
        left: first column of pixels, on the grid; below 0 likewise.
        pixels: its (bands, h, w) pixels.
        valid: (h, w).
    """

    chunk: Chunk
    top: int
    left: int
    pixels: Pixels
    valid: NDArray[np.bool_]

    @property
    def values(self) -> NDArray[np.float32]:
        """The pixels, (bands, h, w); copied back where they were sent to a device."""
        return self.pixels.values

    def count(self, row_spans: tuple[Any, Any], col_spans: tuple[Any, Any]) -> NDArray[np.int64]:
        """Count valid pixels in rectangles: spans of rows by spans of columns, in pixels of the grid."""
        low, high = (np.asarray(span)[:, None] - self.top for span in row_spans)
        left, right = (np.asarray(span)[None] - self.left for span in col_spans)
        if self.is_whole:
            return np.asarray((high - low) * (right - left), np.int64)
        # A summed-area table: each rectangle costs four look-ups, however large it is.
        total = self._totals
        counts = total[high, right] - total[low, right] - total[high, left] + total[low, left]
        return np.asarray(counts, np.int64)

    @cached_property
    def is_whole(self) -> bool:
        """Whether all of its pixels are valid and on the grid."""
        return bool(self.valid.all())

    @cached_property
    def _totals(self) -> NDArray[np.int64]:
        """Valid pixels above and left of each corner."""
        total = np.zeros((self.valid.shape[0] + 1, self.valid.shape[1] + 1), np.int64)
        total[1:, 1:] = self.valid.cumsum(0, dtype=np.int64).cumsum(1)
        return total


def read_region(
    plan: AnyPlan,
    reader: Reader,
    chunk: Chunk,
    fill: Sequence[float] | None,
    placement: Placement | None = None,
) -> Region:
    """Read a chunk's pixels; invalid ones get ``fill``, and what lies past the grid is reflected."""
    reach, window = plan.reach(chunk.rows, chunk.cols), plan.window(chunk.rows, chunk.cols)
    missing = [
        (have.start - want.start, want.stop - have.stop) for want, have in zip(reach, window, strict=True)
    ]
    pixels: Pixels
    if placement is None:
        values, valid = reader.read(*window)
        if not valid.all():
            for band, value in zip(values, fill or [0.0] * len(values), strict=True):
                band[~valid] = value
        if any(map(any, missing)):
            values = np.pad(values, ((0, 0), *missing), mode='reflect')
        pixels = HostPixels(values)
    else:
        stored = (
            reader.read_stored(*window)
            if isinstance(reader, StoredReader)
            else StoredWindow.of(*reader.read(*window))
        )
        valid = stored.valid
        pixels = placement(stored, fill or [0.0] * len(stored.transforms), missing)
    if any(map(any, missing)):
        valid = np.pad(valid, missing)
    return Region(chunk, reach[0].start, reach[1].start, pixels, valid)


def valid_tiles(plan: AnyPlan, region: Region) -> NDArray[np.int64]:
    """Row and column of the chunk's tiles with enough valid pixels, and at least one, (n, 2)."""
    rows, cols = region.chunk.rows, region.chunk.cols
    (top, bottom), (left, right) = (
        tuple(edge[part] for edge in axis.deciding)
        for axis, part in ((plan.tiling.y, rows), (plan.tiling.x, cols))
    )
    count = region.count((top, bottom), (left, right))
    enough = (count > 0) & (count >= plan.min_valid * np.outer(bottom - top, right - left))
    tiles: NDArray[np.int64] = np.argwhere(enough) + np.array([rows.start, cols.start])
    return tiles


def places_of(plan: AnyPlan, region: Region, tiles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Top and left in a region of some tiles, given by row and column, (n, 2)."""
    row, col = tiles.T
    tops, lefts = plan.tiling.y.starts[row] - region.top, plan.tiling.x.starts[col] - region.left
    return np.stack([tops, lefts], axis=1).astype(np.int64)


def cut_tiles(plan: AnyPlan, region: Region, tiles: NDArray[np.int64]) -> Any:  # noqa: ANN401 - as `Pixels.cut`
    """Cut tiles, given by row and column, (n, 2), out of a region: (n, bands, tile height, tile width).

    Invalid pixels are mirrored inside their tile, so that a tile does not depend on its chunk. Where pixels
    are classified they keep the value that they have, so that a pixel does not depend on its tile.
    """
    shape, mirrors = (plan.tiling.y.tile, plan.tiling.x.tile), {}
    places = places_of(plan, region, tiles)
    if isinstance(plan.tiling, Tiling) and not region.is_whole:
        for position, (top, left) in enumerate(places.tolist()):
            mirror = _mirror_inside(plan, region, top, left)
            if mirror is not None:
                mirrors[position] = mirror
    return region.pixels.cut(places, shape, mirrors)


def _mirror_inside(plan: AnyPlan, region: Region, top: int, left: int) -> NDArray[np.int64] | None:
    """Mirror invalid pixels of a tile on the grid, and then the tile past the grid: see `Pixels.cut`."""
    size, sides = (plan.tiling.height, plan.tiling.width), (plan.tiling.y.tile, plan.tiling.x.tile)
    spans = [
        slice(max(0, -start), min(side, end - start))
        for start, side, end in zip((region.top + top, region.left + left), sides, size, strict=True)
    ]
    valid = region.valid[top : top + sides[0], left : left + sides[1]][*spans]
    if valid.all():
        return None
    rows, cols = mirrored_places(valid)
    inside = (rows + spans[0].start) * sides[1] + cols + spans[1].start
    past = [(span.start, side - span.stop) for span, side in zip(spans, sides, strict=True)]
    return np.pad(inside, past, mode='reflect')

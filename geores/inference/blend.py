"""Per-pixel outputs of overlapping tiles, blended without seams."""

import numpy as np
from numpy.typing import NDArray

from geores.inference.engine import Region
from geores.inference.plan import Plan
from geores.inference.store import Arrays

__all__ = ['RasterSink', 'blend_weights']


class RasterSink:
    """Keeps per-pixel outputs of overlapping tiles, blended, with invalid pixels NaN.

    Keeps ``raster`` (K, h, w) float32 of the pixels that each chunk owns. Every tile that touches them
    takes part, in the same order whatever the chunks, so that there is no seam between chunks.

    Args:
        size: K, the number of maps.
        name: the step's array to keep, (N, K, tile, tile).
    """

    halo = True

    def __init__(self, size: int, name: str = 'raster') -> None:
        self.size = size
        self.name = name

    def reduce(self, plan: Plan, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> Arrays:
        """Blended maps of the chunk's own pixels."""
        side = plan.tiling.tile
        window = blend_weights(side)
        total = np.zeros((self.size, *region.valid.shape), np.float32)
        weight = np.zeros(region.valid.shape, np.float32)
        for (row, col), maps in zip(tiles, outputs.get(self.name, ()), strict=True):
            top = int(plan.tiling.y.starts[row]) - region.top
            left = int(plan.tiling.x.starts[col]) - region.left
            place = np.s_[top : top + side, left : left + side]
            total[:, *place] += maps * window
            weight[place] += window
        seen = region.valid & (weight > 0)
        blended = np.full_like(total, np.nan)
        np.divide(total, weight, out=blended, where=seen)
        rows, cols = plan.owned(region.chunk)
        top, left = region.top, region.left
        return {
            'raster': blended[:, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
        }


def blend_weights(tile: int) -> NDArray[np.float32]:
    """Weights of a tile's pixels in a blend, (tile, tile): a Hann window that is never 0.

    Sampled at pixel centres and kept above 1/100, so that the outermost ring of a scene, which one
    tile alone covers, keeps its values.
    """
    wave = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    ramp = np.maximum(wave, 0.01)
    return np.outer(ramp, ramp).astype(np.float32)

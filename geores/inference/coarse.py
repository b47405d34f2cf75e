"""Coarse grids over a target grid, for looks at a whole scene."""

from affine import Affine
from odc.geo.geobox import GeoBox

__all__ = ['coarser', 'coarser_by']


def coarser(grid: GeoBox, side: int) -> GeoBox:
    """A grid of whole steps of another's pixels, at most ``side`` of them along an axis."""
    return coarser_by(grid, -(-max(grid.shape.yx) // side))


def coarser_by(grid: GeoBox, step: int) -> GeoBox:
    """A grid of pixels ``step`` times as large as another's, which covers it whole.

    Args:
        grid: the other.
        step: at least 1.
    """
    rows, cols = (-(-size // step) for size in grid.shape.yx)
    return GeoBox((rows, cols), grid.affine @ Affine.scale(step), grid.crs)

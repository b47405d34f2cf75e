"""Which way a raster is brought onto a target grid."""

from collections.abc import Sequence

from odc.geo.geobox import GeoBox

from geores.inference.aligned import AlignedLayer, line_up
from geores.inference.blocks import BlockCache
from geores.inference.layer import Layer
from geores.inference.warped import WarpedLayer
from geores.scenes import Raster

__all__ = ['open_layer']


def open_layer(
    raster: Raster,
    indexes: Sequence[int],
    target: GeoBox,
    resampling: str,
    cache: BlockCache,
) -> Layer:
    """The layer that brings bands of a raster onto a target grid.

    Args:
        raster: the source.
        indexes: its bands, counted from 1.
        target: the grid to read on.
        resampling: ``nearest`` or ``bilinear`` where pixels grow; where they shrink they are averaged,
            except with ``nearest-always``, which is for classes such as masks.
        cache: where decoded blocks are kept.
    """
    zoom = line_up(raster.geobox, target)
    if zoom is None or (zoom[0] < 1 and resampling == 'nearest-always'):
        return WarpedLayer(raster, indexes, target, resampling, cache)
    return AlignedLayer(raster, indexes, resampling, cache, zoom)

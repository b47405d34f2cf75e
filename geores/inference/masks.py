"""Masks that make a scene's pixels invalid."""

from collections.abc import Sequence
from pathlib import Path

from odc.geo.geobox import GeoBox

from geores.errors import UsageError
from geores.inference.reader import Mask
from geores.scenes import open_scene

__all__ = ['CLOUDY', 'open_mask']

CLOUDY = (0, 1, 3, 8, 9, 10)
"""Classes of Sentinel-2's scene classification that say nothing of the ground: no data, saturated,
cloud shadow, cloud of medium and high probability, thin cirrus."""


def open_mask(path: str | Path, values: Sequence[int] | None, grid: GeoBox) -> Mask:
    """Open a mask raster.

    Args:
        path: a raster; a file named ``SCL`` is taken for Sentinel-2's scene classification, where the
            classes of `CLOUDY` mask. In any other, every number but 0 does.
        values: the classes that mask, instead.
        grid: what it will be laid over.

    Raises:
        SceneError: it is no raster.
        UsageError: it has more than one band, or does not lie over the grid.
    """
    scene = open_scene(path)
    if len(scene.bands) != 1:
        raise UsageError(f'mask {path} has {len(scene.bands)} bands: give a raster of one')
    (band,) = scene.bands.values()
    _check_place(path, band.raster.geobox, grid)
    if values is None and ('SCL' in Path(path).stem.upper().split('_') or band.name.upper() == 'SCL'):
        values = CLOUDY
    return Mask(band.raster, None if values is None else tuple(values))


def _check_place(path: str | Path, mask: GeoBox, grid: GeoBox) -> None:
    """Raise `UsageError` where a mask would mask nothing, or what nobody knows."""
    if (mask.crs is None) != (grid.crs is None):
        bare = f'mask {path}' if mask.crs is None else 'the scene'
        raise UsageError(f'{bare} has no CRS, so mask {path} cannot be laid over the scene: state its CRS')
    extent = grid.extent if mask.crs is None else grid.extent.to_crs(mask.crs)
    if not extent.intersects(mask.extent):
        raise UsageError(f'mask {path} does not overlap the scene')

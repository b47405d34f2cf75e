"""A scene in plain data, for printing and for JSON."""

import math
from typing import Any

from geores.scenes.raster import FileRaster
from geores.scenes.scene import Band, Scene

__all__ = ['describe']


def describe(scene: Scene) -> dict[str, Any]:
    """Describe a scene by what its headers say; nothing is read.

    Returns:
        JSON-able: `name`, `sensor`, `processing_level`, `units`, `date`, `crs`, `size` (columns and
        rows), `gsd` (m), `bounds` (in the CRS: left, bottom, right, top), `mask` (kind and path of the one
        that the scene brings), `bands` (a dict for each,
        with the resolution in units of its CRS) and `notes`.
    """
    rows, cols = scene.shape
    box = scene.geobox.boundingbox
    return {
        'name': scene.name,
        'sensor': scene.sensor,
        'processing_level': scene.processing_level,
        'units': scene.units,
        'date': scene.date,
        'crs': None if scene.crs is None else str(scene.crs),
        'size': [cols, rows],
        'gsd': scene.gsd,
        'bounds': None if scene.crs is None else [box.left, box.bottom, box.right, box.top],
        'lazy': scene.is_lazy,
        'mask': None if scene.mask is None else [scene.mask.kind, scene.mask.path],
        'bands': [_describe_band(band) for band in scene.bands.values()],
        'notes': list(scene.notes),
    }


def _describe_band(band: Band) -> dict[str, Any]:
    raster = band.raster
    header = raster.header if isinstance(raster, FileRaster) else None
    nodata = raster.nodata
    affine = raster.geobox.affine
    return {
        'name': band.name,
        'resolution': [math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)],
        'dtype': str(raster.dtype),
        'shape': list(raster.geobox.shape),
        # JSON has no NaN.
        'nodata': nodata if nodata is None or math.isfinite(nodata) else str(nodata),
        'scale': band.scale,
        'offset': band.offset,
        'units': band.units,
        'driver': header.driver if header else None,
        'compression': header.compression if header else None,
        'blocks': list(raster.block_shape),
        'path': raster.path,
        'index': band.index,
    }

"""Geometries of vector files brought to the CRS of a grid."""

import geopandas as gpd
import numpy as np
from pyproj import CRS, Transformer

__all__ = ['reproject_near']

STEPS = 256


def reproject_near(
    geometries: gpd.GeoSeries, crs: CRS, bounds: tuple[float, float, float, float]
) -> gpd.GeoSeries:
    """Those of some geometries that lie about a place, in its CRS, valid there too.

    Edges get vertices first, for what is straight in one CRS bends in another; and what lies further from the
    place than its own size is cut off, for it may be nowhere in the other CRS.

    Args:
        geometries: valid, with a CRS; their index stays theirs.
        crs: of the place.
        bounds: of the place, in its CRS: left, bottom, right, top.
    """
    if CRS(geometries.crs) == crs:
        return geometries
    back = Transformer.from_crs(crs, geometries.crs, always_xy=True)
    west, south, east, north = back.transform_bounds(*bounds)
    span = max(east - west, north - south)
    if np.isfinite(span) and west < east:  # no pole and no antimeridian in it
        geometries = geometries.clip_by_rect(west - span, south - span, east + span, north + span)
        geometries = geometries[~geometries.is_empty].segmentize(span / STEPS)
    return geometries.to_crs(crs).make_valid()

"""Regions that the user draws: which polygon a place lies in."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError
from geores.splits.ground import Lonlat

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ['regions_of']


def regions_of(places: Lonlat, polygons: 'GeoDataFrame', column: str | None = None) -> NDArray[np.object_]:
    """Name of the region that each place lies in.

    Args:
        places: (N, 2) longitudes and latitudes.
        polygons: with a CRS; a place in several belongs to the first.
        column: holds names, and polygons of one name are one region; each is its own where not given.

    Returns:
        (N,) of str; '' outside all.

    Raises:
        DatasetError: the polygons have no CRS or no such column, there are none, or no place is inside.
    """
    import geopandas as gpd

    if polygons.crs is None:
        raise DatasetError('the regions state no CRS: set it in the file')
    if column is not None and column not in polygons.columns:
        raise DatasetError(f'the regions have no column {column!r}; they have {", ".join(polygons.columns)}')
    shapes = polygons.geometry
    usable = (
        ~(shapes.isna() | shapes.is_empty) & shapes.geom_type.isin(['Polygon', 'MultiPolygon'])
    ).to_numpy()
    if not usable.any():
        raise DatasetError('the regions hold no polygons')
    points = gpd.GeoSeries(gpd.points_from_xy(*places.T), crs=4326).to_crs(polygons.crs)
    kept = np.flatnonzero(usable)
    rows, found = shapes.iloc[kept].sindex.query(points, predicate='intersects')
    names = [str(one) for one in (kept if column is None else polygons[column].iloc[kept])]
    regions = np.full(len(places), '', object)
    for row, one in sorted(zip(rows.tolist(), found.tolist(), strict=True), reverse=True):
        regions[row] = names[one]
    if not len(rows):
        raise DatasetError('no row lies in any of the regions: are they of the same place?')
    return regions

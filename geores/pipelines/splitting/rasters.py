"""A folder of georeferenced rasters as a table of outlines."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from geores.errors import DatasetError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ['RASTERS', 'raster_files', 'read_rasters']

RASTERS = {'.tif', '.tiff', '.jp2', '.png', '.jpg', '.jpeg'}


def raster_files(folder: Path) -> list[Path]:
    """Rasters in a folder and those below it, sorted.

    Args:
        folder: to look in.
    """
    return sorted(path for path in folder.rglob('*') if path.suffix.lower() in RASTERS and path.is_file())


def read_rasters(folder: Path) -> 'GeoDataFrame':
    """Outline of each raster: columns id (path in the folder without its ending), path and geometry.

    Only headers are read.

    Args:
        folder: of the rasters; those in folders below count too.

    Raises:
        DatasetError: there are none, one cannot be read, or one has no CRS.
    """
    import geopandas as gpd

    files = raster_files(folder)
    if not files:
        raise DatasetError(f'{folder} holds no rasters ({", ".join(sorted(RASTERS))})')
    names = [str(path.relative_to(folder).with_suffix('')) for path in files]
    if len(set(names)) != len(names):
        names = [str(path.relative_to(folder)) for path in files]
    outlines = [_outline(path) for path in files]
    table = {'id': names, 'path': [str(path.relative_to(folder)) for path in files]}
    return gpd.GeoDataFrame(table, geometry=outlines, crs=4326)


def _outline(path: Path) -> shapely.Polygon:
    """Corners in longitude and latitude, east of the antimeridian counted beyond 180 where it is crossed."""
    import rasterio
    from pyproj import Transformer
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    from geores.scenes import gdal_env

    try:
        with warnings.catch_warnings(), gdal_env():
            warnings.simplefilter('ignore', NotGeoreferencedWarning)  # refused below, with its name
            with rasterio.open(path) as file:
                crs, transform, width, height = file.crs, file.transform, file.width, file.height
    except RasterioError as error:
        raise DatasetError(f'{path} cannot be read: {" ".join(str(error).split())}') from error
    if crs is None or transform.is_identity:
        raise DatasetError(f'{path} has no CRS or no place on the ground: leave it out or georeference it')
    corners = np.array([transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))])
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(*corners.T)
    if np.ptp(lon) > 180:
        lon = np.where(np.asarray(lon) < 0, np.asarray(lon) + 360, lon)
    return shapely.Polygon(np.stack([lon, lat], axis=1))

"""Read georeferenced rows to split or audit, and group their images that are near duplicates.

Rows come from vector files, tables, reBEN metadata and folders of rasters.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from geores.errors import DatasetError, ReadError, SceneError
from geores.io.tables import read_text_table, visible_files
from geores.splits.buffer import Lonlat, local_crs, lonlat, near_duplicates
from geores.splits.files import id_column, is_patch_id

if TYPE_CHECKING:
    import pandas as pd
    from geopandas import GeoDataFrame

__all__ = [
    'RASTERS',
    'Source',
    'footprints_of',
    'group_images',
    'raster_files',
    'read_rasters',
    'read_source',
]

RASTERS = {'.tif', '.tiff', '.jp2', '.png', '.jpg', '.jpeg'}

_LONGITUDES = ('lon', 'longitude', 'long', 'lng')
_LATITUDES = ('lat', 'latitude')


def raster_files(folder: Path) -> list[Path]:
    """List the rasters in a folder and its subfolders, sorted."""
    found = visible_files(folder, '**/*')
    return [path for path in found if path.suffix.lower() in RASTERS and path.is_file()]


def read_rasters(folder: Path) -> 'GeoDataFrame':
    """Read the outline of each raster in a folder, from the headers alone.

    Columns are id (relative path without extension), path and geometry.

    Raises:
        DatasetError: if there are none, one cannot be read, or one has no CRS.
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
    """Outline in longitude and latitude; across the antimeridian, longitudes go beyond 180."""
    from pyproj import Transformer

    from geores.scenes.gdal import gdal_env, open_raster

    try:
        with gdal_env(), open_raster(path) as file:
            crs, transform, width, height = file.crs, file.transform, file.width, file.height
    except SceneError as error:
        raise DatasetError(f'{path} cannot be read: {error}') from error
    if crs is None or transform.is_identity:
        raise DatasetError(f'{path} has no CRS or no place on the ground: leave it out or georeference it')
    corners = np.array([transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))])
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(*corners.T)
    if np.ptp(lon) > 180:
        lon = np.where(np.asarray(lon) < 0, np.asarray(lon) + 360, lon)
    return shapely.Polygon(np.stack([lon, lat], axis=1))


@dataclass(frozen=True)
class Source:
    """Rows of a table with their positions.

    Attributes:
        name: name of the source, for messages.
        frame: the rows as read; a GeoDataFrame if they have geometries.
        places: (N, 2) longitudes and latitudes of the row centres.
        ids: unique ids of the rows; None if no column holds any.
        id_column: name of the id column.
        squares: (N, 5) EPSG code and bounds of each reBEN patch; None for other data.
        notes: notes for the user.
        path: file or folder that was read; None for other sources.
    """

    name: str
    frame: 'pd.DataFrame'
    places: Lonlat
    ids: list[str] | None
    id_column: str | None
    squares: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    path: Path | None = None

    def column(self, name: str, option: str) -> list[Any]:
        """Get the values of a column.

        Raises:
            DatasetError: if there is no such column.
        """
        geometry = getattr(self.frame, '_geometry_column_name', None)
        if name not in self.frame.columns or name == geometry:
            there = ', '.join(str(one) for one in self.frame.columns if one != geometry)
            raise DatasetError(f'{self.name} has no column {name!r} for {option}; it has {there}')
        return _lists(list(self.frame[name].to_numpy(object)))


def _lists(values: list[Any]) -> list[Any]:
    """Parse lists that a table holds as JSON text, such as '["Pastures", "Mixed forest"]'."""
    texts = [one for one in values if isinstance(one, str)]
    if not texts or not all(one.startswith('[') and one.endswith(']') for one in texts):
        return values
    try:
        return [json.loads(one) if isinstance(one, str) else one for one in values]
    except ValueError:
        return values


def read_source(path: str | Path, layer: str | None = None, id_name: str | None = None) -> Source:
    """Read rows with their positions from any supported format.

    Args:
        path: GeoParquet, GeoPackage, GeoJSON, Shapefile, CSV or Parquet with columns of longitude and
            latitude (such as lon and lat), metadata of reBEN, or a folder of georeferenced rasters.
        layer: layer to read, for a file with several.
        id_name: column of ids; the first of id, patch_id, name and such that has no repeats otherwise.

    Raises:
        DatasetError: if it cannot be read, holds no rows, or a row has no position.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f'{path}: no such file or folder')
    frame = read_rasters(path) if path.is_dir() else _read_table(path, layer)
    if not len(frame):
        raise DatasetError(f'{path} holds no rows')
    if id_name is not None and (
        id_name not in frame.columns or not frame[id_name].is_unique or frame[id_name].isna().any()
    ):
        raise DatasetError(f'{path}: column {id_name!r} for --id is missing, or has gaps or repeats')
    column = id_name or id_column(frame)
    ids = None if column is None else frame[column].astype(str).tolist()
    found = Source(path.name, frame, np.empty((0, 2)), ids, column, path=path)
    try:
        return _placed(found)
    except DatasetError as error:
        raise DatasetError(f'{path}: {error}') from error


def _placed(source: Source) -> Source:
    import geopandas as gpd
    import pandas as pd

    frame = source.frame
    if isinstance(frame, gpd.GeoDataFrame) and frame.active_geometry_name is not None:
        return replace(source, places=lonlat(frame))
    if 'patch_id' in frame.columns and is_patch_id(frame['patch_id']):
        return _reben(source)
    columns = {str(one).lower(): one for one in frame.columns}
    x = next((columns[name] for name in _LONGITUDES if name in columns), None)
    y = next((columns[name] for name in _LATITUDES if name in columns), None)
    if x is None or y is None:
        there = ', '.join(str(one) for one in frame.columns)
        raise DatasetError(
            f'has no geometry, no patch_id of reBEN, and no columns lon and lat; it has {there}'
        )
    try:
        xy = frame[[x, y]].apply(pd.to_numeric).to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f'columns {x} and {y} have to be numbers, degrees: {error}') from error
    return replace(source, places=lonlat(xy))


def _reben(source: Source) -> Source:
    """Locate reBEN patches by their ids: the square in its UTM zone, then longitude and latitude."""
    from geores.bigearthnet.patch_id import patch_table

    table = patch_table(source.frame['patch_id'])
    squares = table[['epsg', 'left', 'bottom', 'right', 'top']].to_numpy(np.float64)
    middles = np.stack([squares[:, 1] + squares[:, 3], squares[:, 2] + squares[:, 4]], axis=1) / 2
    places = np.empty((len(table), 2))
    for epsg in np.unique(squares[:, 0]):
        rows = squares[:, 0] == epsg
        places[rows] = lonlat(middles[rows], int(epsg))
    return replace(source, places=places, squares=squares)


def _read_table(path: Path, layer: str | None) -> 'pd.DataFrame':
    from geores.scenes.vectors import read_vector

    try:
        if path.suffix.lower() in {'.csv', '.txt', '.tsv'}:
            return read_text_table(path, '\t' if path.suffix.lower() == '.tsv' else None)
        _check_layers(path, layer)
        return read_vector(path, layer=layer)
    except DatasetError:
        raise
    except Exception as error:  # whatever readers make of a file of another kind
        raise DatasetError(f'{path} cannot be read as a table: {error}') from error


def _check_layers(path: Path, layer: str | None) -> None:
    from geores.scenes.vectors import list_layers

    layers = [one.name for one in list_layers(path)]
    if layer is None and len(layers) > 1:
        raise DatasetError(f'{path} has several layers, name one by --layer: {", ".join(layers)}')
    if layer is not None and layer not in layers:
        raise DatasetError(f'{path} has no layer {layer!r}; it has {", ".join(layers)}')


def footprints_of(source: Source) -> NDArray[np.object_] | None:
    """Get the outlines of rows in an equal-area projection; None for point positions."""
    crs = local_crs(source.places)
    if source.squares is not None:
        return _squares(source.squares, crs)
    geometry = getattr(source.frame, 'geometry', None)
    if geometry is None or not geometry.geom_type.isin(['Polygon', 'MultiPolygon']).all():
        return None
    shapes: NDArray[np.object_] = shapely.make_valid(np.asarray(geometry.to_crs(crs).array, object))
    return shapes


def _squares(squares: NDArray[np.float64], crs: CRS) -> NDArray[np.object_]:
    corners = squares[:, [[1, 2], [3, 2], [3, 4], [1, 4]]]
    placed = np.empty_like(corners)
    for epsg in np.unique(squares[:, 0]):
        rows = squares[:, 0] == epsg
        change = Transformer.from_crs(int(epsg), crs, always_xy=True)
        placed[rows] = np.stack(change.transform(corners[rows, :, 0], corners[rows, :, 1]), axis=-1)
    shapes: NDArray[np.object_] = shapely.polygons(placed)
    return shapes


SIDE = 128
"""Largest side to which images are read, in pixels."""


def group_images(
    folder: Path, ids: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[int, int]:
    """Group the images of rows that are near duplicates.

    Args:
        folder: folder of the images, searched recursively; an image belongs to the id that is its path in the
            folder, with or without its ending, or its name.
        ids: ids of the rows.
        progress: called with the number of images just read and the total.

    Returns:
        Place of each row that has an image -> number of its group.

    Raises:
        DatasetError: if there is no such folder, or no image belongs to a row.
        ReadError: if an image cannot be read.
    """
    if not folder.is_dir():
        raise DatasetError(f'{folder}: no such folder of images')
    known: dict[str, Path] = {}
    for path in raster_files(folder):
        inside = path.relative_to(folder)
        for name in (path.stem, path.name, str(inside), str(inside.with_suffix(''))):
            known.setdefault(name, path)
    used = [row for row, one in enumerate(ids) if one in known]
    if not used:
        raise DatasetError(f'{folder}: no image is named after an id, such as {ids[0]!r}')
    groups = near_duplicates(_images([known[ids[row]] for row in used], progress))
    return dict(zip(used, groups.tolist(), strict=True))


def _images(paths: list[Path], progress: Callable[[int, int], None]) -> Iterator[NDArray[np.generic]]:
    from rasterio.errors import RasterioError

    from geores.scenes.gdal import gdal_env, open_raster

    for path in paths:
        try:
            with gdal_env(), open_raster(path) as file:
                height, width = (min(max(side, 32), SIDE) for side in file.shape)
                pixels = file.read(out_shape=(file.count, height, width))
        except (RasterioError, SceneError) as error:
            raise ReadError(f'{path} cannot be read: {error}') from error
        progress(1, len(paths))
        yield pixels

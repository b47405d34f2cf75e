"""Read OpenStreetMap objects from vector files: GeoPackage, GeoParquet, Shapefile, GeoJSON."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import Transformer
from pyproj.exceptions import ProjError

from geores.errors import ReadError, UsageError
from geores.osm.features import OSMObject
from geores.osm.mapping import TagMapping
from geores.scenes.vectors import list_layers, read_vector

__all__ = ['read_table']

Box = tuple[float, float, float, float]

WIDE = 30.0
"""Side of a box in degrees from which on it is too distorted by projections to filter by its bounds."""
IDS = ('osm_id', '@id', 'osm_way_id', 'full_id', 'osmid', 'id')
TAGS = ('tags', 'other_tags', 'all_tags')
TYPES = {'n': 'node', 'w': 'way', 'r': 'relation', 'node': 'node', 'way': 'way', 'relation': 'relation'}
_HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*"((?:[^"\\]|\\.)*)"')
_ID = re.compile(r'(?:(node|way|relation|[nwr])[/_ ]?)?(-?\d+)(?:\.0+)?')


def read_table(path: Path, box: Box, mapping: TagMapping) -> Iterator[OSMObject]:
    """Objects in all layers of a vector file that have a category.

    Categories come from columns `fclass` and `code` (as in Geofabrik's extracts), from columns named like
    keys of tags, or from a column `tags` or `other_tags` (a mapping, JSON or hstore).

    Args:
        path: file to read.
        box: west, south, east, north in degrees; only objects that meet it are read.
        mapping: mapping from tags to categories.

    Raises:
        UsageError: if the file has no CRS, or no column that says what the objects are.
        ReadError: if the file cannot be read.
    """
    frames = list(_frames(path, box))
    named = [frame for frame in frames if _telling(frame, mapping)]
    if not named:
        columns = sorted({str(name) for frame in frames for name in frame.columns} - {'geometry'})
        has, keys = ', '.join(columns) or 'none', ', '.join(mapping.keys)
        raise UsageError(
            f'{path} does not say what its objects are: a column fclass, code, tags or other_tags, or '
            f'columns named like tags ({keys}) are needed; it has {has}'
        )
    for frame in named:
        yield from _found(frame, mapping)


def _frames(path: Path, box: Box) -> Iterator[gpd.GeoDataFrame]:
    try:
        for layer in list_layers(path):
            if layer.has_geometry:
                frame = read_vector(path, layer=layer.name, bounds=_window(layer.crs, box))
                if isinstance(frame, gpd.GeoDataFrame):
                    yield _lonlat(frame, path, box)
    except UsageError:
        raise
    except Exception as error:
        raise ReadError(f'{path} cannot be read: {" ".join(str(error).split())}') from error


def _window(crs: str | None, box: Box) -> Box | None:
    """The box in the CRS of a layer; None if it cannot be projected, so that the whole layer is read."""
    if crs is None:
        return None
    try:
        edges = Transformer.from_crs('EPSG:4326', crs, always_xy=True).transform_bounds(*box)
    except ProjError:
        return None
    west, south, east, north = edges
    wide = box[2] - box[0] > WIDE or box[3] - box[1] > WIDE
    return None if wide or not np.isfinite(edges).all() else (west, south, east, north)


def _lonlat(frame: gpd.GeoDataFrame, path: Path, box: Box) -> gpd.GeoDataFrame:
    if frame.crs is None:
        raise UsageError(f'{path} has no CRS: state it in the file, else its objects have no place')
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty].to_crs('EPSG:4326')
    west, south, east, north = (frame.geometry.bounds[name] for name in ('minx', 'miny', 'maxx', 'maxy'))
    return frame[(west <= box[2]) & (east >= box[0]) & (south <= box[3]) & (north >= box[1])]


def _telling(frame: gpd.GeoDataFrame, mapping: TagMapping) -> list[str]:
    known = {'fclass', 'code', *TAGS, *mapping.keys}
    return [name for name in frame.columns if name in known]


def _found(frame: gpd.GeoDataFrame, mapping: TagMapping) -> Iterator[OSMObject]:
    keys = [name for name in frame.columns if name in mapping.keys]
    stores = [name for name in TAGS if name in frame.columns]
    id_columns = [name for name in IDS if name in frame.columns]
    geometry = frame.geometry.to_numpy()
    rows = frame.drop(columns=frame.geometry.name).to_dict('records')
    for number, (row, shape) in enumerate(zip(rows, geometry, strict=True)):
        kind = _kind(shape)
        if kind is None:
            continue
        tags = {key: str(row[key]) for key in keys if _there(row[key])}
        for store in stores:
            tags |= _row_tags(row[store])
        fclass, code = _cell_text(row.get('fclass')), _whole(row.get('code'))
        if fclass == 'building' and _there(row.get('type')) and 'building' not in tags:
            tags['building'] = str(row['type'])  # Geofabrik's layer of buildings
        categories = mapping.categories(kind, tags, fclass, code)
        if categories:
            yield OSMObject(_id(row, id_columns, number), kind, categories, shape)


def _kind(shape: shapely.Geometry) -> str | None:
    name = shape.geom_type
    return 'area' if name.endswith('Polygon') else 'line' if name.endswith('LineString') else None


def _id(row: dict[str, Any], columns: list[str], number: int) -> str:
    """Id of a row with its type if the file tells it, otherwise 'osm/', or 'row/' without an id."""
    for column in columns:
        match = _ID.fullmatch(str(row[column]).strip()) if _there(row[column]) else None
        if match is not None:
            stated = match[1] or str(row.get('osm_type') or row.get('element') or '').lower()
            kind = TYPES.get(stated, 'way' if column == 'osm_way_id' else 'osm')
            return f'{kind}/{match[2]}'
    return f'row/{number}'


def _row_tags(value: object) -> dict[str, str]:
    """Tags in a cell: a mapping, pairs, JSON, or hstore text."""
    if isinstance(value, dict):
        return {str(key): str(text) for key, text in value.items() if text is not None}
    if isinstance(value, str) and value.lstrip().startswith('{'):
        try:
            data = json.loads(value)
        except (ValueError, RecursionError):
            return {}
        return _row_tags(data)
    if isinstance(value, str):
        return {_plain(key): _plain(text) for key, text in _HSTORE.findall(value)}
    if value is not None and hasattr(value, '__iter__'):  # a map of Parquet comes as pairs
        return {str(pair[0]): str(pair[1]) for pair in value if len(pair) == 2}
    return {}


def _plain(text: str) -> str:
    return re.sub(r'\\(.)', r'\1', text)


def _there(value: Any) -> bool:  # noqa: ANN401 - whatever a column holds
    return value is not None and not (pd.api.types.is_scalar(value) and bool(pd.isna(value))) and value != ''


def _cell_text(value: object) -> str | None:
    return str(value) if _there(value) else None


def _whole(value: object) -> int | None:
    try:
        return int(float(str(value))) if _there(value) else None
    except (ValueError, OverflowError):
        return None

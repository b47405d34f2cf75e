"""The one door for vector files: which formats are opened, and by what.

GDAL picks a driver by a file's content, so that an `.geojson` may be a virtual file that names other files, a
web service or a command to run. Here the format is recognised from the first bytes, against a list, and what
is left to GDAL (GeoPackage, Shapefile, FlatGeobuf, file geodatabase) begins with bytes that no other driver
takes. GeoJSON is read without GDAL, which would follow a link that stands for its CRS.
"""

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
from pyproj import CRS
from shapely import get_coordinates
from shapely.geometry import shape

from geores.errors import DatasetError, SceneError
from geores.io.tables import check_cells
from geores.scenes.gdal import first_bytes

__all__ = ['VectorLayer', 'find_format', 'list_layers', 'read_vector']

Format = Literal['GPKG', 'ESRI Shapefile', 'FlatGeobuf', 'OpenFileGDB', 'GeoJSON', 'GeoParquet']

FORMATS: Final = 'GeoPackage, GeoParquet, GeoJSON, Shapefile (.shp), FlatGeobuf or file geodatabase (.gdb)'

_MAGIC: Final[tuple[tuple[bytes, Format], ...]] = (
    (b'SQLite format 3\0', 'GPKG'),
    (b'\0\0\x27\x0a', 'ESRI Shapefile'),
    (b'fgb\x03fgb', 'FlatGeobuf'),
    (b'PAR1', 'GeoParquet'),
)
_GEOMETRIES: Final = frozenset({
    'Point', 'MultiPoint', 'LineString', 'MultiLineString', 'Polygon', 'MultiPolygon', 'GeometryCollection',
})  # fmt: skip
_STYLES: Final = frozenset({'layer_styles', 'qgis_projects'})
_VIRTUAL: Final = re.compile(
    r'\s*CREATE\s+VIRTUAL\s+TABLE\s.*?\sUSING\s+["\[`]?(\w+)', re.IGNORECASE | re.DOTALL
)
_INDEXES: Final = frozenset({'rtree', 'fts3', 'fts4', 'fts5'})
_WINDOWS: Final = frozenset({0, 3, 87})
"""Language drivers of dBASE files that stand for Windows-1252, or for nothing."""
_LANGUAGE_DRIVER: Final = 29
"""Offset of the language driver in the header of a dBASE file, in bytes."""
_PLACES: Final = (
    'urn:',
    'epsg:',
    'ogc:',
    'http://www.opengis.net/def/crs/',
    'https://www.opengis.net/def/crs/',
)


@dataclass(frozen=True)
class VectorLayer:
    """One layer of a vector file.

    Attributes:
        name: its name; the file's stem where the format has none.
        has_geometry: whether it is more than a table.
        crs: CRS as text, or None where it states none.
    """

    name: str
    has_geometry: bool
    crs: str | None


def find_format(path: str | os.PathLike[str]) -> Format:
    """Recognise the format of a vector file from its first bytes.

    Args:
        path: a local file, or the folder of a file geodatabase.

    Raises:
        SceneError: if it is missing, empty, or of a format that is not allowed.
    """
    file = Path(path)
    if file.is_dir():
        if file.suffix.lower() == '.gdb' and (file / 'a00000001.gdbtable').is_file():
            return 'OpenFileGDB'
        raise SceneError(f'{path}: is a folder; give a vector file: {FORMATS}')
    head = first_bytes(file, 'give a local vector file')
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.removeprefix(b'\xef\xbb\xbf').lstrip().startswith((b'{', b'\x1e{')):
        return 'GeoJSON'
    advice = 'unpack it' if head.startswith(b'PK\x03\x04') else 'convert it, as with `ogr2ogr out.gpkg`'
    raise SceneError(f'{path}: is no {FORMATS}: {advice}')


def list_layers(path: str | os.PathLike[str]) -> list[VectorLayer]:
    """List the layers of a vector file that hold data: those with geometries, if any has some.

    Styles and projects of QGIS are none.

    Raises:
        SceneError: if it cannot be opened.
    """
    kind = find_format(path)
    if kind in ('GeoJSON', 'GeoParquet'):
        return [VectorLayer(Path(path).stem, has_geometry=True, crs=None)]
    with _opening(path, kind) as local:
        found = [
            VectorLayer(str(name), geometry is not None, pyogrio.read_info(local, layer=name)['crs'])
            for name, geometry in pyogrio.list_layers(local)
            if name not in _STYLES
        ]
    return [layer for layer in found if layer.has_geometry] or found


def read_vector(
    path: str | os.PathLike[str],
    layer: str | None = None,
    *,
    bounds: tuple[float, float, float, float] | None = None,
) -> pd.DataFrame:
    """Read a layer of a vector file.

    Args:
        path: a local file, or the folder of a file geodatabase.
        layer: name of the layer; the first that holds data by default. GeoJSON and GeoParquet name none.
        bounds: left, bottom, right, top in the layer's CRS: features beyond them may be left out.

    Returns:
        A GeoDataFrame; a plain table where the layer has no geometries.

    Raises:
        SceneError: if it cannot be opened or read.
    """
    kind = find_format(path)
    with _opening(path, kind) as local:
        if kind == 'GeoParquet':
            frame = _read_parquet(local)
        elif kind == 'GeoJSON':
            frame = _read_geojson(local)
        elif kind == 'ESRI Shapefile':
            frame = _read_shapefile(local, layer, bounds)
        else:
            chosen = layer or next((one.name for one in list_layers(local)), None)
            frame = pyogrio.read_dataframe(local, layer=chosen, bbox=bounds)
        if isinstance(frame, gpd.GeoDataFrame):
            places, rows = get_coordinates(frame.geometry.to_numpy(), return_index=True)
            strange = rows[~np.isfinite(places).all(1)]
            if len(strange):
                raise SceneError(f'row {strange[0]} has no finite coordinates: repair or remove it')
    return frame


@contextmanager
def _opening(path: str | os.PathLike[str], kind: Format) -> Iterator[str]:
    """Give the path as the readers take it; what they raise becomes a `SceneError`."""
    local = os.path.realpath(path)
    # pyogrio takes these for archives, and would open what is inside with any driver.
    if '!' in local or local.lower().endswith('.zip'):
        raise SceneError(f'{path}: rename it without "!" and ".zip"')
    try:
        if kind == 'GPKG':
            _check_geopackage(local)
        with np.errstate(invalid='ignore'):  # coordinates that are no numbers, which are refused later
            yield local
    except SceneError as error:
        raise SceneError(f'{path}: {error}') from error
    except Exception as error:  # whatever readers make of a damaged file
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise SceneError(f'{path}: cannot be read as {kind}: {reason}') from error


def _check_geopackage(path: str) -> None:
    """Refuse databases without a GeoPackage's tables, and virtual tables, which can stand for other files."""
    with closing(sqlite3.connect(f'{Path(path).as_uri()}?mode=ro&immutable=1', uri=True)) as database:
        made = dict(database.execute('SELECT name, sql FROM sqlite_master'))
    if 'gpkg_contents' not in made:
        raise SceneError('is an SQLite database but no GeoPackage: convert it, as with `ogr2ogr out.gpkg`')
    for name, sql in made.items():
        match = _VIRTUAL.match(sql or '')
        if match and match[1].lower() not in _INDEXES:
            raise SceneError(f'holds a virtual table {name!r} of {match[1]}, which can name other files')


def _read_parquet(path: str) -> pd.DataFrame:
    try:
        check_cells(Path(path))
    except DatasetError as error:
        raise SceneError(str(error).removeprefix(f'{path}: ')) from error
    if b'geo' in (pq.read_schema(path).metadata or {}):
        frame: pd.DataFrame = gpd.read_parquet(path)
        return frame
    return pd.read_parquet(path)


def _read_shapefile(
    path: str, layer: str | None, bounds: tuple[float, float, float, float] | None
) -> pd.DataFrame:
    """Read a Shapefile; one that states no encoding is UTF-8 if it is valid UTF-8.

    GDAL would take it as ISO 8859-1, of which Windows-1252 is the usual form.
    """
    file = Path(path)
    encodings: list[str | None] = [None]
    if not any(file.with_suffix(suffix).is_file() for suffix in ('.cpg', '.CPG')):
        encodings = ['utf-8', *(['cp1252'] if _language_driver(file) in _WINDOWS else []), None]
    for encoding in encodings[:-1]:
        try:
            found: pd.DataFrame = pyogrio.read_dataframe(path, layer=layer, bbox=bounds, encoding=encoding)
        except UnicodeDecodeError:
            continue
        return found
    frame: pd.DataFrame = pyogrio.read_dataframe(path, layer=layer, bbox=bounds)
    return frame


def _language_driver(path: Path) -> int | None:
    """The byte by which a dBASE file names its encoding; None without such a file."""
    for suffix in ('.dbf', '.DBF'):
        if path.with_suffix(suffix).is_file():
            with path.with_suffix(suffix).open('rb') as file:
                head = file.read(_LANGUAGE_DRIVER + 1)
            return head[_LANGUAGE_DRIVER] if len(head) > _LANGUAGE_DRIVER else None
    return None


def _read_geojson(path: str) -> gpd.GeoDataFrame:
    """Read GeoJSON (RFC 7946; a CRS by name as in its forerunner), or one GeoJSON a line."""
    text = Path(path).read_text('utf-8-sig')
    try:
        documents = [json.loads(text)]
    except json.JSONDecodeError:
        lines = text.replace('\x1e', '').splitlines()
        if len(lines) < 2 or not lines[0].rstrip().endswith('}'):
            raise
        documents = [json.loads(line) for line in lines if line.strip()]
    features = [feature for document in documents for feature in _features(document)]
    rows = [dict(feature.get('properties') or {}) for feature in features]
    if any(isinstance(feature.get('id'), str) for feature in features) and not any(
        'id' in row for row in rows
    ):
        rows = [{'id': feature.get('id'), **row} for feature, row in zip(features, rows, strict=True)]
    frame = pd.DataFrame(rows, index=range(len(rows))).drop(columns='geometry', errors='ignore')
    for name in frame.columns:
        frame[name] = [json.dumps(cell) if isinstance(cell, dict) else cell for cell in frame[name]]
    geometries = [shape(found) if (found := feature.get('geometry')) else None for feature in features]
    return gpd.GeoDataFrame(frame, geometry=geometries, crs=_geojson_crs(documents[0]))


def _features(document: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - whatever JSON holds
    kind = document.get('type') if isinstance(document, dict) else None
    if kind == 'FeatureCollection':
        return list(document['features'])
    if kind == 'Feature':
        return [document]
    if kind in _GEOMETRIES:
        return [{'geometry': document}]
    raise SceneError(f'is JSON of type {kind!r} and no GeoJSON: convert it, as with `ogr2ogr out.gpkg`')


def _geojson_crs(document: dict[str, Any]) -> CRS:
    """The CRS that GeoJSON of before 2016 names; a link to one is not followed."""
    stated = document.get('crs')
    if stated is None:
        return CRS('EPSG:4326')
    kind = str(stated.get('type', '')).lower()
    properties = stated.get('properties') or {}
    name = f'EPSG:{properties.get("code")}' if kind == 'epsg' else str(properties.get('name', ''))
    if kind not in ('name', 'epsg') or not name.lower().startswith(_PLACES):
        raise SceneError(
            f'its CRS is {json.dumps(stated)[:200]}, which is looked up nowhere: name an EPSG code'
        )
    return CRS('EPSG:4326') if name.upper().endswith('CRS84') else CRS.from_user_input(name)

"""Reading OpenStreetMap objects, whatever they come as."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from geores.errors import ReadError, UsageError
from geores.osm.features import Features, Found, collect
from geores.osm.mapping import TagMapping
from geores.osm.overpass import read_overpass
from geores.osm.pbf import read_pbf
from geores.osm.tables import read_table

__all__ = ['read_features']


OSM = ('.pbf', '.osm', '.bz2', '.gz')
TABLES = ('.gpkg', '.parquet', '.geoparquet', '.shp', '.geojson', '.fgb')


def read_features(paths: Sequence[str | Path], box: Box, mapping: TagMapping) -> Features:
    """Objects of some files that lie in a box.

    Args:
        paths: `.osm.pbf`, GeoPackage, GeoParquet, Shapefile, GeoJSON or Overpass JSON files.
        box: west, south, east, north in degrees (WGS84).
        mapping: says which objects belong to which category.

    Returns:
        The objects, in the order of their ids.

    Raises:
        UsageError: a file is missing or of another kind, or no object lies in the box.
        ReadError: a file is damaged.
    """
    found = [one for path in paths for one in _read(Path(path), box, mapping)]
    names = ', '.join(str(path) for path in paths)
    edges = ', '.join(f'{edge:.4f}' for edge in box)
    if not found:
        raise UsageError(
            f'{names}: no object that the mapping knows lies in the area of the scenes '
            f'(west, south, east, north: {edges}): give the extract of that place'
        )
    features = collect(found)
    if not len(features):
        raise UsageError(f'{names}: no object has a usable geometry')
    return features


def _read(path: Path, box: Box, mapping: TagMapping) -> Iterator[Found]:
    if not path.is_file():
        raise UsageError(f'{path} is not there: give --osm a file of OpenStreetMap objects')
    suffix = path.suffix.lower()
    if suffix in OSM:
        return read_pbf(path, box, mapping)
    if suffix in TABLES:
        return read_table(path, box, mapping)
    if suffix == '.json':
        data = _json(path)
        if 'elements' in data:
            return (one for one in read_overpass(path, data, mapping) if _feature_meets(one, box))
        if 'features' in data:
            return read_table(path, box, mapping)
        raise UsageError(f"{path} is neither an answer of Overpass ('elements') nor GeoJSON ('features')")
    raise UsageError(f'{path}: give .osm.pbf, {", ".join(TABLES)} or the .json of Overpass')


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ReadError(f'{path} cannot be read as JSON (cut short?): {error}') from error
    return data if isinstance(data, dict) else {}


def _feature_meets(one: Found, box: Box) -> bool:
    west, south, east, north = one.geometry.bounds
    return bool(west <= box[2] and east >= box[0] and south <= box[3] and north >= box[1])

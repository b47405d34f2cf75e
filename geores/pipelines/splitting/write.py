"""Writing a table in the format that its name asks for."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geores.errors import OutputError
from geores.splits.ground import lonlat

if TYPE_CHECKING:
    import pandas as pd

__all__ = ['check_format', 'check_suffix', 'write_frame']

_DRIVERS = {'.gpkg': 'GPKG', '.geojson': 'GeoJSON'}


def check_format(path: Path, frame: 'pd.DataFrame') -> None:
    """Refuse what cannot be written, before any work.

    Args:
        path: to write to.
        frame: to write.

    Raises:
        OutputError: the ending is unknown, or needs geometries that there are not.
    """
    check_suffix(path)
    if path.suffix in _DRIVERS and getattr(frame, 'geometry', None) is None:
        raise OutputError(f'{path}: the rows have no geometry; write .parquet or .csv')


def check_suffix(path: Path) -> None:
    """Refuse the name of a file of another format.

    Args:
        path: to write to.

    Raises:
        OutputError: the ending is unknown.
    """
    if path.suffix not in {'.parquet', '.csv', *_DRIVERS}:
        raise OutputError(f'{path}: a split is written as .parquet, .csv, .gpkg or .geojson')


def write_frame(frame: 'pd.DataFrame', path: Path, record: str) -> None:
    """Write a table; Parquet keeps a record beside it.

    Args:
        frame: with or without geometries.
        path: .parquet, .csv, .gpkg or .geojson.
        record: of how it was made, for the metadata of Parquet.
    """
    if path.suffix == '.csv':
        _located(_flat(frame)).to_csv(path, index=False)
    elif path.suffix in _DRIVERS:
        _flat(frame).to_file(path, driver=_DRIVERS[path.suffix], layer='split')  # type: ignore[operator]
    else:
        _write_parquet(frame, path, record)


def _flat(frame: 'pd.DataFrame') -> 'pd.DataFrame':
    """Lists as text that `read_source` reads again: these formats have no lists."""
    lists = [
        name
        for name in frame.columns
        if frame[name].map(lambda one: isinstance(one, list | np.ndarray)).any()
    ]
    return frame.assign(**{name: frame[name].map(lambda one: json.dumps(list(one))) for name in lists})


def _located(frame: 'pd.DataFrame') -> 'pd.DataFrame':
    """Geometries with columns lon and lat of their middles, by which `read_source` places rows of text."""
    if getattr(frame, 'geometry', None) is None or {'lon', 'lat'} & set(frame.columns):
        return frame
    places = lonlat(frame)
    return frame.assign(lon=places[:, 0], lat=places[:, 1])


def _write_parquet(frame: 'pd.DataFrame', path: Path, record: str) -> None:
    import geopandas as gpd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(frame, gpd.GeoDataFrame):
        frame.to_parquet(path, index=False)
        table = pq.read_table(path)
    else:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = (table.schema.metadata or {}) | {b'geores': record.encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression='zstd')

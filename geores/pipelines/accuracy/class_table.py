"""A table of tiles that `geores.classify` wrote, read as the population that a sample is drawn from."""

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geores.errors import ReadError, SceneError, UsageError
from geores.pipelines.accuracy.census import Census

__all__ = ['TableMap']

PLAIN = ('valid_share', 'area')
"""Columns of real numbers that are no labels."""


class TableMap:
    """Tiles whose class is their best label; its strips are the file's row groups.

    The area of a tile is that of the valid pixels that it owns, so that areas add up to the scene's.
    """

    unit = 'tile'

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise SceneError(f'{path}: no such file; check the path')
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise SceneError(f'{path}: is no Parquet file, or is damaged ({error})') from error
        schema = self._file.schema_arrow
        numbers = [field.name for field in schema if pa.types.is_floating(field.type)]
        self._labels = [name for name in numbers if name not in PLAIN]
        if not self._labels or not {'area', 'geometry'} <= set(schema.names):
            raise UsageError(f'{path} is no _tiles.parquet of `geores classify`: no scores, area or geometry')
        self.crs = _crs((schema.metadata or {}).get(b'geo'))

    @cached_property
    def census(self) -> Census:
        """See `ClassMap.census`."""
        strips, areas = [], np.zeros(len(self._labels))
        for index in range(self._file.num_row_groups):
            best, area = self._best(index)
            strips.append(np.bincount(best[best >= 0], minlength=len(self._labels)))
            areas += np.bincount(best[best >= 0], area[best >= 0], len(self._labels))
        units = np.array(strips, np.int64).reshape(-1, len(self._labels))
        here = np.flatnonzero(units.sum(0))
        if not len(here):
            raise UsageError(f'{self.path} holds no tile with scores')
        return Census(
            classes=tuple(self._labels[k] for k in here),
            values=tuple(here.tolist()),
            units=units[:, here],
            areas=areas[here],
            area_unit='pixel' if self.crs is None else 'm2',
            notes=('the map has no CRS: areas are counted in pixels',) if self.crs is None else (),
        )

    def strip(self, index: int) -> NDArray[np.int64]:
        """See `ClassMap.strip`."""
        place = np.full(len(self._labels) + 1, -1)
        place[list(self.census.values)] = np.arange(len(self.census.values))
        return place[self._best(index)[0]]

    def outlines(self, index: int, positions: NDArray[np.int64]) -> NDArray[np.object_]:
        """See `ClassMap.outlines`."""
        table = self._read(index, ['geometry']).take(pa.array(positions))
        polygons: NDArray[np.object_] = shapely.from_wkb(table['geometry'].to_numpy())
        return polygons

    def _best(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Best label of each tile of a row group, -1 for those skipped or without area, and areas."""
        table = self._read(index, [*self._labels, 'area'])
        scores = np.stack([table[name].to_numpy() for name in self._labels], axis=-1)
        area = table['area'].to_numpy()
        known = ~np.isnan(scores).any(axis=-1) & (area > 0)
        return np.where(known, np.nan_to_num(scores, nan=-np.inf).argmax(axis=-1), -1), area

    def _read(self, index: int, columns: list[str]) -> pa.Table:
        try:
            return self._file.read_row_group(index, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise ReadError(f'{self.path}: row group {index} cannot be read ({error})') from error


def _crs(geo: bytes | None) -> CRS | None:
    """The CRS in the ``geo`` metadata of GeoParquet."""
    try:
        stated = json.loads(geo or b'{}')['columns']['geometry']['crs']
    except (ValueError, KeyError, TypeError):
        return None
    return None if stated is None else CRS.from_json_dict(stated)

"""Maps of classes as populations to sample from, and the names of their classes.

`Population` is what all maps have in common; `TableMap` is the table of tiles that `geores.classify` writes,
and rasters are in `geores.map_accuracy.class_maps`. Names of a raster's values come from its side file, or
the user gives them.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geores.cartography.class_raster import LEGEND_TAG
from geores.errors import ReadError, SceneError, UsageError
from geores.scenes.gdal import find_driver, open_dataset

__all__ = ['Census', 'Population', 'TableMap', 'category_names']

PLAIN = ('valid_share', 'area')
"""Columns of real numbers that are no labels."""

MOST_BYTES = 2**22

VALUE, NAME = '5', '2'
"""GDAL's codes for the use of a column of a raster attribute table."""


@dataclass(frozen=True)
class Census:
    """Units and area per class of a map.

    Attributes:
        classes: names of the classes that occur, (K,).
        values: value of each class in the file.
        units: pixels, cells or tiles of each in each strip of the map, (strips, K).
        areas: area per class, in ``area_unit``, (K,).
        area_unit: ``m2``, or ``pixel`` where the map has no CRS.
        notes: one sentence each.
    """

    classes: tuple[str, ...]
    values: tuple[int, ...]
    units: NDArray[np.int64]
    areas: NDArray[np.float64]
    area_unit: str
    notes: tuple[str, ...]


class Population(Protocol):
    """A map of classes as sampling units in strips, which are read one at a time."""

    path: Path
    unit: str
    crs: CRS | None

    @property
    def census(self) -> Census:
        """Count units and area per class; the first pass over the map."""
        ...

    def strip(self, index: int) -> NDArray[np.int64]:
        """Index of the class of each unit of a strip among the census' classes, -1 for none."""
        ...

    def outlines(self, index: int, positions: NDArray[np.int64]) -> NDArray[np.object_]:
        """Polygons of some units of a strip."""
        ...


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
        """See `Population.census`."""
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
        """See `Population.strip`."""
        place = np.full(len(self._labels) + 1, -1)
        place[list(self.census.values)] = np.arange(len(self.census.values))
        return place[self._best(index)[0]]

    def outlines(self, index: int, positions: NDArray[np.int64]) -> NDArray[np.object_]:
        """See `Population.outlines`."""
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
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if stated is None else CRS.from_json_dict(stated)


def category_names(path: str) -> dict[int, str]:
    """Names that GDAL or QGIS keep in ``<path>.aux.xml``: categories, or an attribute table.

    Where there is no such file, the legend that geores writes into its class maps.

    Returns:
        Names by value; none where nothing names values.
    """
    return _side_names(path) or _own_names(path)


def _own_names(path: str) -> dict[int, str]:
    with open_dataset(path, find_driver(path), quiet=True) as file:
        text = file.tags().get(LEGEND_TAG, '{}')
    try:
        return {int(value): str(name) for value, name in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _side_names(path: str) -> dict[int, str]:
    file = Path(f'{path}.aux.xml')
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            return {}
        text = file.read_bytes()
        if b'<!' in text.replace(b'<!--', b''):  # entities could expand without bound
            return {}
        band = ElementTree.fromstring(text).find('PAMRasterBand')  # noqa: S314
    except (OSError, ElementTree.ParseError):
        return {}
    if band is None:
        return {}
    names = {
        n: item.text.strip() for n, item in enumerate(band.iterfind('CategoryNames/Category')) if item.text
    }
    return names or _attribute_table(band)


def _attribute_table(band: ElementTree.Element) -> dict[int, str]:
    uses = [field.findtext('Usage') for field in band.iterfind('GDALRasterAttributeTable/FieldDefn')]
    if VALUE not in uses or NAME not in uses:
        return {}
    names = {}
    for row in band.iterfind('GDALRasterAttributeTable/Row'):
        cells = [cell.text or '' for cell in row.iterfind('F')]
        try:
            names[int(float(cells[uses.index(VALUE)]))] = cells[uses.index(NAME)].strip()
        except (ValueError, IndexError, OverflowError):
            return {}
    return names

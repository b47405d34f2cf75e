"""A raster of classes, or of scores, read as the population that a sample is drawn from.

Everything is counted and found row by row, so that neither the memory needed nor the sample drawn
depend on how the file is laid out in blocks.

Read a sample that has been labelled: stratum, map class and reference class of every point.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import file_digest
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from geores.cartography.areas import SLACK, row_areas
from geores.errors import UsageError
from geores.io.tables import read_text_table
from geores.map_accuracy.class_names import Census, Population, TableMap, category_names
from geores.map_accuracy.strata import Design
from geores.scenes import FileRaster
from geores.scenes.gdal import is_remote
from geores.scenes.vectors import list_layers, read_vector

__all__ = [
    'RasterMap',
    'class_names',
    'column_of',
    'map_digest',
    'mapped_at',
    'open_class_map',
    'read_sample',
    'strata_of',
]

MOST_CLASSES = 256
BLOCK_VALUES = 2**20
_TEXTS = {'.csv', '.tsv', '.txt'}


def open_class_map(path: str | Path, classes: Mapping[int, str] | None = None) -> Population:
    """Open a map of classes.

    Args:
        path: a raster of one band of whole numbers, such as ``<name>_classes.tif`` of `geores.classify`;
            its ``<name>_scores.tif``, where the class of a cell is its best label; or
            ``<name>_tiles.parquet``.
        classes: names of a raster's values; pixels of other values are left out.

    Raises:
        SceneError: if it is missing or no raster.
        UsageError: if it is no map of classes.
    """
    if str(path).lower().endswith('.parquet'):
        if classes:
            raise UsageError(f'{path} names its classes itself: drop --classes')
        return TableMap(Path(path))
    return RasterMap(path, classes)


def map_digest(path: Path) -> str:
    """SHA-256 of a file, or the address of a file on the network."""
    if is_remote(str(path)):
        return FileRaster(str(path)).fingerprint
    with path.open('rb') as file:
        return file_digest(file, 'sha256').hexdigest()


class RasterMap:
    """A raster of classes or scores; its strips are its rows."""

    def __init__(self, path: str | Path, classes: Mapping[int, str] | None = None) -> None:
        self.path = Path(path)
        self._raster = FileRaster(str(path))
        header = self._raster.header
        self._bands = header.data_indexes
        self._scored = len(self._bands) > 1
        names = [header.descriptions[index - 1] for index in self._bands]
        if self._scored and (header.dtype.kind != 'f' or not all(names) or len(set(names)) < len(names)):
            raise UsageError(
                f'{path} has {len(names)} bands: give a map of classes in one band, such as the '
                '_classes.tif that `geores classify` writes, or its _scores.tif'
            )
        if self._scored and classes:
            raise UsageError(f'{path} names its classes itself: drop --classes')
        self.unit = 'cell' if self._scored else 'pixel'
        box = self._raster.geobox
        self.crs = None if box.crs is None else CRS.from_user_input(box.crs.proj)
        self._affine, self._shape = box.affine, (box.shape.y, box.shape.x)
        self._listed = dict(classes) if classes else None
        self._names = dict(enumerate(map(str, names))) if self._scored else category_names(str(path))

    @cached_property
    def census(self) -> Census:
        """See `Population.census`; read block by block."""
        areas, unit, notes = row_areas(self._affine, self._shape, self.crs)
        if areas.max() > (1 + SLACK) * areas.min():
            notes[0] += '; all pixels are equally likely to be drawn, so prefer an equal-area CRS or UTM'
        counts = self._count()
        if self._listed is not None:
            other = sum(int(column.sum()) for value, column in counts.items() if value not in self._listed)
            notes += [f'{other:,} pixels of values not listed in classes are left out'] if other else []
            counts = {value: counts[value] for value in self._listed if value in counts}
        if not counts:
            raise UsageError(f'{self.path} holds no valid pixel of a class')
        values_of = tuple(counts if self._listed else sorted(counts))
        units = np.stack([counts[value] for value in values_of], axis=1).astype(np.int64)
        names = tuple(str((self._listed or self._names).get(value) or value) for value in values_of)
        if len(set(names)) < len(names):
            raise UsageError(
                f'{self.path}: two values have the same class name; tell them apart by --classes'
            )
        return Census(names, values_of, units, areas @ units, unit, tuple(notes))

    def strip(self, index: int) -> NDArray[np.int64]:
        """See `Population.strip`."""
        values, valid = self._read(slice(index, index + 1), slice(0, self._shape[1]))
        return self._classes(values[0], valid[0])

    def outlines(self, index: int, positions: NDArray[np.int64]) -> NDArray[np.object_]:
        """See `Population.outlines`."""
        steps = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
        cols, rows = positions[:, None] + steps[:, 0], index + steps[:, 1]
        t = self._affine
        corners = np.stack([t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f], axis=-1)
        polygons: NDArray[np.object_] = shapely.polygons(corners)
        return polygons

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
        """Index of the class at each place, given in the map's CRS; -1 outside or where invalid."""
        inverse = ~self._affine
        cols = np.floor(inverse.a * x + inverse.b * y + inverse.c)
        rows = np.floor(inverse.d * x + inverse.e * y + inverse.f)
        inside = (cols >= 0) & (cols < self._shape[1]) & (rows >= 0) & (rows < self._shape[0])
        found = np.full(len(x), -1)
        for place in np.flatnonzero(inside):
            row, col = int(rows[place]), int(cols[place])
            values, valid = self._read(slice(row, row + 1), slice(col, col + 1))
            found[place] = self._classes(values[0], valid[0])[0]
        return found

    def _count(self) -> dict[int, NDArray[np.int32]]:
        """Pixels of each value in each row."""
        counts: dict[int, NDArray[np.int32]] = {}
        most = max(MOST_CLASSES, len(self._names))
        for rows, cols in self._blocks():
            values, valid = self._read(rows, cols)
            for value, column in _count_rows(values, valid, most):
                counts.setdefault(value, np.zeros(self._shape[0], np.int32))[rows] += column
                if len(counts) > most:
                    raise UsageError(f'{self.path} has more than {most} values: no map of classes')
        return counts

    def _classes(self, values: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
        known = np.array(self.census.values)
        order = np.argsort(known)
        place = order[np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)]
        return np.where(valid & (known[place] == values), place, -1)

    def _read(self, rows: slice, cols: slice) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Values of classes and which of them are valid, (rows, cols) both."""
        bands, marked = self._raster.read(self._bands, rows, cols)
        valid = np.ones(bands.shape[1:], bool) if marked is None else marked
        if self._scored:
            return bands.argmax(axis=0), valid
        values = np.where(valid, bands[0], 0)
        whole = values.astype(np.int64)
        if values.dtype.kind == 'f' and (odd := whole != values).any():
            raise UsageError(f'{self.path} holds values such as {values[odd][0]:.6g}: no map of classes')
        return whole, valid

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Windows of whole native blocks where these are small, of about a million values."""
        height, width = self._shape
        tall, wide = self._raster.block_shape
        budget = max(BLOCK_VALUES // len(self._bands), 1)
        wide = min(width, max(wide, budget // tall // wide * wide))
        if wide == width:
            tall *= max(1, budget // (tall * width))
        tall = min(tall, height, max(1, 4 * budget // wide))
        for row in range(0, height, tall):
            for col in range(0, width, wide):
                yield slice(row, min(row + tall, height)), slice(col, min(col + wide, width))


def _count_rows(
    values: NDArray[np.int64], valid: NDArray[np.bool_], most: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The values of a block, with the number of valid pixels per value and row."""
    if not valid.any():
        return
    ends = np.iinfo(np.int64)
    low = int(values.min(where=valid, initial=ends.max))
    high = int(values.max(where=valid, initial=ends.min))
    if high - low > 16 * most:
        found = np.unique(values)[: most + 2]  # any more are too many anyway
        index = np.searchsorted(found, values).clip(max=len(found) - 1)
    else:
        found, index = np.arange(low, high + 1), values - low
    width = len(found)
    index = np.where(valid, index, width) + (width + 1) * np.arange(len(values))[:, None]
    table = np.bincount(index.ravel(), minlength=len(values) * (width + 1)).reshape(len(values), -1)
    for k in np.flatnonzero(table[:, :width].any(axis=0)):
        yield int(found[k]), table[:, k]


def read_sample(path: str | Path) -> pd.DataFrame:
    """Read a vector file or a CSV table.

    Raises:
        UsageError: if it cannot be read, has several layers or holds no rows.
    """
    if not Path(path).is_file():
        raise UsageError(f'{path}: no such file; check the path')
    is_text = Path(path).suffix.lower() in _TEXTS
    try:
        layers = [] if is_text else [layer.name for layer in list_layers(path)]
        frame = read_text_table(Path(path)) if is_text else read_vector(path)
    except (ValueError, OSError) as error:
        raise UsageError(f'{path} cannot be read as a sample: {error}') from error
    if len(layers) > 1:
        raise UsageError(
            f'{path} has the layers {", ".join(layers)}: keep the sample in a file of its own, as with '
            f'`ogr2ogr sample.gpkg {path} {layers[0]}`'
        )
    if frame.empty:
        raise UsageError(f'{path} holds no points')
    return frame


def column_of(frame: pd.DataFrame, column: str, option: str) -> 'pd.Series[str]':
    """Stripped text of a column; empty where a value is missing.

    Raises:
        UsageError: if there is no such column.
    """
    if column not in frame.columns:
        there = ', '.join(str(name) for name in frame.columns if name != 'geometry')
        raise UsageError(f'the sample has no column {column!r} for {option}; it has {there}')
    return pd.Series([_text(value) for value in frame[column]], index=frame.index, dtype='str')


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ''
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)  # a column of whole numbers with gaps is one of real numbers
    return str(value).strip()


def class_names(labels: Iterable[str], names: Iterable[str], values: Iterable[int] = ()) -> list[str]:
    """Match what people wrote to names of classes, ignoring case, or to values of the map.

    Args:
        labels: as written; what is no class of the map stays as it is.
        names: names of the map's classes.
        values: value of each class in the map.
    """
    names = list(names)
    known = {str(value): name for value, name in zip(values, names, strict=False)}
    known |= {name.casefold(): name for name in names} | {name: name for name in names}
    return [known.get(label, known.get(label.casefold(), label)) for label in labels]


def strata_of(frame: pd.DataFrame, design: Design) -> list[str]:
    """Stratum of each point, as a class of the map.

    Raises:
        UsageError: if points and design do not belong together.
    """
    names = {str(stratum.stratum): stratum.map_class for stratum in design.strata}
    if 'stratum' in frame.columns or not design.strata_by_id:
        numbers = column_of(frame, 'stratum', 'the strata of its design').tolist()
    else:
        ids = column_of(frame, 'id', 'the strata of its design')
        by_id = {str(place): str(number) for place, number in enumerate(design.strata_by_id, start=1)}
        numbers = [by_id.get(name, f'of id {name}') for name in ids]
    odd = next((number for number in numbers if number not in names), None)
    if odd is not None:
        raise UsageError(
            f'the sample has a point of stratum {odd or "(empty)"}, which its design does not have'
        )
    return [names[number] for number in numbers]


def mapped_at(frame: pd.DataFrame, opened: RasterMap) -> list[str]:
    """Class of a map at each point; empty outside the map.

    Raises:
        UsageError: if the sample has no places, or no CRS where the map has one.
    """
    if not isinstance(frame, gpd.GeoDataFrame) or frame.geometry.isna().any():
        raise UsageError(f'the sample has no points to look up in {opened.path}')
    if (frame.crs is None) != (opened.crs is None):
        bare = 'the sample' if frame.crs is None else opened.path
        raise UsageError(f'{bare} has no CRS, so the points cannot be placed on {opened.path}')
    try:
        places = frame.geometry if opened.crs is None else frame.geometry.to_crs(opened.crs)
    except ProjError as error:
        raise UsageError(f'the sample cannot be brought to the CRS of {opened.path}: {error}') from error
    middles = shapely.centroid(places.to_numpy())
    found = opened.at(shapely.get_x(middles), shapely.get_y(middles))
    return [opened.census.classes[k] if k >= 0 else '' for k in found]

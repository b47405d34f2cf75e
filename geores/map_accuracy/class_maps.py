"""A raster of classes, or of scores, read as the population that a sample is drawn from.

Everything is counted and found row by row, so that neither the memory needed nor the sample drawn
depend on how the file is laid out in blocks.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import file_digest
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geores.cartography.areas import SLACK, row_areas
from geores.errors import UsageError
from geores.map_accuracy.class_names import Census, ClassMap, TableMap, category_names
from geores.scenes import FileRaster
from geores.scenes.gdal import is_remote

__all__ = ['RasterMap', 'open_class_map', 'sha256']

MOST_CLASSES = 256
BLOCK_VALUES = 2**20


def open_class_map(path: str | Path, classes: Mapping[int, str] | None = None) -> ClassMap:
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


def sha256(path: Path) -> str:
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
        """See `ClassMap.census`; read block by block."""
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
        """See `ClassMap.strip`."""
        values, valid = self._read(slice(index, index + 1), slice(0, self._shape[1]))
        return self._classes(values[0], valid[0])

    def outlines(self, index: int, positions: NDArray[np.int64]) -> NDArray[np.object_]:
        """See `ClassMap.outlines`."""
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

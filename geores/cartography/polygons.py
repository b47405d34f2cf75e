"""A class map as polygons: areas of one class on the lattice of pixels, named, measured and coloured.

Corners are whole numbers (column, row), so that areas are exact, and neighbours share their borders to the
last bit.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.io import DatasetReader

from geores.cartography.areas import NODATA, Legend, row_areas
from geores.cartography.gis_files import write_polygon_style
from geores.errors import UsageError
from geores.io.whole_files import whole_files
from geores.scenes.gdal import open_raster

__all__ = [
    'KINDS',
    'LEAST_PIXELS',
    'Edges',
    'Outlines',
    'check_polygon_options',
    'class_polygons',
    'outlines',
    'polygon_files',
    'polygons_of_rings',
    'sieved',
    'with_shared_corners',
    'write_polygons',
]

BATCH = 2000
"""Polygons that are processed at once: as Python numbers their corners take seven times the memory."""


@dataclass(frozen=True)
class Outlines:
    """Polygons of areas of equal value.

    Attributes:
        values: value of each polygon, (n,).
        polygons: in columns and rows, (n,).
        edges: their horizontal edges. The sum of anything over a polygon is what lies above its lower edges
            less what lies above its upper edges.
    """

    values: NDArray[np.int64]
    polygons: NDArray[np.object_]
    edges: 'Edges'


@dataclass(frozen=True)
class Edges:
    """Horizontal edges of polygons.

    Attributes:
        owner: index of the polygon of each edge, (m,).
        row: of each edge, (m,).
        left: first column of each edge, (m,).
        right: column after the last of each edge, (m,).
        sign: 1 where the polygon lies above the edge, -1 where it lies below, (m,).
    """

    owner: NDArray[np.int32]
    row: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    sign: NDArray[np.int8]

    @classmethod
    def together(cls, parts: 'Sequence[Outlines]') -> 'Edges':
        """Edges of all polygons of batches, counted through."""
        starts = np.cumsum([0, *(len(part.values) for part in parts)])
        owners = [part.edges.owner + start for part, start in zip(parts, starts[:-1], strict=True)]
        rest = ([getattr(part.edges, name) for part in parts] for name in ('row', 'left', 'right', 'sign'))
        return cls(*(np.concatenate([np.zeros(0, np.int32), *column]) for column in (owners, *rest)))

    def row_sums(self, by_row: NDArray[np.floating], count: int) -> NDArray[np.float64]:
        """Sum over each polygon of a quantity that all pixels of a row share, such as their area.

        Args:
            by_row: the quantity per row, (rows,).
            count: number of polygons.
        """
        above = np.concatenate([[0.0], np.cumsum(by_row, dtype=np.float64)])
        shares = self.sign * (self.right - self.left) * above[self.row]
        return np.bincount(self.owner, shares, count).astype(np.float64)

    def raster_sums(self, rows: Iterator[NDArray[np.integer]], width: int, count: int) -> NDArray[np.int64]:
        """Sum over each polygon of a raster that is read once, row by row.

        Args:
            rows: of the raster, (width,) each, from the top.
            width: of the raster.
            count: number of polygons.
        """
        order = np.argsort(self.row, kind='stable')
        owner, left, right, sign = (part[order] for part in (self.owner, self.left, self.right, self.sign))
        starts = np.searchsorted(self.row[order], np.arange(int(self.row.max(initial=0)) + 2))
        sums, above = np.zeros(count, np.int64), np.zeros(width + 1, np.int64)
        columns = np.zeros(width, np.int64)
        for row, (start, stop) in enumerate(pairwise(starts)):
            if row:
                columns += next(rows)
            if start < stop:
                np.cumsum(columns, out=above[1:])
                part = slice(start, stop)
                np.add.at(sums, owner[part], sign[part] * (above[right[part]] - above[left[part]]))
        return sums


def sieved(values: NDArray[np.integer], least: int, nodata: int = 0) -> NDArray[np.integer]:
    """A raster in which areas of few pixels are merged into their largest neighbour.

    The limit doubles from step to step, since GDAL merges an area only into one that reaches the limit
    itself. Areas without a neighbour stay, and pixels without data stay as they are.

    Args:
        values: (rows, cols).
        least: smallest number of pixels of an area.
        nodata: value of pixels without data.
    """
    valid = values != nodata
    least, size = min(least, values.size - 1), 2
    while size < 2 * least and least > 1:
        values = rasterio.features.sieve(values, min(size, least), mask=valid, connectivity=4)
        size *= 2
    return values


def outlines(values: NDArray[np.integer], nodata: int = 0) -> Iterator[Outlines]:
    """Polygons of all areas of equal value whose pixels share a side, in batches.

    Args:
        values: uint8 or uint16, (rows, cols).
        nodata: value of pixels without data.
    """
    found = rasterio.features.shapes(
        values, mask=values != nodata, connectivity=4, transform=Affine.identity()
    )
    while batch := list(islice(found, BATCH)):
        polygons = polygons_of_rings([shape['coordinates'] for shape, _ in batch])
        numbers = np.array([value for _, value in batch]).astype(np.int64)
        yield Outlines(numbers, polygons, _edges(polygons))


def polygons_of_rings(shapes: Sequence[Sequence[Sequence[tuple[float, float]]]]) -> NDArray[np.object_]:
    """Polygons from GeoJSON coordinates, (n,); made all at once, for they are many.

    Args:
        shapes: rings of corners of each polygon, the outer one first.
    """
    corners = np.fromiter(chain.from_iterable(chain.from_iterable(chain.from_iterable(shapes))), np.float64)
    rings = np.cumsum([0, *(len(ring) for shape in shapes for ring in shape)])
    parts = np.cumsum([0, *map(len, shapes)])
    made: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, corners.reshape(-1, 2), (rings, parts)
    )
    return made


def _edges(polygons: NDArray[np.object_]) -> Edges:
    """The horizontal edges of polygons."""
    rings, owner = shapely.get_rings(polygons, return_index=True)
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    x, y = corners.astype(np.int64).T
    step = x[1:] - x[:-1]
    level = (ring[1:] == ring[:-1]) & (step != 0)
    # The sign of a ring's area by the shoelace formula tells which way round it runs.
    turn = np.bincount(ring[1:][level], (step * y[1:])[level], len(rings))
    outer = np.ones(len(rings), bool)
    outer[1:] = owner[1:] != owner[:-1]
    way = np.where((turn > 0) == outer, 1, -1)[ring[1:][level]]
    start, stop = x[:-1][level], x[1:][level]
    return Edges(
        owner=owner[ring[1:][level]].astype(np.int32),
        row=y[1:][level].astype(np.int32),
        left=np.minimum(start, stop).astype(np.int32),
        right=np.maximum(start, stop).astype(np.int32),
        sign=np.where(step[level] > 0, way, -way).astype(np.int8),
    )


def with_shared_corners(polygons: NDArray[np.object_], shape: tuple[int, int]) -> NDArray[np.object_]:
    """The polygons with a corner wherever a neighbour has one, which simplifying them together requires."""
    marked = np.zeros((shape[0] + 1, shape[1] + 1), bool)
    for start in range(0, len(polygons), BATCH):
        x, y = shapely.get_coordinates(polygons[start : start + BATCH]).astype(np.int64).T
        marked[y, x] = True
    parts = [_filled(polygons[start : start + BATCH], marked) for start in range(0, len(polygons), BATCH)]
    return np.concatenate(parts) if parts else polygons


def _filled(polygons: NDArray[np.object_], marked: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The polygons with further corners where their edges pass marked ones."""
    _, corners, (rings, parts) = shapely.to_ragged_array(polygons)
    corners = corners.astype(np.int64)
    ends = np.zeros(len(corners), bool)
    ends[rings[1:] - 1] = True  # no edge leads from the last corner of a ring
    length = np.ones(len(corners), np.int64)
    length[:-1][~ends[:-1]] = abs(np.diff(corners, axis=0)).sum(axis=1)[~ends[:-1]]
    start = np.concatenate([[0], np.cumsum(length)])
    source = np.repeat(np.arange(len(corners)), length)
    along = np.arange(start[-1]) - start[source]
    way = np.zeros_like(corners)
    way[:-1] = np.sign(np.diff(corners, axis=0))
    points = corners[source] + way[source] * along[:, None]
    kept = (along == 0) | marked[points[:, 1], points[:, 0]]
    before = np.concatenate([[0], np.cumsum(kept)])
    offsets = before[start[rings]]
    made: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points[kept].astype(float), (offsets, parts)
    )
    return made


KINDS = ('.gpkg', '.parquet')
LEAST_PIXELS = 5
"""Smallest area that is kept by default, pixels: 0.05 ha at 10 m."""


def write_polygons(
    classes: Path,
    path: Path,
    legend: Legend,
    *,
    min_area: float | None = None,
    simplify: float = 0.0,
    confidence: Path | None = None,
) -> int:
    """Write the areas of a class map as polygons.

    Args:
        classes: a class map, `<name>_classes.tif`.
        path: of a GeoPackage (`.gpkg`) or GeoParquet (`.parquet`); with the `.qml` beside it QGIS shows it in
            the colours of the legend.
        legend: of the map.
        min_area: as in `class_polygons`.
        simplify: as in `class_polygons`.
        confidence: as in `class_polygons`.

    Returns:
        The number of polygons.

    Raises:
        UsageError: if the path has another ending, or a number is out of range.
        WriteError: if writing failed, as on a full disk; no file is left.
    """
    check_polygon_options(path, min_area=min_area, simplify=simplify)
    frame = class_polygons(classes, legend, min_area=min_area, simplify=simplify, confidence=confidence)
    with whole_files(polygon_files(path)) as (style, partial), warnings.catch_warnings():
        warnings.filterwarnings('ignore', "'crs' was not provided")
        if path.suffix.lower() == '.parquet':
            frame.to_parquet(partial, compression='zstd', schema_version='1.1.0', write_covering_bbox=True)
        else:
            pyogrio.write_dataframe(frame, partial, layer=path.stem, driver='GPKG', geometry_type='Polygon')
        write_polygon_style(style, legend)
    return len(frame)


def polygon_files(path: Path) -> list[Path]:
    """Files of polygons: their style first, the polygons last."""
    return [path.with_suffix('.qml'), path]


def check_polygon_options(path: Path, *, min_area: float | None, simplify: float) -> None:
    """Raise `UsageError`, before any work is done, where these options cannot be used."""
    if path.suffix.lower() not in KINDS:
        raise UsageError(f'polygons are written as {" or ".join(KINDS)}, not {path.name}')
    for name, number in (('min-area', min_area), ('simplify', simplify)):
        if number is not None and not 0 <= number < np.inf:
            raise UsageError(f'{name} must be 0 or more, not {number}')


def class_polygons(
    classes: Path,
    legend: Legend,
    *,
    min_area: float | None = None,
    simplify: float = 0.0,
    confidence: Path | None = None,
) -> gpd.GeoDataFrame:
    """The areas of a class map as polygons that cover it without gaps or overlaps.

    The whole map is held in memory, beside its polygons.

    Args:
        classes: a class map of one band, 0 for no data.
        legend: of its values.
        min_area: smallest area in square metres (in pixels, where there is no CRS); smaller ones are merged
            into their largest neighbour, so that no gaps are left. None for five pixels, 0 to keep all.
        simplify: distance, in units of the CRS, by which borders may move to have fewer corners; shared
            borders move together. The column of areas stays that of the pixels.
        confidence: raster of the same grid, 1 to 255, whose mean per polygon becomes a column.

    Returns:
        Columns `label`, `value`, `area_m2` (`area_px` without a CRS), `confidence` where given (0 to 1)
        and `geometry`.
    """
    with open_raster(classes) as file:
        values, affine, crs = file.read(1), file.transform, file.crs
    shape = values.shape
    areas, unit, _ = row_areas(affine, shape, None if crs is None else CRS.from_user_input(crs.to_wkt()))
    least = LEAST_PIXELS if min_area is None else ceil(min_area / float(np.median(areas)) - 1e-9)
    parts, measured = [], []
    for part in outlines(sieved(values, least, NODATA), NODATA):
        measured.append(part.edges.row_sums(areas, len(part.values)))
        # Polygons can only be simplified all together, and on the lattice of pixels: they are placed later.
        parts.append(part if simplify else replace(part, polygons=_placed(part.polygons, affine)))
    found = _joined([part.values for part in parts], np.int32)
    columns = {
        'label': np.array(['', *legend.labels], object)[found],
        'value': found,
        f'area_{"m2" if unit == "m2" else "px"}': _joined(measured, np.float64),
    }
    if confidence is not None:
        columns['confidence'] = _mean_confidence(parts, confidence, shape)
    geometry = _joined([part.polygons for part in parts], object)
    if simplify and len(geometry):
        together = _placed(with_shared_corners(geometry, shape), affine)
        geometry = shapely.coverage_simplify(together, simplify)
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=None if crs is None else crs.to_wkt())


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)


def _placed(polygons: NDArray[np.object_], affine: Affine) -> NDArray[np.object_]:
    t = affine
    placed: NDArray[np.object_] = shapely.transform(
        polygons, lambda x, y: (t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f), interleaved=False
    )
    return placed


def _mean_confidence(parts: Sequence[Outlines], path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Mean confidence of each polygon, 0 to 1."""
    edges, count = Edges.together(parts), sum(len(part.values) for part in parts)
    with open_raster(path) as file:
        if file.shape != shape:
            raise UsageError(f'{path} has {file.shape} rows and columns, the class map {shape}')
        total = edges.raster_sums(_rows(file), shape[1], count)
    pixels = edges.row_sums(np.ones(shape[0]), count)
    return np.asarray(total / (255 * np.maximum(pixels, 1)), np.float32)


def _rows(file: DatasetReader) -> Iterator[NDArray[np.integer]]:
    """Rows of a raster, read a row of blocks at a time."""
    step = file.block_shapes[0][0]
    for row in range(0, file.height, step):
        yield from file.read(1, window=((row, min(row + step, file.height)), (0, file.width)))

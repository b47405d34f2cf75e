"""A class map as polygons: areas of one class, named, measured and coloured."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.io import DatasetReader

from geores.cartography.areas import row_areas
from geores.cartography.gis_files import write_polygon_style
from geores.cartography.legend import NODATA, Legend
from geores.cartography.outlines import Edges, Outlines, outlines, sieved, with_shared_corners
from geores.errors import UsageError
from geores.io.whole_files import whole_files

__all__ = [
    'KINDS',
    'LEAST_PIXELS',
    'check_polygon_options',
    'class_polygons',
    'polygon_files',
    'write_polygons',
]

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
    """Files of polygons: their style first, the polygons last.

    Args:
        path: of the polygons.
    """
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
    with rasterio.open(classes) as file:
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
    with rasterio.open(path) as file:
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

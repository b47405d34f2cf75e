"""Tiles of a result as a table (GeoDataFrame, GeoParquet) and as rasters (numpy windows, xarray).

A model that answers once per tile has a grid of cells, of one stride each: the scores of a cell are the
means over the tiles that cover it, and its class is the label that dominates them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox

from geores.cartography.class_raster import ABSENT, PRESENT
from geores.classification.label_rule import assign_labels, dominant_label, label_names
from geores.classification.scored import Scored
from geores.errors import import_extra
from geores.inference.sinks import PixelTable, TileTable, class_dtype

if TYPE_CHECKING:
    import dask.array as da
    import geopandas as gpd
    import pyarrow as pa
    import xarray as xr

__all__ = [
    'cell_array',
    'cell_blocks',
    'class_cells',
    'confidence_cells',
    'geo_metadata',
    'georeferenced',
    'label_cells',
    'lazy_cells',
    'read_all',
    'read_lazily',
    'tile_frame',
    'tile_outlines',
    'write_tiles',
]

GROUP_ROWS = 16_384
"""Rows that are gathered before a row group is written."""


def tile_frame(result: Scored, rows: slice, cols: slice) -> 'gpd.GeoDataFrame':
    """The table of a block of tiles, one row per tile, in row-major order.

    Columns: `row`, `col`; one float32 column per label, NaN for skipped tiles; `labels`, those that the
    tile earns, best first; `label`, the one of the highest score, and `score` (a regression has none of
    these three); `valid_share` of the tile's pixels; `area` of the valid pixels that the tile owns, in
    square metres (in pixels where the scene has no CRS); `geometry`, the tile's outline.

    Args:
        result: scores of the scene.
        rows: of tiles.
        cols: of tiles.
    """
    tiling = result.plan.tiling
    scores = result.table.read('scores', rows, cols).reshape(-1, len(result.card.labels))
    row, col = (part.ravel() for part in np.mgrid[rows, cols])
    pixels = (tiling.y.stops - tiling.y.starts)[row] * (tiling.x.stops - tiling.x.starts)[col]
    earned = assign_labels(scores, result.thresholds, result.label_count)
    columns: dict[str, Any] = {'row': row.astype(np.int32), 'col': col.astype(np.int32)}
    columns |= {label: scores[:, k] for k, label in enumerate(result.card.labels)}
    if result.card.task != 'regression':
        columns['labels'] = label_names(scores, earned, result.card.labels)
        best = np.where(np.isnan(scores), -1, scores).argmax(axis=1)
        seen = ~np.isnan(scores[:, 0])
        columns['label'] = np.where(seen, np.asarray(result.card.labels, dtype=object)[best], None)
        columns['score'] = scores[np.arange(len(scores)), best]
    valid = result.table.read('valid', rows, cols).ravel()
    columns['valid_share'] = (valid / pixels).astype(np.float32)
    columns['area'] = result.table.read('owned', rows, cols).ravel() * result.pixel_area
    crs = str(result.grid.crs) if result.grid.crs is not None else None
    import geopandas as gpd

    return gpd.GeoDataFrame(columns, geometry=tile_outlines(result, row, col), crs=crs)


def tile_outlines(
    result: Scored, row: NDArray[np.int64] | None = None, col: NDArray[np.int64] | None = None
) -> NDArray[np.object_]:
    """Tiles as polygons in the grid's CRS, (n,).

    Args:
        result: scores of the scene.
        row: row of each tile, (n,); None for all tiles in row-major order.
        col: column of each tile, likewise.
    """
    tiling, affine = result.plan.tiling, result.grid.affine
    if row is None or col is None:
        row, col = np.indices(tiling.shape).reshape(2, -1)
    left, right = (affine.c + affine.a * edge[col] for edge in (tiling.x.starts, tiling.x.stops))
    top, bottom = (affine.f + affine.e * edge[row] for edge in (tiling.y.starts, tiling.y.stops))
    outlines: NDArray[np.object_] = shapely.box(
        np.minimum(left, right),
        np.minimum(top, bottom),
        np.maximum(left, right),
        np.maximum(top, bottom),
    )
    return outlines


def write_tiles(result: Scored, path: Path, metadata: dict[str, str]) -> None:
    """Write the table of all tiles as GeoParquet 1.1, a few thousand rows at a time.

    Args:
        result: scores of the scene.
        path: to write to.
        metadata: further keys of the file's metadata.
    """
    import pyarrow.parquet as pq

    extra = metadata | {'geo': json.dumps(geo_metadata(result))}
    writer = None
    try:
        for table in _tables(result):
            if writer is None:
                schema = table.schema.with_metadata({**(table.schema.metadata or {}), **extra})
                writer = pq.ParquetWriter(path, schema, compression='zstd')
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _tables(result: Scored) -> 'Iterator[pa.Table]':
    """The table in row groups."""
    import pyarrow as pa

    held: list[pa.Table] = []
    for rows, cols in result.blocks():
        frame = tile_frame(result, rows, cols)
        geometry = shapely.to_wkb(frame.geometry.to_numpy())
        table = pa.Table.from_pandas(frame.drop(columns='geometry'), preserve_index=False)
        if 'labels' in frame:
            labels = pa.array(frame['labels'].tolist(), pa.list_(pa.string()))
            table = table.set_column(table.schema.get_field_index('labels'), 'labels', labels)
            label = pa.array(frame['label'], pa.string(), from_pandas=True)
            table = table.set_column(table.schema.get_field_index('label'), 'label', label)
        held.append(table.append_column('geometry', pa.array(geometry, pa.binary())))
        if sum(map(len, held)) >= GROUP_ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def geo_metadata(result: Scored) -> dict[str, Any]:
    """The `geo` metadata that GeoParquet asks for."""
    box = result.grid.extent.boundingbox
    crs = result.grid.crs
    column = {
        'encoding': 'WKB',
        'geometry_types': ['Polygon'],
        'bbox': [box.left, min(box.bottom, box.top), box.right, max(box.bottom, box.top)],
        'crs': None if crs is None else crs.proj.to_json_dict(),
    }
    return {'version': '1.1.0', 'primary_column': 'geometry', 'columns': {'geometry': column}}


Values: TypeAlias = 'NDArray[Any] | da.Array'
Cells: TypeAlias = 'NDArray[np.float32] | da.Array'

BLOCK = 256
"""Cells along each side of a block."""


def read_all(table: PixelTable, name: str) -> NDArray[Any]:
    """A whole raster of a table, (..., height, width)."""
    tiling = table.plan.tiling
    return table.read(name, slice(0, tiling.height), slice(0, tiling.width))


def read_lazily(table: PixelTable, name: str, dtype: DTypeLike, bands: int | None = None) -> 'da.Array':
    """A raster of a table as a dask array with one block per chunk.

    Args:
        table: what to read.
        name: of the raster.
        dtype: of its values.
        bands: number of its bands; None for a raster without that axis.

    Raises:
        MissingExtraError: if dask is not installed.
    """
    import_extra('dask.array', 'reading lazily needs dask')
    import dask.array as da
    from dask.delayed import delayed

    def block(row: int, col: int) -> Any:  # noqa: ANN401 - da.Array
        rows, cols = table.plan.owned(table.plan.chunk(row, col))
        lead = () if bands is None else (bands,)
        shape = (*lead, rows.stop - rows.start, cols.stop - cols.start)
        return da.from_delayed(delayed(table.read, pure=False)(name, rows, cols), shape, np.dtype(dtype))

    height, width = table.plan.shape
    whole: da.Array = da.block([[block(row, col) for col in range(width)] for row in range(height)])
    return whole


def georeferenced(
    values: Values, grid: GeoBox, name: str, labels: Sequence[str] | None = None
) -> 'xr.DataArray':
    """Values of a grid as an array with coordinates of pixel centres and `rio.crs`.

    Args:
        values: (y, x), or (label, y, x).
        grid: on which the values lie.
        name: of the array.
        labels: names along the first axis; None where there is no such axis.
    """
    import rioxarray  # noqa: F401 - adds .rio, and takes a second with dask
    import xarray as xr

    rows, cols = grid.shape.yx
    coords: dict[str, Any] = {
        'y': grid.affine.f + grid.affine.e * (np.arange(rows) + 0.5),
        'x': grid.affine.c + grid.affine.a * (np.arange(cols) + 0.5),
    }
    lead: tuple[str, ...] = ()
    if labels is not None:
        lead, coords['label'] = ('label',), list(labels)
    array = xr.DataArray(values, dims=(*lead, 'y', 'x'), coords=coords, name=name)
    if grid.crs is not None:
        array = array.rio.write_crs(str(grid.crs))
    written: xr.DataArray = array.rio.write_transform(grid.affine)
    return written


def cell_blocks(result: Scored) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of blocks that partition the grid of cells."""
    rows, cols = result.plan.tiling.cell_shape
    for row in range(0, rows, BLOCK):
        for col in range(0, cols, BLOCK):
            yield slice(row, min(row + BLOCK, rows)), slice(col, min(col + BLOCK, cols))


def class_cells(result: Scored, rows: slice, cols: slice) -> NDArray[Any]:
    """Classes of a block of cells: 0 for no data or no label, i for the i-th label of the card."""
    means, _ = result.table.cells(rows, cols)
    return (dominant_label(means, result.thresholds) + 1).astype(class_dtype(len(result.card.labels)))


def confidence_cells(result: Scored, rows: slice, cols: slice) -> NDArray[np.float32]:
    """Mean score of the best label of each cell of a block, NaN where there is no data."""
    means, _ = result.table.cells(rows, cols)
    best: NDArray[np.float32] = means.max(axis=0)
    return best


def label_cells(result: Scored, rows: slice, cols: slice) -> NDArray[np.uint8]:
    """Presence of each label in a block of cells, (K, rows, cols): 0 no data, 1 absent, 2 present."""
    means, _ = result.table.cells(rows, cols)
    present = means >= result.thresholds[:, None, None]
    values = np.where(present, PRESENT, ABSENT)
    return np.where(np.isnan(means), 0, values).astype(np.uint8)


def lazy_cells(table: TileTable, labels: int) -> tuple[Cells, Cells]:
    """Mean scores and valid shares of all cells as dask arrays with one block per chunk.

    Args:
        table: what to read.
        labels: number of labels.

    Returns:
        Mean scores (label, y, x), and shares (y, x).
    """
    import dask.array as da
    from dask.delayed import delayed

    def row_of(row: int) -> list[tuple[Cells, Cells]]:
        blocks = []
        for col in range(table.plan.shape[1]):
            rows, cols = table.plan.cells(table.plan.chunk(row, col))
            shape = (rows.stop - rows.start, cols.stop - cols.start)
            both = delayed(table.cells, pure=False, nout=2)(rows, cols)
            means = da.from_delayed(both[0], (labels, *shape), np.float32)
            blocks.append((means, da.from_delayed(both[1], shape, np.float32)))
        return blocks

    grid = [row_of(row) for row in range(table.plan.shape[0])]
    means = da.block([[block[0] for block in line] for line in grid])
    return means, da.block([[block[1] for block in line] for line in grid])


def cell_array(means: Cells, share: Cells, labels: Sequence[str], grid: GeoBox) -> 'xr.DataArray':
    """Mean scores of cells as an array, with the shares of valid pixels as a coordinate.

    Args:
        means: (label, y, x).
        share: (y, x).
        labels: names along the first axis.
        grid: of cells.
    """
    array = georeferenced(means, grid, 'scores', labels)
    return array.assign_coords(valid_share=(('y', 'x'), share))

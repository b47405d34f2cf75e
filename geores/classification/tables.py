"""The table of tiles: in memory as a GeoDataFrame, on disk as GeoParquet in row groups.

Cell means as georeferenced xarray, from numpy or dask.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.classification.options import assign, names
from geores.classification.scored import Scored
from geores.inference.cells import TileTable

if TYPE_CHECKING:
    import dask.array as da

__all__ = ['Cells', 'cell_array', 'geo_metadata', 'lazy_cells', 'tile_frame', 'tile_outlines', 'write_tiles']

GROUP_ROWS = 16_384


def tile_frame(result: Scored, rows: slice, cols: slice) -> gpd.GeoDataFrame:
    """A block of tiles, one row each, row-major.

    Columns: ``row``, ``col``; a float32 column per label, NaN for skipped tiles; ``labels``, those
    that the tile earns, best first, ``label``, the strongest of all, and ``score``, its score (a regression
    has none of these three); ``valid_share`` of its pixels; ``area`` in
    square metres (pixels where the scene has no CRS) of the valid pixels that it owns; ``geometry``,
    its outline.
    """
    tiling = result.plan.tiling
    scores = result.table.read('scores', rows, cols).reshape(-1, len(result.card.labels))
    row, col = (part.ravel() for part in np.mgrid[rows, cols])
    pixels = (tiling.y.stops - tiling.y.starts)[row] * (tiling.x.stops - tiling.x.starts)[col]
    earned = assign(scores, result.limits, result.label_count)
    columns: dict[str, Any] = {'row': row.astype(np.int32), 'col': col.astype(np.int32)}
    columns |= {label: scores[:, k] for k, label in enumerate(result.card.labels)}
    if result.card.task != 'regression':
        columns['labels'] = names(scores, earned, result.card.labels)
        best = np.where(np.isnan(scores), -1, scores).argmax(axis=1)
        seen = ~np.isnan(scores[:, 0])
        columns['label'] = np.where(seen, np.asarray(result.card.labels, dtype=object)[best], None)
        columns['score'] = scores[np.arange(len(scores)), best]
    valid = result.table.read('valid', rows, cols).ravel()
    columns['valid_share'] = (valid / pixels).astype(np.float32)
    columns['area'] = result.table.read('owned', rows, cols).ravel() * result.pixel_area
    crs = str(result.grid.crs) if result.grid.crs is not None else None
    return gpd.GeoDataFrame(columns, geometry=tile_outlines(result, row, col), crs=crs)


def tile_outlines(
    result: Scored, row: NDArray[np.int64] | None = None, col: NDArray[np.int64] | None = None
) -> NDArray[np.object_]:
    """Tiles as polygons in the grid's CRS, (n,).

    Args:
        result: whose tiles.
        row: of each tile, (n,); all tiles, row-major, where not given.
        col: of each tile, likewise.
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
    """Write the table as GeoParquet 1.1, a few thousand rows at a time.

    Args:
        result: whose tiles.
        path: the file.
        metadata: further keys of the file's metadata.
    """
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


def _tables(result: Scored) -> Iterator[pa.Table]:
    """Rows of tiles gathered to row groups."""
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
    """The ``geo`` metadata of GeoParquet."""
    box = result.grid.extent.boundingbox
    crs = result.grid.crs
    column = {
        'encoding': 'WKB',
        'geometry_types': ['Polygon'],
        'bbox': [box.left, min(box.bottom, box.top), box.right, max(box.bottom, box.top)],
        'crs': None if crs is None else crs.proj.to_json_dict(),
    }
    return {'version': '1.1.0', 'primary_column': 'geometry', 'columns': {'geometry': column}}


Cells: TypeAlias = 'NDArray[np.float32] | da.Array'


def lazy_cells(table: TileTable, labels: int) -> tuple[Cells, Cells]:
    """Cell means and valid shares as dask arrays, a block for each chunk."""
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


def cell_array(means: Cells, share: Cells, labels: tuple[str, ...], grid: GeoBox) -> xr.DataArray:
    """Cell means as a georeferenced array, from numpy or dask."""
    import rioxarray  # noqa: F401 - adds .rio

    rows, cols = grid.shape.yx
    xs = grid.affine.c + grid.affine.a * (np.arange(cols) + 0.5)
    ys = grid.affine.f + grid.affine.e * (np.arange(rows) + 0.5)
    array = xr.DataArray(
        means,
        dims=('label', 'y', 'x'),
        coords={'label': list(labels), 'y': ys, 'x': xs, 'valid_share': (('y', 'x'), share)},
        name='scores',
    )
    if grid.crs is not None:
        array = array.rio.write_crs(str(grid.crs))
    written: xr.DataArray = array.rio.write_transform(grid.affine)
    return written

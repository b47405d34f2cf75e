"""The table of tiles: in memory as a GeoDataFrame, on disk as GeoParquet in row groups."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from geores.classification.options import assign_labels, label_names
from geores.classification.scored import Scored

__all__ = ['geo_metadata', 'tile_frame', 'tile_outlines', 'write_tiles']

GROUP_ROWS = 16_384
"""Rows that are gathered before a row group is written."""


def tile_frame(result: Scored, rows: slice, cols: slice) -> gpd.GeoDataFrame:
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
    """The table in row groups."""
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

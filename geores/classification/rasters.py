"""Rasters of a result: windows of numpy for files, and georeferenced xarray, from numpy or dask.

A model that answers once per tile has a grid of cells, of one stride each: the scores of a cell are the
means over the tiles that cover it, and its class is the label that dominates them.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox

from geores.cartography.class_raster import ABSENT, PRESENT
from geores.classification.options import dominant_label
from geores.classification.scored import Scored
from geores.extras import import_extra
from geores.inference.cells import TileTable
from geores.inference.pixels import PixelTable, class_dtype

if TYPE_CHECKING:
    import dask.array as da

__all__ = [
    'cell_array',
    'cell_blocks',
    'class_cells',
    'confidence_cells',
    'georeferenced',
    'label_cells',
    'lazy_cells',
    'read_all',
    'read_lazily',
]

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
) -> xr.DataArray:
    """Values of a grid as an array with coordinates of pixel centres and `rio.crs`.

    Args:
        values: (y, x), or (label, y, x).
        grid: on which the values lie.
        name: of the array.
        labels: names along the first axis; None where there is no such axis.
    """
    import rioxarray  # noqa: F401 - adds .rio

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


def cell_array(means: Cells, share: Cells, labels: Sequence[str], grid: GeoBox) -> xr.DataArray:
    """Mean scores of cells as an array, with the shares of valid pixels as a coordinate.

    Args:
        means: (label, y, x).
        share: (y, x).
        labels: names along the first axis.
        grid: of cells.
    """
    array = georeferenced(means, grid, 'scores', labels)
    return array.assign_coords(valid_share=(('y', 'x'), share))

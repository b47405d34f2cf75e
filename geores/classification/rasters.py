"""Rasters of a result as georeferenced xarray, from numpy or dask.

Class maps of models that answer once per tile: a cell has the label that its tiles give it.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox

from geores.cartography.class_raster import ABSENT, PRESENT
from geores.classification.options import dominant
from geores.classification.scored import Scored
from geores.errors import UsageError
from geores.inference.pixels import PixelTable, class_dtype

if TYPE_CHECKING:
    import dask.array as da

__all__ = [
    'cell_blocks',
    'class_cells',
    'confidence_cells',
    'label_cells',
    'read_all',
    'read_lazily',
    'written_on',
]

Values: TypeAlias = 'NDArray[Any] | da.Array'


def read_all(table: PixelTable, name: str) -> NDArray[Any]:
    """A whole raster of a table, (..., height, width)."""
    tiling = table.plan.tiling
    return table.read(name, slice(0, tiling.height), slice(0, tiling.width))


def read_lazily(table: PixelTable, name: str, dtype: DTypeLike, bands: int | None = None) -> 'da.Array':
    """A raster of a table as a dask array, a block for each chunk.

    Args:
        table: what to read.
        name: of the raster.
        dtype: of its values.
        bands: how many it has; None for one without that axis.

    Raises:
        UsageError: dask is not installed.
    """
    try:
        import dask.array as da
        from dask.delayed import delayed
    except ImportError as error:
        raise UsageError('reading lazily needs dask: pip install "geores[dask]"') from error

    def block(row: int, col: int) -> Any:  # noqa: ANN401 - da.Array
        rows, cols = table.plan.owned(table.plan.chunk(row, col))
        lead = () if bands is None else (bands,)
        shape = (*lead, rows.stop - rows.start, cols.stop - cols.start)
        return da.from_delayed(delayed(table.read, pure=False)(name, rows, cols), shape, np.dtype(dtype))

    height, width = table.plan.shape
    whole: da.Array = da.block([[block(row, col) for col in range(width)] for row in range(height)])
    return whole


def written_on(values: Values, grid: GeoBox, name: str, labels: Sequence[str] | None = None) -> xr.DataArray:
    """Values on a grid, with coordinates of pixel centres and `rio.crs`.

    Args:
        values: (y, x), or (label, y, x).
        grid: whose pixels they are.
        name: of the array.
        labels: names along the first axis, where there is one.
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


BLOCK = 256

Part = tuple[slice, slice]


def cell_blocks(result: Scored) -> Iterator[Part]:
    """Blocks of cells that partition the grid of cells."""
    rows, cols = result.plan.tiling.cell_shape
    for row in range(0, rows, BLOCK):
        for col in range(0, cols, BLOCK):
            yield slice(row, min(row + BLOCK, rows)), slice(col, min(col + BLOCK, cols))


def class_cells(result: Scored, rows: slice, cols: slice) -> NDArray[Any]:
    """Classes of a block of cells: 0 for no data or no label, i for the i-th label of the card."""
    means, _ = result.table.cells(rows, cols)
    return (dominant(means, result.limits) + 1).astype(class_dtype(len(result.card.labels)))


def confidence_cells(result: Scored, rows: slice, cols: slice) -> NDArray[np.float32]:
    """Mean probability of the strongest label of each cell, NaN where there is no data."""
    means, _ = result.table.cells(rows, cols)
    best: NDArray[np.float32] = means.max(axis=0)
    return best


def label_cells(result: Scored, rows: slice, cols: slice) -> NDArray[np.uint8]:
    """Whether each label is present in a block of cells, (K, rows, cols): 0 no data, 1 absent, 2 present."""
    means, _ = result.table.cells(rows, cols)
    present = means >= result.limits[:, None, None]
    values = np.where(present, PRESENT, ABSENT)
    return np.where(np.isnan(means), 0, values).astype(np.uint8)

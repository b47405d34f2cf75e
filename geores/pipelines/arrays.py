"""Cell means as georeferenced xarray, from numpy or dask."""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.inference.cells import TileTable

if TYPE_CHECKING:
    import dask.array as da

__all__ = ['Cells', 'cell_array', 'lazy_cells']

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

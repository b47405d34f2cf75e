"""What classifying a scene gives: scores, tiles, shares of area, and files of them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas as gpd
import xarray as xr

from geores.pipelines.arrays import cell_array, lazy_cells
from geores.pipelines.outputs import save
from geores.pipelines.scored import Scored
from geores.pipelines.tables import tile_frame

__all__ = ['Classification']


@dataclass(frozen=True)
class Classification(Scored):
    """A classified scene: what its attributes are is said at `Scored`."""

    @cached_property
    def scores(self) -> xr.DataArray:
        """Cell means: (label, y, x) float32, NaN where invalid, with ``valid_share`` (y, x) beside.

        Coordinates are cell centres; ``rio.crs`` is the grid's CRS. Backed by dask exactly when the
        scene is.
        """
        if self.scene.is_lazy:
            means, share = lazy_cells(self.table, len(self.card.labels))
        else:
            rows, cols = self.plan.tiling.cell_shape
            means, share = self.table.cells(slice(0, rows), slice(0, cols))
        return cell_array(means, share, self.card.labels, self.cell_grid)

    @cached_property
    def tiles(self) -> gpd.GeoDataFrame:
        """Every tile: polygon, a column of scores a label, ``labels``, ``valid_share``, ``area``."""
        rows, cols = self.plan.tiling.shape
        return tile_frame(self, slice(0, rows), slice(0, cols))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write ``<name>_scores.tif``, ``<name>_tiles.parquet``, ``<name>_map.png`` and ``run.json``.

        Args:
            folder: created where absent.
            overwrite: replace files of an earlier run.

        Returns:
            Paths under ``scores``, ``tiles``, ``map`` and ``run``.

        Raises:
            OutputError: a file of that name exists, or the folder cannot be written.
            WriteError: writing failed, as on a full disk; no file is left half written.
        """
        return save(self, Path(folder), overwrite=overwrite)

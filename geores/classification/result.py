"""What classifying a scene tile by tile gives: scores, tiles, class maps and areas."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.cartography.class_raster import confidence_values
from geores.classification.outputs import draw_map, save
from geores.classification.pixel_map import PixelMap
from geores.classification.scene_result import Confidence, SceneResult
from geores.classification.scored import Scored
from geores.classification.tables import (
    cell_array,
    cell_blocks,
    class_cells,
    confidence_cells,
    georeferenced,
    lazy_cells,
    tile_frame,
)

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    import xarray as xr

    from geores.cartography.sheet import Sheet

__all__ = ['Classification', 'PixelClassification', 'Result']


@dataclass(frozen=True, repr=False)
class Classification(Scored, SceneResult):
    """A scene classified tile by tile; `Scored` describes the attributes."""

    @property
    def name(self) -> str:
        """The scene's name, with which file names begin."""
        return self.scene.name

    @property
    def class_grid(self) -> GeoBox:
        """The grid of the class map: that of cells, which may reach past the scene."""
        return self.cell_grid

    @cached_property
    def scores(self) -> 'xr.DataArray':
        """Mean scores of the cells: (label, y, x) float32, NaN where there is no data.

        Coordinates are cell centres and `valid_share` (y, x), the share of valid pixels of each cell;
        `rio.crs` is the grid's CRS. Backed by dask exactly when the scene is.
        """
        if self.scene.is_lazy:
            means, share = lazy_cells(self.table, len(self.card.labels))
        else:
            rows, cols = self.plan.tiling.cell_shape
            means, share = self.table.cells(slice(0, rows), slice(0, cols))
        return cell_array(means, share, self.card.labels, self.cell_grid)

    @cached_property
    def classes(self) -> 'xr.DataArray':
        """The class map: the dominant label of each cell, (y, x) uint8 (uint16 above 254 labels), 0 = none.

        0 stands for no data, and for cells where no label reaches its threshold.
        """
        rows, cols = self.plan.tiling.cell_shape
        values = class_cells(self, slice(0, rows), slice(0, cols))
        written: xr.DataArray = georeferenced(values, self.cell_grid, 'classes').rio.write_nodata(0)
        return written

    @cached_property
    def confidence(self) -> 'xr.DataArray':
        """Mean score of the best label of each cell: (y, x) float32, NaN where there is no data."""
        rows, cols = self.plan.tiling.cell_shape
        values = confidence_cells(self, slice(0, rows), slice(0, cols))
        return georeferenced(values, self.cell_grid, 'confidence')

    @cached_property
    def tiles(self) -> 'gpd.GeoDataFrame':
        """One row per tile: its polygon, one column of scores per label, `labels`, `valid_share`, `area`.

        `label` and `score` are the label of the highest score and that score; a regression has neither.
        """
        rows, cols = self.plan.tiling.shape
        return tile_frame(self, slice(0, rows), slice(0, cols))

    @cached_property
    def areas(self) -> 'pd.DataFrame':
        """Areas of the tiles with each label, largest first: `label`, `value`, `area_m2`, `share`.

        These are areas of whole tiles, not of what they show: a tile that a river crosses counts whole.
        Without a CRS the column is `area_px`.
        """
        import pandas as pd

        classified = self.valid_share * self.plan.tiling.height * self.plan.tiling.width * self.pixel_area
        values = {label: value for value, label in enumerate(self.card.labels, start=1)}
        return pd.DataFrame({
            'label': list(self.shares),
            'value': [values[label] for label in self.shares],
            'area_m2' if self.gsd is not None else 'area_px': [
                share * classified for share in self.shares.values()
            ],
            'share': list(self.shares.values()),
        })  # fmt: skip

    @cached_property
    def sureness(self) -> Confidence | None:
        """Confidence of the tiles' labels; None for multi-label models and regressions."""
        if self.card.task != 'single-label':
            return None
        best, owned = [], []
        for rows, cols in self.blocks():
            best.append(self.table.read('scores', rows, cols).max(axis=-1).ravel())
            owned.append(self.table.read('owned', rows, cols).ravel())
        return Confidence.of(np.concatenate(best), np.concatenate(owned), 'tiles')

    def class_blocks(self) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
        """The class map in pieces that partition the grid of cells."""
        return ((rows, cols, class_cells(self, rows, cols)) for rows, cols in cell_blocks(self))

    def confidence_blocks(self) -> Iterator[tuple[slice, slice, NDArray[np.uint8]]]:
        """Confidences times 255 in pieces that partition the grid of cells, 0 where there is no data."""
        return (
            (rows, cols, confidence_values(confidence_cells(self, rows, cols)))
            for rows, cols in cell_blocks(self)
        )

    def _draw(self) -> 'Sheet':
        return draw_map(self)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write the files of a result.

        Always `<name>_scores.tif`, `<name>_tiles.parquet`, `<name>_map.png` and `run.json`. With one
        label per tile `<name>_classes.tif` and `<name>_confidence.tif` (and `polygons`, where asked
        for); with any number of them `<name>_labels.tif`.

        Args:
            folder: created where absent.
            overwrite: replace files of an earlier run.

        Returns:
            Paths under `scores`, `tiles`, `map`, `run` and the kinds above.

        Raises:
            OutputError: if a file of that name exists, or the folder cannot be written.
            WriteError: if writing failed, as on a full disk; no file is left half written.
        """
        return save(self, Path(folder), overwrite=overwrite)


@dataclass(frozen=True, repr=False)
class PixelClassification(PixelMap):
    """A scene classified pixel by pixel; `PixelMap` describes the attributes."""

    def _draw(self) -> 'Sheet':
        return draw_map(self)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write `<name>_classes.tif` with its style, `<name>_confidence.tif`, a picture and `run.json`.

        With `probabilities`, `<name>_probabilities.tif`; with `polygons`, `<name>_polygons.gpkg` or
        `.parquet`.

        Args:
            folder: created where absent.
            overwrite: replace files of an earlier run.

        Returns:
            Paths under `classes`, `confidence`, `map`, `run` and what else was asked for.

        Raises:
            OutputError: if a file of that name exists, or the folder cannot be written.
            WriteError: if writing failed, as on a full disk; no file is left half written.
        """
        return save(self, Path(folder), overwrite=overwrite)


Result: TypeAlias = Classification | PixelClassification
"""What `classify` returns: labels by tile, or by pixel."""

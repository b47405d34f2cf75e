"""The result of classifying a scene pixel by pixel: a class map, its confidence and its areas."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.card import ModelCard
from geores.cartography.areas import Tally, area_table
from geores.classification.scene_result import Confidence, RunInfo, SceneResult
from geores.classification.tables import georeferenced, read_all, read_lazily
from geores.errors import UsageError
from geores.inference.plan import PixelPlan
from geores.inference.prepared import SceneWork
from geores.inference.reader import ChunkStore
from geores.inference.sinks import (
    NO_PROBABILITY,
    PROBABILITY_STEPS,
    STEPS,
    ClassSink,
    LabelPixels,
    PixelTable,
    Quicklook,
    class_dtype,
)
from geores.scenes import Scene

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ['PixelMap']


@dataclass(frozen=True, repr=False)
class PixelMap(SceneResult):
    """The class map of a scene, pixel by pixel: what a `PixelClassification` draws and saves.

    Attributes:
        scene: what was classified.
        card: of the model that did.
        grid: the target grid, whose pixels have labels.
        gsd: metres on the ground per pixel of it; None where the scene has no CRS.
        plan: blocks and chunks.
        store: results of the chunks.
        look: how the picture of the scene was kept.
        info: how the result was computed.
        work: what was computed; probabilities are computed by it when they are asked for.
    """

    scene: Scene
    card: ModelCard
    grid: GeoBox
    gsd: float | None
    plan: PixelPlan
    store: ChunkStore = field(repr=False)
    look: Quicklook = field(repr=False)
    info: RunInfo = field(repr=False)
    work: SceneWork = field(repr=False)

    @cached_property
    def table(self) -> PixelTable:
        """Classes and confidences, read a window at a time."""
        return PixelTable(self.plan, self.store)

    @property
    def name(self) -> str:
        """The scene's name, with which file names begin."""
        return self.scene.name

    @property
    def class_grid(self) -> GeoBox:
        """The grid of the class map."""
        return self.grid

    @cached_property
    def classes(self) -> 'xr.DataArray':
        """The class map: (y, x) uint8 (uint16 above 254 labels), 0 = no data, i = i-th label of the card.

        `rio.crs` is the grid's CRS and `rio.nodata` 0; `flag_values` and `flag_meanings` say what values
        mean. Backed by dask exactly when the scene is.
        """
        array = self._raster('classes', class_dtype(len(self.card.labels)))
        labels = self.card.labels
        array.attrs |= {
            'flag_values': list(range(1, len(labels) + 1)),
            'flag_meanings': ' '.join(label.replace(' ', '_') for label in labels),
        }
        written: xr.DataArray = array.rio.write_nodata(0)
        return written

    @cached_property
    def confidence(self) -> 'xr.DataArray':
        """Probability of each pixel's label: (y, x) float32, NaN where there is no data."""
        stored = self._raster('confidence', np.uint8)
        return (stored.where(stored > 0) / STEPS).astype(np.float32)

    def _raster(self, name: str, dtype: Any) -> 'xr.DataArray':  # noqa: ANN401 - a numpy type
        lazy = self.scene.is_lazy
        return georeferenced(
            read_lazily(self.table, name, dtype) if lazy else read_all(self.table, name), self.grid, name
        )

    @cached_property
    def scores(self) -> 'xr.DataArray':
        """Probabilities: (label, y, x) float32, NaN where there is no data, in steps of 1/254.

        Backed by dask: a chunk is computed when something of it is asked for, anew where `probabilities` was
        not asked of `classify`.

        Raises:
            UsageError: if dask is not installed.
        """
        kept = self.info.options.get('probabilities')
        table = self.table if kept else PixelTable(self.plan, self._probable().defer())
        stored = read_lazily(table, 'probabilities', np.uint8, len(self.card.labels))
        array = georeferenced(stored, self.grid, 'scores', self.card.labels)
        return (array.where(array != NO_PROBABILITY) / PROBABILITY_STEPS).astype(np.float32)

    def _probable(self) -> SceneWork:
        """The same work, which keeps probabilities too."""
        from geores.runtime.predictor import Predictor

        step = self.work.step
        if not isinstance(step, Predictor):
            raise UsageError('probabilities were not kept by the shards: classify with --probabilities')
        keeping = Predictor(
            step.model,
            step.precision,
            outputs=LabelPixels(self.plan.tiling, probabilities=True),
            runtime=step.runtime,
        )
        return replace(self.work, step=keeping, sinks=(ClassSink(len(self.card.labels), probabilities=True),))

    @cached_property
    def tally(self) -> Tally:
        """Pixels and areas by class."""
        tally = Tally.of(self.grid, self.legend)
        for rows, _, values in self.class_blocks():
            tally.add(rows, values)
        return tally

    @cached_property
    def areas(self) -> 'pd.DataFrame':
        """Mapped areas, largest first: `label`, `value`, `pixels`, `area_m2`, `share`.

        Without a CRS the column is `area_px`. They are what the map shows, not an estimate of the truth:
        errors of the map are not corrected (`geores.accuracy` does so).
        """
        return area_table(self.legend, self.tally)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Share of the valid area that carries each label, largest first; all labels of the card."""
        areas = self.tally.areas[1:]
        shares = areas / max(float(areas.sum()), 1e-300)
        order = np.argsort(-shares, kind='stable')
        return {self.card.labels[k]: float(shares[k]) for k in order}

    @property
    def figures(self) -> dict[str, dict[str, float | None]]:
        """Figures of the whole scene for JSON: shares under 'labels'."""
        return {'labels': dict(self.shares)}

    @property
    def valid_share(self) -> float:
        """Share of the grid's pixels that are valid."""
        return float(self.table.counts.sum()) / (self.plan.tiling.height * self.plan.tiling.width)

    @cached_property
    def sureness(self) -> Confidence | None:
        """Confidence of the pixels' labels; None where there is none."""
        counts = self.table.counts.sum(axis=0)
        return Confidence.of(np.arange(len(counts)) / STEPS, counts, 'pixels')

    def class_blocks(self) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
        """The class map in pieces that partition the grid."""
        return self.table.blocks('classes')

    def confidence_blocks(self) -> Iterator[tuple[slice, slice, NDArray[np.uint8]]]:
        """Confidences times 255 in pieces that partition the grid, 0 where there is no data."""
        return self.table.blocks('confidence')

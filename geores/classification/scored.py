"""Scores of the tiles of a scene, which may be more than memory holds, and shares of area."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.card import ModelCard
from geores.classification.options import assign_labels, label_thresholds
from geores.inference.cells import Quicklook, TileTable
from geores.inference.plan import TilePlan
from geores.inference.store import ChunkStore
from geores.scenes import Scene

__all__ = ['RunInfo', 'Scored']


@dataclass(frozen=True)
class RunInfo:
    """How a result was computed.

    Attributes:
        device: where the network ran.
        precision: of the forward pass.
        seconds: duration of this run, from the first pixel read to the last score.
        tiles: tiles computed in this run; fewer than all where an earlier run was resumed.
        options: options of the user that have a value.
        key: everything that decides the scores.
        notes: what the user should know, one sentence each.
    """

    device: str
    precision: str
    seconds: float
    tiles: int
    options: Mapping[str, Any]
    key: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def tiles_per_second(self) -> float:
        """Tiles computed per second in this run."""
        return self.tiles / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Scored:
    """The scores of all tiles of a scene, read from a store a window at a time.

    Attributes:
        scene: what was classified.
        card: of the model that did.
        grid: the target grid.
        gsd: metres on the ground per pixel of the target grid; None where the scene has no CRS.
        plan: tiles and chunks.
        store: results of the chunks.
        look: how the picture of the scene was kept.
        threshold: threshold given by the user for all labels; None where there is none.
        top_k: most labels per tile; None where not given.
        info: how the result was computed.
    """

    scene: Scene
    card: ModelCard
    grid: GeoBox
    gsd: float | None
    plan: TilePlan
    store: ChunkStore = field(repr=False)
    look: Quicklook = field(repr=False)
    threshold: float | None
    top_k: int | None
    info: RunInfo = field(repr=False)

    @property
    def name(self) -> str:
        """The scene's name, with which file names begin."""
        return self.scene.name

    @cached_property
    def table(self) -> TileTable:
        """Scores by tile and by cell, read a window at a time."""
        return TileTable(self.plan, self.store)

    @property
    def cell_grid(self) -> GeoBox:
        """The grid of cells; the last row and column may reach past the scene."""
        side = Affine.scale(self.plan.tiling.stride)
        return GeoBox(self.plan.tiling.cell_shape, self.grid.affine @ side, self.grid.crs)

    @property
    def pixel_area(self) -> float:
        """Square metres on the ground of a pixel of the grid; 1 where the scene has no CRS."""
        return 1.0 if self.gsd is None else self.gsd**2

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """The threshold of each label, (K,)."""
        return label_thresholds(self.card, self.threshold)

    @property
    def label_count(self) -> int | None:
        """Most labels per tile; None for any number."""
        return self.top_k or (1 if self.card.task == 'single-label' else None)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Share of the classified area that carries each label, largest first.

        Areas are counted in valid pixels, each of which belongs to one tile. With a multi-label model the
        shares may add up to more than 1. A regression has no labels and no shares: see `means`.
        """
        if self.card.task == 'regression':
            return {}
        labelled, classified = self._pixels
        shares = labelled / max(classified, 1)
        order = np.argsort(-shares, kind='stable')
        return {self.card.labels[k]: float(shares[k]) for k in order}

    @property
    def figures(self) -> dict[str, dict[str, float | None]]:
        """Figures of the whole scene for JSON: shares under 'labels', or a regression's 'means'."""
        if self.card.task != 'regression':
            return {'labels': dict(self.shares)}
        return {'means': {label: None if np.isnan(mean) else mean for label, mean in self.means.items()}}

    @property
    def valid_share(self) -> float:
        """Share of the grid's pixels that are valid and lie in a classified tile, from 0 to 1."""
        return self._pixels[1] / (self.plan.tiling.height * self.plan.tiling.width)

    @cached_property
    def _pixels(self) -> tuple[NDArray[np.float64], int]:
        """Valid pixels owned by the tiles that earn each label, (K,), and by all classified tiles."""
        labelled, classified = np.zeros(len(self.card.labels)), 0
        count = 1 if self.card.task == 'single-label' else self.label_count
        for rows, cols in self.blocks():
            scores = self.table.read('scores', rows, cols)
            owned = self.table.read('owned', rows, cols)
            earned = assign_labels(scores, self.thresholds, count)
            labelled += (earned * owned[..., None]).sum(axis=(0, 1))
            classified += int(owned[~np.isnan(scores[..., 0])].sum())
        return labelled, classified

    @cached_property
    def means(self) -> dict[str, float]:
        """Mean score of each label, or mean value of a regression, over the classified area.

        Tiles are weighted by the valid pixels that they own; NaN where nothing was classified.
        """
        total, classified = np.zeros(len(self.card.labels)), self._pixels[1]
        for rows, cols in self.blocks():
            scores = np.nan_to_num(self.table.read('scores', rows, cols)).astype(np.float64)
            total += (scores * self.table.read('owned', rows, cols)[..., None]).sum(axis=(0, 1))
        means = total / classified if classified else np.full(len(total), np.nan)
        return dict(zip(self.card.labels, means.tolist(), strict=True))

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of tiles of each chunk."""
        return ((chunk.rows, chunk.cols) for chunk in self.plan)

"""A small picture of the scene, kept while it streams by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geores.inference.engine import Region
from geores.inference.plan import AnyPlan
from geores.inference.store import Arrays, ChunkStore

__all__ = ['Quicklook']


class Quicklook:
    """Keeps every n-th pixel of some bands, for a picture of the scene without reading it again.

    Args:
        bands: positions of the bands among those that are read.
        step: n.
    """

    def __init__(self, bands: Sequence[int], step: int) -> None:
        self.bands = list(bands)
        self.step = step

    def reduce(self, plan: AnyPlan, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> Arrays:
        """Every n-th pixel of those that the chunk owns, NaN where invalid."""
        rows, cols = (self.pixels(window) for window in plan.owned(region.chunk))
        picked = np.ix_(rows - region.top, cols - region.left)
        look = np.stack([region.values[band][picked] for band in self.bands])
        look[:, ~region.valid[picked]] = np.nan
        return {'quicklook': look}

    def pixels(self, window: slice) -> NDArray[np.int64]:
        """Which pixels of a window are kept, along one axis."""
        return np.arange(-(-window.start // self.step) * self.step, window.stop, self.step)

    def assemble(self, plan: AnyPlan, store: ChunkStore) -> NDArray[np.float32]:
        """The whole picture, (bands, h, w)."""
        shape = (-(-plan.tiling.height // self.step), -(-plan.tiling.width // self.step))
        picture = np.full((len(self.bands), *shape), np.nan, np.float32)
        for chunk in plan:
            rows, cols = (self.pixels(window) // self.step for window in plan.owned(chunk))
            picture[:, rows[:, None], cols[None]] = store.get(chunk.index)['quicklook']
        return picture

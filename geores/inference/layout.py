"""Where a model looks at a scene: the grid, the tiles or blocks on it, and the mask over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geores.card import ModelCard
from geores.errors import OutputError
from geores.grid import Blocks, Tiling
from geores.inference.masks import MaskChoice, choose_mask
from geores.inference.target import Target, target_grid
from geores.scenes import Scene

__all__ = ['SceneLayout', 'SceneOptions', 'lay_out_scene']

ROW_BYTES = 200
"""Size of a row of the table of tiles, without its scores."""

PIXEL_TILE = 768
"""Pixels along each side that a network which labels pixels sees at once.

The larger, the less its margins cost, and the more memory its feature maps take.
"""


@dataclass(frozen=True)
class SceneOptions:
    """What can be asked of reading a scene; `geores.classify` says what each means."""

    tile: int | None = None
    stride: int | None = None
    resolution: float | None = None
    bbox: Sequence[float] | None = None
    bbox_crs: str | None = None
    aoi: str | Path | None = None
    mask: str | Path | None = None
    mask_values: Sequence[int] | None = None
    min_valid: float = 0.5
    batch_size: int | None = None
    workers: int | None = None
    max_output: int = 8 * 2**30
    linear_s1: bool = False
    atmosphere: str = 'auto'
    clouds: bool = False


@dataclass(frozen=True)
class SceneLayout:
    """Decided from headers alone.

    Attributes:
        target: the grid.
        tiling: tiles of a model that answers once per tile, or blocks of one that labels pixels.
        mask: which mask is laid over the grid, if any.
    """

    target: Target
    tiling: Tiling | Blocks
    mask: MaskChoice

    @property
    def samples(self) -> Tiling:
        """Tiles to take a sample of pixels from."""
        if isinstance(self.tiling, Tiling):
            return self.tiling
        side = min(256, max(self.tiling.y.block, self.tiling.x.block))
        step = self.tiling.alignment
        side = max(side // step, 1) * step
        return Tiling(self.tiling.height, self.tiling.width, side, side)


def lay_out_scene(scene: Scene, card: ModelCard, options: SceneOptions) -> SceneLayout:
    """Lay out a scene for a model: the grid, the tiles and the mask over them.

    Args:
        scene: a scene with the bands of the model.
        card: the model's card.
        options: the user's options.

    Raises:
        UsageError: if an option does not fit the scene or the model, or the results would be too large.
    """
    # In the scene's own order: the grid is the first source's, whatever the model's first band is.
    needed = {scene.band(name).name for name in card.bands}
    target = target_grid(
        scene.select([name for name in scene.bands if name in needed]),
        card.gsd,
        resolution=options.resolution,
        bbox=options.bbox,
        bbox_crs=options.bbox_crs,
        aoi=options.aoi,
    )
    height, width = target.grid.shape.yx
    tiling: Tiling | Blocks
    if card.task == 'segmentation':
        tile = options.tile or max(card.input_size, PIXEL_TILE)
        tiling = Blocks(height, width, tile, card.context or 0, card.alignment, target.origin)
        size = (2 if len(card.labels) <= 254 else 3) * height * width
    else:
        tile = options.tile or card.input_size
        tiling = Tiling(height, width, tile, options.stride or tile)
        cells = tiling.cell_shape[0] * tiling.cell_shape[1]
        size = 4 * len(card.labels) * (cells + tiling.count) + ROW_BYTES * tiling.count
    _check_size(tiling, size, options.max_output)
    mask = choose_mask(
        scene, target.grid, mask=options.mask, values=options.mask_values, clouds=options.clouds
    )
    return SceneLayout(target, tiling, mask)


def _check_size(tiling: Tiling | Blocks, size: int, limit: int) -> None:
    """Refuse results that are too large, from the header alone."""
    if size > limit:
        cure = 'a larger --stride' if isinstance(tiling, Tiling) else 'a coarser --resolution'
        raise OutputError(
            f'a grid of {tiling.width} x {tiling.height} pixels gives {tiling.count:,} tiles and about '
            f'{_in_units(size)} of results, more than --max-output {_in_units(limit)}: '
            f'raise it, or use {cure} or a --bbox'
        )


def _in_units(size: int) -> str:
    """Format a number of bytes for people."""
    for unit, bytes_ in (('GiB', 2**30), ('MiB', 2**20), ('KiB', 2**10)):
        if size >= bytes_:
            return f'{size / bytes_:,.1f} {unit}'
    return f'{size} bytes'

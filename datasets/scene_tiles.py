"""Tiles cut from scenes and labelled by polygons or points of a vector file."""

import itertools
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Self, cast, get_args

import geopandas as gpd
import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from geores.card import ModelCard
from geores.datasets._ground import label_ground, positions
from geores.datasets._module import ImageDataModule, ImageStore, LabelledImages, NonGeoDataset, Sample
from geores.datasets._sampling import LabelRule, Labels, Placement, Task, read_labelled_features
from geores.datasets._tiles import Masks, PixelSpec, Scenes, TileStore, lay_grids, opened, units_named
from geores.errors import DatasetError
from geores.splits import Split, block_split

__all__ = ['Labels', 'Masks', 'SceneTiles', 'SceneTilesDataModule', 'Scenes', 'opened', 'split_tiles']

BLOCK_TILES = 4
"""Side of a block in tiles, by default."""


class SceneTiles(NonGeoDataset):
    """Square tiles of scenes, on the grid and in the units in which `geores.classify` reads them.

    For 'single-label', a tile has the class that covers its largest area, if that is at least `min_share` of
    the whole tile; with points it has the class of the points inside. Tiles with two classes of equal area,
    with points of two classes, or with too few valid pixels are left out, and `left_out` counts them. Ground
    that no polygon covers is unlabelled.

    For 'multi-label', a tile has each class that covers at least `min_share` of it or has a point in it.
    Unlabelled ground may show anything, so a tile counts only if labels of any class cover `min_cover` of
    it; 0 takes the labels as complete, and unlabelled ground as showing no class.

    A sample has `image` (C, size, size) float32 in `units`, `label` (int64, or (K,) float32), `bands`,
    `source` (the scene's name), `id` (scene/row_column of its first pixel on the grid), `crs` and `bounds`.

    Args:
        scenes: one scene or several, of the same or of different places.
        labels: vector file of polygons or points, or its features, in any CRS.
        column: name of the class column.
        bands: names of the bands, in channel order.
        size: side of a tile in pixels.
        resolution: pixel size in metres; by default the scene's own, within `gsd`.
        stride: step from tile to tile on the grid in pixels; `size` by default. Smaller steps overlap.
        placement: 'grid' takes the tiles that `geores.classify` takes at that stride, 'centred' one tile
            about each polygon or point; 'auto' the grid for polygons, centred ones for points.
        task: 'single-label' or 'multi-label'.
        min_share: least part of a tile that a class of it covers, above 0 and at most 1; points need none.
            0.5 by default, and 0.01 for 'multi-label'.
        min_cover: for 'multi-label', minimum share of a tile that labels of any class cover; 0.9 by default.
            Points need 0.
        min_valid: minimum share of valid pixels in a tile.
        units: units of the pixel values, as on a card: 'reflectance*10000', '8-bit' or 'dB'.
        layer: layer of the vector file, if it has several.
        gsd: smallest and largest pixel size in metres that is not resampled, as on a card.
        resampling: how coarser bands are brought to the grid; finer ones are averaged.
        display_stretch: percentiles that bring other imagery to 8 bits.
        display_range: reflectances times 10,000 that become 0 and 255 instead.
        fill: value of invalid pixels in each band; None mirrors the valid ones, as inference does.
        mask: raster whose cloud classes, or non-zero pixels, are invalid: one, or one for each scene.
        mask_values: its values that are invalid, instead.
        linear_s1: whether Sentinel-1's backscatter is on a linear scale instead of in dB.
        processing_level: processing level of the model: dark objects are subtracted from L1C scenes if it is
            L2A alone, as `geores.classify` does. None leaves every scene as it is.
        budget: maximum number of bytes of tiles to hold in memory.

    Attributes:
        labels: classes, sorted; targets count in them. Those of the tiles; for 'multi-label' all of the file.
        positions: GeoDataFrame of the tiles (`id`, `scene`, `label`, `share`), in the first scene's CRS.
        unit_metres: length of a unit of that CRS on the ground, in metres.
        side: side of a tile in metres.
        gsds: pixel size of each scene, in metres.
        left_out: number of tiles left out, by reason.
        notes: notes for the user, one sentence each.

    Raises:
        DatasetError: if the labels cannot be used, an option is out of range, or no tile has a class.
        UsageError: if a scene cannot be opened, or lacks a band.
        ReadError: if pixels cannot be read.
    """

    def __init__(
        self,
        scenes: Scenes,
        labels: Labels,
        column: str,
        bands: Sequence[str],
        size: int,
        *,
        resolution: float | None = None,
        stride: int | None = None,
        placement: Placement = 'auto',
        task: Task = 'single-label',
        min_share: float | None = None,
        min_cover: float | None = None,
        min_valid: float = 0.5,
        units: str = 'reflectance*10000',
        layer: str | None = None,
        gsd: tuple[float, float] | None = None,
        resampling: str = 'bilinear',
        display_stretch: tuple[float, float] | None = (2.0, 98.0),
        display_range: tuple[float, float] | None = None,
        fill: Sequence[float] | None = None,
        mask: Masks | None = None,
        mask_values: Sequence[int] | None = None,
        linear_s1: bool = False,
        processing_level: str | None = None,
        budget: int = 2**31,
    ) -> None:
        stride = size if stride is None else stride
        _check_options(size, stride, placement, min_valid)
        rule = LabelRule.with_defaults(task, min_share, min_cover)
        features = read_labelled_features(labels, column, layer)
        spec = PixelSpec(
            tuple(bands),
            size,
            units_named(units),
            resolution,
            gsd,
            resampling,
            display_stretch,
            display_range,
            linear_s1,
            processing_level or '',
        )
        grids = lay_grids(opened(scenes), spec, mask, mask_values)
        ground = label_ground(grids, features, size, stride, placement, rule)
        store = TileStore(grids, ground.places, size, fill, budget)
        whole = np.flatnonzero(store.valid_shares >= min_valid)
        invalid = len(ground.places) - len(whole)
        if not len(whole):
            raise DatasetError(
                f'{features.name}: none of the {invalid} tiles with a class has {min_valid:g} of valid pixels'
            )
        self.bands = tuple(bands)
        self.size = size
        self.unit_metres = grids[0].unit_metres
        self.gsds = tuple(grid.grid.affine.a * grid.unit_metres for grid in grids)
        self.side = size * self.gsds[0]
        self.left_out = ground.left_out | {'invalid': invalid}
        self.notes = (*(note for grid in grids for note in grid.notes), *features.notes, *ground.notes)
        if invalid:
            self.notes += (f'{invalid} tiles with less than {min_valid:g} of valid pixels left out',)
        self.images: ImageStore = store.subset(whole)
        self.task = task
        self._take(
            positions(grids, ground.places[whole], size, ground.shares[whole]),
            ground.names,
            ground.present[whole],
        )

    @classmethod
    def for_card(
        cls,
        card: ModelCard,
        scenes: Scenes,
        labels: Labels,
        column: str,
        *,
        size: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Self:
        """Make tiles in the input format of a model.

        Args:
            card: model card with bands, size, units, pixel sizes, resampling, fill and processing level.
            scenes: as in `SceneTiles`.
            labels: as in `SceneTiles`.
            column: as in `SceneTiles`.
            size: side of a tile in pixels; the card's by default.
            **options: further arguments of `SceneTiles`.
        """
        fixed: dict[str, Any] = {
            'units': card.units,
            'gsd': card.gsd,
            'resampling': card.resampling,
            'display_stretch': card.display_stretch,
            'display_range': card.display_range,
            'processing_level': card.processing_level,
        }
        return cls(scenes, labels, column, card.bands, size or card.input_size, **(fixed | options))

    def keep(self, labels: Sequence[str]) -> Self:
        """Tiles that have some classes, and these classes alone; the order stays."""
        wanted = np.isin(self.labels, list(labels))
        kept = np.flatnonzero(self._present[:, wanted].any(axis=1))
        other = copy(self)
        other.images = cast('TileStore', self.images).subset(kept)
        other._take(
            self.positions.iloc[kept].reset_index(drop=True),
            tuple(itertools.compress(self.labels, wanted.tolist())),
            self._present[kept][:, wanted],
        )
        return other

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return {
            'image': torch.from_numpy(np.array(self.images[index], np.float32)),
            'label': torch.from_numpy(np.asarray(self.targets[index])),
            'bands': self.bands,
            'source': self.sources[index],
            'id': self.ids[index],
            'crs': str(self.positions.crs),
            'bounds': tuple(self.bounds[index].tolist()),
        }

    @property
    def bounds(self) -> NDArray[np.float64]:
        """West, south, east, north of each tile, (N, 4), in the CRS of `positions`."""
        bounds: NDArray[np.float64] = shapely.bounds(self.positions.geometry.to_numpy())
        return bounds

    def _take(self, positions: gpd.GeoDataFrame, names: tuple[str, ...], present: NDArray[np.bool_]) -> None:
        several = self.task == 'multi-label'
        shown = np.asarray(present.any(axis=0) | several)
        self.labels = tuple(itertools.compress(names, shown.tolist()))
        self._present = present[:, shown]
        self.strata = [', '.join(itertools.compress(self.labels, row)) for row in self._present]
        self.positions = positions.assign(label=self.strata)[['id', 'scene', 'label', 'share', 'geometry']]
        self.ids: list[str] = positions['id'].tolist()
        self.sources: list[str] = positions['scene'].tolist()
        self.targets: NDArray[Any] = (
            self._present.astype(np.float32) if several else self._present.argmax(axis=1).astype(np.int64)
        )


class SceneTilesDataModule(ImageDataModule):
    """Training and validation parts of `SceneTiles`, in blocks of ground by default.

    Args:
        scenes: as in `SceneTiles`.
        label_file: vector file of polygons or points.
        column: name of the class column.
        bands: as in `SceneTiles`.
        size: side of a tile in pixels.
        split: 'blocks' keeps whole blocks of ground for validation, 'random' single tiles; otherwise a table
            of ids and parts, such as `geores split` writes.
        block_size: side of a block in metres; four tiles by default.
        buffer: minimum gap between training and validation tiles, in metres.
        batch_size: tiles per batch.
        val_share: share kept for validation.
        seed: random seed of the split.
        num_workers: number of reader processes; 0 is best for tiles held in memory.
        options: further arguments of `SceneTiles`.
    """

    def __init__(
        self,
        scenes: str | list[str],
        label_file: str,
        column: str,
        bands: list[str],
        size: int = 64,
        split: str = 'blocks',
        block_size: float | None = None,
        buffer: float = 0.0,
        batch_size: int = 64,
        val_share: float = 0.2,
        seed: int = 0,
        num_workers: int = 0,
        options: dict[str, Any] | None = None,
    ) -> None:
        file = None if split in ('blocks', 'random') else split
        super().__init__(batch_size, val_share, seed, num_workers, split=file)
        self.size = size
        self._block_size = block_size
        self._buffer = buffer
        self._kind = split
        self._arguments = (scenes, label_file, column, bands, size)
        self._options = options or {}

    parts_by_image = False

    @property
    def card_text(self) -> Mapping[str, Any]:
        """Pixel size, and units if they are given."""
        sizes = cast('SceneTiles', self.dataset).gsds
        units = self._options.get('units')
        return {'gsd': (min(sizes), max(sizes))} | ({} if units is None else {'units': units})

    def make_dataset(self) -> LabelledImages:
        """Cut and label the tiles."""
        return SceneTiles(*self._arguments, **self._options)

    @cached_property
    def split(self) -> Split:
        """Indices of training and validation tiles."""
        if self._kind != 'blocks':
            return super().split
        tiles = cast('SceneTiles', self.dataset)
        return split_tiles(tiles, self.val_share, self.seed, block_size=self._block_size, buffer=self._buffer)


def split_tiles(
    tiles: SceneTiles,
    share: float = 0.2,
    seed: int = 0,
    *,
    block_size: float | None = None,
    buffer: float = 0.0,
) -> Split:
    """Split tiles by blocks of ground with `geores.splits.block_split`.

    Args:
        tiles: tiles to split.
        share: share of the tiles of each class wanted for validation.
        seed: random seed.
        block_size: side of a block in metres; four tiles by default.
        buffer: minimum gap between training and validation tiles, in metres.

    Raises:
        DatasetError: if an argument is out of range, or the tiles lie in too few blocks.
    """
    size = BLOCK_TILES * tiles.side if block_size is None else block_size
    bounds = tiles.bounds * tiles.unit_metres
    return block_split(tiles.ids, tiles.strata, bounds, size, share, seed, buffer=buffer)


def _check_options(size: int, stride: int, placement: str, min_valid: float) -> None:
    if size < 1:
        raise DatasetError(f'size has to be at least 1 pixel, not {size}')
    if not 1 <= stride <= size:
        raise DatasetError(f'stride has to be between 1 and the tile size {size}, not {stride}')
    if placement not in get_args(Placement):
        raise DatasetError(f'placement has to be one of {", ".join(get_args(Placement))}, not {placement!r}')
    if not 0 <= min_valid <= 1:
        raise DatasetError(f'min_valid has to be between 0 and 1, not {min_valid}')

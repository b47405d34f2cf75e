"""Read tiles of scenes on the grid and in the units of a model, as inference does."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geores.card_values import Units
from geores.datasets._module import ImageStore, Pixels
from geores.errors import DatasetError, UsageError
from geores.grid import Tiling
from geores.inference import GridReader
from geores.inference.masks import open_mask
from geores.inference.target import target_grid
from geores.inference.units import needs_sample, sample_tiles, unit_transforms
from geores.scenes import Scene, gdal_env, open_scene
from geores.scenes.borders import mirror_invalid, without_border
from geores.scenes.offset import settle_offset

__all__ = [
    'Masks',
    'PixelSpec',
    'SceneGrid',
    'Scenes',
    'TileStore',
    'lay_grid',
    'lay_grids',
    'opened',
    'units_named',
]

Scenes = str | PathLike[str] | Scene | Sequence[str | PathLike[str] | Scene]
"""One scene or several, each a path or an open `Scene`."""
Masks = str | PathLike[str] | Sequence[str | PathLike[str]]
"""Masks of scenes: one for all, or one for each in their order."""


@dataclass(frozen=True)
class PixelSpec:
    """Pixel format of tiles: the fields of a model card that reading needs.

    Attributes:
        bands: band names, in channel order.
        size: side of a tile in pixels.
        units: as on a card.
        resolution: pixel size in metres; None chooses it by `gsd`.
        gsd: smallest and largest pixel size in metres that is not resampled; None keeps every size.
        resampling: resampling method for upsampling.
        display_stretch: percentiles that bring other imagery to 8 bits.
        display_range: reflectances times 10,000 that become 0 and 255 instead.
        linear_s1: whether Sentinel-1's backscatter is on a linear scale instead of in dB.
        processing_level: processing level that the model was trained on; '' leaves every scene as it is.
    """

    bands: tuple[str, ...]
    size: int
    units: Units
    resolution: float | None
    gsd: tuple[float, float] | None
    resampling: str
    display_stretch: tuple[float, float] | None
    display_range: tuple[float, float] | None = None
    linear_s1: bool = False
    processing_level: str = ''


@dataclass(frozen=True)
class SceneGrid:
    """A scene on the pixel grid of a model.

    Attributes:
        scene: the scene.
        grid: CRS, transform and shape.
        gsd: pixel size on the ground, in metres.
        reader: reads the bands in the units wanted.
        notes: notes for the user on how pixels are converted.
    """

    scene: Scene
    grid: GeoBox
    gsd: float
    reader: GridReader
    notes: tuple[str, ...]

    @property
    def crs(self) -> CRS:
        """CRS of the grid."""
        crs = self.grid.crs
        if crs is None:
            raise DatasetError(f'{self.scene.name}: has no CRS, so labels cannot be laid over it')
        return crs.proj

    @property
    def unit_metres(self) -> float:
        """Length of a CRS unit on the ground, in metres.

        1 where it is 1 but for the scale of the projection, which is within a thousandth in a UTM zone.
        """
        found = float(self.gsd / self.grid.affine.a)
        return 1.0 if abs(found - 1) < 0.01 else found

    def boxes(self, starts: NDArray[np.int64], size: int) -> NDArray[np.object_]:
        """Outlines of tiles, (N,), in the grid's CRS.

        Args:
            starts: first row and column of each, (N, 2).
            size: side of a tile in pixels.
        """
        affine = self.grid.affine  # north up
        left, top = affine.c + affine.a * starts[:, 1], affine.f + affine.e * starts[:, 0]
        outlines: NDArray[np.object_] = shapely.box(left, top + affine.e * size, left + affine.a * size, top)
        return outlines

    def pixels(self, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> tuple[Pixels, Pixels]:
        """Pixel columns and rows of coordinates in the grid's CRS."""
        affine = self.grid.affine
        return (xs - affine.c) / affine.a, (ys - affine.f) / affine.e


def opened(
    scenes: Scenes,
    bands: Sequence[str] | None = None,
    *,
    sensor: str | None = None,
    offset: str | float = 'auto',
) -> list[Scene]:
    """Open scenes that are given as paths.

    Args:
        scenes: one scene or several.
        bands: names of the bands in file order, where the files do not say.
        sensor: which sensor they are of: see `geores.open_scene`.
        offset: of Sentinel-2's digital numbers: see `geores.open_scene`.

    Raises:
        DatasetError: if there is none, or two have one name, which would give tiles of one id.
        UsageError: if one cannot be opened.
    """
    given = [scenes] if isinstance(scenes, str | PathLike | Scene) else list(scenes)
    found = [
        scene if isinstance(scene, Scene) else open_scene(scene, bands=bands, sensor=sensor, offset=offset)
        for scene in given
    ]
    names = [scene.name for scene in found]
    if not names:
        raise DatasetError('no scene is given: name at least one')
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f'two scenes are named {twice[0]!r}: rename one, or use them apart')
    return found


def units_named(name: str) -> Units:
    """Units by their name on cards.

    Raises:
        UsageError: if there are no such units.
    """
    try:
        return Units(name)
    except ValueError:
        raise UsageError(f'units is one of {"; ".join(Units)}, not {name!r}') from None


def lay_grids(
    scenes: Sequence[Scene],
    spec: PixelSpec,
    mask: Masks | None = None,
    mask_values: Sequence[int] | None = None,
) -> list[SceneGrid]:
    """Choose grids and unit conversions for several scenes; see `lay_grid`.

    Args:
        scenes: scenes to read.
        spec: pixel format to read.
        mask: one mask for all scenes, or one per scene.
        mask_values: as in `lay_grid`.

    Raises:
        DatasetError: if there are neither one nor as many masks as scenes.
    """
    masks = [mask] if mask is None or isinstance(mask, str | PathLike) else list(mask)
    if len(masks) not in (1, len(scenes)):
        raise DatasetError(f'{len(masks)} masks for {len(scenes)} scenes: give one for all, or one for each')
    each = masks * len(scenes) if len(masks) == 1 else masks
    return [lay_grid(scene, spec, one, mask_values) for scene, one in zip(scenes, each, strict=True)]


def lay_grid(
    scene: Scene,
    spec: PixelSpec,
    mask: str | PathLike[str] | None = None,
    mask_values: Sequence[int] | None = None,
) -> SceneGrid:
    """Choose the grid and the unit conversion of a scene as `geores classify` does by default.

    Args:
        scene: scene to read.
        spec: pixel format to read.
        mask: raster whose cloud classes, or non-zero pixels, are invalid.
        mask_values: its values that are invalid, instead.

    Raises:
        UsageError: if a band is missing, no such resolution can be had, or the mask lies elsewhere.
        DatasetError: if the scene has no CRS, or is smaller than a tile.
        ReadError: if the pixels that tell the units cannot be read.
    """
    if spec.units != Units.EIGHT_BIT or spec.display_range:
        scene = settle_offset(scene)
    wanted = scene.select(spec.bands)
    if wanted.gsd is None:
        raise DatasetError(f'{scene.name}: has no CRS, so labels cannot be laid over it')
    target = target_grid(wanted, spec.gsd or (wanted.gsd, wanted.gsd), resolution=spec.resolution)
    height, width = target.grid.shape.yx
    if min(height, width) < spec.size:
        raise DatasetError(
            f'{scene.name}: {width} x {height} pixels are smaller than a tile of {spec.size}: '
            'choose a smaller tile'
        )
    masked = None if mask is None else open_mask(fspath(mask), mask_values, target.grid)
    with gdal_env():
        scene, border, blank = without_border(scene, spec.bands)
    reader = GridReader(scene, spec.bands, target.grid, resampling=spec.resampling, mask=masked, blank=blank)
    tiling = Tiling(height, width, spec.size, spec.size)
    with gdal_env():
        sample, valid = sample_tiles(reader, tiling, side=4 if needs_sample(scene, spec) else 0)
        converted, told = unit_transforms(scene, spec, spec.bands, sample, valid, linear=spec.linear_s1)
    notes = tuple(f'{scene.name}: {note}' for note in (*scene.notes, *target.notes, *border, *told))
    return SceneGrid(scene, target.grid, target.gsd or wanted.gsd, reader.with_transforms(converted), notes)


class TileStore(ImageStore):
    """Pixels of tiles, held in memory if they fit and read from the scenes otherwise.

    Args:
        grids: grid of each scene.
        places: position among the grids, first row and first column of each tile, (N, 3).
        size: side of a tile in pixels.
        fill: value of invalid pixels in each band; None mirrors the valid ones of the tile.
        budget: maximum number of bytes to hold in memory.
    """

    def __init__(
        self,
        grids: Sequence[SceneGrid],
        places: NDArray[np.int64],
        size: int,
        fill: Sequence[float] | None,
        budget: int,
    ) -> None:
        super().__init__([Path(grids[place[0]].scene.name) for place in places], _unread, budget)
        self._grids = grids
        self._places = places
        self._size = size
        self._bands = len(grids[0].reader.bands)
        self._fill = None if fill is None else np.asarray(fill, np.float32)
        self._pixels, self.valid_shares = self._scan(budget)

    def __getitem__(self, index: int) -> Pixels:
        if self._pixels is not None:
            held: Pixels = self._pixels[index]
            return held
        return self._filled(*self._tile(index))

    def __getstate__(self) -> dict[str, Any]:
        # Open scenes cannot be pickled: a worker process gets the pixels only.
        if self._pixels is None:
            raise DatasetError(
                'tiles that are not held in memory cannot go to a worker process: raise the budget'
            )
        return self.__dict__ | {'_grids': ()}

    def load(self) -> None:
        """No-op: what fits in memory was read at once."""

    def subset(self, kept: NDArray[np.intp]) -> 'TileStore':
        """Store of some of the tiles, in the order given."""
        other = object.__new__(TileStore)
        other.__dict__ |= self.__dict__
        other.paths = [self.paths[index] for index in kept]
        other._places = self._places[kept]
        other._pixels = None if self._pixels is None else self._pixels[kept]
        other.valid_shares = self.valid_shares[kept]
        return other

    def _tile(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        grid, row, col = (int(number) for number in self._places[index])
        with gdal_env():
            return self._grids[grid].reader.read(slice(row, row + self._size), slice(col, col + self._size))

    def _filled(self, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        if self._fill is not None:
            return np.where(valid, values, self._fill[:, None, None])
        return mirror_invalid(values, valid) if valid.any() else np.zeros_like(values)

    def _scan(self, budget: int) -> tuple[Pixels | None, NDArray[np.float64]]:
        """Read all tiles once: the pixels, if they fit, and the valid share of each tile."""
        shape = (len(self), self._bands, self._size, self._size)
        held = np.empty(shape, np.float32) if 4 * np.prod(shape) <= budget else None
        shares = np.empty(len(self))
        for index in range(len(self)):
            values, valid = self._tile(index)
            shares[index] = valid.mean()
            if held is not None:
                held[index] = values if valid.all() else self._filled(values, valid)
        return held, shares


def _unread(path: Path) -> Pixels:
    raise NotImplementedError(path)

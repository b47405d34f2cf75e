"""Masks that make a scene's pixels invalid: which one is laid over a scene, and what it leaves out."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask

from geores.errors import SceneError, UsageError
from geores.inference.clouds import check_detector, detect_clouds, detector_version
from geores.inference.layer import BlockCache
from geores.inference.reader import Mask
from geores.inference.resampling import open_layer
from geores.inference.target import Target, coarser
from geores.options import NO_MASK
from geores.scenes import Scene, open_scene
from geores.scenes.gdal import ungeoreferenced
from geores.scenes.product import CLOUD_MASK, SCL, mask_kind
from geores.scenes.scene import SceneMask

__all__ = ['CLOUDY', 'MaskChoice', 'choose_mask', 'mask_in_words', 'open_mask']

CLOUDY = (0, 1, 3, 8, 9, 10)
"""Classes of Sentinel-2's scene classification that say nothing of the ground: no data, saturated,
cloud shadow, cloud of medium and high probability, thin cirrus."""

CLOUDY_IN_WORDS = 'no data, saturated, cloud shadow, cloud (medium, high), thin cirrus'

LOOK_PIXELS = 1024
"""Longest side of the grid on which it is measured what a mask leaves out."""
LOOK_BLOCK = 256
"""Pixels along each side of what is read of that grid at once."""

NOTABLE = 0.005
"""Least share of the area that a note mentions."""


@dataclass(frozen=True)
class MaskChoice:
    """The mask of a run, decided from headers.

    Attributes:
        mask: none for none, and for clouds that are still to be looked for.
        title: what it is, in words; None for none.
        fingerprint: changes with what it leaves out; None for none.
        clouds: whether clouds are looked for in the scene.
        found: whether it was found with the scene, so that `NO_MASK` would leave it.
        notes: why a mask that is there is not used.
    """

    mask: Mask | None = None
    title: str | None = None
    fingerprint: str | None = None
    clouds: bool = False
    found: bool = False
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> list[int] | None:
        """The classes that mask; None for every number but 0."""
        return None if self.mask is None or self.mask.values is None else list(self.mask.values)

    def make_mask(
        self, scene: Scene, target: Target, *, workers: int = 1
    ) -> tuple[Mask | None, tuple[str, ...]]:
        """Make the mask over a grid, and notes about it; where asked for, clouds are looked for now.

        Args:
            scene: the scene.
            target: the grid on which the scene will be read.
            workers: threads to look for clouds with.

        Raises:
            ReadError: if the mask, or the bands that show clouds, cannot be read.
        """
        mask = self.mask
        if self.clouds:
            mask = Mask(detect_clouds(scene, target, workers=workers))
        if mask is None:
            return None, self.notes
        if mask.raster.is_lazy:
            return mask, (*self.notes, f'mask: {self.title}')
        return mask, (*self.notes, f'mask: {self.title} left out: {self._shares(mask, target)}')

    def _shares(self, mask: Mask, target: Target) -> str:
        out, unknown, empty = _measure(mask, target)
        text = f'{out:.1%} of the area'.replace('%', ' %')
        if empty > NOTABLE and mask.values == CLOUDY:
            text += f' (no data: {empty * 100:.1f} %)'
        if unknown > NOTABLE:
            text += f'; it says nothing of {unknown * 100:.1f} %'
        return text + ('; --mask none (mask=) leaves it' if self.found else '')


def choose_mask(
    scene: Scene,
    grid: GeoBox,
    *,
    mask: str | Path | None = None,
    values: Sequence[int] | None = None,
    clouds: bool = False,
) -> MaskChoice:
    """Decide which mask is laid over a scene, from headers alone.

    The user's own comes first; then clouds, where they are to be looked for; then what the scene brings
    (`Scene.mask`).

    Args:
        scene: the scene.
        grid: what the mask is laid over.
        mask: a raster; `NO_MASK` for none, even where the scene brings one; None for the scene's.
        values: the classes of ``mask`` that mask.
        clouds: whether clouds are looked for in the scene.

    Raises:
        SceneError: if a mask is no raster.
        UsageError: if a mask has several bands or lies elsewhere, or clouds cannot be looked for.
    """
    if mask is not None and str(mask) != NO_MASK:
        opened = open_mask(mask, values, grid)
        return MaskChoice(opened, f'{mask}, {_in_words(opened)}', opened.raster.fingerprint)
    if clouds:
        check_detector(scene)
        title = f'clouds by s2cloudless {detector_version()} (without their shadows)'
        return MaskChoice(title=title, fingerprint=title, clouds=True)
    if mask is not None or scene.mask is None:
        return MaskChoice()
    return _brought(scene, scene.mask, grid)


def mask_in_words(scene: Scene) -> str | None:
    """Describe the mask that a scene brings, as it would be used; None where it brings none."""
    if scene.mask is None:
        return None
    return f'{_title(scene.mask)}, {_in_words_of(scene.mask.kind)}'


def open_mask(path: str | Path, values: Sequence[int] | None, grid: GeoBox) -> Mask:
    """Open a mask raster.

    Args:
        path: a raster; a file named ``SCL`` is taken for Sentinel-2's scene classification, where the
            classes of `CLOUDY` mask. In any other, every number but 0 does.
        values: the classes that mask, instead.
        grid: what it will be laid over.

    Raises:
        SceneError: if it is no raster.
        UsageError: if it has more than one band, or does not lie over the grid.
    """
    scene = open_scene(path)
    if len(scene.bands) != 1:
        raise UsageError(f'mask {path} has {len(scene.bands)} bands: give a raster of one')
    (band,) = scene.bands.values()
    _check_place(path, band.raster.geobox, grid)
    if values is None and SCL in (mask_kind(Path(path).stem), band.name.upper()):
        values = CLOUDY
    return Mask(band.raster, None if values is None else tuple(values))


def _brought(scene: Scene, mask: SceneMask, grid: GeoBox) -> MaskChoice:
    """Open the mask that comes with a scene; left out, with a note, where it lies elsewhere."""
    values = CLOUDY if mask.kind == SCL else None
    if mask.band is not None:
        opened = Mask(mask.band.raster, values, mask.band.index)
    else:
        try:
            found = open_scene(mask.path)
        except SceneError as error:
            raise SceneError(f'{error}; --mask none (mask=) does without it') from error
        if len(found.bands) != 1:
            more = f'{len(found.bands)} bands, and a mask has one'
            return MaskChoice(notes=(f'{mask.path} is not used as a mask: it has {more}',))
        (band,) = found.bands.values()
        try:
            _check_place(mask.path, band.raster.geobox, grid)
        except UsageError as error:
            return MaskChoice(notes=(f'not used: {error}',))
        opened = Mask(band.raster, values)
    title = f'{_title(mask)}, {_in_words(opened)}'
    return MaskChoice(opened, title, opened.raster.fingerprint, found=True)


def _title(mask: SceneMask) -> str:
    of = 'of the product' if mask.kind == SCL else 'beside the bands'
    name = mask.path if mask.band is not None else Path(mask.path).name
    return f'{mask.kind} {of} ({name})'


def _in_words(mask: Mask) -> str:
    if mask.values == CLOUDY:
        return _in_words_of(SCL)
    return _in_words_of(CLOUD_MASK) if mask.values is None else f'values {", ".join(map(str, mask.values))}'


def _in_words_of(kind: str) -> str:
    return f'classes {CLOUDY_IN_WORDS}' if kind == SCL else 'all but 0'


def _measure(mask: Mask, target: Target) -> tuple[float, float, float]:
    """Measure which shares of the area a mask leaves out, says nothing of, and has as 0."""
    grid = coarser(target.grid, LOOK_PIXELS)
    layer = open_layer(mask.raster, [mask.index], grid, 'nearest-always', BlockCache(2**26))
    counts = np.zeros(4, np.int64)
    for row, col in product(*(range(0, size, LOOK_BLOCK) for size in grid.shape.yx)):
        rows = slice(row, min(row + LOOK_BLOCK, grid.shape.y))
        cols = slice(col, min(col + LOOK_BLOCK, grid.shape.x))
        inside = _inside(target, grid[rows, cols])
        values, known = layer.read(rows, cols)
        seen = inside if known is None else inside & known
        hits = mask.hits(values[0]) & seen
        counts += [inside.sum(), hits.sum(), (inside & ~seen).sum(), (seen & (values[0] == 0)).sum()]
    area, *parts = (float(count) for count in counts)
    out, unknown, empty = (part / max(area, 1.0) for part in parts)
    return out, unknown, empty


def _inside(target: Target, grid: GeoBox) -> Any:  # noqa: ANN401 - an array of truths
    """Find the pixels of a grid that lie in the area of interest."""
    shape = (grid.shape.y, grid.shape.x)
    if target.area is None:
        return np.ones(shape, bool)
    with ungeoreferenced():  # of the array that rasterio draws on
        return geometry_mask([target.area], shape, grid.affine, invert=True)


def _check_place(path: str | Path, mask: GeoBox, grid: GeoBox) -> None:
    """Raise `UsageError` where a mask would mask nothing, or what nobody knows."""
    if (mask.crs is None) != (grid.crs is None):
        bare = f'mask {path}' if mask.crs is None else 'the scene'
        raise UsageError(f'{bare} has no CRS, so mask {path} cannot be laid over the scene: state its CRS')
    extent = grid.extent if mask.crs is None else grid.extent.to_crs(mask.crs)
    if not extent.intersects(mask.extent):
        raise UsageError(f'mask {path} does not overlap the scene')

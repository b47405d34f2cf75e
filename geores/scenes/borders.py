"""Blank borders about a scene that nothing marks, and what stands in for invalid pixels.

Mosaics and warped scenes have 0 or -9999 beyond the ground that was seen, and often lose the tag that says
so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from geores.errors import ReadError
from geores.scenes.blocks import holding_blocks
from geores.scenes.opening import ArrayRaster
from geores.scenes.raster import FileRaster, Raster
from geores.scenes.scene import Band, Scene

__all__ = ['find_border', 'mirror_invalid', 'mirrored_places', 'without_border']

T = TypeVar('T', bound=np.generic)


def mirror_invalid(values: NDArray[T], valid: NDArray[np.bool_]) -> NDArray[T]:
    """Give invalid pixels the values of valid ones, mirrored at the nearest valid pixel.

    A network sees the ground go on, with its colours and its texture. Of tiles a third of which is invalid,
    `sentinel2` then gives 87 % the label of the whole tile, and 68 % where a constant stands in
    (`benchmarks/filling.py`).

    Args:
        values: (bands, h, w).
        valid: (h, w), at least one of them set.

    Returns:
        (bands, h, w): where the mirrored pixel lies outside or is invalid itself, the nearest valid pixel.
    """
    rows, cols = mirrored_places(valid)
    return values[:, rows, cols]


def mirrored_places(valid: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and columns, each (h, w), of the pixels whose values `mirror_invalid` gives; valid ones stay.

    Args:
        valid: (h, w), at least one of them set.
    """
    from scipy import ndimage  # takes longer to import than most scenes need to be opened

    nearest: NDArray[Any] = ndimage.distance_transform_edt(
        ~valid, return_distances=False, return_indices=True
    )
    rows, cols = 2 * nearest - np.indices(valid.shape)
    height, width = valid.shape
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    usable = inside & valid[np.where(inside, rows, 0), np.where(inside, cols, 0)]
    return np.where(usable, rows, nearest[0]), np.where(usable, cols, nearest[1])


LEAST_SHARE: Final = 0.01
"""Least share of the scene that a border takes."""
LOOK_PIXELS: Final = 256
"""Longest side of the look at a raster that can be read coarsely for little."""
POINTS: Final = 16
"""Pixels along each axis that are read of larger rasters without overviews."""
SMALL: Final = 2**22
FILL_BELOW: Final = -900.0
"""Numbers below it are fill and no measurements."""


def without_border(scene: Scene, bands: Sequence[str]) -> tuple[Scene, tuple[str, ...], float | None]:
    """Make the pixels of an unmarked blank border invalid.

    Returns:
        The scene, whose one raster has the border as nodata; notes on it; and the value of the border where
        the bands lie in several rasters, so that only their reader can tell it.

    A scene that cannot be read is left for its reader to find.
    """
    try:
        found = find_border(scene, bands)
    except ReadError:
        found = None
    if found is None:
        return scene, (), None
    value, share = found
    note = (
        f'{share * 100:.0f} % of the scene, at its edges, is {value:g} in every band, and no nodata value is '
        'stated: left out as nodata (`gdal_edit -a_nodata` states one)'
    )
    rasters = {id(band.raster): band.raster for band in map(scene.band, bands)}
    if len(rasters) > 1 and value >= FILL_BELOW:
        return scene, (note,), value
    marked = {key: _with_border(raster, value) for key, raster in rasters.items()}
    changed = {
        name: replace(band, raster=marked.get(id(band.raster), band.raster))
        for name, band in scene.bands.items()
    }
    return replace(scene, bands=changed), (note,), None


def find_border(scene: Scene, bands: Sequence[str]) -> tuple[float, float] | None:
    """Find the value of a blank border, and its share of the scene; None where there is none.

    It is 0, the greatest whole number of 16 bits or more, or a number below -900, in every band, in pixels
    that are connected to an edge.

    Raises:
        ReadError: if the scene cannot be read.
    """
    chosen = [scene.band(name) for name in bands]
    rasters = [band.raster for band in chosen]
    boxes = {tuple(raster.geobox.boundingbox.bbox) for raster in rasters}
    if len(boxes) > 1 or scene.is_lazy or any(map(_is_marked, rasters)):
        return None
    looks = _looks(chosen)
    shape = np.min([look.shape for look in looks], axis=0)
    stack = np.stack([_thinned(look, shape) for look in looks])
    first = stack[0]
    edges = np.concatenate([first[0], first[-1], first[:, 0], first[:, -1]])
    best = None
    for value in np.unique(edges[np.isfinite(edges)]):
        if not _is_fill(float(value), rasters[0].dtype):
            continue
        share = _connected_share((stack == value).all(0))
        if LEAST_SHARE <= share < 1 and (best is None or share > best[1]):
            best = float(value), share
    return best


def _is_marked(raster: Raster) -> bool:
    if isinstance(raster, FileRaster):
        header = raster.header
        return header.alpha is not None or header.has_mask or raster.nodata is not None
    return raster.nodata is not None or not isinstance(raster, ArrayRaster)


def _with_border(raster: Raster, value: float) -> Raster:
    return raster.with_border(value) if isinstance(raster, FileRaster | ArrayRaster) else raster


def _is_fill(value: float, dtype: np.dtype) -> bool:
    greatest = np.iinfo(dtype).max if dtype.kind in 'iu' and dtype.itemsize > 1 else None
    return value == 0 or value <= FILL_BELOW or value == greatest


def _connected_share(blank: NDArray[np.bool_]) -> float:
    """Share of the pixels that are blank and connected to an edge by such pixels."""
    from scipy import ndimage  # takes tenths of a second, and most scenes have no blank pixels

    parts, _ = ndimage.label(blank)
    edges = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return float(np.isin(parts, np.unique(edges[edges > 0])).mean())


def _looks(bands: Sequence[Band]) -> list[NDArray[np.generic]]:
    """See bands coarsely, (rows, cols) each; those of one raster together, whose blocks they may share."""
    looks: dict[int, NDArray[np.generic]] = {}
    for raster in {id(band.raster): band.raster for band in bands}.values():
        places = [at for at, band in enumerate(bands) if band.raster is raster]
        looks |= zip(places, _look(raster, [bands[at].index for at in places]), strict=True)
    return [looks[at] for at in range(len(bands))]


def _look(raster: Raster, indexes: Sequence[int]) -> Iterable[NDArray[np.generic]]:
    """See bands of a raster coarsely, (rows, cols) each."""
    rows, cols = raster.geobox.shape
    quick = rows * cols <= SMALL or not isinstance(raster, FileRaster)
    if quick or (isinstance(raster, FileRaster) and _decodes_coarsely(raster)):
        return [raster.read_coarse(index, LOOK_PIXELS)[0] for index in indexes]
    at = [np.unique(np.linspace(0, size - 1, POINTS).astype(int)) for size in (rows, cols)]
    with holding_blocks():  # from the last one on, for GDAL does not fetch ahead then
        seen = [
            [
                raster.read(indexes, slice(row, row + 1), slice(col, col + 1))[0][:, 0, 0]
                for col in at[1][::-1]
            ]
            for row in at[0][::-1]
        ]
    return np.moveaxis(np.array(seen)[::-1, ::-1], -1, 0)


def _decodes_coarsely(raster: FileRaster) -> bool:
    return raster.header.has_overviews or raster.header.driver == 'JP2OpenJPEG'


def _thinned(look: NDArray[np.generic], shape: NDArray[np.int64]) -> NDArray[np.generic]:
    rows, cols = (
        np.linspace(0, have - 1, int(want)).round().astype(int)
        for have, want in zip(look.shape, shape, strict=True)
    )
    thinned: NDArray[np.generic] = look[np.ix_(rows, cols)]
    return thinned

"""Find the images of rows in a folder, and group those that are near duplicates."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError, ReadError, SceneError
from geores.splits.buffer import near_duplicates
from geores.splits.source import raster_files

__all__ = ['group_images']

SIDE = 128
"""Largest side to which images are read, in pixels."""


def group_images(
    folder: Path,
    ids: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, int]:
    """Group the images of rows that are near duplicates.

    Args:
        folder: folder of the images, searched recursively; an image belongs to the id that is its path in the
            folder, with or without its ending, or its name.
        ids: ids of the rows.
        progress: called with the number of images just read and the total.

    Returns:
        Place of each row that has an image -> number of its group.

    Raises:
        DatasetError: if there is no such folder, or no image belongs to a row.
        ReadError: if an image cannot be read.
    """
    if not folder.is_dir():
        raise DatasetError(f'{folder}: no such folder of images')
    known: dict[str, Path] = {}
    for path in raster_files(folder):
        inside = path.relative_to(folder)
        for name in (path.stem, path.name, str(inside), str(inside.with_suffix(''))):
            known.setdefault(name, path)
    used = [row for row, one in enumerate(ids) if one in known]
    if not used:
        raise DatasetError(f'{folder}: no image is named after an id, such as {ids[0]!r}')
    groups = near_duplicates(_images([known[ids[row]] for row in used], progress))
    return dict(zip(used, groups.tolist(), strict=True))


def _images(paths: list[Path], progress: Callable[[int, int], None]) -> Iterator[NDArray[np.generic]]:
    from rasterio.errors import RasterioError

    from geores.scenes.gdal import gdal_env, open_raster

    for path in paths:
        try:
            with gdal_env(), open_raster(path) as file:
                height, width = (min(max(side, 32), SIDE) for side in file.shape)
                pixels = file.read(out_shape=(file.count, height, width))
        except (RasterioError, SceneError) as error:
            raise ReadError(f'{path} cannot be read: {" ".join(str(error).split())}') from error
        progress(1, len(paths))
        yield pixels

"""Images of different parts that show nearly the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError, ReadError
from geores.pipelines.splitting.rasters import raster_files
from geores.splits import DROPPED, near_duplicates

__all__ = ['Duplicates', 'find_duplicates']

SIDE = 128
_SHOWN = 20


@dataclass(frozen=True)
class Duplicates:
    """Near duplicates across parts.

    Attributes:
        images: that were compared.
        unmatched: rows without an image.
        groups: of near duplicates that lie in more than one part.
        rows: in such groups.
        examples: ids and parts of the first groups.
    """

    images: int
    unmatched: int
    groups: int
    rows: int
    examples: tuple[dict[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.__dict__ | {'examples': list(self.examples)}


def find_duplicates(
    folder: Path,
    ids: list[str],
    names: NDArray[np.object_],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Duplicates:
    """Compare the images of rows by their perceptual hashes.

    Args:
        folder: of the images, in folders below it too; an image belongs to the id that is its path in the
            folder, with or without its ending, or its name.
        ids: of the rows.
        names: (N,) their parts.
        progress: told of images read, and of all.

    Raises:
        DatasetError: the folder is none, or no image belongs to a row.
        ReadError: an image cannot be read.
    """
    if not folder.is_dir():
        raise DatasetError(f'{folder}: no such folder of images')
    known: dict[str, Path] = {}
    for path in raster_files(folder):
        inside = path.relative_to(folder)
        for name in (path.stem, path.name, str(inside), str(inside.with_suffix(''))):
            known.setdefault(name, path)
    used = [row for row, one in enumerate(ids) if one in known and names[row] != DROPPED]
    if not used:
        raise DatasetError(f'{folder}: no image is named after an id, such as {ids[0]!r}')
    groups = near_duplicates(_images([known[ids[row]] for row in used], progress))
    members: dict[int, list[int]] = {}
    for row, group in zip(used, groups.tolist(), strict=True):
        members.setdefault(group, []).append(row)
    across = [rows for rows in members.values() if len({names[row] for row in rows}) > 1]
    return Duplicates(
        len(used),
        int((names != DROPPED).sum()) - len(used),
        len(across),
        sum(map(len, across)),
        tuple({ids[row]: str(names[row]) for row in rows} for rows in across[:_SHOWN]),
    )


def _images(paths: list[Path], progress: Callable[[int, int], None]) -> Iterator[NDArray[np.generic]]:
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    from geores.scenes import gdal_env

    for path in paths:
        try:
            with warnings.catch_warnings(), gdal_env():
                warnings.simplefilter('ignore', NotGeoreferencedWarning)
                with rasterio.open(path) as file:
                    height, width = (min(max(side, 32), SIDE) for side in file.shape)
                    pixels = file.read(out_shape=(file.count, height, width))
        except RasterioError as error:
            raise ReadError(f'{path} cannot be read: {" ".join(str(error).split())}') from error
        progress(1, len(paths))
        yield pixels

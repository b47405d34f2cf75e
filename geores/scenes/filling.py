"""What stands in for invalid pixels: the valid ones nearby, mirrored."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ['mirror_invalid']

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
    from scipy import ndimage  # takes longer to import than most scenes need to be opened

    nearest: NDArray[Any] = ndimage.distance_transform_edt(
        ~valid, return_distances=False, return_indices=True
    )
    rows, cols = 2 * nearest - np.indices(valid.shape)
    height, width = valid.shape
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    usable = inside & valid[np.where(inside, rows, 0), np.where(inside, cols, 0)]
    return values[:, np.where(usable, rows, nearest[0]), np.where(usable, cols, nearest[1])]

"""Images that show nearly the same, which have to stay in one part of a split."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Pixels = NDArray[np.generic]

_SIDE = 32
_KEPT = 8
_CHUNK = 1024


def perceptual_hash(image: Pixels) -> NDArray[np.bool_]:
    """64 bits that change little where an image changes little.

    Signs, about their median, of the lowest 8 x 8 coefficients of the cosine transform of the image's
    mean over bands, brought to 32 x 32 pixels (Zauner 2010, Implementation and Benchmarking of
    Perceptual Image Hash Functions, section 3.2.1).

    Args:
        image: (C, H, W), in any units, at least 32 pixels a side.

    Returns:
        (64,) of bool.
    """
    grey = image.mean(0, dtype=np.float64)
    rows, cols = (np.linspace(0, side, _SIDE + 1).astype(int)[:-1] for side in grey.shape)
    small = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), cols, axis=1)
    low = dctn(small)[:_KEPT, :_KEPT].ravel()
    bits: NDArray[np.bool_] = low > np.median(low[1:])
    return bits


def near_duplicates(images: Iterable[Pixels], distance: int = 6) -> NDArray[np.int64]:
    """Groups of images whose perceptual hashes differ in few bits, directly or through others.

    Args:
        images: (C, H, W) each.
        distance: Most bits of 64 that differ between two near duplicates.

    Returns:
        (N,): the number of each image's group, from 0.
    """
    signs = np.array([perceptual_hash(image) for image in images], dtype=np.float32) * 2 - 1
    if not len(signs):
        return np.empty(0, dtype=np.int64)
    pairs = [
        np.argwhere(signs[start : start + _CHUNK] @ signs.T >= signs.shape[1] - 2 * distance)
        + np.array((start, 0))
        for start in range(0, len(signs), _CHUNK)
    ]
    first, second = np.concatenate(pairs).T
    near = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(signs),) * 2)
    return np.asarray(connected_components(near, directed=False)[1], dtype=np.int64)

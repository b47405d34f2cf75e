"""Rows that must not end up in different parts of a split: close to each other, or nearly the same image.

`apply_buffer` drops rows within a distance of another part. `near_duplicates` groups images that look alike,
so that a splitter can keep each group together.
"""

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geores.errors import DatasetError
from geores.splits.ground import Lonlat, near
from geores.splits.partition import LEFT_OUT, PARTS

__all__ = ['apply_buffer', 'check_buffer', 'keep_apart', 'near_duplicates', 'perceptual_hash']

Pixels = NDArray[np.generic]

_PRIORITY = (PARTS.index('test'), PARTS.index('validation'), PARTS.index('train'))
"""Parts by which of them keeps its rows where two come too close."""
_SIDE = 32
_COEFFICIENTS = 8
_CHUNK = 1024
"""Images that are compared with all others at once; bounds the memory of the comparison."""


def apply_buffer(places: Lonlat, codes: NDArray[np.int8], buffer: float) -> NDArray[np.int8]:
    """Drop rows whose centre lies closer than a buffer distance to a row of another part.

    All test rows stay. Validation rows close to a test row are dropped, then training rows close to a test
    row or to a remaining validation row. A pair that is exactly the buffer distance apart stays.

    Args:
        places: (N, 2) longitudes and latitudes of the row centres.
        codes: (N,), index into `PARTS` per row, -1 for rows in no part.
        buffer: minimum geodesic distance between the centres of rows in different parts, in metres.

    Returns:
        (N,), the codes with -1 for dropped rows.

    Raises:
        DatasetError: if the buffer is negative or not finite, or leaves a part without rows.
    """
    check_buffer(buffer)
    kept = codes.copy()
    if buffer == 0:
        return kept
    for rank, part in enumerate(_PRIORITY[1:], start=1):
        mine = np.flatnonzero(kept == part)
        others = np.isin(kept, _PRIORITY[:rank])
        kept[mine[near(places[mine], places[others], buffer)]] = LEFT_OUT
    left = {name: int((kept == part).sum()) for part, name in enumerate(PARTS) if (codes == part).any()}
    if not all(left.values()):
        told = ', '.join(f'{count:,} {name}' for name, count in left.items())
        raise DatasetError(
            f'a buffer of {buffer:g} m leaves a part without rows: {told} would remain of {len(codes):,}; '
            'choose a smaller buffer or larger blocks'
        )
    return kept


def keep_apart(places: Lonlat, codes: NDArray[np.int8], buffer: float) -> NDArray[np.int8]:
    """Former name of `apply_buffer`.

    Args:
        places: as in `apply_buffer`.
        codes: as in `apply_buffer`.
        buffer: as in `apply_buffer`.
    """
    warnings.warn('keep_apart is called apply_buffer now', DeprecationWarning, stacklevel=2)
    return apply_buffer(places, codes, buffer)


def check_buffer(buffer: float) -> None:
    """Check that a buffer is a distance.

    Args:
        buffer: distance in metres.

    Raises:
        DatasetError: if it is negative or not finite.
    """
    if not 0 <= buffer < np.inf:
        raise DatasetError(f'buffer has to be 0 metres or more, not {buffer}')


def perceptual_hash(image: Pixels) -> NDArray[np.bool_]:
    """Compute a 64-bit perceptual hash: similar images differ in few bits.

    The mean over bands is brought to 32 x 32 pixels and cosine transformed. The bits say which of the
    lowest 8 x 8 coefficients lie above their median (Zauner 2010, Implementation and Benchmarking of
    Perceptual Image Hash Functions, section 3.2.1).

    Args:
        image: (C, H, W), in any units, at least 32 x 32 pixels.

    Returns:
        (64,) bool.
    """
    grey = image.mean(0, dtype=np.float64)
    rows, cols = (np.linspace(0, side, _SIDE + 1).astype(int)[:-1] for side in grey.shape)
    small = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), cols, axis=1)
    low = dctn(small)[:_COEFFICIENTS, :_COEFFICIENTS].ravel()
    bits: NDArray[np.bool_] = low > np.median(low[1:])
    return bits


def near_duplicates(images: Iterable[Pixels], distance: int = 6) -> NDArray[np.int64]:
    """Group images whose perceptual hashes differ in few bits, directly or through a chain of images.

    Args:
        images: images of shape (C, H, W).
        distance: maximum Hamming distance of the 64-bit hashes of two near duplicates.

    Returns:
        (N,), number of each image's group, from 0.
    """
    # With bits as -1 and 1, the dot product of two hashes is 64 - 2 * (Hamming distance).
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

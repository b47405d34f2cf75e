"""A strip of ground between parts, in which nothing is used.

Images that show nearly the same, which have to stay in one part of a split.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geores.errors import DatasetError
from geores.splits.ground import Lonlat, near
from geores.splits.partition import LEFT_OUT, PARTS

__all__ = ['check_buffer', 'keep_apart']

_GUARDED = (PARTS.index('test'), PARTS.index('validation'), PARTS.index('train'))


def keep_apart(places: Lonlat, codes: NDArray[np.int8], buffer: float) -> NDArray[np.int8]:
    """Drop rows whose middle is nearer than a buffer to one of another part.

    Test rows all stay. Validation rows near a test row are dropped, then training rows near a test row or
    near a validation row that stayed. A pair exactly as far apart as the buffer stays.

    Args:
        places: (N, 2) longitudes and latitudes.
        codes: (N,): part of each row, -1 for none.
        buffer: metres along the ellipsoid between the middles of rows.

    Returns:
        (N,): as before, and -1 for rows that are dropped.

    Raises:
        DatasetError: the buffer is no length, or leaves a part without rows.
    """
    check_buffer(buffer)
    kept = codes.copy()
    if buffer == 0:
        return kept
    for rank, part in enumerate(_GUARDED[1:], start=1):
        mine = np.flatnonzero(kept == part)
        others = np.isin(kept, _GUARDED[:rank])
        kept[mine[near(places[mine], places[others], buffer)]] = LEFT_OUT
    left = {name: int((kept == part).sum()) for part, name in enumerate(PARTS) if (codes == part).any()}
    if not all(left.values()):
        told = ', '.join(f'{count:,} {name}' for name, count in left.items())
        raise DatasetError(
            f'a buffer of {buffer:g} m leaves a part without rows: {told} would remain of {len(codes):,}; '
            'choose a smaller buffer or larger blocks'
        )
    return kept


def check_buffer(buffer: float) -> None:
    """Refuse a buffer that is no length.

    Args:
        buffer: metres.

    Raises:
        DatasetError: it is below 0 or no number.
    """
    if not 0 <= buffer < np.inf:
        raise DatasetError(f'buffer has to be 0 metres or more, not {buffer}')


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

"""From native sizes to one: reBEN's 20 m and 60 m pixels repeated onto the 10 m grid.

Repeating is what the official training does (nearest neighbour, spec of the release: 60 to 120 pixels
is twice, 20 to 120 six times). It is written so that a patch costs little more than copying it.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.bigearthnet.stores import native_form

__all__ = ['SIDE', 'expand_into', 'sides']

SIDE = 120
"""Pixels along a side of a patch at 10 m."""

_TWICE = np.uint64(0x1_0000_0001)
_LARGEST = 6 * 60 * 60
_LOCAL = threading.local()


def expand_into(pixels: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Write bands of one native size as float32 on the 10 m grid, each pixel repeated.

    Args:
        pixels: (..., S, S), S a divisor of 120 by an even number, or 120 itself.
        out: (..., 120, 120) to write to, contiguous.
    """
    side = pixels.shape[-1]
    if side == SIDE:
        out[...] = pixels
        return
    times = SIDE // side
    floats, pairs = _scratch(pixels.size)
    floats[...] = pixels.reshape(-1)
    # Two equal float32 side by side are one uint64: half the elements to move, and no strided writes.
    np.multiply(floats.view(np.uint32), _TWICE, out=pairs, dtype=np.uint64)
    columns = pairs.reshape(pixels.shape)
    if times > 2:
        columns = np.repeat(columns, times // 2, axis=-1)
    rows = out.view(np.uint64).reshape(*pixels.shape[:-2], side, times, SIDE // 2)
    for row in range(times):
        rows[..., row, :] = columns


def _scratch(size: int) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Memory of this thread to work in: to have the system hand out pages anew costs more than the work."""
    kept: tuple[NDArray[np.float32], NDArray[np.uint64]] | None = getattr(_LOCAL, 'kept', None)
    if kept is None or len(kept[0]) < size:
        room = max(size, _LARGEST)
        kept = _LOCAL.kept = (np.empty(room, np.float32), np.empty(room, np.uint64))
    return kept[0][:size], kept[1][:size]


def sides(bands: Sequence[str]) -> dict[int, list[int]]:
    """Places in `bands` by the native size of the band there.

    Args:
        bands: Names of bands.
    """
    places: dict[int, list[int]] = {}
    for place, band in enumerate(bands):
        places.setdefault(native_form(band)[0], []).append(place)
    return places

"""Protocols of the stores of reBEN pixels, and the bands with their native sizes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    'MAP_BAND',
    'S1_BANDS',
    'S2_BANDS',
    'TIFF_FOLDERS',
    'BatchStore',
    'PatchStore',
    'native_form',
]

Kind = Literal['tiff', 'lmdb']
S1_BANDS = ('VV', 'VH')
S2_BANDS = ('B01', 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B09', 'B11', 'B12')
MAP_BAND = 'Data'
TIFF_FOLDERS = {'s2': 'BigEarthNet-S2', 's1': 'BigEarthNet-S1', 'map': 'Reference_Maps'}

_FLOAT, _WHOLE = np.dtype('float32'), np.dtype('uint16')
_SIDES = {'B05': 60, 'B06': 60, 'B07': 60, 'B8A': 60, 'B11': 60, 'B12': 60, 'B01': 20, 'B09': 20}


class PatchStore(Protocol):
    """A store of patches by name; it is safe to pickle and to use after a fork.

    Attributes:
        path: folder of the store.
        kind: layout of the store.
    """

    path: Path
    kind: Kind

    def read(self, name: str, bands: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Read bands of one patch at their native sizes.

        Args:
            name: a Sentinel-2 patch id, a Sentinel-1 name, or a patch id with `_reference_map` behind it.
            bands: names as in `S2_BANDS` or `S1_BANDS`; a map's only band is `MAP_BAND`.

        Returns:
            The bands asked for: Sentinel-2 (120, 120), (60, 60) or (20, 20) uint16 digital numbers,
            Sentinel-1 (120, 120) float32 decibels, a map (120, 120) uint16 CORINE Land Cover codes.

        Raises:
            DatasetError: if the store has no such patch, or the patch lacks a band.
            ReadError: if the data cannot be read; the message names the patch.
        """
        ...

    def names(self) -> list[str]:
        """Names of all patches in the store (Sentinel-2, Sentinel-1 and maps), sorted."""
        ...


@runtime_checkable
class BatchStore(PatchStore, Protocol):
    """A store that can read patches straight into given arrays."""

    def fill(self, name: str, bands: Sequence[str], out: NDArray[np.float32]) -> None:
        """Read bands of one patch as float32 on the 10 m grid, with coarser pixels repeated.

        Args:
            name: as in `read`.
            bands: as in `read`.
            out: (C, 120, 120) to write to, contiguous.

        Raises:
            DatasetError: as in `read`.
            ReadError: as in `read`.
        """
        ...

    def read_batch(
        self, names: Sequence[str], bands: Sequence[str], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Read bands of many patches of one kind as float32 on the 10 m grid, with coarser pixels repeated.

        Args:
            names: as in `read`, N of them.
            bands: as in `read`, C of them.
            out: (N, C, 120, 120) to write to, contiguous from the second dimension on.

        Returns:
            `out`, or a new array.

        Raises:
            DatasetError: as in `read`.
            ReadError: as in `read`.
        """
        ...

    def read_native(self, names: Sequence[str], bands: Sequence[str]) -> dict[int, NDArray[Any]]:
        """Read bands of many patches of one kind as stored, to be expanded elsewhere.

        Args:
            names: as in `read`, N of them.
            bands: as in `read`.

        Returns:
            (N, B, S, S) by the native size S: the B bands of that size in their order in `bands`.

        Raises:
            DatasetError: as in `read`.
            ReadError: as in `read`.
        """
        ...


def native_form(band: str) -> tuple[int, np.dtype[Any]]:
    """Side in pixels and data type of a band as released.

    Args:
        band: as in `S2_BANDS` or `S1_BANDS`, or `MAP_BAND`.
    """
    return _SIDES.get(band, 120), _FLOAT if band in S1_BANDS else _WHOLE

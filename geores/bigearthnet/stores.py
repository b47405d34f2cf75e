"""Protocols of the stores of reBEN pixels, their bands, and patches as safetensors files.

rico-hdl stores a patch under its name as one safetensors file (format 0.3): eight bytes give the length of a
JSON header with type, shape and offset of every tensor, and the pixels follow without gaps. All patches of a
kind have the same header, so it is parsed once. Bands of 20 and 60 m are expanded by repeating pixels
(nearest neighbour), as the published training code does; it costs little more than a copy.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geores.bigearthnet.patch_id import modality

__all__ = [
    'MAP_BAND',
    'S1_BANDS',
    'S2_BANDS',
    'SIDE',
    'TIFF_FOLDERS',
    'BatchStore',
    'PatchStore',
    'Piece',
    'ValueFormatError',
    'ValueLayout',
    'bands_of',
    'encode_patch',
    'expand_into',
    'layout_of',
    'native_form',
    'sides',
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

        Returns:
            (N, B, S, S) by the native size S: the B bands of that size in their order in `bands`.

        Raises:
            DatasetError: as in `read`.
            ReadError: as in `read`.
        """
        ...


def native_form(band: str) -> tuple[int, np.dtype[Any]]:
    """Side in pixels and data type of a band as released."""
    return _SIDES.get(band, 120), _FLOAT if band in S1_BANDS else _WHOLE


SIDE = 120
"""Side of a patch in pixels of 10 m."""

_TWICE = np.uint64(0x1_0000_0001)
_LARGEST = 6 * 60 * 60
_LOCAL = threading.local()

_DTYPES: dict[str, np.dtype[Any]] = {'U16': np.dtype('<u2'), 'F32': np.dtype('<f4')}
_PREFIX = 8
_BANDS = {'s1': S1_BANDS, 's2': S2_BANDS, 'map': (MAP_BAND,)}


def expand_into(pixels: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Write bands of one native size as float32 on the 10 m grid, with pixels repeated.

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
    # Two equal float32 side by side form one uint64, so multiplying repeats a pixel: this moves half as many
    # elements as writing float32, and needs no strided writes.
    np.multiply(floats.view(np.uint32), _TWICE, out=pairs, dtype=np.uint64)
    columns = pairs.reshape(pixels.shape)
    if times > 2:
        columns = np.repeat(columns, times // 2, axis=-1)
    rows = out.view(np.uint64).reshape(*pixels.shape[:-2], side, times, SIDE // 2)
    for row in range(times):
        rows[..., row, :] = columns


def _scratch(size: int) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Scratch memory of this thread: allocating new pages would take longer than the work itself."""
    kept: tuple[NDArray[np.float32], NDArray[np.uint64]] | None = getattr(_LOCAL, 'kept', None)
    if kept is None or len(kept[0]) < size:
        room = max(size, _LARGEST)
        kept = _LOCAL.kept = (np.empty(room, np.float32), np.empty(room, np.uint64))
    return kept[0][:size], kept[1][:size]


def sides(bands: Sequence[str]) -> dict[int, list[int]]:
    """Group the indices of bands by native size."""
    places: dict[int, list[int]] = {}
    for place, band in enumerate(bands):
        places.setdefault(native_form(band)[0], []).append(place)
    return places


class ValueFormatError(ValueError):
    """The bytes are not a safetensors file of a patch."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Requested bands that lie one behind the other, so that one read gives all of them.

    Attributes:
        first: index of the first band among those requested.
        count: number of bands.
        side: side of the bands in pixels.
        dtype: data type of the pixels.
        offset: byte offset of the first pixel in the value.
    """

    first: int
    count: int
    side: int
    dtype: np.dtype[Any]
    offset: int

    def view(self, value: 'bytes | memoryview') -> NDArray[Any]:
        """View the pixels in a value, (count, side, side)."""
        pixels = np.frombuffer(value, self.dtype, self.count * self.side * self.side, self.offset)
        return pixels.reshape(self.count, self.side, self.side)


@dataclass(frozen=True, eq=False)
class ValueLayout:
    """Position of the bands in a value.

    Attributes:
        offsets: byte offset of each band in the value.
        size: size of the value in bytes.
    """

    offsets: Mapping[str, int]
    size: int
    _pieces: dict[tuple[str, ...], tuple[Piece, ...]] = field(default_factory=dict)

    def pieces(self, bands: tuple[str, ...]) -> tuple[Piece, ...]:
        """Find the fewest contiguous pieces that hold the bands.

        Raises:
            KeyError: if one is not here; the error's argument is its name.
        """
        known = self._pieces.get(bands)
        if known is None:
            known = self._pieces[bands] = tuple(self._join(bands))
        return known

    def _join(self, bands: tuple[str, ...]) -> list[Piece]:
        pieces: list[Piece] = []
        for place, band in enumerate(bands):
            side, dtype = native_form(band)
            offset, last = self.offsets[band], pieces[-1] if pieces else None
            if last and last.side == side and last.dtype == dtype and offset == _end(last):
                pieces[-1] = Piece(last.first, last.count + 1, side, dtype, last.offset)
            else:
                pieces.append(Piece(place, 1, side, dtype, offset))
        return pieces


def layout_of(value: 'bytes | memoryview') -> ValueLayout:
    """Parse the header of a value.

    Raises:
        ValueFormatError: if it is no safetensors file, is truncated, or has bands that reBEN lacks.
    """
    end = _PREFIX + int.from_bytes(value[:_PREFIX], 'little')
    if not _PREFIX < end <= len(value):
        raise ValueFormatError('the header does not fit into the value')
    layout = _parse(bytes(value[_PREFIX:end]))
    if layout.size != len(value):
        raise ValueFormatError(f'holds {len(value)} bytes, and its header says {layout.size}')
    return layout


def encode_patch(bands: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode bands as rico-hdl does; the bytes do not depend on the order of the bands.

    Args:
        bands: pixels by band, at their native sizes and types.

    Returns:
        A safetensors file: the bands by their names' order, the header padded with blanks to 8 bytes.
    """
    from safetensors.numpy import save

    data: bytes = save({band: np.ascontiguousarray(pixels) for band, pixels in bands.items()})
    return data


def bands_of(name: str) -> tuple[str, ...]:
    """List all bands of a patch by its name."""
    return _BANDS[modality(name)]


@lru_cache(maxsize=64)
def _parse(header: bytes) -> ValueLayout:
    start = _PREFIX + len(header)
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != '__metadata__'}
        offsets, size = {}, 0
        for name, entry in entries.items():
            begin, end = entry['data_offsets']
            _check(name, _DTYPES.get(entry['dtype']), tuple(entry['shape']), end - begin)
            offsets[name], size = start + begin, max(size, start + end)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ValueFormatError):
            raise
        raise ValueFormatError('its header is no safetensors header') from error
    if not offsets or min(offsets.values()) < start:
        raise ValueFormatError('its header names no bands')
    return ValueLayout(offsets, size)


def _check(name: str, dtype: np.dtype[Any] | None, shape: tuple[int, ...], size: int) -> None:
    side, expected = native_form(name)
    if dtype != expected or shape != (side, side) or size != side * side * expected.itemsize:
        raise ValueFormatError(
            f'{name} is {shape} of {dtype}, and of reBEN it is ({side}, {side}) of {expected}'
        )


def _end(piece: Piece) -> int:
    return piece.offset + piece.count * piece.side * piece.side * piece.dtype.itemsize

"""Read the release as unpacked: folders with one GeoTIFF per band.

Its images are uncompressed and in one piece, so that one read and a look at the header give the pixels.
Everything else, such as the compressed reference maps, is read by GDAL.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geores.bigearthnet.patch_id import MAP_SUFFIX, PatchId, S1Name, modality
from geores.bigearthnet.stores import MAP_BAND, TIFF_FOLDERS, native_form
from geores.errors import DatasetError, ReadError, UsageError

__all__ = ['TiffError', 'TiffHeader', 'TiffStore', 'parse_tiff', 'read_tiff']

_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES = 273, 277, 279
_TILE_OFFSETS, _TILE_BYTES, _FORMAT = 324, 325, 339
_WANTED = frozenset({
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES,
    _FORMAT,
})  # fmt: skip
_TYPES = {3: ('H', 2), 4: ('I', 4), 16: ('Q', 8)}
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    (1, 8): np.dtype('u1'), (1, 16): np.dtype('<u2'), (1, 32): np.dtype('<u4'), (2, 16): np.dtype('<i2'),
    (3, 32): np.dtype('<f4'), (3, 64): np.dtype('<f8'),
}  # fmt: skip


class TiffError(ValueError):
    """The TIFF is damaged."""


@dataclass(frozen=True)
class TiffHeader:
    """Shape, data type and position of the pixels of a TIFF.

    Attributes:
        height: height in pixels.
        width: width in pixels.
        dtype: data type of a pixel.
        offset: byte offset of the first pixel in the file.
        is_plain: whether all pixels follow from there without gaps, uncompressed.
    """

    height: int
    width: int
    dtype: np.dtype[Any]
    offset: int
    is_plain: bool

    @property
    def count(self) -> int:
        """Number of pixels."""
        return self.height * self.width


def parse_tiff(data: bytes | bytearray) -> TiffHeader | None:
    """Read the header of a little-endian TIFF (TIFF 6.0, section 2).

    Returns:
        The header; None for kinds that this parser leaves to GDAL (big-endian, BigTIFF, several bands).

    Raises:
        TiffError: if it is no TIFF or is incomplete; GDAL would return zeros for some missing parts.
    """
    if data[:4] in (b'MM\0*', b'II+\0', b'MM\0+'):
        return None
    if data[:4] != b'II*\0':
        raise TiffError('is no TIFF' if data else 'is empty (0 bytes)')
    try:
        tags = _tags(data)
        height, width = tags[_HEIGHT][0], tags[_WIDTH][0]
    except (struct.error, KeyError, IndexError):
        raise TiffError('its header is damaged or cut off') from None
    tiled = _TILE_OFFSETS in tags
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    sizes = tags.get(_TILE_BYTES if tiled else _STRIP_BYTES, ())
    _check_pieces(offsets, sizes, len(data))
    dtype = _DTYPES.get((tags.get(_FORMAT, (1,))[0], tags.get(_BITS, (1,))[0]))
    if dtype is None or tags.get(_SAMPLES, (1,))[0] != 1:
        return None
    plain = not tiled and tags.get(_COMPRESSION, (1,))[0] == 1 and _follow(offsets, sizes)
    if plain and sum(sizes) < height * width * dtype.itemsize:
        raise TiffError(f'holds {sum(sizes)} bytes of pixels for {height} x {width} of {dtype}')
    return TiffHeader(height, width, dtype, offsets[0], plain)


def _tags(data: bytes | bytearray) -> dict[int, tuple[int, ...]]:
    (start,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    found = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from('<HHI', data, place)
        if tag not in _WANTED or kind not in _TYPES:
            continue
        letter, size = _TYPES[kind]
        where = place + 8
        if length * size > 4:
            (where,) = struct.unpack_from('<I', data, where)
        if where + length * size > len(data):
            raise struct.error('a value lies behind the end')
        found[tag] = struct.unpack_from(f'<{length}{letter}', data, where)
    return found


def _check_pieces(offsets: tuple[int, ...], sizes: tuple[int, ...], end: int) -> None:
    if not offsets or len(offsets) != len(sizes):
        raise TiffError('its header does not say where the pixels are')
    if not all(offsets) or not all(sizes):
        raise TiffError('pixels were never written: whatever wrote it was stopped')
    reach = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
    if reach > end:
        raise TiffError(f'is cut off: {end} bytes, and its header speaks of {reach}')


def _follow(offsets: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    """Whether each piece starts where the previous one ends."""
    return all(start + size == then for start, size, then in zip(offsets, sizes, offsets[1:], strict=False))


class TiffStore:
    """Store of the released folders `BigEarthNet-S2`, `BigEarthNet-S1` and `Reference_Maps`.

    Folders that are never read need not exist.
    """

    kind: Literal['tiff', 'lmdb'] = 'tiff'

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._folders = {name: os.path.join(self.path, folder) for name, folder in TIFF_FOLDERS.items()}

    def read(self, name: str, bands: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Bands of one patch at their native sizes; see `PatchStore.read`."""
        stem = self._stem(name)
        try:
            return {
                band: _read_band(f'{stem}.tif' if band == MAP_BAND else f'{stem}_{band}.tif', band)
                for band in bands
            }
        except FileNotFoundError as error:
            raise self._missing(name, str(error.filename)) from None

    def files(self, name: str, bands: Sequence[str]) -> list[Path]:
        """Paths of the files of bands of a patch, whether they exist or not."""
        stem = self._stem(name)
        return [Path(f'{stem}.tif' if band == MAP_BAND else f'{stem}_{band}.tif') for band in bands]

    def names(self) -> list[str]:
        """Names of all patches in the store, sorted; folders that are no patches are skipped."""
        found = [name for kind, folder in self._folders.items() for name in _names(kind, folder)]
        return sorted(found)

    def _stem(self, name: str) -> str:
        """Common prefix of the paths of a patch's files."""
        kind = modality(name)
        if kind == 's1':
            product, folder = name.rsplit('_', 3)[0], name
        else:
            folder = name.removesuffix(MAP_SUFFIX)
            product = folder.rsplit('_', 2)[0]
        return f'{self._folders[kind]}{os.sep}{product}{os.sep}{folder}{os.sep}{name}'

    def _missing(self, name: str, path: str) -> DatasetError:
        folder = Path(self._folders[modality(name)])
        if not folder.is_dir():
            return DatasetError(
                f'{self.path}: has no folder {folder.name}, and patch {name} was asked for: unpack that '
                'part of the release there too, or ask for other bands'
            )
        if Path(path).parent.is_dir():
            return DatasetError(f'{path}: no such file, and patch {name} needs it')
        return DatasetError(f'{Path(path).parent}: no such folder: patch {name} is not here')


def read_tiff(path: str | Path) -> NDArray[Any]:
    """Read the pixels of a single-band GeoTIFF, exactly as stored.

    Returns:
        (H, W), a new array.

    Raises:
        FileNotFoundError: if it is not there.
        ReadError: if it is damaged or no GeoTIFF.
    """
    data = _bytes(path)
    try:
        header = parse_tiff(data)
        if header is None:
            return _by_gdal(path)
        if header.is_plain:
            pixels = np.frombuffer(data, header.dtype, header.count, header.offset)
            return pixels.reshape(header.height, header.width)
        return _by_gdal(path)
    except TiffError as error:
        raise ReadError(f'{path}: {error}; copy or download it again') from None


def _read_band(path: str, band: str) -> NDArray[Any]:
    pixels = read_tiff(path)
    side, dtype = native_form(band)
    if pixels.shape != (side, side) or pixels.dtype != dtype:
        raise ReadError(
            f'{path}: {pixels.dtype} of {pixels.shape[0]} x {pixels.shape[1]} pixels, and {band} of reBEN '
            f'is {dtype} of {side} x {side}'
        )
    return pixels


def _bytes(path: str | Path) -> bytearray:
    """Read a whole file, as a bytearray so that arrays over it are writable."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ReadError(f'{path}: cannot be read ({error.strerror})') from error
    try:
        data = bytearray(os.fstat(descriptor).st_size)
        with os.fdopen(descriptor, 'rb', buffering=0, closefd=False) as file:
            read = file.readinto(data)
    except OSError as error:
        raise ReadError(f'{path}: cannot be read ({error.strerror})') from error
    finally:
        os.close(descriptor)
    if read != len(data):
        raise ReadError(f'{path}: only {read} of {len(data)} bytes could be read')
    return data


def _by_gdal(path: str | Path) -> NDArray[Any]:
    import rasterio
    from rasterio.windows import Window

    from geores.scenes.blocks import BlockSums
    from geores.scenes.gdal import open_dataset, reading_env

    try:
        with reading_env(), open_dataset(str(path), 'GTiff', quiet=True) as source:
            if source.count != 1:
                raise ReadError(f'{path}: has {source.count} bands, and files of reBEN have one')
            BlockSums(str(path)).check(source, [1], Window(0, 0, source.width, source.height))
            pixels: NDArray[Any] = source.read(1)
    except ReadError:
        raise
    except (rasterio.errors.RasterioError, OSError, UsageError) as error:
        raise ReadError(f'{path}: cannot be read: {error}') from error
    return pixels


def _names(kind: str, folder: str) -> Iterator[str]:
    if not os.path.isdir(folder):
        return
    parse = S1Name.parse if kind == 's1' else PatchId.parse
    for product in _folders_in(folder):
        for patch in _folders_in(product):
            try:
                parse(patch.name)
            except UsageError:
                continue
            yield f'{patch.name}{MAP_SUFFIX}' if kind == 'map' else patch.name


def _folders_in(folder: 'str | os.DirEntry[str]') -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.is_dir()]

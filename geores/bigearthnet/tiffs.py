"""The release as it is unpacked: folders of one GeoTIFF a band.

Its images are uncompressed, each in one piece, so that one read and a look at the header give the
pixels. Whatever is laid out otherwise (the compressed reference maps) is read by GDAL.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geores.bigearthnet.patch_id import MAP_SUFFIX, PatchId, S1Name, modality
from geores.bigearthnet.stores import MAP_BAND, TIFF_FOLDERS, native_form
from geores.bigearthnet.tiff_header import TiffError, parse_tiff
from geores.errors import DatasetError, ReadError, UsageError

__all__ = ['TiffStore', 'read_tiff']


class TiffStore:
    """The released folders `BigEarthNet-S2`, `BigEarthNet-S1` and `Reference_Maps`.

    Only those need be there that are read from.

    Args:
        path: The folder that holds them.
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
        """Files of bands of a patch, whether they are there or not.

        Args:
            name: As in `read`.
            bands: As in `read`.
        """
        stem = self._stem(name)
        return [Path(f'{stem}.tif' if band == MAP_BAND else f'{stem}_{band}.tif') for band in bands]

    def names(self) -> list[str]:
        """The names of all patches here, sorted; those of folders that are no patches are left out."""
        found = [name for kind, folder in self._folders.items() for name in _names(kind, folder)]
        return sorted(found)

    def _stem(self, name: str) -> str:
        """Path of a patch's files up to the band."""
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
    """Pixels of a GeoTIFF of one band, exactly as they are stored.

    Args:
        path: The file.

    Returns:
        (H, W), a new array.

    Raises:
        FileNotFoundError: If it is not there.
        ReadError: If it is damaged or no GeoTIFF.
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
    """All of a file; a bytearray, so that arrays over it can be written to."""
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

    from geores.scenes.gdal import open_dataset, reading_env

    try:
        with reading_env(), open_dataset(str(path), 'GTiff', quiet=True) as source:
            if source.count != 1:
                raise ReadError(f'{path}: has {source.count} bands, and files of reBEN have one')
            pixels: NDArray[Any] = source.read(1)
    except (rasterio.errors.RasterioError, UsageError) as error:
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

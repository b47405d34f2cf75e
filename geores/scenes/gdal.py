"""GDAL as geores uses it: which drivers may open a file, and with which options.

GDAL picks a driver by a file's content, so that a VRT renamed `.tif` would read any file on the
machine. Here the driver is chosen from the first bytes, against a list, and named on opening.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geores.errors import SceneError

__all__ = [
    'CACHE_BYTES',
    'find_driver',
    'gdal_env',
    'is_remote',
    'open_dataset',
    'reading_env',
    'ungeoreferenced',
]

CACHE_BYTES: Final = 64 * 2**20
"""Default size of GDAL's block cache, which all datasets of the process share."""

_REMOTE: Final = (
    'http://',
    'https://',
    's3://',
    'gs://',
    'az://',
    '/vsicurl/',
    '/vsis3/',
    '/vsigs/',
    '/vsiaz/',
)

_MAGIC: Final = (
    (b'II*\0', 'GTiff'),
    (b'MM\0*', 'GTiff'),
    (b'II+\0', 'GTiff'),
    (b'MM\0+', 'GTiff'),
    (b'\0\0\0\x0cjP  \r\n\x87\n', 'JP2OpenJPEG'),
    (b'\xff\x4f\xff\x51', 'JP2OpenJPEG'),
    (b'\x89PNG\r\n\x1a\n', 'PNG'),
    (b'\xff\xd8\xff', 'JPEG'),
)

# Without these GDAL returns zeros, or memory that nobody wrote, for parts of a damaged file:
# errors of its own JPEG 2000 threads and of its fast PNG path are printed and then forgotten.
_SOUND: Final = {
    'GDAL_NUM_THREADS': '1',
    'GDAL_ERROR_ON_LIBJPEG_WARNING': 'TRUE',
    'GDAL_PNG_WHOLE_IMAGE_OPTIM': 'NO',
}

_REMOTE_OPTIONS: Final = {
    'GDAL_DISABLE_READDIR_ON_OPEN': 'EMPTY_DIR',
    'GDAL_HTTP_MAX_RETRY': '3',
    'GDAL_HTTP_RETRY_DELAY': '1',
}

_filters_lock = threading.Lock()


def gdal_env(cache_bytes: int = CACHE_BYTES) -> rasterio.Env:
    """Return the GDAL environment for a whole run; enter it in the main thread.

    Options that the user has set as environment variables stay, except for those without which
    damaged files would be read as zeros.

    Args:
        cache_bytes: size of the block cache in bytes (`rasterio.Env` takes bytes, unlike the
            environment variable `GDAL_CACHEMAX`, which takes megabytes when the number is small).
    """
    options: dict[str, Any] = {'GDAL_CACHEMAX': cache_bytes}
    return rasterio.Env(**_unless_set_by_user(options), **_SOUND)


def reading_env(*, remote: bool = False) -> rasterio.Env:
    """Return the environment in which one dataset is opened or read; cheap, for any thread."""
    return rasterio.Env(**(_unless_set_by_user(_REMOTE_OPTIONS) if remote else {}), **_SOUND)


@contextmanager
def ungeoreferenced() -> Iterator[None]:
    """Let rasterio not warn about a missing geotransform.

    Threads wait for each other here, since Python's warning filters are shared by all of them.
    """
    with _filters_lock, warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        yield


def is_remote(path: str) -> bool:
    """Whether a path names something that GDAL reads over the network."""
    return path.startswith(_REMOTE)


def find_driver(path: str, *, allow_vrt: bool = False) -> str:
    """Choose the GDAL driver for a file from its first bytes.

    Args:
        path: a local file, or a remote path, which is always taken to be a GeoTIFF.
        allow_vrt: whether a GDAL virtual raster, which names other files to read, may be opened.

    Raises:
        SceneError: if the file is missing, empty, or of a format that is not allowed.
    """
    if is_remote(path):
        return 'GTiff'
    head = _first_bytes(path)
    for magic, driver in _MAGIC:
        if head.startswith(magic):
            return driver
    if head.startswith(b'PK\x03\x04'):
        raise SceneError(f'{path}: is a zip archive; unpack it and give what is inside')
    if b'<VRTDataset' not in head:
        raise SceneError(
            f'{path}: not a raster that geores opens; give a GeoTIFF, JPEG 2000, PNG or JPEG file'
        )
    if not allow_vrt:
        raise SceneError(
            f'{path}: is a GDAL virtual raster (VRT), which reads other files; '
            'if you trust it, allow it with --allow-vrt (allow_vrt=True)'
        )
    if not path.lower().endswith('.vrt'):
        raise SceneError(f'{path}: is a VRT under another name; rename it to end in .vrt')
    return 'VRT'


def open_dataset(path: str, driver: str, *, quiet: bool = False) -> rasterio.DatasetReader:
    """Open a dataset with the driver named, for the calling thread alone.

    Args:
        path: a local file or a remote path.
        driver: GDAL's short name, from `find_driver`.
        quiet: do not warn about a missing geotransform.

    Raises:
        SceneError: if GDAL cannot open it.
    """
    if quiet:
        with ungeoreferenced():
            return open_dataset(path, driver)
    try:
        with reading_env(remote=is_remote(path)):
            # As a `Path`, a local name that looks like a URL stays a name.
            source = path if is_remote(path) else Path(path)
            return rasterio.open(source, driver=driver, sharing=False)
    except RasterioError as error:
        reason = 'check the address and the network' if is_remote(path) else 'it is damaged or incomplete'
        raise SceneError(f'{path}: GDAL cannot open it as {driver} ({error}): {reason}') from error


def _unless_set_by_user(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in os.environ}


def _first_bytes(path: str) -> bytes:
    if not os.path.isfile(path):
        what = 'is not a file' if os.path.exists(path) else 'no such file'
        raise SceneError(f'{path}: {what}; check the path')
    try:
        with Path(path).open('rb') as file:
            head = file.read(1024)
    except OSError as error:
        raise SceneError(f'{path}: cannot be read ({error.strerror}); check the path') from error
    if not head:
        raise SceneError(f'{path}: is empty (0 bytes); copy or download it again')
    return head

"""The one door for rasters: which drivers may open a file, with which options, and what may lie beside it.

GDAL picks a driver by a file's content, so that a VRT renamed `.tif` would read any file on the
machine. Here the driver is chosen from the first bytes, against a list, and named on opening.
Overviews and masks beside a file are opened by GDAL on its own, with any driver: what they may be is
checked here before (`open_dataset`). The door for vector files is `geores.scenes.vectors`.
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
    'open_raster',
    'overview_of',
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

# rasterio would ask boto3 for credentials where that is installed; GDAL finds them by itself everywhere.
_STORES: Final = {'s3://': '/vsis3/', 'gs://': '/vsigs/', 'az://': '/vsiaz/'}

_CREDENTIALS: Final = {
    's3': 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or AWS_NO_SIGN_REQUEST=YES',
    'gs': 'GOOGLE_APPLICATION_CREDENTIALS, or GS_NO_SIGN_REQUEST=YES',
    'az': 'AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_NO_SIGN_REQUEST=YES',
}
"""Variables of the environment by which GDAL signs what it asks of a store, or does not."""

_UNSIGNED: Final = ('not defined', 'Access Denied', 'Access Key', 'signature', 'credentials')
"""What GDAL says where it has no credentials, or the store does not take them."""

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

# Of a remote file only the blocks that are wanted are asked for, neighbouring ones by one request. GDAL
# rounds a request to whole chunks, and doubles it where reads follow each other until it has 128 of them:
# small ones fetch less that nobody wants. (What a process reads its first remote file with, stays.) A server
# that says nothing for half a minute is given up, instead of being waited for without end.
_REMOTE_OPTIONS: Final = {
    'GDAL_HTTP_MAX_RETRY': '3',
    'GDAL_HTTP_RETRY_DELAY': '1',
    'GDAL_HTTP_CONNECTTIMEOUT': '15',
    'GDAL_HTTP_LOW_SPEED_TIME': '30',
    'GDAL_HTTP_LOW_SPEED_LIMIT': '1',
    'GDAL_HTTP_MERGE_CONSECUTIVE_RANGES': 'YES',
    'CPL_VSIL_CURL_CHUNK_SIZE': '1024',
    'GDAL_MAX_RAW_BLOCK_CACHE_SIZE': str(64 * 2**20),
    'GDAL_INGESTED_BYTES_AT_OPEN': '32768',
}

# Beside a local file, only names that `_check_side_files` knows are looked for, in upper or lower case;
# beside a remote one, none.
_LOCAL_SIDE: Final = {'GDAL_DISABLE_READDIR_ON_OPEN': 'TRUE'}
_REMOTE_SIDE: Final = {'GDAL_DISABLE_READDIR_ON_OPEN': 'EMPTY_DIR'}

_OVERVIEWS_BESIDE: Final = ('.ovr', '.OVR')
_GEOTIFFS_BESIDE: Final = (*_OVERVIEWS_BESIDE, '.msk', '.MSK')
_OVERSAMPLED: Final = 1.2
"""How much coarser than what is wanted an overview may be, as GDAL has it."""

_ERDAS_BESIDE: Final = ('.aux', '.AUX')
_ERDAS: Final = b'EHFA_HEADER_TAG'

_filters_lock = threading.RLock()


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
    options = _unless_set_by_user(_REMOTE_OPTIONS) | _REMOTE_SIDE if remote else _LOCAL_SIDE
    return rasterio.Env(**options, **_SOUND)


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
    driver = _magic_driver(head)
    if driver is not None:
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


def open_raster(path: str | os.PathLike[str]) -> rasterio.DatasetReader:
    """Open a local raster of a format that is allowed, georeferenced or not.

    Raises:
        SceneError: as in `find_driver` and `open_dataset`.
    """
    local = os.path.abspath(path)
    return open_dataset(local, find_driver(local), quiet=True)


@contextmanager
def overview_of(
    path: str, dataset: rasterio.DatasetReader, shrink: float
) -> Iterator[rasterio.DatasetReader | None]:
    """Open the overview that GDAL reads where pixels shrink, among those that a local GeoTIFF itself holds.

    Args:
        path: of the file.
        dataset: the file, open.
        shrink: by how much pixels shrink.

    Yields:
        The overview; None where there is none, or overviews lie in a file of their own.
    """
    own = not is_remote(path) and dataset.driver == 'GTiff'
    if own and not dataset.get_tag_item('OVERVIEW_FILE', 'OVERVIEWS') and not _has_overviews_beside(path):
        fitting = [n for n, factor in enumerate(dataset.overviews(1)) if factor < _OVERSAMPLED * shrink]
        if fitting:
            with open_dataset(path, dataset.driver, quiet=True, overview=fitting[-1]) as overview:
                yield overview
            return
    yield None


def _has_overviews_beside(path: str) -> bool:
    return any(os.path.lexists(f'{path}{ending}') for ending in _OVERVIEWS_BESIDE)


def open_dataset(
    path: str, driver: str, *, quiet: bool = False, overview: int | None = None
) -> rasterio.DatasetReader:
    """Open a dataset with the driver named, for the calling thread alone.

    Overviews (`.ovr`), masks (`.msk`) and what the metadata name as `OVERVIEW_FILE` have to be GeoTIFFs in
    the folder of the file, and no links to elsewhere; the same goes for what lies beside these.

    Args:
        path: a local file or a remote path.
        driver: GDAL's short name, from `find_driver`.
        quiet: do not warn about a missing geotransform.
        overview: number of an overview to open in its place, the finest is 0.

    Raises:
        SceneError: if GDAL cannot open it, or a file beside it is not of these.
    """
    if quiet:
        with ungeoreferenced():
            return open_dataset(path, driver, overview=overview)
    remote = is_remote(path)
    if driver != 'VRT' and not remote:
        _check_side_files(path)
    try:
        with reading_env(remote=remote):
            # As a `Path`, a local name that looks like a URL stays a name.
            level = {} if overview is None else {'overview_level': overview}
            name = _in_store(path) if remote else Path(path)
            dataset = rasterio.open(name, driver=driver, sharing=False, **level)
    except RasterioError as error:
        told = ' '.join(str(error).split())
        reason = _remote_advice(path, told) if remote else 'it is damaged or incomplete'
        raise SceneError(f'{path}: GDAL cannot open it as {driver} ({told}): {reason}') from error
    if driver != 'VRT':
        try:
            _check_overview_file(dataset, path)
        except SceneError:
            dataset.close()
            raise
    return dataset


def _in_store(path: str) -> str:
    """GDAL's own name for an object of a store, such as ``/vsis3/bucket/scene.tif``; other addresses stay."""
    for scheme, prefix in _STORES.items():
        if path.startswith(scheme):
            return prefix + path.removeprefix(scheme)
    return path


def _remote_advice(path: str, reason: str) -> str:
    """What to do where GDAL did not open an address."""
    store = next((prefix[4:6] for prefix in _STORES.values() if _in_store(path).startswith(prefix)), None)
    if store is not None and any(sign in reason for sign in _UNSIGNED):
        return (
            f'check the address, and give credentials in the environment ({_CREDENTIALS[store]} for what is '
            'public)'
        )
    if 'not recognized' in reason:  # what GDAL says, too, where it got a whole file for a part, or nothing
        return (
            'it is no GeoTIFF, or its server sends no parts of files (range requests) or nothing in time: '
            'download it and give the file'
        )
    return 'check the address and the network'


def _check_side_files(path: str) -> None:
    """Refuse files beside a raster that GDAL would open with it and that are no GeoTIFFs of that folder."""
    for ending in _GEOTIFFS_BESIDE:
        _check_side_file(f'{path}{ending}', path)
    for stem in (path, os.path.splitext(path)[0]):
        for ending in _ERDAS_BESIDE:
            if os.path.isfile(stem + ending) and _first_bytes(stem + ending).startswith(_ERDAS):
                raise SceneError(
                    f'{stem}{ending}: is an ERDAS file beside {path}, which may name other files; move it '
                    'away, and make overviews with `gdaladdo -ro` if they are wanted'
                )


def _check_side_file(side: str, path: str) -> None:
    if not os.path.lexists(side):
        return
    if os.path.islink(side) and not os.path.islink(path):
        raise SceneError(f'{side}: is a link beside {path}, which is none; put the file itself there')
    if not os.path.isfile(side) or _magic_driver(_first_bytes(side)) != 'GTiff':
        raise SceneError(
            f'{side}: lies beside {path} as its overviews or mask, and is no GeoTIFF; move it away'
        )
    open_dataset(side, 'GTiff', quiet=True).close()


def _check_overview_file(dataset: rasterio.DatasetReader, path: str) -> None:
    """Refuse overviews that the metadata of a file, or `.aux.xml` beside it, place elsewhere."""
    named = dataset.get_tag_item('OVERVIEW_FILE', 'OVERVIEWS') or dataset.tags(ns='OVERVIEWS').get(
        'OVERVIEW_FILE'
    )
    if not named:
        return
    folder = os.path.dirname(os.path.abspath(path))
    if named.startswith(':::BASE:::'):  # GDAL's word for the folder of the file itself
        named = os.path.join(folder, named.removeprefix(':::BASE:::'))
    if is_remote(path) or named.startswith('/vsi') or os.path.dirname(os.path.abspath(named)) != folder:
        raise SceneError(
            f'{path}: its metadata (or {os.path.basename(path)}.aux.xml) name overviews elsewhere, {named}; '
            'only a GeoTIFF in the same folder is read as such: take OVERVIEW_FILE out of the metadata'
        )
    _check_side_file(os.path.abspath(named), path)


def _magic_driver(head: bytes) -> str | None:
    return next((driver for magic, driver in _MAGIC if head.startswith(magic)), None)


def _unless_set_by_user(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in os.environ}


def _first_bytes(path: str) -> bytes:
    if path.startswith('/vsi'):
        raise SceneError(
            f"{path}: is inside an archive or another of GDAL's virtual file systems, which are not opened; "
            'unpack it and give the file itself'
        )
    return first_bytes(path, 'check the path')


def first_bytes(path: str | os.PathLike[str], advice: str) -> bytes:
    """Read the first bytes of a local file, by which its format is told.

    Raises:
        SceneError: if it is missing, cannot be read or is empty.
    """
    if not os.path.isfile(path):  # which is false, too, of a name that is too long
        what = 'is not a file' if os.path.exists(path) else 'no such file'
        raise SceneError(f'{path}: {what}; {advice}')
    try:
        with Path(path).open('rb') as file:
            head = file.read(1024)
    except OSError as error:
        raise SceneError(f'{path}: cannot be read ({error.strerror}); check the path') from error
    if not head:
        raise SceneError(f'{path}: is empty (0 bytes); copy or download it again')
    return head

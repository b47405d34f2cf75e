"""Rasters: native pixels by window, with their validity, from any number of threads."""

import os
import threading
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio import DatasetReader
from rasterio.errors import RasterioError
from rasterio.windows import Window

from geores.errors import InputChangedError, ReadError, UsageError, without_secrets
from geores.scenes.blocks import HELD_BYTES, BlockSums, HeldBlocks, held_pixels, holding_blocks
from geores.scenes.gdal import is_remote, open_dataset, overview_of, reading_env
from geores.scenes.header import Header, file_fingerprint, header_fingerprint, read_header

__all__ = ['FileRaster', 'Raster', 'valid_values']

_LEAST: Final = -900.0
_MOST: Final = 1e30
"""Between these lie all measurements: reflectances, digital numbers, dB, degrees."""


class Raster(Protocol):
    """One or several bands on one grid.

    Attributes:
        path: path for messages and provenance, without tokens of an address; `<name>` for an array.
        geobox: native grid; its `crs` is None when none is stated.
        count: number of bands.
        dtype: type of the values.
        block_shape: rows and columns of the blocks in which reading is cheapest.
        nodata: value that marks invalid pixels, or None.
        is_lazy: whether values are computed on reading, by dask.
    """

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def geobox(self) -> GeoBox: ...  # noqa: D102
    @property
    def count(self) -> int: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype: ...  # noqa: D102
    @property
    def block_shape(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def nodata(self) -> float | None: ...  # noqa: D102
    @property
    def is_lazy(self) -> bool: ...  # noqa: D102

    @property
    def fingerprint(self) -> str:
        """Digest that changes when the content changes."""
        ...

    def read(self, indexes: Sequence[int], rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a window of some bands.

        Args:
            indexes: 1-based indexes of the bands, in any order.
            rows: rows of the native grid.
            cols: columns of the native grid.

        Returns:
            Values (bands, rows, cols) in the native type, and validity (rows, cols), or None when all
            pixels are valid: see `valid_values`.

        Raises:
            ReadError: if pixels cannot be read; never zeros in their place.
        """
        ...

    def read_coarse(self, index: int, side: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the whole of a band coarsely, from overviews where there are any.

        Args:
            index: 1-based index of the band.
            side: longest side of what is read, in pixels.

        Returns:
            Values (rows, cols) in the native type, and validity (rows, cols), or None when all are valid.

        Raises:
            ReadError: if pixels cannot be read.
        """
        ...

    def sample(self, index: int, side: int) -> np.ndarray:
        """Take a sample of a band's valid pixels, those of `read_coarse`, (n,)."""
        ...

    def close(self) -> None:
        """Close what is open; a later read opens it again."""
        ...


class FileRaster:
    """A raster file, read through handles of which each thread has its own.

    Args:
        path: a local file or a remote path.
        nodata: value of invalid pixels, in any band of integers, that its product says.
        border: value that marks invalid pixels where it is in all bands, for bands that state none.
        header: its header, if that has been read already.

    Raises:
        SceneError: if the file cannot be opened.
    """

    is_lazy = False

    def __init__(
        self,
        path: str,
        *,
        nodata: float | None = None,
        border: float | None = None,
        header: Header | None = None,
    ) -> None:
        self.header = header or read_header(path)
        self._state = None if is_remote(path) else _file_state(path)
        self.path = without_secrets(path)
        self._address = path
        self.geobox = self.header.geobox
        self.count = self.header.count
        self.dtype = self.header.dtype
        self.block_shape = self.header.block_shape
        implied = nodata if self.dtype.kind in 'iu' else None
        stated = self.header.nodata
        self._each = implied is not None and set(stated) <= {None, implied}
        implied = border if implied is None else implied
        self._nodata = tuple(implied if value is None else value for value in stated)
        self._sums = None if self._state is None else BlockSums(path)
        self._start_handles()

    def __repr__(self) -> str:
        return f'FileRaster({self.path!r})'

    @property
    def nodata(self) -> float | None:
        """Value that marks invalid pixels of the first band."""
        return self._nodata[0]

    @property
    def is_remote(self) -> bool:
        """Whether it is read over the network."""
        return is_remote(self._address)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of size, time of change and both ends of the file; of the header when remote."""
        if self.is_remote:
            return header_fingerprint(self._address, self.header.driver)
        return file_fingerprint(self._address)

    def check_unchanged(self, *, ends: bool = False) -> None:
        """Check that a local file is still the one that was opened; of a remote one nothing is asked.

        Args:
            ends: compare the first and last bytes too, and not only size and time of change.

        Raises:
            InputChangedError: if it was changed or replaced.
            ReadError: if it is gone.
        """
        if self._state is None:
            return
        try:
            same = _file_state(self._address) == self._state
            same = same and (not ends or file_fingerprint(self._address) == self.fingerprint)
        except OSError as error:
            reason = error.strerror or error
            raise ReadError(f'{self.path}: cannot be read any more ({reason})') from error
        if not same:
            raise InputChangedError(
                f'{self.path}: was changed while it was read; what was computed of it is dropped: run again '
                'when the file is complete'
            )

    def read(self, indexes: Sequence[int], rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a window of some bands: see `Raster.read`."""
        window = _window(rows, cols, self.geobox.shape)
        try:
            with reading_env(remote=self.is_remote):
                handle = self._handle(next_one=True)
                if self._sums is not None:
                    self._sums.check(handle, indexes, window)
                pixels = self._pixels(handle, indexes, window)
                marked = self._marked(handle, indexes, window, pixels)
        except (RasterioError, OSError) as error:
            raise ReadError(self._message(window, error)) from error
        values = pixels if self.header.alpha is None else pixels[:-1].copy()
        nodata = [self._nodata[index - 1] for index in indexes]
        return values, _unless_all(marked, valid_values(values, nodata, each=self._each))

    def read_coarse(self, index: int, side: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the whole of a band coarsely: see `Raster.read_coarse`."""
        rows, cols = self.geobox.shape
        shrink = max(rows, cols, side) / side
        shape = (max(round(rows / shrink), 1), max(round(cols / shrink), 1))
        try:
            with reading_env(remote=self.is_remote):
                handle = self._handle()
                with overview_of(self._address, handle, shrink) as overview:
                    source = overview or handle
                    sums = None if self.header.has_overviews else self._sums
                    if sums := BlockSums(self._address) if overview else sums:
                        sums.check(source, [index], Window(0, 0, source.width, source.height))
                    values = self._coarse_pixels(source, index, shape)
                marked = None
                if self.header.has_mask or self.header.alpha is not None:
                    marked = handle.dataset_mask(out_shape=shape) > 0
        except (RasterioError, OSError) as error:
            raise ReadError(self._message(Window(0, 0, cols, rows), error)) from error
        return values[0], _both(marked, valid_values(values, [self._nodata[index - 1]]))

    def sample(self, index: int, side: int) -> np.ndarray:
        """Take a sample of a band's valid pixels: see `Raster.sample`."""
        values, valid = self.read_coarse(index, side)
        seen: np.ndarray = values.ravel() if valid is None else values[valid]
        return seen

    def with_border(self, value: float) -> 'FileRaster':
        """Make a raster of the same file whose pixels are invalid where all bands have this value."""
        made = FileRaster(self._address, border=value, header=self.header)
        made._blocks = self._blocks
        return made

    def close(self) -> None:
        """Close the handles of all threads, none of which may be reading; reads open new ones."""
        with self._lock:
            handles = list(self._handles)
            self._handles.clear()
        for handle in handles:
            handle.close()

    def _start_handles(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._blocks = HeldBlocks(self.dtype, shared=self.header.shares_blocks) if self.is_remote else None
        # Weak, so that a thread's handle goes with the thread.
        self._handles: weakref.WeakSet[Any] = weakref.WeakSet()

    def _handle(self, *, next_one: bool = False) -> DatasetReader:
        """Give this thread's handle; of a remote file it has two, of which the next one can be asked for.

        GDAL fetches ahead where one handle reads what follows, which others may have fetched by then.
        """
        # A forked child shares file positions with its parent: it needs handles of its own.
        pid, handles = getattr(self._local, 'opened', (0, []))
        if pid != os.getpid():
            handles = [None, None] if self.is_remote else [None]
            self._local.opened = (os.getpid(), handles)
        if next_one:
            handles.reverse()
        if handles[0] is None or handles[0].closed:
            quiet = not self.header.is_georeferenced
            handles[0] = open_dataset(self._address, self.header.driver, quiet=quiet)
            with self._lock:
                self._handles.add(handles[0])
        handle: DatasetReader = handles[0]
        return handle

    def _pixels(self, handle: DatasetReader, indexes: Sequence[int], window: Window) -> np.ndarray:
        """Read bands, and alpha after them where there is one: both lie in the same blocks."""
        bands = [*indexes] if self.header.alpha is None else [*indexes, self.header.alpha]
        if self._blocks is not None:
            return self._blocks.read(handle, bands, window)
        return np.asarray(handle.read(bands, window=window, out_dtype=self.dtype))

    def _coarse_pixels(self, source: DatasetReader, index: int, shape: tuple[int, int]) -> np.ndarray:
        """Read the whole of a band at another size (1, rows, cols), the nearest pixels where it shrinks."""
        size = source.height * source.width * source.count * self.dtype.itemsize
        if self._blocks is None or self.header.has_overviews or size > HELD_BYTES:
            return np.asarray(source.read([index], out_shape=(1, *shape), out_dtype=self.dtype))
        with holding_blocks():  # all of it is fetched, which the run does not have to do again
            values = self._blocks.read(source, [index], Window(0, 0, source.width, source.height))
        rows, cols = (
            ((np.arange(few) + 0.5) * (many / few) + 1e-10).astype(int)  # as GDAL has it
            for few, many in zip(shape, values.shape[1:], strict=True)
        )
        return values[:, rows[:, None], cols]

    def _marked(
        self, handle: DatasetReader, indexes: Sequence[int], window: Window, pixels: np.ndarray
    ) -> np.ndarray | None:
        """Find the pixels (rows, cols) that alpha and masks leave, and that the file holds."""
        valid = None if self.header.alpha is None else pixels[-1] > 0
        if self.header.has_mask:
            valid = _both(valid, handle.dataset_mask(window=window) > 0)
        return _both(valid, self._held(handle, indexes, window, pixels))

    def _held(
        self, handle: DatasetReader, indexes: Sequence[int], window: Window, values: np.ndarray
    ) -> np.ndarray | None:
        held = None
        if self.header.driver != 'GTiff':
            return None
        unmarked = [i for i, index in enumerate(indexes) if self._nodata[index - 1] is None]
        for i in unmarked[:1] if self.header.shares_blocks else unmarked:
            held = _both(held, held_pixels(handle, indexes[i], window, values[i]))
        return held

    def _message(self, window: Window, error: Exception) -> str:
        (top, bottom), (left, right) = window.toranges()
        reason = ' '.join(str(error.__cause__ or error).split())
        advice = 'the file is damaged or incomplete: copy or download it again'
        if self.is_remote:
            # GDAL names the last part of an address with the tokens behind it.
            reason = reason.replace(self._address.rpartition('/')[2], self.path.rpartition('/')[2])
            advice = 'the connection broke, or the file there is damaged: run again, or download it'
        return f'{self.path}: cannot read rows {top}:{bottom}, columns {left}:{right} ({reason}); {advice}'

    def __getstate__(self) -> dict[str, Any]:
        left_behind = ('_local', '_lock', '_handles', '_blocks')
        return {key: value for key, value in vars(self).items() if key not in left_behind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_handles()


def valid_values(
    values: np.ndarray, nodata: Sequence[float | None], *, each: bool = False
) -> np.ndarray | None:
    """Find the pixels that are valid by their values.

    A pixel is nodata where all bands are, as in GDAL's mask of a dataset: 0 in one band of several is dark
    water. It is invalid too where any band is NaN, infinite, or holds a nodata value that no measurement
    can be, such as -9999.

    Args:
        values: bands (bands, rows, cols).
        nodata: nodata value of each band, or None.
        each: whether nodata in any band makes a pixel invalid.

    Returns:
        Validity (rows, cols), or None when every pixel is valid.
    """
    valid, empty = None, None
    for band, mark in zip(values, nodata, strict=True):
        if band.dtype.kind == 'f':
            valid = _both(valid, np.isfinite(band))
        known = mark is not None and _representable(mark, band.dtype)
        marked = band == band.dtype.type(mark) if known else np.zeros(band.shape, bool)
        if mark is not None and (each or _is_no_measurement(mark)):
            valid = _both(valid, ~marked)
        empty = _both(empty, marked)
    return _unless_all(valid, None if empty is None else ~empty)


def _is_no_measurement(nodata: float) -> bool:
    """Whether no band of any sensor can hold this number: fill such as -999, -9999, -32768 or -3.4e38."""
    return nodata <= _LEAST or not nodata < _MOST


def _representable(value: float, dtype: np.dtype) -> bool:
    """Whether any value of the type can equal this one; NaN is dealt with apart."""
    if dtype.kind == 'f':
        return bool(np.isfinite(value))
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _both(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    if first is None or second is None:
        return second if first is None else first
    both: np.ndarray = first & second
    return both


def _unless_all(first: np.ndarray | None, second: np.ndarray | None = None) -> np.ndarray | None:
    valid = _both(first, second)
    return None if valid is None or bool(valid.all()) else valid


def _window(rows: slice, cols: slice, shape: Sequence[int]) -> Window:
    (top, bottom, down), (left, right, across) = rows.indices(shape[0]), cols.indices(shape[1])
    if (down, across) != (1, 1) or bottom < top or right < left:
        raise UsageError(f'rows {rows} and columns {cols} are not a window; give slices of step 1')
    return Window(left, top, right - left, bottom - top)


def _file_state(path: str) -> tuple[int, int]:
    """Size and time of change of a file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns

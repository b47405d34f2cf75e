"""Windows of a scene on a target grid in a model's units, and the store of finished chunks.

Finished chunks are kept in memory, or in the journal of a run (`geores.io.journal`), a folder that outlives a
killed process: each finished chunk is one safetensors file that appears whole or not at all.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save
from shapely.geometry.base import BaseGeometry

from geores.errors import ReadError
from geores.inference.layer import SENT_AS_STORED, BlockCache, Layer, StoredWindow, UnitTransform
from geores.inference.resampling import open_layer
from geores.io.journal import Journal
from geores.io.whole_files import failing, write_whole
from geores.scenes import Raster, Scene
from geores.scenes.gdal import ungeoreferenced
from geores.scenes.raster import FileRaster

__all__ = [
    'CACHE_BYTES',
    'Arrays',
    'ChunkStore',
    'FolderStore',
    'GridReader',
    'Mask',
    'MemoryStore',
    'UnitTransform',
]

T = TypeVar('T')

Arrays = Mapping[str, NDArray[Any]]


class ChunkStore(Protocol):
    """Named arrays of finished chunks, by chunk index."""

    def done(self) -> set[int]:
        """List the indices of the chunks that are finished."""

    def put(self, index: int, arrays: Arrays) -> None:
        """Keep a finished chunk."""

    def get(self, index: int) -> Arrays:
        """Give a finished chunk."""


class MemoryStore:
    """Chunks held in memory."""

    def __init__(self) -> None:
        self._chunks: dict[int, Arrays] = {}

    @classmethod
    def copy_of(cls, store: ChunkStore) -> Self:
        """Copy all that another store holds."""
        copy = cls()
        for index in store.done():
            copy.put(index, store.get(index))
        return copy

    def done(self) -> set[int]:
        """List the indices of the chunks that are finished."""
        return set(self._chunks)

    def put(self, index: int, arrays: Arrays) -> None:
        """Keep a finished chunk."""
        self._chunks[index] = arrays

    def get(self, index: int) -> Arrays:
        """Give a finished chunk."""
        return self._chunks[index]


class FolderStore:
    """Chunks as files in the journal of a run, which this process locks until it is closed or removed.

    As a context manager it is closed at the end.

    Args:
        folder: of the journal, created where absent.
        key: everything that decides the results: scene, weights, grid, options, version.
        resume: continue what the folder holds, else begin anew.
        overwrite: drop work of another run instead of refusing it.

    Raises:
        JournalError: if the folder holds work of another run; says what differs.
        OutputError: if another process is at work there.
        WriteError: if the folder cannot be written.
    """

    def __init__(
        self, folder: Path, key: Mapping[str, Any], *, resume: bool = True, overwrite: bool = False
    ) -> None:
        self.folder = folder
        self._journal = Journal(folder, key, resume=resume, overwrite=overwrite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.__exit__(kind, error, trace)

    @property
    def records(self) -> list[Any]:
        """Plain values that were kept beside the chunks."""
        return self._journal.records

    def add_record(self, record: Any) -> None:  # noqa: ANN401 - any plain value
        """Keep a plain value."""
        self._journal.add(record)

    def done(self) -> set[int]:
        """List the indices of the chunks whose files are whole."""
        return {
            int(path.stem)
            for path in sorted(self.folder.glob('*.safetensors'))
            if path.stem.isdecimal() and _whole(path)
        }

    def put(self, index: int, arrays: Arrays) -> None:
        """Write a finished chunk."""
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with failing(self.folder, kept=True):
            write_whole(self._path(index), save(contiguous, {'crc32': _checksum(contiguous)}))

    def get(self, index: int) -> Arrays:
        """Read a finished chunk."""
        arrays: Arrays = load_file(self._path(index))
        return arrays

    def close(self) -> None:
        """Let another process continue."""
        self._journal.close()

    def remove(self) -> None:
        """Delete the folder: the results stand elsewhere now."""
        self._journal.remove()

    def _path(self, index: int) -> Path:
        return self.folder / f'{index:08d}.safetensors'


def _whole(path: Path) -> bool:
    """Whether a file holds what was written: a power cut can leave an empty one."""
    try:
        with safe_open(path, 'numpy') as file:
            stated = (file.metadata() or {}).get('crc32')
        return bool(stated == _checksum(load_file(path)))
    except (SafetensorError, OSError):
        return False


def _checksum(arrays: Arrays) -> str:
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), total))
    return f'{total:08x}'


CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Mask:
    """A raster whose pixels make the scene's invalid.

    Attributes:
        raster: classes or flags; pixels outside it, or that are nodata in it, mask nothing.
        values: the classes that mask; None for every number but 0.
        index: the band of the raster, counted from 1.
    """

    raster: Raster
    values: tuple[int, ...] | None = None
    index: int = 1

    def hits(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which values of the raster mask, (h, w)."""
        return values != 0 if self.values is None else np.isin(values, self.values)


class GridReader:
    """Reads bands of a scene on a target grid; safe to call from many threads.

    Args:
        scene: the scene.
        bands: the bands to read, in the order wanted.
        target: the grid; windows are counted in its pixels.
        resampling: ``nearest`` or ``bilinear`` where pixels grow; shrinking averages.
        transforms: a band's `UnitTransform`, where its numbers need one.
        mask: makes pixels invalid.
        area: polygon in the grid's CRS; pixels whose centre lies outside are invalid.
        blank: stored value that marks pixels as invalid where all bands have it.
        cache_bytes: most memory for decoded source blocks.
    """

    def __init__(
        self,
        scene: Scene,
        bands: Sequence[str],
        target: GeoBox,
        *,
        resampling: str = 'bilinear',
        transforms: Mapping[str, UnitTransform] | None = None,
        mask: Mask | None = None,
        area: BaseGeometry | None = None,
        blank: float | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.scene = scene
        self.target = target
        self.bands = tuple(bands)
        self._transforms = [(transforms or {}).get(band, UnitTransform()) for band in bands]
        self._cache = cache = BlockCache(cache_bytes)
        self._layers: list[tuple[Layer, list[int]]] = []
        for raster, positions in _by_raster(scene, bands):
            indexes = [scene.band(self.bands[position]).index for position in positions]
            layer = open_layer(raster, indexes, target, resampling, cache)
            self._layers.append((layer, positions))
        self._mask = mask
        self._mask_layer = (
            None if mask is None else open_layer(mask.raster, [mask.index], target, 'nearest-always', cache)
        )
        self._area = area
        self._blank = blank

    def with_transforms(self, transforms: Mapping[str, UnitTransform]) -> 'GridReader':
        """Make a reader with other transforms that shares this one's decoded blocks."""
        other = copy(self)
        other._transforms = [transforms.get(band, UnitTransform()) for band in self.bands]
        return other

    def expect(self, rows: Sequence[slice], cols: Sequence[slice]) -> None:
        """Say which windows will be read, each of ``rows`` with each of ``cols``, once each.

        Decoded blocks are then let go after their last use, which keeps memory low.
        """
        for layer in self._all_layers:
            layer.expect(rows, cols)

    @property
    def held_bytes(self) -> int:
        """Bytes of decoded blocks held now."""
        return self._cache.held_bytes

    @property
    def _all_layers(self) -> list[Layer]:
        layers = [layer for layer, _ in self._layers]
        return layers if self._mask_layer is None else [*layers, self._mask_layer]

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes that one pixel of the target takes in the source, all bands together."""
        scale = self.target.affine.determinant
        return sum(
            len(positions)
            * layer.raster.dtype.itemsize
            * abs(scale / layer.raster.geobox.affine.determinant if _same_crs(layer, self) else 1)
            for layer, positions in self._layers
        )

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read one window.

        Args:
            rows: rows of the target grid.
            cols: columns of the target grid.

        Returns:
            Values (bands, h, w) in the model's units, any number where invalid; validity (h, w).

        Raises:
            ReadError: if a source could not be read; it carries the path and the window.
            InputChangedError: if a source was changed since it was opened.
        """
        return self._checked(self._read, rows, cols)

    def read_stored(self, rows: slice, cols: slice) -> StoredWindow:
        """Read one window as it is stored, for what brings it to the model's units elsewhere.

        Args:
            rows: rows of the target grid.
            cols: columns of the target grid.

        Raises:
            ReadError: as `read` does.
            InputChangedError: if a source was changed since it was opened.
        """
        if self._blank is not None:  # only pixels on the target grid tell what is blank
            return StoredWindow.of(*self.read(rows, cols))
        return self._checked(self._read_stored, rows, cols)

    def _checked(self, read: Callable[[slice, slice], T], rows: slice, cols: slice) -> T:
        try:
            pixels = read(rows, cols)
        except ReadError:
            self.check_sources()  # a file that is being overwritten looks like a damaged one
            raise
        self.check_sources()
        return pixels

    def check_sources(self, *, ends: bool = False) -> None:
        """Raise `InputChangedError` if a file that is read was changed since it was opened.

        Args:
            ends: compare the first and last bytes too, which takes longer than to ask for size and time.
        """
        for layer in self._all_layers:
            if isinstance(layer.raster, FileRaster):
                layer.raster.check_unchanged(ends=ends)

    def _read(self, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        alone = len(self._layers) == 1  # then its bands are the ones asked for, in their order
        values = np.empty((0 if alone else len(self.bands), *shape), np.float32)
        valid = np.ones(shape, bool)
        for layer, positions in self._in_turn(rows, cols):
            part, part_valid = layer.read(rows, cols)
            if alone:
                values = part
            else:
                values[positions] = part
            if part_valid is not None:
                valid &= part_valid
        if self._blank is not None:
            valid &= ~(values == np.float32(self._blank)).all(0)
        for band, transform in zip(values, self._transforms, strict=True):
            transform.apply(band)
        return values, valid & self._allowed(rows, cols, shape)

    def _read_stored(self, rows: slice, cols: slice) -> StoredWindow:
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        valid, layers = np.ones(shape, bool), []
        for layer, positions in self._in_turn(rows, cols):
            name = layer.dtype.name  # without the order of bytes, which becomes the machine's own
            stored = layer.stored(rows, cols, name if name in SENT_AS_STORED else np.float32)
            layers.append((stored, positions))
            part_valid = stored.valid_on_target()
            if part_valid is not None:
                valid &= part_valid
        return StoredWindow(layers, self._transforms, valid & self._allowed(rows, cols, shape))

    def _in_turn(self, rows: slice, cols: slice) -> Iterator[tuple[Layer, list[int]]]:
        """Yield the layers, last those of which another thread is decoding blocks just now."""
        left = list(self._layers)
        while left:
            free = (index for index, (layer, _) in enumerate(left) if not layer.is_awaited(rows, cols))
            yield left.pop(next(free, 0))

    def _allowed(self, rows: slice, cols: slice, shape: tuple[int, int]) -> NDArray[np.bool_] | np.bool_:
        """Pixels that neither the mask nor the area of interest makes invalid."""
        allowed: NDArray[np.bool_] | np.bool_ = np.True_
        if self._mask is not None and self._mask_layer is not None:
            values, known = self._mask_layer.read(rows, cols)
            hit = self._mask.hits(values[0])
            allowed = ~(hit if known is None else hit & known)
        if self._area is not None:
            transform = self.target[rows, cols].affine
            with ungeoreferenced():  # of the array that rasterio draws on
                allowed = allowed & geometry_mask([self._area], shape, transform, invert=True)
        return allowed


def _by_raster(scene: Scene, bands: Sequence[str]) -> list[tuple[Raster, list[int]]]:
    """Group the bands by raster, with the position of each among those asked for."""
    groups: dict[int, tuple[Raster, list[int]]] = {}
    for position, name in enumerate(bands):
        raster = scene.band(name).raster
        groups.setdefault(id(raster), (raster, []))[1].append(position)
    return list(groups.values())


def _same_crs(layer: Layer, reader: GridReader) -> bool:
    return bool(layer.raster.geobox.crs == reader.target.crs)

"""Open the store of patches in a folder, whichever its layout; the store of an LMDB as of rico-hdl."""

import os
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geores.bigearthnet.stores import (
    SIDE,
    TIFF_FOLDERS,
    Kind,
    PatchStore,
    Piece,
    ValueFormatError,
    bands_of,
    expand_into,
    layout_of,
    native_form,
    sides,
)
from geores.bigearthnet.tiffs import TiffStore
from geores.errors import DatasetError, ReadError, import_extra

if TYPE_CHECKING:
    import lmdb

__all__ = [
    'CHECKSUMS',
    'LMDB_FILE',
    'LmdbStore',
    'checksum',
    'find_kind',
    'open_store',
    'read_checksums',
    'write_checksums',
]

LMDB_FILE = 'data.mdb'


class LmdbStore:
    """Store of patches in an LMDB.

    It is safe to pickle and to use in threads and forked processes: each process opens the file itself.

    Args:
        path: folder that holds data.mdb.
        readahead: whether the operating system reads ahead. This speeds up reading all patches in order of
            name, and slows down shuffled reading of a file larger than memory.

    Raises:
        DatasetError: if there is no LMDB.
        ReadError: if it is cut off.
    """

    kind: Literal['tiff', 'lmdb'] = 'lmdb'

    def __init__(self, path: Path | str, *, readahead: bool = False) -> None:
        self.path = Path(path)
        self.readahead = readahead
        self._opened: _Opened | None = None
        self._env()

    def __getstate__(self) -> dict[str, Any]:
        return {'path': self.path, 'readahead': self.readahead, '_opened': None}

    def __len__(self) -> int:
        return int(self._env().stat()['entries'])

    def names(self) -> list[str]:
        """Names of all patches in the store, sorted."""
        with self._env().begin() as txn, txn.cursor() as cursor:
            return [bytes(key).decode('utf-8', 'replace') for key in cursor.iternext(keys=True, values=False)]

    def value(self, name: str) -> bytes:
        """Read the safetensors file of one patch, as stored.

        Raises:
            DatasetError: if no patch of that name is here.
            ReadError: if the LMDB is damaged there.
        """
        with self._env().begin(buffers=True) as txn:
            return bytes(self._get(txn, name))

    def read(self, name: str, bands: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Bands of one patch at their native sizes; see `PatchStore.read`."""
        found: dict[str, NDArray[Any]] = {}
        with self._env().begin(buffers=True) as txn:
            value = self._get(txn, name)
            for piece in self._pieces(name, value, tuple(bands)):
                pixels = piece.view(value).copy()
                found.update(zip(bands[piece.first : piece.first + piece.count], pixels, strict=True))
        return found

    def fill(self, name: str, bands: Sequence[str], out: NDArray[np.float32]) -> None:
        """Write bands of one patch on the 10 m grid; see `BatchStore.fill`."""
        with self._env().begin(buffers=True) as txn:
            self._fill(txn, name, tuple(bands), out)

    def read_batch(
        self, names: Sequence[str], bands: Sequence[str], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Bands of many patches on the 10 m grid; see `BatchStore.read_batch`."""
        if out is None:
            out = np.empty((len(names), len(bands), SIDE, SIDE), np.float32)
        wanted = tuple(bands)
        with self._env().begin(buffers=True) as txn:
            for name, image in zip(names, out, strict=True):
                self._fill(txn, name, wanted, image)
        return out

    def read_native(self, names: Sequence[str], bands: Sequence[str]) -> dict[int, NDArray[Any]]:
        """Bands of many patches as they are stored; see `BatchStore.read_native`."""
        places = sides(bands)
        ordered = tuple(bands[place] for group in places.values() for place in group)
        starts: dict[int, int] = {}
        arrays: dict[int, NDArray[Any]] = {}
        for side, group in places.items():
            starts[side] = sum(len(places[other]) for other in arrays)
            dtype = native_form(bands[group[0]])[1]
            arrays[side] = np.empty((len(names), len(group), side, side), dtype)
        with self._env().begin(buffers=True) as txn:
            for row, name in enumerate(names):
                value = self._get(txn, name)
                for piece in self._pieces(name, value, ordered):
                    first = piece.first - starts[piece.side]
                    arrays[piece.side][row, first : first + piece.count] = piece.view(value)
        return arrays

    def _fill(
        self, txn: 'lmdb.Transaction', name: str, bands: tuple[str, ...], out: NDArray[np.float32]
    ) -> None:
        value = self._get(txn, name)
        for piece in self._pieces(name, value, bands):
            expand_into(piece.view(value), out[piece.first : piece.first + piece.count])

    def _get(self, txn: 'lmdb.Transaction', name: str) -> memoryview:
        import lmdb

        try:
            value: Any = txn.get(name.encode())
        except lmdb.Error as error:
            raise ReadError(f'{self.path}: patch {name} cannot be read: {error}') from error
        if value is None:
            raise DatasetError(f'{self.path}: has no patch {name}')
        view: memoryview = value
        return view

    def _pieces(self, name: str, value: memoryview, bands: tuple[str, ...]) -> tuple[Piece, ...]:
        try:
            return layout_of(value).pieces(bands)
        except ValueFormatError as error:
            raise ReadError(f'{self.path}: the value of patch {name} is damaged: {error}') from None
        except KeyError as error:
            raise DatasetError(f'{self.path}: patch {name} has no band {error.args[0]}') from None

    def _env(self) -> 'lmdb.Environment':
        opened = self._opened
        if opened is None or opened.process != os.getpid():
            opened = self._opened = _open(self.path, self.readahead)
        return opened.env


class _Opened:
    """An LMDB environment with the process that opened it; a process may open it only once."""

    def __init__(self, path: Path, readahead: bool) -> None:
        import_extra('lmdb')
        import lmdb

        self.process = os.getpid()
        try:
            self.env = lmdb.open(
                str(path), readonly=True, lock=False, readahead=readahead, meminit=False, max_spare_txns=16
            )
        except lmdb.Error as error:
            raise DatasetError(f'{path}: cannot be opened as an LMDB: {error}') from error
        _check_whole(path / LMDB_FILE, self.env)


def _check_whole(file: Path, env: 'lmdb.Environment') -> None:
    """Refuse a truncated file: reading behind its end would kill the process (SIGBUS)."""
    needed = env.stat()['psize'] * (env.info()['last_pgno'] + 1)
    size = file.stat().st_size
    if size < needed:
        env.close()
        raise ReadError(
            f'{file}: is cut off: {size:,} bytes, and it speaks of {needed:,}; copy or download it again'
        )


_OPEN: WeakValueDictionary[tuple[int, int], _Opened] = WeakValueDictionary()
_LOCK = threading.Lock()


def _open(path: Path, readahead: bool) -> _Opened:
    """Open the environment of a file, which all stores of this process share."""
    try:
        status = (path / LMDB_FILE).stat()
    except OSError as error:
        raise DatasetError(f'{path}: there is no {LMDB_FILE} in it ({error.strerror})') from error
    key = (status.st_dev, status.st_ino)
    with _LOCK:
        opened = _OPEN.get(key)
        if opened is None:
            opened = _OPEN[key] = _Opened(path, readahead)
    return opened


def _after_fork() -> None:
    """Close the environments of the parent; LMDB would not let this process open them again."""
    global _LOCK
    _LOCK = threading.Lock()
    for opened in list(_OPEN.values()):
        opened.env.close()
    _OPEN.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)


CHECKSUMS = 'checksums.parquet'
"""Name of the table of checksums in a converted folder."""


def checksum(name: str, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Compute the CRC-32 of all pixels of a patch, the same in every layout.

    Pixels are taken as little-endian, and bands in the order of `bands_of`.

    Args:
        name: name of the patch.
        arrays: all bands of the patch at their native sizes and types.
    """
    total = 0
    for band in bands_of(name):
        pixels = arrays[band]
        total = zlib.crc32(pixels.astype(pixels.dtype.newbyteorder('<'), copy=False).tobytes(), total)
    return total


def write_checksums(path: Path, sums: Iterable[tuple[str, int]]) -> None:
    """Write the table of checksums: columns `name` and `crc32`."""
    pairs = list(sums)
    table = pa.table({
        'name': pa.array([name for name, _ in pairs], pa.string()),
        'crc32': pa.array([value for _, value in pairs], pa.uint32()),
    })  # fmt: skip
    pq.write_table(table, path, compression='zstd')


def read_checksums(path: Path) -> dict[str, int] | None:
    """Read checksums by name; None if there is no table.

    Raises:
        ReadError: if it is damaged.
    """
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, columns=['name', 'crc32'])
    except (pa.ArrowException, OSError) as error:
        raise ReadError(f'{path}: the checksums cannot be read: {error}') from error
    return dict(zip(table['name'].to_pylist(), table['crc32'].to_pylist(), strict=True))


def open_store(root: Path | str) -> PatchStore:
    """Open the store at `root`, whichever layout it has.

    Args:
        root: a folder with some of `TIFF_FOLDERS`, or an LMDB of rico-hdl.

    Raises:
        DatasetError: if nothing of the kind is there; says what was looked for and where.
    """
    root = Path(root)
    kind = find_kind(root)
    if kind == 'lmdb':
        return LmdbStore(root)
    if kind == 'tiff':
        return TiffStore(root)
    raise DatasetError(
        f'{root}: no reBEN patches here; looked for the folders {", ".join(TIFF_FOLDERS.values())}, '
        f'for {LMDB_FILE} (LMDB)' + ('' if root.is_dir() else '; the folder itself does not exist')
    )


def find_kind(root: Path | str) -> Kind | None:
    """Detect the layout of the store in a folder; None if there is none."""
    root = Path(root)
    if (root / LMDB_FILE).is_file():
        return 'lmdb'
    return 'tiff' if any((root / folder).is_dir() for folder in TIFF_FOLDERS.values()) else None

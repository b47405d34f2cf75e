"""Read an LMDB as rico-hdl writes it: patch names map to safetensors files."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from geores.bigearthnet.patch_values import SIDE, Piece, ValueFormatError, expand_into, layout_of, sides
from geores.bigearthnet.stores import native_form
from geores.errors import DatasetError, ReadError, import_extra

if TYPE_CHECKING:
    import lmdb

__all__ = ['LMDB_FILE', 'LmdbStore']

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

        Args:
            name: as in `read`.

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

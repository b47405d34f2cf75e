"""Stacked arrays: every patch a row of a few .npy files, mapped into memory.

    s2_10m.npy (N, 4, 120, 120), s2_20m.npy (N, 6, 60, 60), s2_60m.npy (N, 2, 20, 20)   uint16
    s1.npy (N, 2, 120, 120)                                                           float32 (dB)
    map.npy (N, 1, 120, 120)                                                          uint16
    index.parquet                                              name, kind, row and crc32 of each patch

Any program reads them with `numpy.load(file, mmap_mode='r')`; nothing is decoded, and no lookup comes
between a row and its pixels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geores.bigearthnet.expand import SIDE, expand_into, sides
from geores.bigearthnet.patch_id import modality
from geores.bigearthnet.stores import MAP_BAND, S1_BANDS, native_form
from geores.errors import DatasetError, ReadError

__all__ = ['GROUPS', 'INDEX', 'StackedStore', 'groups_of', 'read_index']

INDEX: Final = 'index.parquet'
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    's2_10m': ('B02', 'B03', 'B04', 'B08'),
    's2_20m': ('B05', 'B06', 'B07', 'B8A', 'B11', 'B12'),
    's2_60m': ('B01', 'B09'),
    's1': S1_BANDS,
    'map': (MAP_BAND,),
}
"""Bands by file, in their order there."""

_PLACE = {band: (group, place) for group, bands in GROUPS.items() for place, band in enumerate(bands)}


class _Run(NamedTuple):
    """Bands asked for one after the other that lie so in their file."""

    group: str
    source: slice
    target: slice


class StackedStore:
    """Patches in stacked arrays.

    Safe to pickle and to use in threads and forked processes, which all share the mapped files.

    Args:
        path: Folder with index.parquet.

    Raises:
        DatasetError: If the index or a file is missing.
        ReadError: If one is damaged or cut short.
    """

    kind: Literal['tiff', 'lmdb', 'stacked'] = 'stacked'

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        table = read_index(self.path)
        order = np.argsort(names := np.asarray(table['name'].to_pylist(), dtype='S'))
        self._names, self._rows = names[order], table['row'].to_numpy()[order]
        kinds = np.asarray(table['kind'].to_pylist())
        self._arrays = {
            group: self._map(group) for kind in sorted(set(kinds.tolist())) for group in groups_of(kind)
        }
        self._plans: dict[tuple[str, ...], tuple[_Run, ...]] = {}
        self._check_rows(table['row'].to_numpy(), kinds)

    def __getstate__(self) -> dict[str, Any]:
        return {'path': self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state['path'])  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._names)

    def names(self) -> list[str]:
        """The names of all patches here, sorted."""
        return [name.decode() for name in self._names.tolist()]

    def rows(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Rows of patches in the files of their kind.

        Args:
            names: As in `read`.

        Raises:
            DatasetError: If one is not here.
        """
        wanted = np.asarray(names, dtype='S')
        places = np.searchsorted(self._names, wanted)
        places[places == len(self._names)] = 0
        missing = self._names[places] != wanted
        if missing.any():
            raise DatasetError(f'{self.path}: has no patch {names[int(missing.argmax())]}')
        rows: NDArray[np.int64] = self._rows[places]
        return rows

    def read(self, name: str, bands: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Bands of one patch at their native sizes; see `PatchStore.read`."""
        row = int(self.rows([name])[0])
        found: dict[str, NDArray[Any]] = {}
        for group, source, target in self._plan(name, bands):
            found.update(zip(bands[target], self._arrays[group][row, source].copy(), strict=True))
        return found

    def fill(self, name: str, bands: Sequence[str], out: NDArray[np.float32]) -> None:
        """Write bands of one patch on the 10 m grid; see `BatchStore.fill`."""
        self.read_batch([name], bands, out[None])

    def read_batch(
        self, names: Sequence[str], bands: Sequence[str], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Bands of many patches on the 10 m grid; see `BatchStore.read_batch`."""
        if out is None:
            out = np.empty((len(names), len(bands), SIDE, SIDE), np.float32)
        if not len(names):
            return out
        plan = self._plan(names[0], bands)
        for row, image in zip(self.rows(names).tolist(), out, strict=True):
            for group, source, target in plan:
                expand_into(self._arrays[group][row, source], image[target])
        return out

    def read_native(self, names: Sequence[str], bands: Sequence[str]) -> dict[int, NDArray[Any]]:
        """Bands of many patches as they are stored; see `BatchStore.read_native`."""
        rows = self.rows(names)
        found: dict[int, NDArray[Any]] = {}
        for side, places in sides(bands).items():
            wanted = tuple(bands[place] for place in places)
            runs = self._plan(names[0], wanted)
            whole = len(runs) == 1 and wanted == GROUPS[runs[0].group]
            if whole:
                found[side] = self._arrays[runs[0].group].take(rows, axis=0)
                continue
            out = np.empty((len(names), len(wanted), side, side), native_form(wanted[0])[1])
            for group, source, target in runs:
                out[:, target] = self._arrays[group][rows, source]
            found[side] = out
        return found

    def _plan(self, name: str, bands: Sequence[str]) -> tuple[_Run, ...]:
        """Where bands lie, checked once for each list of bands and kind of patch."""
        key = (modality(name), *bands)
        plan = self._plans.get(key)
        if plan is None:
            for band in bands:
                if band not in _PLACE or _PLACE[band][0].split('_')[0] != key[0]:
                    raise DatasetError(f'{self.path}: patch {name} has no band {band}')
            plan = self._plans[key] = tuple(_runs(bands))
        return plan

    def _map(self, group: str) -> NDArray[Any]:
        path = self.path / f'{group}.npy'
        side, dtype = native_form(GROUPS[group][0])
        try:
            mapped = np.load(path, mmap_mode='r', allow_pickle=False)
        except FileNotFoundError:
            raise DatasetError(f'{path}: no such file, and {INDEX} names patches in it') from None
        except (OSError, ValueError) as error:
            raise ReadError(f'{path}: cannot be read ({error}): convert again') from error
        if mapped.dtype != dtype or mapped.shape[1:] != (len(GROUPS[group]), side, side):
            raise ReadError(
                f'{path}: holds {mapped.dtype} {mapped.shape}, which is no stack of reBEN patches'
            )
        # A plain view: indexing a memmap costs several times what indexing an array does.
        plain: NDArray[Any] = mapped.view(np.ndarray)
        return plain

    def _check_rows(self, rows: NDArray[np.int64], kinds: NDArray[np.str_]) -> None:
        for group, array in self._arrays.items():
            of_group = rows[kinds == group.split('_')[0]]
            if of_group.min() < 0 or of_group.max() >= len(array):
                raise ReadError(f'{self.path / INDEX}: names rows that {group}.npy does not have')


def groups_of(kind: str) -> list[str]:
    """Files that hold patches of a kind.

    Args:
        kind: 's1', 's2' or 'map'.
    """
    return [group for group in GROUPS if group.split('_')[0] == kind]


def read_index(path: Path) -> pa.Table:
    """The index of a stacked store.

    Args:
        path: Its folder.

    Raises:
        DatasetError: If there is none.
        ReadError: If it is damaged.
    """
    try:
        return pq.read_table(path / INDEX, columns=['name', 'kind', 'row', 'crc32'])
    except FileNotFoundError:
        raise DatasetError(f'{path}: there is no {INDEX} in it') from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ReadError(f'{path / INDEX}: cannot be read: {" ".join(str(error).split())}') from error


def _runs(bands: Sequence[str]) -> Iterator[_Run]:
    start = 0
    for stop in range(1, len(bands) + 1):
        group, first = _PLACE[bands[start]]
        if stop < len(bands) and _PLACE[bands[stop]] == (group, first + stop - start):
            continue
        yield _Run(group, slice(first, first + stop - start), slice(start, stop))
        start = stop

"""Pixels of reBEN patches, row by row of the metadata, from any store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from geores.bigearthnet.maps import classes_of_map
from geores.bigearthnet.nomenclature import LabelOrder
from geores.bigearthnet.patch_id import MAP_SUFFIX
from geores.bigearthnet.statistics import Interpolation
from geores.bigearthnet.stores import MAP_BAND, S1_BANDS, BatchStore, PatchStore
from geores.bigearthnet.expand import SIDE
from geores.datasets._reben_pixels import as_native, on_one_grid
from geores.errors import DatasetError, UsageError

__all__ = ['PatchImages']


class PatchImages:
    """The pixels of rows of the metadata.

    Args:
        store: Where they are.
        table: Rows of the metadata; without `s1_name` no Sentinel-1 is read.
        bands: Which, in which order.
        interpolation: Of coarser bands.
        maps: Whether the reference maps are wanted too.
    """

    def __init__(
        self,
        store: PatchStore,
        table: pa.Table,
        bands: Sequence[str],
        interpolation: Interpolation,
        *,
        maps: bool = False,
    ) -> None:
        self.store = store
        self.ids: list[str] = table['patch_id'].to_pylist()
        self._s1: list[str] | None = table['s1_name'].to_pylist() if 's1_name' in table.column_names else None
        self._bands = tuple(bands)
        self._interpolation: Interpolation = interpolation
        self._maps = maps
        self._of_s1 = [band for band in bands if band in S1_BANDS]
        self._of_s2 = [band for band in bands if band not in S1_BANDS]
        self._runs = self._find_runs()
        self._filling: BatchStore | None = None
        if isinstance(store, BatchStore) and self._runs and interpolation != 'bilinear':
            self._filling = store

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        if self._filling is None:
            interpolation: Interpolation = 'bilinear' if self._interpolation == 'bilinear' else 'nearest'
            return on_one_grid(self.arrays(index), self._bands, interpolation)
        image = np.empty((len(self._bands), SIDE, SIDE), np.float32)
        for bands, start in self._runs:
            names = self._s1 if bands is self._of_s1 and self._s1 is not None else self.ids
            self._filling.fill(names[index], bands, image[start : start + len(bands)])
        return image

    def batch(self, indices: Sequence[int], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Pixels of several patches on one grid.

        Args:
            indices: Of the patches, N of them.
            out: (N, C, 120, 120) to write to, contiguous.

        Returns:
            `out`, or a new array.

        Raises:
            UsageError: Native sizes were asked for, which make no one array.
        """
        if self._interpolation == 'native':
            raise UsageError(
                "read_batch brings all bands to one grid, and interpolation='native' asks for none: take "
                "samples, which hold an array a size, or interpolation='nearest'"
            )
        if out is None:
            out = np.empty((len(indices), len(self._bands), SIDE, SIDE), np.float32)
        if self._filling is None:
            for place, index in enumerate(indices):
                out[place] = self[index]
            return out
        for bands, start in self._runs:
            names = self._s1 if bands is self._of_s1 and self._s1 is not None else self.ids
            part = out[:, start : start + len(bands)]
            self._filling.read_batch([names[index] for index in indices], bands, part)
        return out

    @property
    def paths(self) -> list[Path]:
        """What to name each sample by in a message."""
        return [self.store.path / name for name in self.ids]

    def load(self) -> None:
        """Nothing: reading is quick, and the whole does not fit in memory."""

    def arrays(self, index: int) -> dict[str, NDArray[Any]]:
        """Bands of one patch at their native sizes.

        Args:
            index: Of the patch.
        """
        arrays = self.store.read(self.ids[index], self._of_s2) if self._of_s2 else {}
        if self._of_s1 and self._s1 is not None:
            arrays = arrays | self.store.read(self._s1[index], self._of_s1)
        return arrays

    def sample(self, index: int) -> dict[str, Any]:
        """Pixels of one patch as a sample holds them.

        Args:
            index: Of the patch.
        """
        if self._interpolation == 'native':
            return dict(as_native(self.arrays(index), self._bands))
        return {'image': torch.from_numpy(self[index])}

    def classes(self, index: int, order: LabelOrder) -> NDArray[np.int64]:
        """Classes of the reference map of one patch: (120, 120).

        Args:
            index: Of the patch.
            order: Of the labels.
        """
        name = f'{self.ids[index]}{MAP_SUFFIX}'
        try:
            return classes_of_map(self.store.read(name, [MAP_BAND])[MAP_BAND], order)
        except DatasetError:
            raise
        except UsageError as error:
            raise DatasetError(f'{self.store.path}: map {name}: {error}') from error

    def present(self) -> list[int]:
        """Positions of the patches of which everything that is asked for is there.

        Raises:
            DatasetError: Of none.
        """
        here = set(self.store.names())
        found = [index for index in range(len(self)) if here.issuperset(self._names(index))]
        if not found:
            raise DatasetError(
                f'{self.store.path}: holds none of the {len(self):,} patches that the metadata names, with '
                f'all of {", ".join(self._kinds())}'
            )
        return found

    def check_first(self) -> None:
        """Read the first patch, for a part of the archive that is missing is missing from it too.

        Raises:
            DatasetError: It is not there; says what would help.
        """
        try:
            self.arrays(0)
            if self._maps:
                self.store.read(f'{self.ids[0]}{MAP_SUFFIX}', [MAP_BAND])
        except DatasetError as error:
            raise DatasetError(
                f'{error} ({" and ".join(self._kinds())} were asked for, and the metadata names '
                f'{len(self):,} patches; only_present leaves out those that are not there)'
            ) from error

    def _find_runs(self) -> list[tuple[list[str], int]]:
        """Bands of each satellite and the place of the first; none where they do not stand side by side.

        A store that can `fill` then writes them to the image at once, without copies of its own.
        """
        runs = [(bands, self._bands.index(bands[0])) for bands in (self._of_s1, self._of_s2) if bands]
        side_by_side = all(self._bands[start : start + len(bands)] == tuple(bands) for bands, start in runs)
        return runs if side_by_side else []

    def _names(self, index: int) -> list[str]:
        """Under which names a patch is in the store."""
        names = [self.ids[index]] if self._of_s2 else []
        if self._of_s1 and self._s1 is not None:
            names.append(self._s1[index])
        return [*names, f'{self.ids[index]}{MAP_SUFFIX}'] if self._maps else names

    def _kinds(self) -> list[str]:
        kinds = {'Sentinel-1': self._of_s1, 'Sentinel-2': self._of_s2, 'reference maps': self._maps}
        return [name for name, wanted in kinds.items() if wanted]

"""Read reBEN patches by the rows of the metadata, on one 120 x 120 grid or at native band sizes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from geores.bigearthnet.labels import LabelOrder, classes_of_map
from geores.bigearthnet.metadata import Interpolation
from geores.bigearthnet.patch_id import MAP_SUFFIX
from geores.bigearthnet.stores import (
    MAP_BAND,
    S1_BANDS,
    S2_BANDS,
    SIDE,
    BatchStore,
    PatchStore,
    expand_into,
    native_form,
)
from geores.errors import BandError, DatasetError, UsageError

__all__ = ['BAND_SETS', 'SIDE', 'PatchImages', 'as_native', 'expand', 'on_one_grid', 'resolve_bands']

BAND_SETS: Final = {
    's1': S1_BANDS,
    's2': ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12'),
    's2-full': S2_BANDS,
    'all': (*S1_BANDS, 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12'),
    'all-full': (*S1_BANDS, *S2_BANDS),
}
"""Band sets of the published models in channel order: Sentinel-1 first; only -full has 60 m bands."""

_KEYS = {
    (True, 120): 'image_s1',
    (False, 120): 'image_10m',
    (False, 60): 'image_20m',
    (False, 20): 'image_60m',
}


def resolve_bands(bands: str | Sequence[str]) -> tuple[str, ...]:
    """Resolve a band set, a band name or a list to band names.

    Args:
        bands: a name from `BAND_SETS`, one band name, or several in channel order.

    Raises:
        BandError: if a band is unknown or named twice, or none is named.
    """
    if isinstance(bands, str):
        bands = BAND_SETS.get(bands, (bands,))
    known = (*S1_BANDS, *S2_BANDS)
    for band in bands:
        if band not in known:
            sets = ', '.join(BAND_SETS)
            raise BandError(f'reBEN has no band {band!r}; it has {", ".join(known)}, and the sets {sets}')
    if not bands or len(set(bands)) < len(bands):
        raise BandError(f'bands {", ".join(bands) or "()"}: name one or more, each once')
    return tuple(bands)


def on_one_grid(
    arrays: Mapping[str, NDArray[Any]], bands: Sequence[str], interpolation: Interpolation
) -> NDArray[np.float32]:
    """Resample bands of a patch to 10 m and stack them.

    Nearest repeats pixels (20 m twice, 60 m six times each way). Bilinear aligns the corner pixels'
    centres, as the published training code does.

    Returns:
        (C, 120, 120).
    """
    image = np.empty((len(bands), SIDE, SIDE), np.float32)
    for place, band in enumerate(bands):
        pixels = arrays[band]
        if pixels.shape[0] == SIDE or interpolation == 'nearest':
            expand_into(pixels, image[place])
        else:
            coarse = torch.from_numpy(pixels.astype(np.float32))
            image[place] = _bilinear(coarse[None, None])[0, 0].numpy()
    return image


def as_native(arrays: Mapping[str, NDArray[Any]], bands: Sequence[str]) -> dict[str, Tensor]:
    """Stack the bands of each native size and type.

    Returns:
        Those of `image_s1` (float32), `image_10m`, `image_20m` and `image_60m` (uint16) that have bands;
        each (C, H, W).
    """
    stacks = {key: np.stack([arrays[band] for band in members]) for key, members in _groups(bands).items()}
    return {key: torch.from_numpy(stack) for key, stack in stacks.items()}


def expand(
    batch: Mapping[str, Any], bands: Sequence[str], interpolation: Interpolation = 'nearest'
) -> Tensor:
    """Resample stacks of native band sizes to one grid, on their device, as `on_one_grid` does.

    Args:
        batch: arrays under the keys of `as_native`, each (N, C, H, W).
        bands: as they were stacked.
        interpolation: 'nearest' or 'bilinear'.

    Returns:
        (N, C, 120, 120) float32.
    """
    groups = _groups(bands)
    first = batch[next(iter(groups))]
    images = torch.empty(len(first), len(bands), SIDE, SIDE, device=first.device)
    for key, members in groups.items():
        stack = batch[key].float()
        if stack.shape[-1] < SIDE and interpolation == 'bilinear':
            stack = _bilinear(stack)
        elif stack.shape[-1] < SIDE:
            times = SIDE // stack.shape[-1]
            stack = stack.repeat_interleave(times, 2).repeat_interleave(times, 3)
        images[:, [bands.index(band) for band in members]] = stack
    return images


def _bilinear(images: Tensor) -> Tensor:
    return functional.interpolate(images, (SIDE, SIDE), mode='bilinear', align_corners=True)


def _groups(bands: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for band in bands:
        groups.setdefault(_KEYS[band in S1_BANDS, native_form(band)[0]], []).append(band)
    return groups


class PatchImages:
    """Pixels of the patches in a metadata table.

    Args:
        store: store that holds the patches.
        table: rows of the metadata; without `s1_name` no Sentinel-1 is read.
        bands: names of the bands, in channel order.
        interpolation: how coarser bands are resampled to 10 m.
        maps: whether the reference maps are wanted too.
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
            if bands is self._of_s1:
                self._check_decibels(index, image[start : start + len(bands)])
        return image

    def batch(self, indices: Sequence[int], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Read several patches on one grid.

        Args:
            indices: indices of N patches.
            out: (N, C, 120, 120) to write to, contiguous.

        Returns:
            `out`, or a new array.

        Raises:
            UsageError: if native sizes were asked for, which make no one array.
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
            if bands is self._of_s1:
                for index, planes in zip(indices, part, strict=True):
                    self._check_decibels(index, planes)
        return out

    @property
    def paths(self) -> list[Path]:
        """Path of each sample, for messages."""
        return [self.store.path / name for name in self.ids]

    def load(self) -> None:
        """No-op: reading is fast, and the whole data set does not fit in memory."""

    def arrays(self, index: int) -> dict[str, NDArray[Any]]:
        """Read the bands of one patch at their native sizes."""
        arrays = self.store.read(self.ids[index], self._of_s2) if self._of_s2 else {}
        if self._of_s1 and self._s1 is not None:
            arrays = arrays | self.store.read(self._s1[index], self._of_s1)
            self._check_decibels(index, np.stack([arrays[band] for band in self._of_s1]))
        return arrays

    def _check_decibels(self, index: int, planes: NDArray[np.float32]) -> None:
        """Refuse backscatter that is not in dB, in which hardly a pixel is above 0 and none without end.

        Args:
            index: index of the patch.
            planes: bands of Sentinel-1 in the order asked for, (C, H, W).
        """
        name = self.ids[index] if self._s1 is None else self._s1[index]
        for band, low, high in zip(self._of_s1, planes.min((1, 2)), planes.max((1, 2)), strict=True):
            if not (np.isfinite(low) and np.isfinite(high)):
                raise DatasetError(
                    f'{self.store.path}: {band} of {name} holds NaN or an infinite number, the dB of no '
                    'backscatter: mask or leave out the patch'
                )
            if low >= 0 and high > 0:
                raise DatasetError(
                    f'{self.store.path}: {band} of {name} has no value below 0 ({low:.3g} to {high:.3g}), so '
                    'that it is not in dB but on a linear scale: take 10 log10 of it'
                )

    def sample(self, index: int) -> dict[str, Any]:
        """Read one patch in the form of a sample."""
        if self._interpolation == 'native':
            return dict(as_native(self.arrays(index), self._bands))
        return {'image': torch.from_numpy(self[index])}

    def classes(self, index: int, order: LabelOrder) -> NDArray[np.int64]:
        """Read the classes of the reference map of one patch, (120, 120)."""
        name = f'{self.ids[index]}{MAP_SUFFIX}'
        try:
            return classes_of_map(self.store.read(name, [MAP_BAND])[MAP_BAND], order)
        except DatasetError:
            raise
        except UsageError as error:
            raise DatasetError(f'{self.store.path}: map {name}: {error}') from error

    def present(self) -> list[int]:
        """Indices of the patches that the store holds with all requested data.

        Raises:
            DatasetError: if there are none.
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
        """Read the first patch, to notice a missing part of the archive early.

        Raises:
            DatasetError: if it is not there; says what would help.
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
        """Bands of each satellite and the channel of the first; empty if they are not contiguous.

        A store with `fill` can then write each run straight into the image, without a copy.
        """
        runs = [(bands, self._bands.index(bands[0])) for bands in (self._of_s1, self._of_s2) if bands]
        side_by_side = all(self._bands[start : start + len(bands)] == tuple(bands) for bands, start in runs)
        return runs if side_by_side else []

    def _names(self, index: int) -> list[str]:
        """Names under which the store holds the requested data of a patch."""
        names = [self.ids[index]] if self._of_s2 else []
        if self._of_s1 and self._s1 is not None:
            names.append(self._s1[index])
        return [*names, f'{self.ids[index]}{MAP_SUFFIX}'] if self._maps else names

    def _kinds(self) -> list[str]:
        kinds = {'Sentinel-1': self._of_s1, 'Sentinel-2': self._of_s2, 'reference maps': self._maps}
        return [name for name, wanted in kinds.items() if wanted]

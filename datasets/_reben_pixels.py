"""Bands of reBEN patches on one grid of 120 x 120 pixels, or at their native sizes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from geores.bigearthnet.expand import SIDE, expand_into
from geores.bigearthnet.statistics import Interpolation
from geores.bigearthnet.stores import S1_BANDS, S2_BANDS, native_form
from geores.errors import BandError

__all__ = ['BAND_SETS', 'SIDE', 'as_native', 'expand', 'on_one_grid', 'resolve_bands']

BAND_SETS: Final = {
    's1': S1_BANDS,
    's2': ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12'),
    's2-full': S2_BANDS,
    'all': (*S1_BANDS, 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12'),
    'all-full': (*S1_BANDS, *S2_BANDS),
}
"""Bands of the published models, in their order: Sentinel-1 first, without those of 60 m."""

_KEYS = {
    (True, 120): 'image_s1',
    (False, 120): 'image_10m',
    (False, 60): 'image_20m',
    (False, 20): 'image_60m',
}


def resolve_bands(bands: str | Sequence[str]) -> tuple[str, ...]:
    """Names of bands, from the name of a set or a list.

    Args:
        bands: One of `BAND_SETS`, one band, or several in the order wanted.

    Raises:
        BandError: A band is unknown or named twice, or none is named.
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
    """Bring bands of a patch to 10 m.

    Nearest repeats pixels (20 m twice, 60 m six times each way). Bilinear aligns the corner pixels'
    centres, as the published training code does.

    Args:
        arrays: Bands at their native sizes.
        bands: Which, in which order.
        interpolation: 'nearest' or 'bilinear'.

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
    """Stack bands of one size and type.

    Args:
        arrays: Bands at their native sizes.
        bands: Which; the order within a stack is theirs.

    Returns:
        Those of `image_s1` (float32), `image_10m`, `image_20m` and `image_60m` (uint16) that have bands;
        each (C, H, W).
    """
    stacks = {key: np.stack([arrays[band] for band in members]) for key, members in _groups(bands).items()}
    return {key: torch.from_numpy(stack) for key, stack in stacks.items()}


def expand(
    batch: Mapping[str, Any], bands: Sequence[str], interpolation: Interpolation = 'nearest'
) -> Tensor:
    """What `on_one_grid` gives, from stacks of native sizes, on whatever device they are.

    Args:
        batch: With what `as_native` gives, each (N, C, H, W).
        bands: As they were stacked.
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

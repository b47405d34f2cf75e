"""From a scene's stored numbers to a model's units.

Headers say how in most cases; where they do not, a sample of the pixels decides (`sample_tiles`). For models
that know only reflectance of the surface, that at the top of the atmosphere is brought near it
(`subtract_dark_objects`).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geores.card_values import Units
from geores.errors import ReadError, UsageError
from geores.grid import Tiling
from geores.inference.reader import GridReader, UnitTransform
from geores.scenes import Band, Scene
from geores.scenes.bands import SENTINEL1_BANDS, WAVELENGTHS

__all__ = [
    'PixelFormat',
    'needs_dark_subtraction',
    'needs_sample',
    'sample_tiles',
    'subtract_dark_objects',
    'unit_transforms',
]

BRIGHTEST = 2.0
"""Floating point pixels above it are no reflectances of 0 to 1."""

STRONGEST = 10.0
"""Backscatter on a linear scale of which no scene has half of its pixels: 10 dB."""

LOOK_PIXELS = 512
"""Longest side of the look at a whole scene in which dark objects are searched."""

DARKEST = 0.1
"""Percentage of the pixels that are as dark as a dark object."""

DARK = 100.0
"""Reflectance of 1 %, times 10,000, that a dark object has (Chavez 1996, Photogrammetric Engineering 62)."""

HAZIEST = 1400.0
"""Most that air adds at 490 nm, in reflectance times 10,000: a scene without dark objects is spared."""

Pixels = tuple[NDArray[np.float32], NDArray[np.bool_]]


class PixelFormat(Protocol):
    """What decides how stored numbers become a model's units: a `ModelCard`, or part of one."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""

    @property
    def units(self) -> Units:
        """Units of pixel values."""

    @property
    def display_stretch(self) -> tuple[float, float] | None:
        """Percentiles that become 0 and 255."""

    @property
    def display_range(self) -> tuple[float, float] | None:
        """Reflectances times 10,000 that become 0 and 255 instead."""

    @property
    def processing_level(self) -> str:
        """Level of the images that the model was trained on."""


def sample_tiles(
    reader: GridReader, tiling: Tiling, *, side: int, workers: int = 1, strict: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read tiles evenly spread over the grid: values (N, C, h, w) and validity (N, h, w).

    Args:
        reader: reader of the scene.
        tiling: the tiles to choose from.
        side: tiles along each axis, so that N is at most its square.
        workers: threads that read.
        strict: whether a tile that cannot be read is an error, else it is left out.

    Raises:
        ReadError: if ``strict`` and a tile cannot be read.
    """
    y, x = tiling.y, tiling.x
    rows = [slice(int(y.starts[i]), int(y.stops[i])) for i in _spread(y.count, side)]
    cols = [slice(int(x.starts[i]), int(x.stops[i])) for i in _spread(x.count, side)]

    def read(window: tuple[slice, slice]) -> Pixels | None:
        try:
            return reader.read(*window)
        except ReadError:
            if strict:
                raise
            return None

    with ThreadPoolExecutor(workers) as pool:
        tiles = [tile for tile in pool.map(read, product(rows, cols)) if tile is not None]
    if not tiles:
        return np.empty((0, len(reader.bands), 0, 0), np.float32), np.empty((0, 0, 0), bool)
    return np.stack([values for values, _ in tiles]), np.stack([valid for _, valid in tiles])


def needs_sample(scene: Scene, card: PixelFormat) -> bool:
    """Whether units cannot be known from the headers alone."""
    bands = [scene.band(name) for name in card.bands]
    if card.units == Units.EIGHT_BIT:
        return any(band.raster.dtype != np.uint8 for band in bands)
    return any(
        (band.scale is None and band.raster.dtype.kind == 'f') or band.name in SENTINEL1_BANDS
        for band in bands
    )


def _spread(count: int, side: int) -> list[int]:
    return sorted({int(i) for i in (np.arange(side) + 0.5) / max(side, 1) * count})


def unit_transforms(
    scene: Scene,
    card: PixelFormat,
    bands: Sequence[str],
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    linear: bool = False,
    atmosphere: str = 'auto',
) -> tuple[dict[str, UnitTransform], tuple[str, ...]]:
    """Decide how each band's stored numbers become the card's units.

    Args:
        scene: the scene.
        card: the model's card.
        bands: names as the card has them.
        values: sampled tiles as stored, (N, C, h, w).
        valid: (N, h, w).
        linear: whether Sentinel-1's backscatter is on a linear scale instead of in dB.
        atmosphere: 'auto' subtracts dark objects where `needs_dark_subtraction` says so; 'none' never does.

    Raises:
        UsageError: if backscatter is not on the scale that is said.
        ReadError: if dark objects are looked for, and the scene cannot be read.

    Returns:
        A `UnitTransform` for each band that needs one, and notes of one sentence each.
    """
    if linear and not set(SENTINEL1_BANDS) & set(bands):
        raise UsageError('--linear-s1 (linear_s1=) is about Sentinel-1, of which the model takes no band')
    pixels = np.moveaxis(values, 1, 0)[:, valid]
    found = {name: scene.band(name) for name in bands}
    samples = dict(zip(bands, pixels, strict=True))
    if card.units == Units.EIGHT_BIT:
        return _stretched(card, found, samples)
    radar = {name: band for name, band in found.items() if name in SENTINEL1_BANDS}
    converted, notes = _decibels(radar, samples, linear=linear)
    other = {name: band for name, band in found.items() if name not in radar}
    if card.units.has_reflectance:
        reflectances, more = _reflectances(other, samples)
        converted, notes = converted | reflectances, notes + more
        if needs_dark_subtraction(scene, card, atmosphere):
            converted, about = subtract_dark_objects(scene, bands, converted)
            notes = about + notes
        return converted, notes
    return converted | _scaled(other), notes


def _scaled(bands: dict[str, Band]) -> dict[str, UnitTransform]:
    return {
        name: UnitTransform(band.scale, band.offset or 0.0)
        for name, band in bands.items()
        if band.scale is not None
    }


def _decibels(
    bands: dict[str, Band], samples: dict[str, NDArray[np.float32]], *, linear: bool
) -> tuple[dict[str, UnitTransform], tuple[str, ...]]:
    """Bring backscatter to dB, which is what models of Sentinel-1 take."""
    converted = _scaled(bands)
    for name, band in bands.items():
        stored = samples[name].copy()
        before = converted.get(name, UnitTransform())
        before.apply(stored)
        if len(stored):
            _check_scale(f'{name} of {band.raster.path}', stored, linear=linear)
        if linear:
            converted[name] = UnitTransform(before.gain, before.bias, decibels=True)
    return converted, (f'{", ".join(bands)} brought from a linear scale to dB',) if linear and bands else ()


def _check_scale(what: str, sample: NDArray[np.float32], *, linear: bool) -> None:
    """Tell decibels, which are below 0 nearly everywhere, from powers, which never are."""
    low, high = float(sample.min()), float(sample.max())
    if linear and low < 0:
        raise UsageError(
            f'{what} has values below 0, such as {low:.3g}, so that it is not on a linear scale: drop '
            '--linear-s1 (linear_s1=)'
        )
    if linear and float(np.median(sample)) > STRONGEST:
        raise UsageError(
            f'{what} is {np.median(sample):.3g} in the middle, more than backscatter can be: digital numbers '
            'have to be calibrated (sigma0, gamma0) first'
        )
    if not linear and low >= 0:
        raise UsageError(
            f'{what} has no value below 0 in a sample ({low:.3g} to {high:.3g}), so that it is not in dB, '
            'which the model takes: give --linear-s1 (linear_s1=) for calibrated backscatter (sigma0, '
            'gamma0) on a linear scale, else calibrate it'
        )


def _stretched(
    card: PixelFormat, bands: dict[str, Band], samples: dict[str, NDArray[np.float32]]
) -> tuple[dict[str, UnitTransform], tuple[str, ...]]:
    other = [name for name, band in bands.items() if band.raster.dtype != np.uint8]
    if card.display_range and other:
        return _displayed({name: bands[name] for name in other}, samples, card.display_range)
    limits = card.display_stretch or (2.0, 98.0)
    stretch = {}
    for name in other:
        low, high = np.percentile(samples[name], limits) if len(samples[name]) else (0.0, 255.0)
        gain = 255.0 / max(float(high) - float(low), 1e-6)
        stretch[name] = UnitTransform(gain, -float(low) * gain, 0.0, 255.0)
    if not other:
        return {}, ()
    span = f'{limits[0]:g} and {limits[1]:g}'
    return stretch, (f'{", ".join(other)} stretched to 8 bits between percentiles {span} of a sample',)


def _displayed(
    bands: dict[str, Band], samples: dict[str, NDArray[np.float32]], limits: tuple[float, float]
) -> tuple[dict[str, UnitTransform], tuple[str, ...]]:
    """Show reflectances times 10,000 as 8 bits: `limits` become 0 and 255."""
    known, notes = _reflectances(bands, samples)
    gain = 255.0 / max(limits[1] - limits[0], 1e-6)
    before = {name: known.get(name, UnitTransform()) for name in bands}
    shown = {
        name: UnitTransform(one.gain * gain, (one.bias - limits[0]) * gain, 0.0, 255.0)
        for name, one in before.items()
    }
    span = f'{limits[0]:g} and {limits[1]:g}'
    return shown, (*notes, f'{", ".join(bands)} shown in 8 bits between {span} of reflectance times 10,000')


def _reflectances(
    bands: dict[str, Band], samples: dict[str, NDArray[np.float32]]
) -> tuple[dict[str, UnitTransform], tuple[str, ...]]:
    converted, unstated = {}, []
    for name, band in bands.items():
        if band.scale is not None:
            gain, bias = band.scale * 1e4, (band.offset or 0.0) * 1e4
            # Most products: numbers that cannot fall below 0 are spared a pass.
            falls = band.raster.dtype.kind != 'u' or gain < 0 or bias < 0
            converted[name] = UnitTransform(gain, bias, 0.0 if falls else None)
        elif np.issubdtype(band.raster.dtype, np.floating):
            unstated.append(name)
    whole = [name for name, band in bands.items() if band.scale is None and name not in unstated]
    assumed = (
        (f'no scale stated: the whole numbers of {", ".join(whole)} are taken as reflectance times 10,000',)
        if whole
        else ()
    )
    if not unstated:
        return converted, assumed
    pixels = np.concatenate([samples[name] for name in unstated])
    fractions = bool(len(pixels)) and float(np.percentile(pixels, 99)) <= BRIGHTEST
    gain = 1e4 if fractions else 1.0
    converted |= {name: UnitTransform(gain, 0.0, 0.0) for name in unstated}
    kind = 'reflectance from 0 to 1' if fractions else 'reflectance times 10,000'
    return converted, (
        *assumed,
        f'the scene states no scale: its floating point pixels are taken as {kind}',
    )


def needs_dark_subtraction(scene: Scene, card: PixelFormat, atmosphere: str = 'auto') -> bool:
    """Whether dark objects are to be subtracted: the scene is L1C, and the model knows only L2A.

    Args:
        scene: the scene.
        card: the model's card.
        atmosphere: 'auto', or 'none' to leave every scene as it is.
    """
    return (
        atmosphere == 'auto'
        and scene.processing_level == 'L1C'
        and 'L1C' not in card.processing_level
        and 'L2A' in card.processing_level
        and card.units.has_reflectance
        and not scene.is_lazy
    )


def subtract_dark_objects(
    scene: Scene, bands: Sequence[str], converted: Mapping[str, UnitTransform]
) -> tuple[dict[str, UnitTransform], tuple[str, ...]]:
    """Take from each band what the air adds over the darkest pixels of the whole scene.

    Dark-object subtraction (Chavez 1996): the darkest 0.1 % of the pixels are taken to have a
    reflectance of 1 %, and what they have more is path radiance. It is subtracted everywhere, at most
    what thick haze of the band's wavelength adds.

    Args:
        scene: Sentinel-2 at the top of the atmosphere.
        bands: names of the model's bands.
        converted: how their numbers become reflectance times 10,000.

    Returns:
        The transforms with the subtraction in them, and a note.

    Raises:
        ReadError: if the scene cannot be read.
    """
    result, subtracted = dict(converted), []
    for name in bands:
        band = scene.band(name)
        if band.name not in WAVELENGTHS:
            continue
        seen = band.raster.sample(band.index, LOOK_PIXELS)
        if not len(seen):
            continue
        before = result.get(name, UnitTransform())
        added = _added(before, seen.astype(np.float32), WAVELENGTHS[band.name])
        if added > 0:
            result[name] = replace(before, bias=before.bias - added, low=0.0)
            subtracted.append(f'{name} {added:.0f}')
    if not subtracted:
        return result, ()
    amounts = ', '.join(subtracted)
    return result, (
        f'the scene is L1C and the model was trained on L2A: dark objects subtracted ({amounts} of '
        'reflectance times 10,000)',
    )


def _added(transform: UnitTransform, seen: NDArray[np.float32], wavelength: float) -> float:
    """Estimate what the air adds to a band: its dark objects less 1 %, within 0 and what haze can be."""
    transform.apply(seen)
    dark = float(np.percentile(seen, DARKEST))
    # Aerosol scatters with a power of the wavelength of about -1.5.
    return float(np.clip(dark - DARK, 0.0, HAZIEST * (490.0 / wavelength) ** 1.5))

"""From reflectance at the top of the atmosphere to that of the surface, near enough for a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geores.card import ModelCard
from geores.inference.reader import Conversion
from geores.scenes import Scene
from geores.scenes.names import WAVELENGTHS

__all__ = ['corrects', 'subtract_dark_objects']

LOOK_PIXELS = 512
"""Longest side of the look at a whole scene in which dark objects are searched."""

DARKEST = 0.1
"""Percentage of the pixels that are as dark as a dark object."""

DARK = 100.0
"""Reflectance of 1 %, times 10,000, that a dark object has (Chavez 1996, Photogrammetric Engineering 62)."""

HAZIEST = 1400.0
"""Most that air adds at 490 nm, in reflectance times 10,000: a scene without dark objects is spared."""


def corrects(scene: Scene, card: ModelCard, atmosphere: str = 'auto') -> bool:
    """Whether dark objects are to be subtracted: the scene is L1C, and the model knows only L2A.

    Args:
        scene: the scene.
        card: of the model.
        atmosphere: 'auto', or 'none' to leave every scene as it is.
    """
    return (
        atmosphere == 'auto'
        and scene.processing_level == 'L1C'
        and 'L1C' not in card.processing_level
        and 'L2A' in card.processing_level
        and card.units.startswith('reflectance*10000')
        and not scene.is_lazy
    )


def subtract_dark_objects(
    scene: Scene, bands: Sequence[str], converted: Mapping[str, Conversion]
) -> tuple[dict[str, Conversion], tuple[str, ...]]:
    """Take from each band what the air adds over the darkest pixels of the whole scene.

    Dark-object subtraction (Chavez 1996): the darkest 0.1 % of the pixels are taken to have a
    reflectance of 1 %, and what they have more is path radiance. It is subtracted everywhere, at most
    what thick haze of the band's wavelength adds.

    Args:
        scene: Sentinel-2 at the top of the atmosphere.
        bands: of the model.
        converted: how their numbers become reflectance times 10,000.

    Returns:
        The conversions with the subtraction in them, and a note.

    Raises:
        ReadError: the scene cannot be read.
    """
    result, told = dict(converted), []
    for name in bands:
        band = scene.band(name)
        if band.name not in WAVELENGTHS:
            continue
        seen = band.raster.look(band.index, LOOK_PIXELS)
        if not len(seen):
            continue
        before = result.get(name, Conversion())
        added = _added(before, seen.astype(np.float32), WAVELENGTHS[band.name])
        if added > 0:
            result[name] = replace(before, bias=before.bias - added, low=0.0)
            told.append(f'{name} {added:.0f}')
    if not told:
        return result, ()
    return result, (
        f'the scene is L1C and the model was trained on L2A: dark objects subtracted ({", ".join(told)} of '
        'reflectance times 10,000)',
    )


def _added(conversion: Conversion, seen: NDArray[np.float32], wavelength: float) -> float:
    """What the air adds to a band: its dark objects less 1 %, within 0 and what haze can be."""
    conversion.apply(seen)
    dark = float(np.percentile(seen, DARKEST))
    # Aerosol scatters with a power of the wavelength of about -1.5.
    return float(np.clip(dark - DARK, 0.0, HAZIEST * (490.0 / wavelength) ** 1.5))

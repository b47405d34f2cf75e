"""From stored values to physical ones: what a file, its product or its sensor states."""

from dataclasses import dataclass

import numpy as np

from geores.scenes.names import SENTINEL1_BANDS, SENTINEL2_BANDS
from geores.scenes.product import Product

__all__ = ['Meaning', 'meaning_of']


@dataclass(frozen=True)
class Meaning:
    """How to read the values of a band: see `Band` for scale, offset and units."""

    scale: float | None = None
    offset: float | None = None
    units: str | None = None
    note: str | None = None


def meaning_of(
    band: str,
    dtype: np.dtype,
    *,
    sensor: str | None,
    product: Product | None = None,
    stated: tuple[float, float] | None = None,
    stated_units: str | None = None,
) -> Meaning:
    """Decide what the values of a band mean.

    Args:
        band: Canonical name.
        dtype: Of the stored values.
        sensor: Of the scene, where known.
        product: Which the file belongs to, where known.
        stated: Scale and offset that the file itself states.
        stated_units: Units that the file itself states.
    """
    if sensor == 'Sentinel-2' and (band in SENTINEL2_BANDS or band in SENTINEL2_BANDS.values()):
        return _reflectance(band, dtype, product, stated)
    scale, offset = stated if stated else (None, None)
    units = stated_units or None
    if band in SENTINEL1_BANDS:
        return _backscatter(dtype, scale, offset, units)
    if dtype == np.uint8 and stated is None:
        units = '8-bit'
    return Meaning(scale, offset, units)


def _reflectance(
    band: str, dtype: np.dtype, product: Product | None, stated: tuple[float, float] | None
) -> Meaning:
    if stated is not None:
        return Meaning(*stated, 'reflectance')
    if dtype == np.uint8:
        return Meaning(units='8-bit', note='8-bit values are taken as a display image')
    if dtype.kind == 'f':
        note = 'floating-point values without a stated scale: whether they are reflectance is unknown'
        return Meaning(note=note)
    if product is not None and product.sensor == 'Sentinel-2':
        return Meaning(*product.scale_and_offset(band), 'reflectance', product.note)
    note = 'no scale stated: reflectance = DN / 10000 without offset, as Sentinel-2 had before 2022'
    return Meaning(1e-4, 0.0, 'reflectance', note)


def _backscatter(dtype: np.dtype, scale: float | None, offset: float | None, units: str | None) -> Meaning:
    if units and units.lower() in {'db', 'decibel', 'decibels'}:
        return Meaning(scale, offset, 'dB')
    if units is None and dtype.kind == 'f':
        return Meaning(scale, offset, 'dB', 'backscatter is taken to be in dB: no unit is stated')
    return Meaning(scale, offset, units)

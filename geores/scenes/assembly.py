"""Putting a scene together from rasters whose bands have names.

This is where it is decided how stored values become physical ones: by what the file states, else its
product, else the sensor's convention.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geores.scenes.bands import SENTINEL1_BANDS, SENTINEL2_BANDS, sensor_of
from geores.scenes.masks import SCL
from geores.scenes.product import Product
from geores.scenes.raster import Raster
from geores.scenes.scene import Band, Scene, SceneMask, notes_on_grid

__all__ = ['BandSource', 'assemble']


@dataclass(frozen=True)
class BandSource:
    """Where a band is, and what its source says about its values.

    Attributes:
        raster: raster that holds its pixels.
        index: its 1-based index there.
        scaling: scale and offset that the source states, or None.
        units: units that the source states, or None.
    """

    raster: Raster
    index: int
    scaling: tuple[float, float] | None = None
    units: str | None = None


def assemble(
    stem: str,
    sources: Mapping[str, BandSource],
    *,
    product: Product | None = None,
    date: str | None = None,
    notes: Sequence[str] = (),
    mask: SceneMask | None = None,
) -> Scene:
    """Make a scene of named bands.

    Args:
        stem: name of the scene where it belongs to no product.
        sources: bands by canonical name.
        product: product that the source belongs to, where known.
        date: day of acquisition that the source itself states.
        notes: what the user should be told besides.
        mask: mask that lies beside the bands; a band called SCL is one too.
    """
    sensor = _sensor(sources, product)
    bands, all_notes = {}, list(notes)
    for name, source in sources.items():
        meaning = _meaning_of(
            name,
            source.raster.dtype,
            sensor=sensor,
            product=product,
            stated=source.scaling,
            stated_units=source.units,
        )
        bands[name] = Band(name, source.raster, source.index, meaning.scale, meaning.offset, meaning.units)
        all_notes += [meaning.note] if meaning.note else []
    first = next(iter(bands.values()))
    return Scene(
        name=product.name if product else stem,
        bands=bands,
        sensor=sensor,
        processing_level=_level(bands, product) if sensor == 'Sentinel-2' else None,
        units=first.units,
        date=date or (product.date if product else None),
        notes=tuple(dict.fromkeys([*all_notes, *notes_on_grid(first.raster.geobox)])),
        mask=mask or _own_mask(bands, sensor),
    )


def _own_mask(bands: Mapping[str, Band], sensor: str | None) -> SceneMask | None:
    band = next((band for name, band in bands.items() if name.upper() == SCL), None)
    if band is None or sensor != 'Sentinel-2':
        return None
    return SceneMask(SCL, band.raster.path, band)


def _sensor(sources: Mapping[str, BandSource], product: Product | None) -> str | None:
    sensor = sensor_of(sources)
    if sensor is None and product is not None:
        # A true-colour picture in a product holds no bands of its sensor.
        pictures = all(source.raster.dtype == np.uint8 for source in sources.values())
        return None if pictures else product.sensor
    return sensor


def _level(bands: Mapping[str, Band], product: Product | None) -> str | None:
    if product is not None and product.level:
        return product.level
    # Only L1C carries the cirrus band.
    return 'L1C' if 'B10' in bands else None


@dataclass(frozen=True)
class _Meaning:
    """How to read the values of a band: see `Band` for scale, offset and units."""

    scale: float | None = None
    offset: float | None = None
    units: str | None = None
    note: str | None = None


def _meaning_of(
    band: str,
    dtype: np.dtype,
    *,
    sensor: str | None,
    product: Product | None = None,
    stated: tuple[float, float] | None = None,
    stated_units: str | None = None,
) -> _Meaning:
    """Decide what the values of a band mean.

    Args:
        band: canonical name.
        dtype: type of the stored values.
        sensor: sensor of the scene, where known.
        product: product that the file belongs to, where known.
        stated: scale and offset that the file itself states.
        stated_units: units that the file itself states.
    """
    if sensor == 'Sentinel-2' and (band in SENTINEL2_BANDS or band in SENTINEL2_BANDS.values()):
        return _reflectance(band, dtype, product, stated)
    scale, offset = stated if stated else (None, None)
    units = stated_units or None
    if band in SENTINEL1_BANDS:
        return _backscatter(dtype, scale, offset, units)
    if dtype == np.uint8 and stated is None:
        units = '8-bit'
    return _Meaning(scale, offset, units)


def _reflectance(
    band: str, dtype: np.dtype, product: Product | None, stated: tuple[float, float] | None
) -> _Meaning:
    if stated is not None:
        return _Meaning(*stated, 'reflectance')
    if dtype == np.uint8:
        return _Meaning(units='8-bit', note='8-bit values are taken as a display image')
    if dtype.kind == 'f':
        note = 'floating-point values without a stated scale: whether they are reflectance is unknown'
        return _Meaning(note=note)
    if product is not None and product.sensor == 'Sentinel-2':
        return _Meaning(*product.scale_and_offset(band), 'reflectance', product.note)
    note = 'no scale stated: reflectance = DN / 10000 without offset, as Sentinel-2 had before 2022'
    return _Meaning(1e-4, 0.0, 'reflectance', note)


def _backscatter(dtype: np.dtype, scale: float | None, offset: float | None, units: str | None) -> _Meaning:
    if units and units.lower() in {'db', 'decibel', 'decibels'}:
        return _Meaning(scale, offset, 'dB')
    if units is None and dtype.kind == 'f':
        return _Meaning(scale, offset, 'dB', 'backscatter is taken to be in dB: no unit is stated')
    return _Meaning(scale, offset, units)

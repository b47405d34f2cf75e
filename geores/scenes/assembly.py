"""Putting a scene together from rasters whose bands have names.

This is where it is decided how stored values become physical ones: by what the file states, else its
product, else the sensor's convention.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geores.scenes.bands import SENTINEL1_BANDS, SENTINEL2_BANDS, SENTINEL2_NUMBERS
from geores.scenes.identify import Identity
from geores.scenes.product import SCL, Product
from geores.scenes.raster import Raster
from geores.scenes.scene import Band, Offset, Scene, SceneMask, notes_on_grid
from geores.scenes.sensors import OPTICAL, SENTINEL2, sensor_named

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
    identity: Identity,
    offset: Offset | None = None,
    date: str | None = None,
    notes: Sequence[str] = (),
    mask: SceneMask | None = None,
) -> Scene:
    """Make a scene of named bands.

    Args:
        stem: name of the scene where it belongs to no product.
        sources: bands by canonical name.
        identity: sensor, level and product.
        offset: what is known of the offset of Sentinel-2's digital numbers; None where it is another sensor.
        date: day of acquisition that the source itself states.
        notes: what the user should be told besides.
        mask: mask that lies beside the bands; a band called SCL is one too.
    """
    identity = _without_pictures(sources, identity)
    sensor, product = identity.sensor, identity.product
    bands, all_notes, stated = {}, [*notes, *([identity.question] if identity.question else [])], []
    for name, source in sources.items():
        meaning = _meaning_of(name, source, identity, offset)
        bands[name] = Band(
            name, source.raster, source.index, meaning.scale, meaning.offset, meaning.units, sensor
        )
        all_notes += [meaning.note] if meaning.note else []
        stated += [meaning.why] if meaning.why else []
    first = next(iter(bands.values()))
    if sensor == SENTINEL2:
        offset = _stated_offset(sources, offset)
        if offset and offset.note and any(band.scale is not None for band in bands.values()):
            all_notes.append(offset.note)
    return Scene(
        # Without a date its name is a word in the name of a file, and none of its own.
        name=product.name if product and product.date is not None else stem,
        bands=bands,
        sensor=sensor,
        processing_level=identity.level,
        units=first.units,
        date=date or (product.date if product else None),
        notes=tuple(dict.fromkeys([*all_notes, *notes_on_grid(first.raster.geobox)])),
        mask=mask or _own_mask(bands, sensor),
        evidence=tuple(dict.fromkeys([*identity.evidence, *stated])),
        offset=offset if sensor == SENTINEL2 else None,
        question=identity.question,
    )


def _own_mask(bands: Mapping[str, Band], sensor: str | None) -> SceneMask | None:
    band = next((band for name, band in bands.items() if name.upper() == SCL), None)
    if band is None or sensor != SENTINEL2:
        return None
    return SceneMask(SCL, band.raster.path, band)


def _without_pictures(sources: Mapping[str, BandSource], identity: Identity) -> Identity:
    """Forget the sensor where a product holds a true-colour picture, and no bands of its sensor."""
    own = {*SENTINEL2_BANDS, *SENTINEL1_BANDS}
    pictures = all(source.raster.dtype == np.uint8 for source in sources.values())
    if identity.sensor == SENTINEL2 and pictures and set(sources) <= {'red', 'green', 'blue', 'alpha'} - own:
        return replace(identity, sensor=None, level=None)
    return identity


def _stated_offset(sources: Mapping[str, BandSource], offset: Offset | None) -> Offset | None:
    """Take the offset from the files where they state offsets with their scales, else the given one."""
    stated = [source.scaling for source in sources.values() if source.scaling]
    if (offset is not None and offset.basis == 'user') or not any(added for _, added in stated):
        return offset
    least = min(added / scale for scale, added in stated)
    return Offset(round(least, 3), 'metadata', None)


@dataclass(frozen=True)
class _Meaning:
    """How to read the values of a band: see `Band` for scale, offset and units, `Scene` for the rest."""

    scale: float | None = None
    offset: float | None = None
    units: str | None = None
    note: str | None = None
    why: str | None = None


def _meaning_of(band: str, source: BandSource, identity: Identity, offset: Offset | None) -> _Meaning:
    """Decide what the values of a band, by its canonical name, mean."""
    sensor, stated, dtype = identity.sensor, source.scaling, source.raster.dtype
    units = source.units or None
    why = f'the file states scale {stated[0]:g} and offset {stated[1]:g}' if stated else None
    if band in SENTINEL1_BANDS:
        return _backscatter(dtype, stated, units)
    reflective = band in OPTICAL or band in SENTINEL2_BANDS
    if sensor == SENTINEL2 and reflective:
        return _sentinel2(band, dtype, identity.product, stated, offset)
    if sensor_named(sensor).scalings and (reflective or band.startswith('lwir')):
        return _of_sensor(band, dtype, identity, stated, why)
    if dtype == np.uint8 and stated is None:
        units = '8-bit'
    scale, added = stated or (None, None)
    return _Meaning(scale, added, units, why=why)


def _sentinel2(
    band: str,
    dtype: np.dtype,
    product: Product | None,
    stated: tuple[float, float] | None,
    offset: Offset | None,
) -> _Meaning:
    said = offset is not None and offset.basis == 'user'
    if stated is not None and not said and (stated[1] or stated == (1.0, 0.0) or dtype.kind == 'f'):
        return _Meaning(
            *stated, 'reflectance', why=f'the file states scale {stated[0]:g}, offset {stated[1]:g}'
        )
    if dtype == np.uint8:
        return _Meaning(units='8-bit', note='8-bit values are taken as a display image')
    if dtype.kind == 'f' and stated is None:
        note = 'floating-point values without a stated scale: whether they are reflectance is unknown'
        return _Meaning(note=note)
    quantification = product.quantification if product else 10000.0
    scale = stated[0] if stated else 1 / quantification
    own = SENTINEL2_NUMBERS.get(band, band)
    added = offset.value if offset else 0.0
    if product is not None and product.offsets and not said:
        added = product.offsets.get(own, added)
    why = f'scale {scale:g} ' + ('as the file states' if stated else 'of Sentinel-2')
    return _Meaning(scale, added * scale, 'reflectance', why=why)


def _of_sensor(
    band: str, dtype: np.dtype, identity: Identity, stated: tuple[float, float] | None, why: str | None
) -> _Meaning:
    """What the values of a sensor mean that has scales of its own, other than Sentinel-2."""
    sensor, level, product = sensor_named(identity.sensor), identity.level, identity.product
    if band.startswith('lwir'):
        thermal = sensor.thermal.get(level) or sensor.thermal.get(None)
        scale, added, units = thermal or (None, None, None)
        return _Meaning(*(stated or (scale, added)), units, why=why)
    if stated is not None:
        return _Meaning(*stated, 'reflectance', why=why)
    if dtype == np.uint8:
        return _Meaning(units='8-bit', note='8-bit values are taken as a display image')
    if dtype.kind == 'f':
        note = 'floating-point values without a stated scale: whether they are reflectance is unknown'
        return _Meaning(note=note)
    if product is not None and product.scalings:
        numbers = [number for number, name in sensor.numbers.items() if name == band]
        order = next((order for order in sensor.orders.values() if band in order and len(order) > 3), ())
        numbers += [str(place + 1) for place, name in enumerate(order) if name == band]
        found = next((product.scalings[number] for number in numbers if number in product.scalings), None)
        if found is not None:
            return _Meaning(*found, 'reflectance', why="scale of the product's metadata")
    known = sensor.scalings.get(level) or sensor.scalings.get(None)
    if known is None:
        where = f'at level {level}' if level else 'without its processing level'
        note = (
            f'digital numbers of {sensor.name} {where} have no scale here: give the product with its '
            'metadata, or --sensor with the level (sensor=)'
        )
        return _Meaning(note=note)
    warning = None
    if level == 'L1':
        warning = (
            "reflectance is not corrected for the sun's height: its metadata (MTL.txt) are not beside it"
        )
    return _Meaning(
        *known, 'reflectance', warning, f'scale {known[0]:g} and offset {known[1]:g} of {sensor.name}'
    )


def _backscatter(dtype: np.dtype, stated: tuple[float, float] | None, units: str | None) -> _Meaning:
    scale, offset = stated or (None, None)
    if units and units.lower() in {'db', 'decibel', 'decibels'}:
        return _Meaning(scale, offset, 'dB')
    if units is None and dtype.kind == 'f':
        return _Meaning(scale, offset, 'dB', 'backscatter is taken to be in dB: no unit is stated')
    return _Meaning(scale, offset, units)

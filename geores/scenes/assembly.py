"""Putting a scene together from rasters whose bands have names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geores.scenes.bands import sensor_of
from geores.scenes.header import meaning_of
from geores.scenes.product import SCL, Product, SceneMask
from geores.scenes.raster import Raster
from geores.scenes.scene import Band, Scene, notes_on_grid

__all__ = ['Place', 'assemble']


@dataclass(frozen=True)
class Place:
    """Where a band is, and what its source says about its values.

    Attributes:
        raster: Where its pixels are.
        index: Its 1-based index there.
        scaling: Scale and offset that the source states, or None.
        units: Units that the source states, or None.
    """

    raster: Raster
    index: int
    scaling: tuple[float, float] | None = None
    units: str | None = None


def assemble(
    stem: str,
    places: Mapping[str, Place],
    *,
    product: Product | None = None,
    date: str | None = None,
    notes: Sequence[str] = (),
    mask: SceneMask | None = None,
) -> Scene:
    """Make a scene of named bands.

    Args:
        stem: Name of the scene where it belongs to no product.
        places: Bands by canonical name.
        product: Which the source belongs to, where known.
        date: Day of acquisition that the source itself states.
        notes: What the user should be told besides.
        mask: That lies beside the bands; a band called SCL is one too.
    """
    sensor = _sensor(places, product)
    bands, told = {}, list(notes)
    for name, place in places.items():
        meaning = meaning_of(
            name,
            place.raster.dtype,
            sensor=sensor,
            product=product,
            stated=place.scaling,
            stated_units=place.units,
        )
        bands[name] = Band(name, place.raster, place.index, meaning.scale, meaning.offset, meaning.units)
        told += [meaning.note] if meaning.note else []
    first = next(iter(bands.values()))
    return Scene(
        name=product.name if product else stem,
        bands=bands,
        sensor=sensor,
        processing_level=_level(bands, product) if sensor == 'Sentinel-2' else None,
        units=first.units,
        date=date or (product.date if product else None),
        notes=tuple(dict.fromkeys([*told, *notes_on_grid(first.raster.geobox)])),
        mask=mask or _own_mask(bands, sensor),
    )


def _own_mask(bands: Mapping[str, Band], sensor: str | None) -> SceneMask | None:
    band = next((band for name, band in bands.items() if name.upper() == SCL), None)
    if band is None or sensor != 'Sentinel-2':
        return None
    return SceneMask(SCL, band.raster.path, band)


def _sensor(places: Mapping[str, Place], product: Product | None) -> str | None:
    sensor = sensor_of(places)
    if sensor is None and product is not None:
        # A product's picture for display has none of its sensor's bands.
        pictures = all(place.raster.dtype == np.uint8 for place in places.values())
        return None if pictures else product.sensor
    return sensor


def _level(bands: Mapping[str, Band], product: Product | None) -> str | None:
    if product is not None and product.level:
        return product.level
    # Only L1C carries the cirrus band.
    return 'L1C' if 'B10' in bands else None

"""OpenStreetMap objects as questions use them: an id, categories and a geometry."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

__all__ = ['Features', 'Found', 'collect']


class Found(NamedTuple):
    """One object as a file has it; several rows of a file may be parts of one object.

    Attributes:
        id: 'way/123', 'relation/5', or 'osm/123' where the file does not say which.
        kind: 'area' or 'line'.
        categories: at least one.
        geometry: longitude and latitude, WGS84.
    """

    id: str
    kind: str
    categories: tuple[str, ...]
    geometry: BaseGeometry


@dataclass(frozen=True)
class Features:
    """Objects in the order of their ids, whatever the order of the file.

    Attributes:
        ids: (N,), each once for areas and once for lines.
        categories: of each object.
        geometry: (N,), longitude and latitude, WGS84; areas are valid polygons or multipolygons.
        notes: one sentence each.
    """

    ids: NDArray[np.object_]
    categories: tuple[tuple[str, ...], ...]
    geometry: NDArray[np.object_]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.ids)


def collect(found: Iterable[Found], notes: Iterable[str] = ()) -> Features:
    """Put objects into order; what has an id twice is put together, and areas are made valid.

    Args:
        found: objects as files have them.
        notes: to carry along.
    """
    parts: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        parts.setdefault((one.id, one.kind), []).append(one)
    twice = sum(len(ones) > 1 for ones in parts.values())
    keys = sorted(parts)
    geometry = np.array([None] * len(keys), object)
    for position, key in enumerate(keys):
        geometry[position] = _whole([one.geometry for one in parts[key]])
    areas = np.array([kind == 'area' for _, kind in keys], bool)
    bent = areas & ~shapely.is_valid(geometry)
    geometry[bent] = polygons_of(shapely.make_valid(geometry[bent]))
    kept = np.flatnonzero(~shapely.is_empty(geometry) & np.isfinite(shapely.bounds(geometry)).all(axis=1))
    categories = [tuple(dict.fromkeys(name for one in parts[key] for name in one.categories)) for key in keys]
    told = list(notes)
    if twice:
        told.append(f'{twice} objects stand in several rows: put together by their ids')
    if bent.any():
        told.append(f'{int(bent.sum())} invalid areas were repaired')
    if len(kept) < len(keys):
        told.append(f'{len(keys) - len(kept)} objects without a usable geometry are left out')
    ids = np.array([key[0] for key in keys], object)
    return Features(ids[kept], tuple(categories[index] for index in kept), geometry[kept], tuple(told))


def polygons_of(geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """The polygons of some geometries, (N,), without their lines and points.

    Returns:
        A polygon, a multipolygon or an empty polygon each.
    """
    kept = np.array(geometry, object)
    mixed = np.flatnonzero(~np.isin(shapely.get_type_id(kept), (3, 6)))
    for index in mixed:
        parts = shapely.get_parts(shapely.get_parts(kept[index]))
        parts = parts[shapely.get_type_id(parts) == 3]
        kept[index] = shapely.union_all(parts) if len(parts) else shapely.Polygon()
    return kept


def _whole(parts: list[BaseGeometry]) -> BaseGeometry:
    """One geometry of the rows of an object, which extracts repeat or cut up."""
    distinct = list({shapely.to_wkb(part): part for part in parts}.values())
    if len(distinct) == 1:
        return distinct[0]
    if distinct[0].geom_type.endswith('Polygon'):
        distinct = [part if part.is_valid else shapely.make_valid(part) for part in distinct]
    whole: BaseGeometry = shapely.union_all(distinct)
    return whole

"""The record of a sample: strata, areas, and how it was drawn; kept in JSON beside the points."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geores.errors import UsageError

__all__ = ['Design', 'Stratum', 'read_design', 'side_file']


@dataclass(frozen=True)
class Stratum:
    """A class of the map that was sampled.

    Attributes:
        stratum: its number, from 1.
        map_class: its name.
        value: what stands for it in the map.
        units: pixels, cells or tiles.
        area: in the design's ``area_unit``.
        sample: how many units were drawn.
    """

    stratum: int
    map_class: str
    value: int
    units: int
    area: float
    sample: int


@dataclass(frozen=True)
class Design:
    """How a sample was drawn.

    Attributes:
        map: path of the map.
        map_sha256: digest of its file.
        unit: what was drawn: ``pixel``, ``cell`` or ``tile``.
        area_unit: ``m2``, or ``pixel`` where the map has no CRS.
        strata: one a class.
        options: as given.
        notes: one sentence each.
        strata_by_id: number of the stratum of each point, by its id from 1; for blind samples only.
        geores_version: that drew it.
    """

    map: str
    map_sha256: str
    unit: str
    area_unit: str
    strata: tuple[Stratum, ...]
    options: dict[str, Any]
    notes: tuple[str, ...] = ()
    strata_by_id: tuple[int, ...] = ()
    geores_version: str = field(default='')

    @property
    def size(self) -> int:
        """Units drawn, of all strata."""
        return sum(stratum.sample for stratum in self.strata)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def side_file(points: Path) -> Path:
    """Where the design of a sample lies."""
    return points.with_suffix('.json')


def read_design(path: Path) -> Design:
    """Read the JSON beside a sample.

    Raises:
        UsageError: it is missing, or not what `geores.sample` writes.
    """
    try:
        told: dict[str, Any] = json.loads(path.read_text())
        strata = tuple(Stratum(**stratum) for stratum in told.pop('strata'))
        lists: dict[str, Any] = {key: tuple(told.pop(key, ())) for key in ('notes', 'strata_by_id')}
        design = Design(strata=strata, **lists, **told)
        if not design.strata or not all(s.area > 0 and s.units >= 0 for s in design.strata):
            raise ValueError('no strata with areas')
    except OSError as error:
        raise UsageError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f'{path} is no record of a sample by `geores sample` ({error})') from error
    return design

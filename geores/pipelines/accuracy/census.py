"""What maps of classes have in common, whatever file they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

__all__ = ['Census', 'ClassMap']


@dataclass(frozen=True)
class Census:
    """How much of each class a map holds.

    Attributes:
        classes: names of the classes that occur, (K,).
        values: what stands for each in the file.
        units: pixels, cells or tiles of each in each strip of the map, (strips, K).
        areas: of each class, in ``area_unit``, (K,).
        area_unit: ``m2``, or ``pixel`` where the map has no CRS.
        notes: one sentence each.
    """

    classes: tuple[str, ...]
    values: tuple[int, ...]
    units: NDArray[np.int64]
    areas: NDArray[np.float64]
    area_unit: str
    notes: tuple[str, ...]


class ClassMap(Protocol):
    """A map of classes as sampling units in strips, which are read one at a time."""

    path: Path
    unit: str
    crs: CRS | None

    @property
    def census(self) -> Census:
        """How much of each class there is; the first pass over the map."""
        ...

    def strip(self, index: int) -> NDArray[np.int64]:
        """Index of the class of each unit of a strip among the census' classes, -1 for none."""
        ...

    def outlines(self, index: int, positions: NDArray[np.int64]) -> NDArray[np.object_]:
        """Polygons of some units of a strip."""
        ...

"""What is true of a tile: its objects, and the answers that follow from them.

Nothing here looks past the edges of a tile. Objects are cut off at the edges; the size of what is cut off
is that of the part inside, and only what lies inside as a whole has a shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.questions.forms import (
    Area,
    Comparison,
    Count,
    Form,
    Objects,
    Place,
    Presence,
    RuralUrban,
)

__all__ = ['URBAN', 'Fact', 'TileFacts']

URBAN = 500 / 2.56**2
"""Buildings a square kilometre above which an area is urban: 500 on an image of RSVQA-LR (spec 2.3)."""

_BEYOND: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]] = {
    # Bounds (N, 1, 4) of the objects and (1, M, 4) of the others: west, south, east, north.
    'top': lambda one, other: one[..., 1] > (other[..., 1] + other[..., 3]) / 2,
    'bottom': lambda one, other: one[..., 3] < (other[..., 1] + other[..., 3]) / 2,
    'right': lambda one, other: one[..., 0] > (other[..., 0] + other[..., 2]) / 2,
    'left': lambda one, other: one[..., 2] < (other[..., 0] + other[..., 2]) / 2,
}


@dataclass(frozen=True)
class Fact:
    """An answer and what it rests on.

    Attributes:
        answer: as RSVQA writes it: yes, no, a number, square metres such as '120m2', rural, urban.
        objects: ids of the objects of each part of the question.
    """

    answer: str
    objects: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TileFacts:
    """The objects of one tile.

    Attributes:
        ids: (N,), in order.
        categories: of each object.
        bounds: (N, 4), west, south, east, north of the part inside, in the image's CRS (north up).
        ground: (N,), the part inside, metres on the ground, areas true.
        areas: (N,), square metres of the part inside; 0 for lines.
        sizes: (N,), 'small', 'medium', 'large'; None for lines.
        shapes: (N,), 'square', 'rectangular', 'circular' or None.
        counted: (N,), whether enough of the object lies inside to count it.
        next_to: metres within which objects lie next to each other.
        square_kilometres: of the tile.
    """

    ids: NDArray[np.object_]
    categories: tuple[tuple[str, ...], ...]
    bounds: NDArray[np.float64]
    ground: NDArray[np.object_]
    areas: NDArray[np.float64]
    sizes: NDArray[np.object_]
    shapes: NDArray[np.object_]
    counted: NDArray[np.bool_]
    next_to: float
    square_kilometres: float
    _known: dict[Objects, NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def present(self) -> tuple[str, ...]:
        """Categories of counted objects, in alphabetical order."""
        counted = np.flatnonzero(self.counted)
        return tuple(sorted({name for index in counted for name in self.categories[index]}))

    def seen(self, objects: Objects) -> NDArray[np.int64]:
        """Positions of the objects that are meant, counted or not."""
        if objects not in self._known:
            self._known[objects] = self._search(objects)
        return self._known[objects]

    def members(self, objects: Objects) -> NDArray[np.int64]:
        """Positions of the counted objects that are meant."""
        seen = self.seen(objects)
        return seen[self.counted[seen]]

    def covered(self, objects: Objects) -> int:
        """Square metres that objects cover inside the tile; where they overlap counts once."""
        return round(float(shapely.area(shapely.union_all(self.ground[self.seen(objects)]))))

    def _search(self, objects: Objects) -> NDArray[np.int64]:
        fits = self.of_size(objects)
        if objects.shape is not None:
            fits &= self.shapes == objects.shape
        found, relation = np.flatnonzero(fits), objects.relation
        if relation is None:
            return found
        return self.beside(found, self.members(relation.other), relation.place, self.next_to)

    def of_size(self, objects: Objects) -> NDArray[np.bool_]:
        """Which objects are of the category and size that are meant.

        Args:
            objects: their shape and relation are not looked at.
        """
        fits = np.array([objects.category in names for names in self.categories], bool)
        if objects.size is not None:
            fits &= self.sizes == objects.size
        return fits

    def beside(
        self,
        found: NDArray[np.int64],
        others: NDArray[np.int64],
        place: Place,
        next_to: float,
        *,
        itself: bool = False,
    ) -> NDArray[np.int64]:
        """Those of some objects that lie beside at least one of some others.

        Args:
            found: positions of the ones.
            others: positions of the others.
            place: on which side, or 'next'.
            next_to: metres within which that is.
            itself: whether an object lies next to itself.
        """
        if not len(found) or not len(others):
            return found[:0]
        if place == 'next':
            tree = shapely.STRtree(self.ground[others])
            one, other = tree.query(self.ground[found], predicate='dwithin', distance=next_to)
            near = itself | (found[one] != others[other])
            return np.asarray(found[np.unique(one[near])])
        # No object lies beyond the middle of its own box as a whole.
        beyond = _BEYOND[place](self.bounds[found][:, None], self.bounds[others][None])
        return np.asarray(found[beyond.any(axis=1)])

    def answer(self, form: Form) -> Fact | None:
        """The answer to a question, None where it has no clear one.

        Whether something is there is not clear where only parts lie inside that are too little to count.
        """
        if isinstance(form, Presence):
            members = self.members(form.objects)
            if not len(members) and len(self.seen(form.objects)):
                return None
            return Fact('yes' if len(members) else 'no', (self._names(members),))
        if isinstance(form, Count):
            members = self.members(form.objects)
            return Fact(str(len(members)), (self._names(members),))
        if isinstance(form, Area):
            return Fact(f'{self.covered(form.objects)}m2', (self._names(self.seen(form.objects)),))
        if isinstance(form, Comparison):
            first, second = self.members(form.first), self.members(form.second)
            holds = compare(form.choice, len(first), len(second))
            return Fact('yes' if holds else 'no', (self._names(first), self._names(second)))
        if isinstance(form, RuralUrban):
            members = self.members(Objects('building'))
            urban = len(members) > URBAN * self.square_kilometres
            return Fact('urban' if urban else 'rural', (self._names(members),))
        return None

    def _names(self, positions: Sequence[int] | NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(str(name) for name in self.ids[positions])


def compare(choice: str, first: int, second: int) -> bool:
    """Whether there are less, more or as many of the first as of the second."""
    return {'less': first < second, 'more': first > second, 'equal': first == second}[choice]

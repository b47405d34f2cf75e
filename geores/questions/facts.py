"""What is true of a tile: its objects, and the answers that follow from them.

Nothing here looks past the edges of a tile. Objects are cut off at the edges; the size of what is cut off
is that of the part inside, and only what lies inside as a whole has a shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.questions.balance import BOUNDS
from geores.questions.forms import Area, Comparison, Count, Form, Objects, Place, Presence, RuralUrban

__all__ = ['URBAN', 'Fact', 'TileFacts']

URBAN = 500 / 2.56**2
"""Buildings a square kilometre above which an area is urban: 500 on an image of RSVQA-LR (spec 2.3)."""

_BEYOND: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]] = {
    # Bounds (N, 4) of the objects, west, south, east, north, and middles (M, 2) of the boxes of the others.
    'top': lambda one, middle: one[:, 1] > middle[:, 1].min(),
    'bottom': lambda one, middle: one[:, 3] < middle[:, 1].max(),
    'right': lambda one, middle: one[:, 0] > middle[:, 0].min(),
    'left': lambda one, middle: one[:, 2] < middle[:, 0].max(),
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
    _covered: dict[bytes, int] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def by_category(self) -> dict[str, NDArray[np.bool_]]:
        """Which objects are of each category that is there, (N,) each, counted or not."""
        found: dict[str, NDArray[np.bool_]] = {}
        for index, names in enumerate(self.categories):
            for name in names:
                found.setdefault(name, np.zeros(len(self.ids), bool))[index] = True
        return found

    @cached_property
    def _neighbours(self) -> NDArray[np.int64]:
        """(2, K), pairs of different objects that lie next to each other, each pair in both orders."""
        pairs = shapely.STRtree(self.ground).query(self.ground, predicate='dwithin', distance=self.next_to)
        return np.asarray(pairs[:, pairs[0] != pairs[1]])

    @cached_property
    def present(self) -> tuple[str, ...]:
        """Categories of counted objects, in alphabetical order."""
        return tuple(sorted(name for name, fits in self.by_category.items() if self.counted[fits].any()))

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
        return self._square_metres(self.seen(objects))

    def _square_metres(self, seen: NDArray[np.int64]) -> int:
        key = seen.tobytes()  # many questions are about the same objects
        if key not in self._covered:
            self._covered[key] = round(float(shapely.area(shapely.union_all(self.ground[seen]))))
        return self._covered[key]

    def area_bin(self, seen: NDArray[np.int64]) -> int:
        """Bin of the square metres that some objects cover, see `BOUNDS`.

        Objects cover no less than the largest of them and no more than all together, which mostly tells.
        """
        areas = self.areas[seen]
        least, most = np.searchsorted(BOUNDS, np.rint([areas.max(), areas.sum()]))
        return int(least if least == most else np.searchsorted(BOUNDS, self._square_metres(seen)))

    def _search(self, objects: Objects) -> NDArray[np.int64]:
        fits = self.of_size(objects)
        if objects.shape is not None:
            fits &= self.shapes == objects.shape
        found, relation = np.flatnonzero(fits), objects.relation
        if relation is None:
            return found
        return self.beside(found, self.members(relation.other), relation.place)

    def of_size(self, objects: Objects) -> NDArray[np.bool_]:
        """Which objects are of the category and size that are meant.

        Args:
            objects: their shape and relation are not looked at.
        """
        known = self.by_category.get(objects.category)
        fits = np.zeros(len(self.ids), bool) if known is None else known.copy()
        if objects.size is not None:
            fits &= self.sizes == objects.size
        return fits

    def beside(
        self,
        found: NDArray[np.int64],
        others: NDArray[np.int64],
        place: Place,
        published: float | None = None,
    ) -> NDArray[np.int64]:
        """Those of some objects that lie beside at least one of some others.

        Args:
            found: positions of the ones.
            others: positions of the others.
            place: on which side, or 'next'.
            published: metres to be taken for next to, where objects lie next to themselves too.
        """
        if not len(found) or not len(others):
            return found[:0]
        if place == 'next' and published is not None:
            tree = shapely.STRtree(self.ground[others])
            one, _ = tree.query(self.ground[found], predicate='dwithin', distance=published)
            return np.asarray(found[np.unique(one)])
        if place == 'next':
            one, other = self._neighbours
            wanted = np.zeros((2, len(self.ids)), bool)
            wanted[0, found], wanted[1, others] = True, True
            return np.unique(one[wanted[0, one] & wanted[1, other]])
        # No object lies beyond the middle of its own box as a whole.
        boxes = self.bounds[others]
        return np.asarray(found[_BEYOND[place](self.bounds[found], (boxes[:, :2] + boxes[:, 2:]) / 2)])

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
            holds = comparison_holds(form.choice, len(first), len(second))
            return Fact('yes' if holds else 'no', (self._names(first), self._names(second)))
        if isinstance(form, RuralUrban):
            members = self.members(Objects('building'))
            urban = len(members) > URBAN * self.square_kilometres
            return Fact('urban' if urban else 'rural', (self._names(members),))
        return None

    def _names(self, positions: Sequence[int] | NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(str(name) for name in self.ids[positions])


def comparison_holds(choice: str, first: int, second: int) -> bool:
    """Whether there are less, more or as many of the first as of the second."""
    return {'less': first < second, 'more': first > second, 'equal': first == second}[choice]

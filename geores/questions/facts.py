"""Ground truth of a tile, how many questions of each type it gets, and which answers are balanced.

Nothing here looks beyond the edges of a tile. Objects are clipped at the edges; the size of a clipped
object is that of the part inside, and only objects that lie inside completely have a shape.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.errors import UsageError
from geores.questions.forms import Area, Comparison, Count, Form, Objects, Place, Presence, RuralUrban

__all__ = [
    'ANSWERS',
    'BOUNDS',
    'TYPES',
    'URBAN',
    'Fact',
    'Level',
    'QuestionBalance',
    'TileFacts',
    'answer_class',
    'parse_balance',
]

Level: TypeAlias = Literal['types', 'answers', 'questions']
"""What is balanced: 'types', the types alone; 'answers', in each tile the answers of each type too;
'questions', in the whole dataset the answers of each question as well."""

TYPES = ('presence', 'count', 'comp', 'area')
BOUNDS = (0, 10, 100, 1000)
"""Upper ends of the bins of numbers in RSVQA (Lobry et al. 2020)."""
_YES_NO = ('yes', 'no')
_BINS = ('0', '1-10', '11-100', '101-1000', '>1000')
ANSWERS: Mapping[str, tuple[str, ...]] = {
    'presence': _YES_NO,
    'count': _BINS,
    'comp': _YES_NO,
    'area': _BINS,
    'rural_urban': ('rural', 'urban'),
}
"""Classes of answers that are balanced, per type; numbers are binned as in RSVQA."""


@dataclass(frozen=True)
class QuestionBalance:
    """Number of questions per type, and which answers are balanced.

    Attributes:
        shares: weight of each type; types without a weight are not asked.
        level: which answers are balanced, see `Level`.
        place: whether the first question is if the area is rural or urban.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TYPES, 1.0))
    level: Level = 'questions'
    place: bool = False

    def quotas(self, count: int) -> dict[str, int]:
        """Number of questions per type, adding up to `count`, by largest remainders; ties by order."""
        total = sum(self.shares.values())
        exact = {name: count * share / total for name, share in self.shares.items()}
        quotas = {name: int(value) for name, value in exact.items()}
        left = sorted(exact, key=lambda name: (quotas[name] - exact[name], TYPES.index(name)))
        for name in left[: count - sum(quotas.values())]:
            quotas[name] += 1
        return quotas


def parse_balance(text: str) -> QuestionBalance:
    """Parse a balance: a level, weights of types, or both, as in 'answers,presence=2,count=1'.

    Raises:
        UsageError: if the text is none of these.
    """
    parts = [part.strip() for part in text.split(',')]
    levels: tuple[Level, ...] = get_args(Level)
    level: Level = QuestionBalance.level
    if parts[0] in levels:
        level = levels[levels.index(parts.pop(0))]
    if not parts:
        return QuestionBalance(level=level)
    shares: dict[str, float] = {}
    for part in parts:
        name, _, number = part.partition('=')
        try:
            shares[name.strip()] = float(number)
        except ValueError:
            shares[name.strip()] = -1.0
    drawn = {name: share for name, share in shares.items() if share > 0}
    wrong = [name for name, share in shares.items() if name not in TYPES or not 0 <= share < float('inf')]
    if wrong or not drawn:
        raise UsageError(
            f'balance has to be {", ".join(map(repr, levels))}, or weights of {", ".join(TYPES)} such as '
            f"'presence=2,count=1', not {text!r}"
        )
    return QuestionBalance(drawn, level)


def answer_class(kind: str, answer: str) -> str:
    """The class of a raw answer, see `ANSWERS`."""
    if kind not in ('count', 'area'):
        return answer
    number = int(answer.removesuffix('m2'))
    return next((name for name, most in zip(_BINS, BOUNDS, strict=False) if number <= most), _BINS[-1])


URBAN = 500 / 2.56**2
"""Number of buildings per square kilometre above which an area is urban: 500 per image of RSVQA-LR, which
shows 2.56 km x 2.56 km (Lobry et al. 2020)."""

_BEYOND: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]] = {
    # Bounds (N, 4) of the objects: west, south, east, north; box centres (M, 2) of the others.
    'top': lambda one, middle: one[:, 1] > middle[:, 1].min(),
    'bottom': lambda one, middle: one[:, 3] < middle[:, 1].max(),
    'right': lambda one, middle: one[:, 0] > middle[:, 0].min(),
    'left': lambda one, middle: one[:, 2] < middle[:, 0].max(),
}


@dataclass(frozen=True)
class Fact:
    """A true answer and the objects that it rests on.

    Attributes:
        answer: the answer as RSVQA writes it: yes, no, a number, an area such as '120m2', rural, urban.
        objects: ids of the objects, one tuple per part of the question.
    """

    answer: str
    objects: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TileFacts:
    """The objects of one tile.

    Attributes:
        ids: ids of the objects, (N,), sorted.
        categories: categories of each object.
        bounds: bounds of the part inside, (N, 4), west, south, east, north in the image's CRS (north up).
        ground: geometry of the part inside, (N,), in an equal-area projection in metres.
        areas: area of the part inside in square metres, (N,); 0 for lines.
        sizes: 'small', 'medium' or 'large', (N,); None for lines.
        shapes: 'square', 'rectangular', 'circular' or None, (N,).
        counted: whether enough of the object lies inside to count it, (N,).
        next_to: maximum distance in metres of objects that lie next to each other.
        square_kilometres: area of the tile.
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
        """Mask (N,) of the objects of each category in the tile, counted or not."""
        found: dict[str, NDArray[np.bool_]] = {}
        for index, names in enumerate(self.categories):
            for name in names:
                found.setdefault(name, np.zeros(len(self.ids), bool))[index] = True
        return found

    @cached_property
    def _neighbours(self) -> NDArray[np.int64]:
        """Pairs of different objects that lie next to each other, (2, K), each pair in both orders."""
        pairs = shapely.STRtree(self.ground).query(self.ground, predicate='dwithin', distance=self.next_to)
        return np.asarray(pairs[:, pairs[0] != pairs[1]])

    @cached_property
    def present(self) -> tuple[str, ...]:
        """Categories of counted objects, in alphabetical order."""
        return tuple(sorted(name for name, fits in self.by_category.items() if self.counted[fits].any()))

    def seen(self, objects: Objects) -> NDArray[np.int64]:
        """Indices of the objects that a query describes, counted or not."""
        if objects not in self._known:
            self._known[objects] = self._search(objects)
        return self._known[objects]

    def members(self, objects: Objects) -> NDArray[np.int64]:
        """Indices of the counted objects that a query describes."""
        seen = self.seen(objects)
        return seen[self.counted[seen]]

    def covered(self, objects: Objects) -> int:
        """Square metres that objects cover inside the tile; overlaps count once."""
        return self._square_metres(self.seen(objects))

    def _square_metres(self, seen: NDArray[np.int64]) -> int:
        key = seen.tobytes()  # many questions are about the same set of objects
        if key not in self._covered:
            self._covered[key] = round(float(shapely.area(shapely.union_all(self.ground[seen]))))
        return self._covered[key]

    def area_bin(self, seen: NDArray[np.int64]) -> int:
        """Bin of the square metres that some objects cover, see `BOUNDS`.

        The covered area lies between that of the largest object and the sum of all. If both are in one
        bin, which is usual, the slow union of the geometries is not needed.
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
        """Mask (N,) of the objects that have the category and size of a query."""
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
        """Indices of the objects that lie beside at least one of the other objects.

        Args:
            found: indices of the objects.
            others: indices of the other objects.
            place: the side, or 'next'.
            published: distance in metres for "next to" in faithful mode, where an object also lies next to
                itself; None uses `next_to`.
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
        # An object never lies wholly beyond its own centre, so it is never beside itself.
        boxes = self.bounds[others]
        return np.asarray(found[_BEYOND[place](self.bounds[found], (boxes[:, :2] + boxes[:, 2:]) / 2)])

    def answer(self, form: Form) -> Fact | None:
        """The true answer to a question; None if it is not clear.

        Presence is not clear if only parts of objects lie inside that are too small to count.
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
    """Whether the first number is less than, more than or equal to the second."""
    return {'less': first < second, 'more': first > second, 'equal': first == second}[choice]

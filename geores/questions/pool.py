"""What a whole dataset asks of: one pool of objects and comparisons for all tiles.

A question can only be asked as often with "yes" as with "no" where it is asked of many tiles. So the tiles of
a dataset share what they are asked: every tile is surveyed for the same objects, and
`geores.questions.choosing` chooses which question is asked where.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

import numpy as np
from numpy.typing import NDArray

from geores.questions.facts import TileFacts
from geores.questions.forms import CHOICES, PLACES, SHAPES, SIZES, Comparison, Objects, Relation
from geores.questions.tile_questions import Vocabulary, draw_objects, nested

__all__ = ['Pool', 'TileSurvey', 'draw_pool', 'survey_tile']

A_QUESTION = 6
"""Relations, and comparisons, in the pool to a question that a tile is asked: one form suits few tiles."""
ANYWHERE = 0.3
"""Share of comparisons with something that need not lie in a tile with the other."""
FEWEST = 100
TRIES = 20


@dataclass(frozen=True)
class Pool:
    """What is asked of.

    Attributes:
        objects: those without a relation first.
        comparisons: of objects without a relation; the number of tiles decides nothing.
        lines: categories without an area.
    """

    objects: tuple[Objects, ...]
    comparisons: tuple[Comparison, ...]
    lines: frozenset[str]

    @cached_property
    def sides(self) -> list[tuple[int, int]]:
        """Of each object with a relation, places in the pool of the one and of that beside which it lies."""
        place = {one: index for index, one in enumerate(self.objects)}
        return [
            (place[replace(one, relation=None)], place[one.relation.other])
            for one in self.objects
            if one.relation is not None
        ]


@dataclass(frozen=True)
class TileSurvey:
    """What one tile holds of a pool's P objects.

    Attributes:
        counted: (P,), number of objects that count.
        seen: (P,), number of objects, those too that are too little to count.
        areas: (P,), bin of the square metres that are covered, see `BOUNDS`; 0 for lines.
        sensible: (P,), whether to ask here: what a relation names is there.
    """

    counted: NDArray[np.int64]
    seen: NDArray[np.int64]
    areas: NDArray[np.int64]
    sensible: NDArray[np.bool_]

    def to_dict(self) -> dict[str, list[int]]:
        """Plain JSON values."""
        return {name: array.astype(int).tolist() for name, array in vars(self).items()}

    @classmethod
    def from_dict(cls, record: dict[str, list[int]]) -> 'TileSurvey':
        """The survey that `to_dict` wrote."""
        counted, seen, areas = (np.array(record[name], np.int64) for name in ('counted', 'seen', 'areas'))
        return cls(counted, seen, areas, np.array(record['sensible'], bool))


def draw_pool(
    vocabulary: Vocabulary, together: Sequence[tuple[str, ...]], questions: int, rng: Random
) -> Pool:
    """Draw what a dataset asks of.

    Args:
        vocabulary: every category of it is asked of, in every size and shape.
        together: categories that lie in a tile, tile by tile: relations and comparisons are drawn from these.
        questions: wanted a tile.
        rng: decides the draws.
    """
    wanted = max(FEWEST, A_QUESTION * questions)
    plain = [one for name in vocabulary.categories for one in _plain(name, vocabulary.lines)]
    tiles = [names for names in together if names]
    related: dict[Objects, None] = {}  # a set that keeps its order
    for _ in range(TRIES * wanted if tiles else 0):
        names = rng.choice(tiles)
        one, other = (draw_objects(names, vocabulary.lines, rng) for _ in range(2))
        related[replace(one, relation=Relation(rng.choice(PLACES), other))] = None
        if len(related) == wanted:
            break
    comparisons: dict[str, Comparison] = {}
    for _ in range(TRIES * wanted if tiles else 0):
        names = rng.choice(tiles)
        others = vocabulary.categories if rng.random() < ANYWHERE else names
        one, other = draw_objects(names, vocabulary.lines, rng), draw_objects(others, vocabulary.lines, rng)
        form = Comparison(rng.choice(CHOICES), one, other)
        if not nested(one, other, vocabulary.contained):
            comparisons.setdefault(form.key, form)
        if len(comparisons) == wanted:
            break
    return Pool((*plain, *related), tuple(comparisons.values()), vocabulary.lines)


def _plain(name: str, lines: frozenset[str]) -> list[Objects]:
    if name in lines:
        return [Objects(name)]
    sizes = [Objects(name, size=size) for size in SIZES]
    return [Objects(name), *sizes, *(Objects(name, shape=shape) for shape in SHAPES)]


def survey_tile(facts: TileFacts, pool: Pool) -> TileSurvey:
    """What a tile holds of a pool's objects."""
    size = len(pool.objects)
    numbers = np.zeros((3, size), np.int64)
    found = TileSurvey(numbers[0], numbers[1], numbers[2], np.ones(size, bool))
    plain = [facts.seen(one) for one in pool.objects if one.relation is None]
    counted = [seen[facts.counted[seen]] for seen in plain]
    present = set(facts.present)
    for index, one in enumerate(pool.objects):
        if one.relation is None:
            seen = plain[index]
        else:
            first, second = pool.sides[index - len(plain)]
            found.sensible[index] = one.relation.other.category in present
            seen = facts.beside(plain[first], counted[second], one.relation.place)
        if len(seen):
            found.seen[index] = len(seen)
            found.counted[index] = facts.counted[seen].sum()
            if one.category not in pool.lines:
                found.areas[index] = facts.area_bin(seen)
    return found

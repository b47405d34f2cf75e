"""The pool of objects and comparisons that all tiles of a dataset share.

A question can only be balanced over its answers if it is asked about many tiles. So the tiles of a dataset
share a pool: every tile is surveyed for the same objects, and `geores.questions.choosing` assigns the
questions.
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
"""Number of relations, and of comparisons, in the pool per question of a tile: each suits few tiles."""
ANYWHERE = 0.3
"""Share of comparisons whose two sides need not lie in the same tile."""
FEWEST = 100
"""Minimum number of relations, and of comparisons."""
TRIES = 20
"""Maximum number of draws per relation or comparison wanted."""


@dataclass(frozen=True)
class Pool:
    """The objects and comparisons that may be asked about.

    Attributes:
        objects: objects without a relation first.
        comparisons: comparisons of objects without a relation.
        lines: categories of lines, which have no area.
    """

    objects: tuple[Objects, ...]
    comparisons: tuple[Comparison, ...]
    lines: frozenset[str]

    @cached_property
    def sides(self) -> list[tuple[int, int]]:
        """For each object with a relation, the indices in the pool of its two sides without the relation."""
        place = {one: index for index, one in enumerate(self.objects)}
        return [
            (place[replace(one, relation=None)], place[one.relation.other])
            for one in self.objects
            if one.relation is not None
        ]


@dataclass(frozen=True)
class TileSurvey:
    """What one tile holds of the P objects of a pool.

    Attributes:
        counted: number of objects that count, (P,).
        seen: number of objects including those too small to count, (P,).
        areas: bin of the covered square metres, (P,), see `BOUNDS`; 0 for lines.
        sensible: whether the objects may be asked about here, (P,): the other side of a relation is there.
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
    """Draw the pool of a dataset.

    Args:
        vocabulary: its categories are all in the pool, in every size and shape.
        together: the categories in each tile, from which relations and comparisons are drawn.
        questions: number of questions wanted per tile.
        rng: random generator for the draws.
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
    """Count what a tile holds of the objects of a pool."""
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

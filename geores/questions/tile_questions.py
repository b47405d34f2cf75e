"""Questions about one tile, balanced by type and answer, and the pool that all tiles of a dataset share.

For each type the answers take turns: questions are drawn until one has the answer whose turn it is, and the
type ends when only one of its answers can still be found. So the numbers of "yes" and "no" in a tile differ
by at most two, and so do those of the two most frequent classes of numbers; a tile with few objects gets
fewer questions.

A question can only be balanced over its answers if it is asked about many tiles. So the tiles of a dataset
share a pool: every tile is surveyed for the same objects, and `geores.questions.choosing` assigns the
questions. What may be asked about is a `Vocabulary`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

import numpy as np
from numpy.typing import NDArray

from geores.questions.facts import ANSWERS, TYPES, Fact, QuestionBalance, TileFacts, answer_class
from geores.questions.forms import (
    CHOICES,
    PLACES,
    SHAPES,
    SIZES,
    Area,
    Comparison,
    Count,
    Form,
    Objects,
    Presence,
    Relation,
    RuralUrban,
)

__all__ = [
    'RELATION',
    'AnsweredForm',
    'Pool',
    'TileSurvey',
    'Vocabulary',
    'ask_balanced',
    'draw_objects',
    'draw_pool',
    'nested',
    'survey_tile',
]

ATTRIBUTE = 0.35
"""Share of draws with a size or shape."""
RELATION = 0.2
"""Share of draws with a relation. Both shares are nearer to the released question sets than those of the
published generator (Lobry et al. 2020, section II)."""


@dataclass(frozen=True)
class Vocabulary:
    """The categories that questions may be about.

    Attributes:
        categories: all categories, whether or not a tile has them.
        lines: categories of lines, which have no area, size or shape.
        contained: pairs of which the first is a kind of the second; their numbers are never compared.
    """

    categories: tuple[str, ...]
    lines: frozenset[str] = frozenset()
    contained: frozenset[tuple[str, str]] = frozenset()


def draw_objects(categories: Sequence[str], lines: frozenset[str], rng: Random) -> Objects:
    """Draw objects of one category, perhaps with a size or a shape, without a relation."""
    category = rng.choice(categories)
    if category in lines or rng.random() >= ATTRIBUTE:
        return Objects(category)
    if rng.random() < 0.5:
        return Objects(category, size=rng.choice(SIZES))
    return Objects(category, shape=rng.choice(SHAPES))


def nested(first: Objects, second: Objects, contained: frozenset[tuple[str, str]]) -> bool:
    """Whether one side of a comparison contains the other by its words, so that no image is needed."""
    names = (first.category, second.category)
    if names in contained or names[::-1] in contained:
        return True
    attributes = [(side.size is not None, side.shape is not None) for side in (first, second)]
    return names[0] == names[1] and (first == second or attributes[0] != attributes[1])


TRIES = 80
"""Number of failed draws after which an answer gets no more turns."""
NOTHING = ('no', '0')
ABSENT = 0.3
"""Share of draws from all categories, present or not, where an answer of nothing is wanted."""


@dataclass(frozen=True)
class AnsweredForm:
    """A question with its answer, not yet put into words."""

    form: Form
    fact: Fact


def ask_balanced(
    facts: TileFacts, vocabulary: Vocabulary, count: int, balance: QuestionBalance, rng: Random
) -> list[AnsweredForm]:
    """Draw the questions of a tile.

    Args:
        facts: the objects of the tile.
        vocabulary: the categories that may be asked about.
        count: number of questions wanted; a tile with few objects gets fewer.
        balance: balance of types and answers.
        rng: random generator for everything else.

    Returns:
        Questions sorted by type, without duplicates.
    """
    if not vocabulary.categories or not facts.present:
        return []
    draw = _Draw(facts, vocabulary, rng)
    asked: list[AnsweredForm] = []
    if balance.place:
        asked += _of_type(draw, 'rural_urban', 1, False)
    quotas, answers = balance.quotas(count - len(asked)), balance.level != 'types'
    for kind, quota in quotas.items():
        asked += _of_type(draw, kind, quota, answers)
    # The questions that a type could not fill go to the other types, in turn.
    for kind in quotas:
        left = count - len(asked)
        asked += _of_type(draw, kind, left - left % 2 if answers else left, answers)
    order = {name: place for place, name in enumerate(('rural_urban', *TYPES))}
    return sorted(asked, key=lambda one: order[one.form.type])


def _of_type(draw: '_Draw', kind: str, quota: int, balanced: bool) -> list[AnsweredForm]:
    """Draw up to `quota` new questions of one type."""
    asked: list[AnsweredForm] = []
    turns = list(ANSWERS[kind]) if balanced else ['any']
    least = min(2, len(turns))
    while len(asked) < quota and len(turns) >= least:
        for turn in list(turns):
            found = draw.with_answer(kind, turn) if len(asked) < quota else None
            if found is not None:
                asked.append(found)
            elif len(asked) < quota:
                turns.remove(turn)
    return asked


def _canonical(form: Form) -> Form | str:
    """A value that is equal for two forms exactly if they ask the same."""
    return form.key if isinstance(form, Comparison) else form


class _Draw:
    """Draws questions of one tile, each once."""

    def __init__(self, facts: TileFacts, vocabulary: Vocabulary, rng: Random) -> None:
        self.facts, self.rng = facts, rng
        self.vocabulary, self.lines = vocabulary.categories, vocabulary.lines
        self.contained = vocabulary.contained
        self.areas = tuple(name for name in self.vocabulary if name not in self.lines)
        self.present = facts.present
        self.present_areas = tuple(name for name in self.present if name not in self.lines)
        self.taken: set[Form | str] = set()
        self.known: dict[Form, Fact | None] = {}
        self.absent = ABSENT

    def with_answer(self, kind: str, wanted: str) -> AnsweredForm | None:
        """Draw a new question whose answer is of the class `wanted`, or 'any'."""
        self.absent = ABSENT if wanted in ('any', *NOTHING) or kind == 'comp' else 0.0
        for _ in range(TRIES):
            form = self._form(kind)
            if form is None or _canonical(form) in self.taken:
                continue
            fact = self._fact(form)
            if fact is not None and wanted in ('any', answer_class(kind, fact.answer)):
                self.taken.add(_canonical(form))
                return AnsweredForm(form, fact)
        return None

    def _fact(self, form: Form) -> Fact | None:
        if form not in self.known:
            self.known[form] = self.facts.answer(form)
        return self.known[form]

    def _form(self, kind: str) -> Form | None:
        if kind == 'rural_urban':
            return RuralUrban()
        if kind == 'comp':
            return self._comparison()
        if kind == 'area':
            return Area(self._objects(self.areas)) if self.areas else None
        objects = self._objects(self.vocabulary)
        return Presence(objects) if kind == 'presence' else Count(objects)

    def _comparison(self) -> Form | None:
        first, second = self._plain(self.vocabulary), self._plain(self.vocabulary)
        if nested(first, second, self.contained):
            return None
        if not len(self.facts.members(first)) and not len(self.facts.members(second)):
            return None  # neither side has an object in the tile
        return Comparison(self.rng.choice(CHOICES), first, second)

    def _objects(self, names: Sequence[str]) -> Objects:
        objects = self._plain(names)
        if self.rng.random() >= RELATION:
            return objects
        return replace(objects, relation=Relation(self.rng.choice(PLACES), self._plain(self.present)))

    def _plain(self, names: Sequence[str]) -> Objects:
        there = self.present if names is self.vocabulary else self.present_areas
        there = tuple(names) if names is self.present else there
        absent = not there or self.rng.random() < self.absent
        return draw_objects(names if absent else there, self.lines, self.rng)


A_QUESTION = 6
"""Number of relations, and of comparisons, in the pool per question of a tile: each suits few tiles."""
ANYWHERE = 0.3
"""Share of comparisons whose two sides need not lie in the same tile."""
FEWEST = 100
"""Minimum number of relations, and of comparisons."""
DRAWS_PER_TILE = 20
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
    for _ in range(DRAWS_PER_TILE * wanted if tiles else 0):
        names = rng.choice(tiles)
        one, other = (draw_objects(names, vocabulary.lines, rng) for _ in range(2))
        related[replace(one, relation=Relation(rng.choice(PLACES), other))] = None
        if len(related) == wanted:
            break
    comparisons: dict[str, Comparison] = {}
    for _ in range(DRAWS_PER_TILE * wanted if tiles else 0):
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

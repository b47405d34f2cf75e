"""Questions about one tile on its own: balanced by type and by answer, each asked once.

For each type the answers take turns: questions are drawn until one has the answer whose turn it is, and the
type ends when only one of its answers can still be found. So the numbers of "yes" and "no" in a tile differ
by at most two, and so do those of the two most frequent classes of numbers; a tile with few objects gets
fewer questions. What may be asked about is a `Vocabulary`, which the questions of a whole dataset
(`geores.questions.pool`) share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from geores.questions.balance import ANSWERS, TYPES, QuestionBalance, answer_class
from geores.questions.facts import Fact, TileFacts
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

__all__ = ['RELATION', 'AnsweredForm', 'Vocabulary', 'ask_balanced', 'draw_objects', 'nested']

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

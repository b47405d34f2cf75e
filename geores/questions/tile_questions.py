"""What questions about a place may name, and draws of it.

Which questions to ask of one tile by itself: balanced by type and by answer, each once.

For each type the answers take turns: a question is drawn until it has the answer whose turn it is, and a type
ends when only one of its answers is left to be found. So "yes" and "no" differ by at most two in a tile, and
so do the two most frequent classes of numbers; a tile that holds little is asked less.
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
RELATION = 0.2
"""Shares of draws with a size or shape, and with a relation: nearer to the released sets than the draws of
the published generator (spec 2.3)."""


@dataclass(frozen=True)
class Vocabulary:
    """What may be asked of.

    Attributes:
        categories: absent from a tile or not.
        lines: those of them that are lines: they have no area, size or shape.
        contained: pairs of which the first is a kind of the second: their numbers are not compared.
    """

    categories: tuple[str, ...]
    lines: frozenset[str] = frozenset()
    contained: frozenset[tuple[str, str]] = frozenset()


def draw_objects(categories: Sequence[str], lines: frozenset[str], rng: Random) -> Objects:
    """Objects of one of some categories, perhaps of a size or a shape, without a relation."""
    category = rng.choice(categories)
    if category in lines or rng.random() >= ATTRIBUTE:
        return Objects(category)
    if rng.random() < 0.5:
        return Objects(category, size=rng.choice(SIZES))
    return Objects(category, shape=rng.choice(SHAPES))


def nested(first: Objects, second: Objects, contained: frozenset[tuple[str, str]]) -> bool:
    """Whether one side of a comparison holds the other by its words, so that nobody has to look."""
    names = (first.category, second.category)
    if names in contained or names[::-1] in contained:
        return True
    said = [(one.size is not None, one.shape is not None) for one in (first, second)]
    return names[0] == names[1] and (first == second or said[0] != said[1])


TRIES = 80
"""Draws in vain after which an answer has no more turns."""
NOTHING = ('no', '0')
ABSENT = 0.3
"""Share of draws of a category that may be absent from the tile where nothing is to be found."""


@dataclass(frozen=True)
class AnsweredForm:
    """A question and its answer, not yet in words."""

    form: Form
    fact: Fact


def ask_balanced(
    facts: TileFacts, vocabulary: Vocabulary, count: int, balance: QuestionBalance, rng: Random
) -> list[AnsweredForm]:
    """Questions of a tile.

    Args:
        facts: of the tile.
        vocabulary: what may be asked of.
        count: questions wanted; fewer where the tile does not hold as many.
        balance: of types and answers.
        rng: decides everything else.

    Returns:
        Questions of one type after the other, none twice.
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
    # What a type could not fill goes to the others, in turn.
    for kind in quotas:
        left = count - len(asked)
        asked += _of_type(draw, kind, left - left % 2 if answers else left, answers)
    order = {name: place for place, name in enumerate(('rural_urban', *TYPES))}
    return sorted(asked, key=lambda one: order[one.form.type])


def _of_type(draw: '_Draw', kind: str, quota: int, balanced: bool) -> list[AnsweredForm]:
    """Up to a number of new questions of one type."""
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
    """Equal for two forms exactly where one question is the other in other words."""
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
        """A new question whose answer is of a class, or of any."""
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
            return None  # nothing to be seen of either
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

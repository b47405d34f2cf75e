"""What questions about a place may name, and draws of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from geores.questions.forms import SHAPES, SIZES, Objects

__all__ = ['RELATION', 'Vocabulary', 'draw_objects', 'nested']

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

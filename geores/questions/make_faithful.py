"""The question generator of RSVQA as published (Lobry et al. 2020), including its faults.

The following faults of the released code are kept, because they shape the published answers:

* areas and size limits are square metres of Web Mercator, 1 / cos² latitude too large;
* areas of overlapping objects are summed, and counted twice;
* every part inside the image counts as an object, however small;
* ``square`` asks that area / perimeter be 0.9 to 1.1 of the perimeter, which no polygon satisfies;
* ``circular`` is tested for any object with a shape, square or rectangular ones too, as "or" binds less
  than "and"; no real building passes it;
* ``rectangular`` is any polygon of fewer than 8 corners;
* "next to" is less than 1,000 map units, which on an aerial image is everywhere;
* attributes far more often than their 10 % of draws, for only new questions are kept;
* the released wordings: "a island", "cemeterys", double spaces.

Not kept are: windows that share a feature and overwrite each other's clipped geometry; the time limit of
5 seconds, which makes the questions depend on the machine; questions about ``warehouse``, which the released
code loses to a tab character. Draws are seeded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.questions.facts import Fact, TileFacts, comparison_holds
from geores.questions.forms import (
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
from geores.questions.tile_questions import AnsweredForm

__all__ = ['PublishedFacts', 'ask_published']

TRIES = 10_000
NEXT_TO = 1_000.0
"""Maximum distance of objects that are next to each other, in map units."""
URBAN = 500
"""Number of buildings above which an image is urban: between 397 and 633 by the released answers."""
CHANCES = (('presence', 0.5), ('count', 0.5), ('comp', 0.1), ('area', 0.2))
BASE = ('building', 'residential building', 'commercial building', 'road', 'water area', 'land')
RELATED, ATTRIBUTE, IGNORE_ABSENT = 0.02, 0.1, 0.9


@dataclass(frozen=True)
class PublishedFacts:
    """True answers as the published code counts and measures.

    Attributes:
        facts: objects of the tile; their `ground` is in Web Mercator and every object counts.
        layers: layer of each category.
    """

    facts: TileFacts
    layers: dict[str, str]

    def members(self, objects: Objects) -> NDArray[np.int64]:
        """Indices of the objects that a query describes."""
        fits = self.facts.of_size(objects)
        if objects.shape is not None:
            fits &= np.array([_has_shape(one, str(objects.shape)) for one in self.facts.ground], bool)
        found, relation = np.flatnonzero(fits), objects.relation
        if relation is None:
            return found
        return self.facts.beside(found, self.members(relation.other), relation.place, NEXT_TO)

    def answer(self, form: Form) -> Fact:
        """The true answer to a question."""
        parts = [self.members(part) for part in form.parts()]
        names = tuple(tuple(str(name) for name in self.facts.ids[part]) for part in parts)
        if isinstance(form, Presence):
            return Fact('yes' if len(parts[0]) else 'no', names)
        if isinstance(form, Count):
            return Fact(str(len(parts[0])), names)
        if isinstance(form, Area):
            return Fact(f'{int(self.facts.areas[parts[0]].sum())}m2', names)
        if isinstance(form, Comparison):
            return Fact('yes' if comparison_holds(form.choice, *map(len, parts)) else 'no', names)
        buildings = self.members(Objects('building'))
        ids = tuple(str(name) for name in self.facts.ids[buildings])
        return Fact('urban' if len(buildings) > URBAN else 'rural', (ids,))


def _has_shape(ground: shapely.Geometry, shape: str) -> bool:
    """The published tests of shape, including their faults."""
    area, around = ground.area, ground.length
    if around <= 0:
        return False
    near = 0.9 <= (area / around) / around <= 1.1
    corners = shapely.get_num_coordinates(ground) < 8 and ground.geom_type == 'Polygon'
    radius = around / (2 * np.pi)
    circle = 0.9 <= (area / (np.pi * radius**2)) / around <= 1.1
    return bool((shape == 'square' and near) or (shape == 'rectangular' and corners) or circle)


def ask_published(
    published: PublishedFacts, count: int, rng: Random, *, low_resolution: bool
) -> list[AnsweredForm] | None:
    """Draw the questions about one image.

    Args:
        published: ground truth of the image.
        count: number of questions wanted; a few more may come, as in the published sets.
        rng: random generator.
        low_resolution: ask as in RSVQA-LR: rural or urban first, no areas, attributes of roads too.

    Returns:
        Questions in the order of the draws; None for an image with fewer than two layers.
    """
    layers = {published.layers[name] for names in published.facts.categories for name in names}
    if len(layers) < 2:
        return None
    draw = _Draw(published, rng, low_resolution)
    asked: dict[str, AnsweredForm] = {}
    if low_resolution:
        asked[RuralUrban().key] = AnsweredForm(RuralUrban(), published.answer(RuralUrban()))
    tries = 0
    while len(asked) < count and tries < TRIES:
        for kind, chance in CHANCES:
            if (kind == 'area' and low_resolution) or rng.random() >= chance:
                continue
            tries += 1
            form = draw.form(kind)
            # The published code takes each order of the sides of a comparison as another question.
            key = None if form is None else str(form.to_dict())
            if form is not None and key is not None and key not in asked:
                asked[key] = AnsweredForm(form, published.answer(form))
    return list(asked.values())


@dataclass
class _Draw:
    published: PublishedFacts
    rng: Random
    low_resolution: bool

    def form(self, kind: str) -> Form | None:
        if kind == 'comp':
            first = self.objects()
            layer = None if first is None else self.published.layers.get(first.category)
            second = self.objects(without=layer)
            choice: Any = self.rng.choice(('less', 'more', 'equal'))
            return Comparison(choice, first, second) if first and second else None
        objects = self.objects(without='road' if kind == 'area' else None)
        make: Callable[[Objects], Form] = {'presence': Presence, 'count': Count, 'area': Area}[kind]
        return None if objects is None else make(objects)

    def objects(self, without: str | None = None) -> Objects | None:
        """Draw objects; one in fifty draws has a relation."""
        objects = self._plain(without)
        if objects is None or self.rng.random() >= RELATED:
            return objects
        other = self._plain(None)
        if other is None:
            return objects
        return replace(objects, relation=Relation(self.rng.choice(PLACES), other))

    def _plain(self, without: str | None) -> Objects | None:
        layers = self.published.layers
        there = {name for names in self.published.facts.categories for name in names}
        for base in self.rng.sample(BASE, len(BASE)):
            names = (
                sorted(name for name, layer in layers.items() if layer == 'land')
                if base == 'land'
                else [base]
            )
            if layers.get(names[0] if names else '') in (None, without):
                continue
            present = [name for name in names if name in there]
            if not present and self.rng.random() < IGNORE_ABSENT:
                continue
            category = self.rng.choice(present or names)
            plain = layers[category] == 'road' and not self.low_resolution
            return Objects(category) if plain else self._with_attribute(category)
        return None

    def _with_attribute(self, category: str) -> Objects:
        if self.rng.random() >= ATTRIBUTE:
            return Objects(category)
        kinds: Sequence[dict[str, Any]] = (
            {'size': self.rng.choice(SIZES)},
            {'shape': self.rng.choice(SHAPES)},
        )
        return Objects(category, **self.rng.choice(kinds))

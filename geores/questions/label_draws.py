"""What the two modes of the label route draw for an image."""

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from geores.errors import UsageError
from geores.questions.balance import Level
from geores.questions.forms import Form, LandCover, Objects, Presence
from geores.questions.label_recipes import LEVELS_CUM, class_question, land_cover_question
from geores.questions.labels import OWN, LabelScheme

__all__ = ['KINDS', 'CorrectedDraw', 'FaithfulDraw']

KINDS = ('objects', 'classes', 'land-cover')
ALL = 'ALL'  # the level of all levels together
_SHARES = {'objects': 0.5, 'classes': 0.3, 'land-cover': 0.2}

Labels = frozenset[str]
Drawn = tuple[Form, str]
Classes = Mapping[str, bool | None]
DrawOne = Callable[[], Drawn | None]


class CorrectedDraw:
    """Only what labels decide, of all kinds of question.

    Args:
        scheme: What the labels decide.
        images: Labels of every image of the set.
        balance: Of yes and no, as of `geores.questions.label_questions.label_questions`.
        kinds: Which of `KINDS`.

    Raises:
        UsageError: No such balance or kind, or the scheme has no categories to ask about.
    """

    def __init__(
        self, scheme: LabelScheme, images: Sequence[Labels], balance: Level, kinds: Sequence[str]
    ) -> None:
        if balance not in get_args(Level):
            raise UsageError(f'balance must be one of {", ".join(get_args(Level))}, not {balance!r}')
        if unknown := set(kinds) - set(KINDS):
            raise UsageError(f'kinds are {", ".join(KINDS)}, not {min(unknown)!r}')
        self.scheme = scheme
        self.kinds = [kind for kind in KINDS if kind in kinds and (kind != 'objects' or scheme.objects)]
        if not self.kinds:
            raise UsageError(f'the scheme {scheme.name} has no objects to ask about')
        self._known: dict[Labels, dict[str, Classes]] = {}
        self._share = self._shares(images) if balance == 'questions' else None

    def of(self, labels: Labels, rng: random.Random) -> DrawOne:
        """What draws for an image; the same labels and generator, the same questions."""
        classes = self._classes(labels)
        # One throw a thing, sorted: of what has the commoner answer only a part of the images is asked.
        kept = {pair for pair in sorted(self._simple(labels)) if self._keep(pair, rng)}
        objects = sorted((name, answer) for kind, name, answer in kept if kind == 'objects')
        asked = {
            level: {name: there for name, there in names.items() if ('classes', name, there) in kept}
            for level, names in classes.items()
        }
        weights = [_SHARES[kind] for kind in self.kinds]

        def draw() -> Drawn | None:
            kind = rng.choices(self.kinds, weights)[0]
            if kind == 'objects':
                return _object_question(objects, rng)
            if kind == 'land-cover':
                return self._land_cover(classes, rng)
            names = asked[rng.choice(list(asked))]
            answer = rng.random() < 0.5
            form = class_question(names, answer, rng, even=True)
            return None if form is None else (form, _yes_no(answer))

        return draw

    def _land_cover(self, classes: Mapping[str, Classes], rng: random.Random) -> Drawn | None:
        if self.scheme.single:
            ((name, _),) = ((name, there) for name, there in classes[OWN].items() if there)
            return LandCover(), name
        level = _level(list(classes), rng)
        return land_cover_question(classes[level], level, rng)

    def _classes(self, labels: Labels) -> dict[str, Classes]:
        """Whether the classes of each level are there, which many images share."""
        if labels not in self._known:
            self._known[labels] = {level: self.scheme.classes(labels, level) for level in self.scheme.levels}
        return self._known[labels]

    def _simple(self, labels: Labels) -> set[tuple[str, str, bool]]:
        """Kind, thing and answer of the questions about one thing."""
        objects = {('objects', name, there) for name, there in self.scheme.categories(labels).items()}
        names = (pair for classes in self._classes(labels).values() for pair in classes.items())
        return objects | {('classes', name, there) for name, there in names if there is not None}

    def _shares(self, images: Sequence[Labels]) -> dict[tuple[str, str, bool], float]:
        """Share of the images to ask about each thing with each answer, for as many yes as no."""
        counts: Counter[tuple[str, str, bool]] = Counter()
        for labels, number in Counter(images).items():
            counts.update(dict.fromkeys(self._simple(labels), number))
        return {
            (kind, name, answer): min(number, counts[kind, name, not answer]) / number
            for (kind, name, answer), number in counts.items()
        }

    def _keep(self, pair: tuple[str, str, bool], rng: random.Random) -> bool:
        return self._share is None or rng.random() < self._share[pair]


class FaithfulDraw:
    """The generator of RSVQAxBEN (spec 2.8): labels only, and what they leave open is not there.

    Args:
        scheme: Its classes and levels.
    """

    def __init__(self, scheme: LabelScheme) -> None:
        self.scheme = scheme
        joined = {
            name for level, rules in scheme.levels.items() if level != OWN for name in rules if '/' in name
        }
        self.dropped = joined | {
            name for label, name in scheme.labels.items() if re.search(r'\b(?:and|or)\b', label, re.I)
        }

    def of(self, labels: Labels, rng: random.Random) -> DrawOne:
        """What draws for an image."""
        levels = {
            level: {name: bool(rule.decide(labels)) for name, rule in rules.items()}
            for level, rules in self.scheme.levels.items()
        }

        def draw() -> Drawn | None:
            if rng.random() < 0.5:
                answer = rng.random() < 0.5
                form = class_question(levels[rng.choice(list(levels))], answer, rng)
                named = set() if form is None else {name for group in form.classes for name in group}
                return None if form is None or named & self.dropped else (form, _yes_no(answer))
            level = _level([*levels, ALL] if len(levels) == 3 else list(levels), rng)
            chosen = levels.values() if level == ALL else [levels[level]]
            classes = {name: there for part in chosen for name, there in part.items()}
            if self.dropped.intersection(name for name, there in classes.items() if there):
                return None
            return land_cover_question(classes, level, rng)

        return draw


def _level(levels: Sequence[str], rng: random.Random) -> str:
    """Draw a level, with the published shares where there are three of them."""
    weights = LEVELS_CUM[: len(levels)] if len(levels) in {3, 4} else None
    return rng.choices(levels, cum_weights=weights)[0]


def _object_question(objects: list[tuple[str, bool]], rng: random.Random) -> Drawn | None:
    if not objects:
        return None
    name, there = rng.choice(objects)
    return Presence(Objects(name)), _yes_no(there)


def _yes_no(answer: bool) -> str:
    return 'yes' if answer else 'no'

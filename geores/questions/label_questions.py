"""Questions and answers from the labels of images alone, as in RSVQAxBEN (Lobry et al. 2021).

Every image has a random generator of its own, seeded with the seed and the id of the image: no question
depends on the order or number of images, except where the whole set is balanced.

`FaithfulDraw` keeps from the published generator: half yes/no and half land-cover questions, how and how
often classes are joined, the shares of the levels, the released wordings, and that questions with "and" or
"or" in a class name are dropped, which leaves four fifths yes/no. It does not keep the one global seed for
all images. `CorrectedDraw`, the default, also asks about the categories of RSVQA, asks only what the
labels decide, and balances yes and no per question.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from geores.errors import UsageError
from geores.questions.facts import Level
from geores.questions.forms import Form, LabelPresence, LandCover, Objects, Presence, RuralUrban
from geores.questions.grammar import Style, phrase, wordings
from geores.questions.labels import OWN, LabelScheme

__all__ = [
    'KINDS',
    'LEVELS_CUM',
    'CorrectedDraw',
    'FaithfulDraw',
    'LabelQuestion',
    'class_question',
    'join_answer',
    'label_questions',
    'land_cover_question',
]

# Cumulative share of each pattern and its shapes: p is a class that is present, n one that is absent,
# & "and", | "or". The shapes of a pattern are equally likely.
_Table = tuple[tuple[float, tuple[str, ...]], ...]
_NO: _Table = (
    (0.5, ('n',)),
    (0.65, ('n&p', 'p&n')),
    (0.725, ('n&n',)),
    (0.8, ('n|n',)),
    (1.0, ('n|n&p', 'p&n|n')),
)
_YES: _Table = (
    (0.5, ('p',)),
    (0.65, ('p&p',)),
    (0.8, ('p|n', 'n|p')),
    (1.0, ('p&p|n', 'n|p&p', 'p|p&n', 'p&n|p')),
)
# The same shapes at the same rates for both answers: in the published tables "or" mostly means yes.
_EVEN_NO: _Table = (
    (0.5, ('n',)),
    (0.65, ('n&p', 'p&n', 'n&n')),
    (0.8, ('n|n',)),
    (1.0, ('n|n&p', 'p&n|n', 'n|p&n', 'n&p|n')),
)
_EVEN_YES: _Table = (
    (0.5, ('p',)),
    (0.65, ('p&p',)),
    (0.8, ('p|n', 'n|p', 'p|p')),
    (1.0, ('p&p|n', 'n|p&p', 'p|p&n', 'p&n|p')),
)
LEVELS_CUM = (0.4, 0.5, 0.9, 1.0)
"""Cumulative shares of land-cover questions about the first, second and third level, and all together."""
# Cumulative shares of land-cover questions that name no class, one or two classes as given.
_GIVEN_CUM = (0.75, 0.9, 1.0)


def class_question(
    classes: Mapping[str, bool | None], answer: bool, rng: random.Random, *, even: bool = False
) -> LabelPresence | None:
    """Draw a yes/no question about one to three classes.

    Args:
        classes: whether each class is present; undecided ones are not asked about.
        answer: the answer that the question has to have.
        rng: random generator.
        even: join classes in the same way for both answers, so that "and" and "or" do not reveal the
            answer; otherwise as published.

    Returns:
        The question; None if there are not enough classes for the shape that was drawn.
    """
    draw = rng.random()
    yes, no = (_EVEN_YES, _EVEN_NO) if even else (_YES, _NO)
    shape = rng.choice(next(shapes for share, shapes in (yes if answer else no) if draw < share))
    wanted = {'p': shape.count('p'), 'n': shape.count('n')}
    there = [name for name, is_there in classes.items() if is_there]
    missing = [name for name, is_there in classes.items() if is_there is False]
    if len(there) < wanted['p'] or len(missing) < wanted['n']:
        return None
    names = {'p': iter(rng.sample(there, wanted['p'])), 'n': iter(rng.sample(missing, wanted['n']))}
    return LabelPresence(
        tuple(tuple(next(names[letter]) for letter in group.split('&')) for group in shape.split('|'))
    )


def land_cover_question(
    classes: Mapping[str, bool | None], level: str, rng: random.Random
) -> tuple[LandCover, str] | None:
    """Draw a question for the classes of a level, with its answer.

    Returns:
        Question and answer; None if a class is undecided or too few are present.
    """
    if any(is_there is None for is_there in classes.values()):
        return None
    there = [name for name, is_there in classes.items() if is_there]
    draw = rng.random()
    given = next(number for number, share in enumerate(_GIVEN_CUM) if draw < share)
    if len(there) < given:
        return None
    besides = rng.sample(there, given)
    return LandCover(level, tuple(besides)), join_answer([name for name in there if name not in besides])


def join_answer(names: Sequence[str]) -> str:
    """Join sorted names as RSVQAxBEN does: "a, b and c", or "None".

    >>> join_answer(['water bodies', 'pastures', 'mixed forest'])
    'mixed forest, pastures and water bodies'
    """
    *first, last = sorted(names) or ['None']
    return f'{", ".join(first)} and {last}' if first else last


KINDS = ('objects', 'classes', 'land-cover')
ALL = 'ALL'
"""The level of all levels together."""
_SHARES = {'objects': 0.5, 'classes': 0.3, 'land-cover': 0.2}

Labels = frozenset[str]
Classes = Mapping[str, bool | None]
Drawn = tuple[Form, str]
DrawOne = Callable[[], Drawn | None]


class CorrectedDraw:
    """Draws questions of all kinds, only where the labels decide the answer.

    Raises:
        UsageError: if there is no such balance or kind, or the scheme has no categories to ask about.
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
        """A function that draws questions for an image; deterministic for given labels and generator."""
        classes = self._classes(labels)
        # One draw per thing, in sorted order: of things with the more frequent answer only a share is kept.
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
        """Whether the classes of each level are present, cached because images share label sets."""
        if labels not in self._known:
            self._known[labels] = {level: self.scheme.classes(labels, level) for level in self.scheme.levels}
        return self._known[labels]

    def _simple(self, labels: Labels) -> set[tuple[str, str, bool]]:
        """Kind, name and answer of all questions about a single thing."""
        objects = {('objects', name, there) for name, there in self.scheme.categories(labels).items()}
        names = (pair for classes in self._classes(labels).values() for pair in classes.items())
        return objects | {('classes', name, there) for name, there in names if there is not None}

    def _shares(self, images: Sequence[Labels]) -> dict[tuple[str, str, bool], float]:
        """Share of the images to keep per thing and answer, so that yes and no are equally frequent."""
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
    """The generator of RSVQAxBEN (Lobry et al. 2021): what labels leave undecided counts as absent."""

    def __init__(self, scheme: LabelScheme) -> None:
        self.scheme = scheme
        joined = {
            name for level, rules in scheme.levels.items() if level != OWN for name in rules if '/' in name
        }
        self.dropped = joined | {
            name for label, name in scheme.labels.items() if re.search(r'\b(?:and|or)\b', label, re.I)
        }

    def of(self, labels: Labels, rng: random.Random) -> DrawOne:
        """A function that draws questions for an image."""
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
    """Draw a level, with the published shares if there are three levels."""
    weights = LEVELS_CUM[: len(levels)] if len(levels) in {3, 4} else None
    return rng.choices(levels, cum_weights=weights)[0]


def _object_question(objects: list[tuple[str, bool]], rng: random.Random) -> Drawn | None:
    if not objects:
        return None
    name, there = rng.choice(objects)
    return Presence(Objects(name)), _yes_no(there)


def _yes_no(answer: bool) -> str:
    return 'yes' if answer else 'no'


Mode = Literal['corrected', 'faithful']
LabelledImage = tuple[str, Collection[str]]
MISSES = 100
"""Number of draws in a row without a new question after which an image gets no more."""


class LabelQuestion(NamedTuple):
    """A question about an image.

    Attributes:
        image: id of the image.
        form: the form of the question.
        text: the question in words.
        answer: the answer.
        type: official name of the question type: presence or LC.
    """

    image: str
    form: Form
    text: str
    answer: str
    type: str


def label_questions(
    images: Sequence[LabelledImage],
    scheme: LabelScheme,
    *,
    questions: int = 25,
    seed: int = 0,
    mode: Mode = 'corrected',
    balance: Level | None = None,
    kinds: Collection[str] | None = None,
    style: Style | None = None,
) -> Iterator[LabelQuestion]:
    """Draw questions for images from their labels.

    Args:
        images: id and labels of each image.
        scheme: scheme of the labels.
        questions: maximum number of questions per image.
        seed: seed of all draws.
        mode: ``'corrected'``, or ``'faithful'``, which has no choice of balance and kinds.
        balance: how yes and no are balanced: ``'questions'`` (the default), in the whole set for each
            question about one thing, so that things with only one answer are left out; ``'answers'``,
            within each image; or ``'types'``, not at all.
        kinds: which of `KINDS` to ask; all by default.
        style: style of the wordings; by default that of the mode: english, released.

    Returns:
        The questions, image by image; no image has two questions with the same ``form.key``.

    Raises:
        UsageError: if an option is invalid, an image comes twice, or a label is not in the scheme.
    """
    _check(images, scheme, questions)
    if mode not in get_args(Mode):
        raise UsageError(f'mode must be one of {", ".join(get_args(Mode))}, not {mode!r}')
    if mode == 'faithful':
        if balance is not None or kinds is not None:
            raise UsageError(
                'the faithful mode balances and mixes as published: balance and kinds are not its'
            )
        draw: CorrectedDraw | FaithfulDraw = FaithfulDraw(scheme)
    else:
        sets = [frozenset(labels) for _, labels in images]
        draw = CorrectedDraw(scheme, sets, balance or 'questions', tuple(kinds or KINDS))
    style = style or ('released' if mode == 'faithful' else 'english')
    next(wordings(RuralUrban(), style))
    return _drawn(images, draw, questions, seed, style, even=balance == 'answers')


def _check(images: Sequence[LabelledImage], scheme: LabelScheme, questions: int) -> None:
    if questions < 1:
        raise UsageError(f'questions must be 1 or more, not {questions}')
    seen: set[str] = set()
    for image, labels in images:
        scheme.check(labels)
        if scheme.single and len(labels) != 1:
            raise UsageError(
                f'image {image!r} has {len(labels)} labels, and the scheme {scheme.name} needs one'
            )
        if image in seen:
            raise UsageError(f'two images are named {image!r}')
        seen.add(image)


def _drawn(
    images: Sequence[LabelledImage],
    draw: CorrectedDraw | FaithfulDraw,
    questions: int,
    seed: int,
    style: Style,
    *,
    even: bool,
) -> Iterator[LabelQuestion]:
    """Draw for each image until it has its questions or no new one is found."""
    for image, labels in images:
        rng = random.Random(hashlib.sha256(f'{seed}/{image}'.encode()).digest())  # noqa: S311
        draw_one = draw.of(frozenset(labels), rng)
        asked: set[str] = set()
        answers = {'yes': 0, 'no': 0}
        misses = 0
        while len(asked) < questions and misses < MISSES:
            misses += 1
            drawn = draw_one()
            if drawn is None or drawn[0].key in asked:
                continue
            form, answer = drawn
            if even and answers.get(answer, 0) > min(answers.values()):
                continue
            misses = 0
            asked.add(form.key)
            if answer in answers:
                answers[answer] += 1
            yield LabelQuestion(image, form, phrase(form, style, rng), answer, form.type)

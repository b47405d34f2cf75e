"""Questions and answers from the labels of images alone, as in RSVQAxBEN (Lobry et al. 2021).

Every image has a random generator of its own, seeded with the seed and the id of the image. So the
questions do not depend on the order, process or number of images, except that balance depends on the whole
set.

The faithful mode keeps from the published generator: half yes/no and half land-cover questions, how and how
often classes are joined, the shares of the levels, the released wordings, and that questions with "and" or
"or" in a class name are dropped, which leaves four fifths yes/no. It does not keep the one global seed for
all images. The corrected mode (the default) also asks about the categories of RSVQA, asks only what the
labels decide, and balances yes and no per question.
"""

import hashlib
import random
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from geores.errors import UsageError
from geores.questions.balance import Level
from geores.questions.forms import Form, RuralUrban
from geores.questions.grammar import Style, phrase, wordings
from geores.questions.label_recipes import KINDS, CorrectedDraw, FaithfulDraw
from geores.questions.labels import LabelScheme

__all__ = ['KINDS', 'LabelQuestion', 'label_questions']

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

"""The grammar of questions: one table of wordings with which they are both phrased and parsed.

There are two styles. ``'english'`` is correct English and the default. ``'released'`` reproduces the
wordings of the RSVQA (Lobry et al. 2020) and RSVQAxBEN (Lobry et al. 2021) releases to the letter, with
their double spaces, "a island" and "cemeterys". Parsing accepts both, in any case, with any spaces, and
with or without the question mark.
"""

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from geores.questions.forms import (
    Area,
    Comparison,
    Count,
    Form,
    LabelPresence,
    LandCover,
    Presence,
    QuestionError,
    RuralUrban,
)
from geores.questions.grammar_phrases import fill_slots, form_from_slots, reorder

__all__ = ['MAX_LENGTH', 'TEMPLATES', 'Style', 'Template', 'Wording', 'parse', 'phrase', 'read', 'wordings']

Style = Literal['english', 'released']
STYLES: tuple[Style, ...] = ('english', 'released')

MAX_LENGTH = 1000
IN_PLACES = ('', 'image', 'scene')
# How often the released generators append " in the image" (RSVQA, then RSVQAxBEN).
P_IN_IMAGE = {'': 0.9, 'image': 0.1, 'scene': 0.0}
P_IN_LABELS = {'': 0.5, 'image': 0.25, 'scene': 0.25}
P_IN_LAND_COVER = {'': 0.0, 'image': 0.5, 'scene': 0.5}


@dataclass(frozen=True)
class Template:
    """One wording of one kind of form.

    Attributes:
        name: unique name.
        form: kind of form that it words.
        text: the sentence with slots: ``one`` and ``many`` objects, in the singular and plural;
            ``cover`` objects whose area is meant; ``first`` and ``second`` of a comparison;
            ``classes``, ``level`` and ``besides`` of the label route; ``where``, " in the image".
        styles: styles that phrase with it; parsing tries all templates in order.
        choice: the comparison that it expresses.
    """

    name: str
    form: type[Form]
    text: str
    styles: tuple[Style, ...] = STYLES
    choice: str | None = None

    def fits(self, form: Form, style: Style) -> bool:
        """Whether the template can word the form in that style."""
        if type(form) is not self.form or style not in self.styles:
            return False
        if isinstance(form, Comparison):
            return form.choice == self.choice
        if isinstance(form, LandCover):
            return bool(form.besides) == ('{besides}' in self.text)
        if isinstance(form, LabelPresence) and style == 'released':
            return (form.classes == ((form.classes[0][0],),)) == ('some' in self.name)
        return True

    @property
    def weights(self) -> dict[str, float]:
        """Endings such as " in the image" that the wording may have, with their frequency in the releases."""
        if '{where}' not in self.text:
            return {'': 1.0}
        if self.form is LandCover:
            return P_IN_LAND_COVER
        return P_IN_LABELS if self.form is LabelPresence else P_IN_IMAGE


_ENGLISH: tuple[Style, ...] = ('english',)
_RELEASED: tuple[Style, ...] = ('released',)

TEMPLATES: tuple[Template, ...] = (
    Template('there', Presence, 'is there {one}{where}'),
    Template('present', Presence, 'is {one} present{where}'),
    Template('there some', LabelPresence, 'are there some {classes}{where}', _RELEASED),
    Template('some present', LabelPresence, 'are some {classes} present{where}', _RELEASED),
    Template('any', Presence, 'are there any {many}{where}', _ENGLISH),
    Template('there many', Presence, 'are there {many}{where}', ()),
    Template('many present', Presence, 'are {many} present{where}', ()),
    Template('how many', Count, 'how many {many} are there{where}'),
    Template('how many where', Count, 'how many {many} are{where}', ()),
    Template('number', Count, 'what is the number of {many}{where}'),
    Template('amount', Count, 'what is the amount of {many}{where}', _RELEASED),
    Template('area', Area, 'what is the area covered by {cover}{where}'),
    Template('less', Comparison, 'are there less {first} than {second}{where}', _RELEASED, 'less'),
    Template('fewer', Comparison, 'are there fewer {first} than {second}{where}', _ENGLISH, 'less'),
    Template('more', Comparison, 'are there more {first} than {second}{where}', STYLES, 'more'),
    Template(
        'equal',
        Comparison,
        'is the number of {first} equal to the number of {second}{where}',
        STYLES,
        'equal',
    ),
    Template('as many', Comparison, 'are there as many {first} as {second}{where}', _ENGLISH, 'equal'),
    Template('rural', RuralUrban, 'is it a rural or an urban area'),
    Template('show', LabelPresence, 'does the image show {classes}', _ENGLISH),
    Template('there classes', LabelPresence, 'are there {classes}{where}', _RELEASED),
    Template('classes present', LabelPresence, 'are {classes} present{where}', _RELEASED),
    Template('which', LandCover, 'which {level}classes does the image show', _ENGLISH),
    Template(
        'which besides', LandCover, 'besides {besides}, which {level}classes does the image show', _ENGLISH
    ),
    Template('what classes', LandCover, 'what {level}classes are{where}', _RELEASED),
    Template('what classes there', LandCover, 'what {level}classes are there{where}', ()),
    Template('besides', LandCover, 'besides {besides}, what {level}classes are{where}', _RELEASED),
    Template('in addition', LandCover, 'in addition to {besides}, what {level}classes are{where}', _RELEASED),
)
_BY_NAME = {template.name: template for template in TEMPLATES}


@dataclass(frozen=True)
class Wording:
    """One way to put a form into words: form and wording determine the text.

    Args:
        template: name of one of `TEMPLATES`.
        style: ``'english'`` or ``'released'``.
        where: ``'image'`` or ``'scene'`` for " in the image" or " in the scene" at the end, or empty.
        the: for each object asked about, whether the other of its relation has "the", not "a".
        mark: whether a question mark ends it.
    """

    template: str
    style: Style = 'english'
    where: str = ''
    the: tuple[bool, ...] = ()
    mark: bool = True


def phrase(
    form: Form,
    style: Style | Wording = 'english',
    rng: random.Random | None = None,
    *,
    the: bool | tuple[bool, ...] = False,
) -> str:
    """Put a form into words.

    Args:
        form: the question.
        style: ``'english'``, ``'released'``, or one wording.
        rng: random generator that draws one of the wordings of the style, with " in the image" as often as
            in the releases; without it the first wording is used.
        the: whether the other objects of relations have "the", which the releases use if there is exactly
            one such object; one value for all, or one per object asked about.

    Returns:
        The question.

    Raises:
        QuestionError: if there is no such style, or the wording is not one of the form.
    """
    wording = style if isinstance(style, Wording) else _draw(form, style, rng, the)
    template = _BY_NAME.get(wording.template)
    if template is None or not template.fits(form, wording.style):
        raise QuestionError(f'{wording.template!r} is no {wording.style} wording of a {form.name} question')
    slots = fill_slots(form, wording.style == 'released', wording.the)
    where = f' in the {wording.where}' if wording.where else ''
    text = template.text.format(**slots, where=where)
    return f'{text[0].upper()}{text[1:]}{"?" if wording.mark else ""}'


def wordings(form: Form, style: Style = 'english') -> Iterator[Wording]:
    """All wordings of a form in a style; the first one is the default."""
    related = [part.relation is not None for part in form.parts()]
    articles = list(itertools.product(*((False, True) if has else (False,) for has in related)))
    for template in _fitting(form, style):
        # The release asks for rural or urban without a mark.
        marks = (False, True) if template.name == 'rural' and style == 'released' else (True,)
        places = [place for place, weight in template.weights.items() if weight]
        for where, the, mark in itertools.product(places, articles, marks):
            yield Wording(template.name, style, where, the, mark)


def _draw(form: Form, style: Style, rng: random.Random | None, the: bool | tuple[bool, ...]) -> Wording:
    """The first wording, or a drawn one: first the template is drawn, then the ending."""
    fitting = _fitting(form, style)
    if not fitting:
        raise QuestionError(f'there is no {style} wording of a {form.name} question')
    template = rng.choice(fitting) if rng else fitting[0]
    places = [place for place, weight in template.weights.items() if weight]
    where = rng.choices(places, [template.weights[place] for place in places])[0] if rng else places[0]
    articles = the if isinstance(the, tuple) else (the,) * sum(1 for _ in form.parts())
    return Wording(template.name, style, where, articles, template.name != 'rural' or style == 'english')


def _fitting(form: Form, style: Style) -> list[Template]:
    """The templates that can word a form in a style."""
    if style not in STYLES:
        raise QuestionError(f'style must be one of {", ".join(STYLES)}, not {style!r}')
    return [template for template in TEMPLATES if template.fits(form, style)]


def parse(text: str) -> Form:
    """Parse a question.

    Args:
        text: a question in any wording of `TEMPLATES`; case, spaces and the mark at the end do not matter.

    Returns:
        The form of the question.

    Raises:
        QuestionError: if the text is not a string, is empty or longer than `MAX_LENGTH`, or is no question of
            these forms.
    """
    plain = reorder(_plain(text))
    refused = None
    for template, pattern in _patterns():
        if match := pattern.fullmatch(plain):
            try:
                return form_from_slots(template.form, template.choice, match.groupdict())
            except QuestionError as error:
                refused = refused or error
    why = f': {refused}' if refused else '; ask for example "Is there a road?" or "How many lakes are there?"'
    raise QuestionError(f'not a question that can be understood: {_shown(plain)}{why}')


def read(text: str) -> tuple[Form, Wording]:
    """Parse a question together with its wording, from which `phrase` makes the same text again.

    Raises:
        QuestionError: as for `parse`, and if `phrase` gives the text in no wording.
    """
    form = parse(text)
    for style in reversed(STYLES):
        for wording in wordings(form, style):
            if phrase(form, wording) == text:
                return form, wording
    raise QuestionError(f'understood, but not worded as geores words it: {_shown(text)}')


def _plain(text: object) -> str:
    """The text in lower case with single spaces and without the mark at its end."""
    if not isinstance(text, str):
        raise QuestionError(f'a question is a text, not {type(text).__name__}')
    if len(text) > MAX_LENGTH:
        raise QuestionError(f'the question has {len(text):,} characters, more than {MAX_LENGTH:,}')
    plain = ' '.join(text.lower().split()).rstrip(' ?.!')
    if not plain:
        raise QuestionError('the question is empty')
    return plain


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f'{text[:77]}...')


@cache
def _patterns() -> tuple[tuple[Template, re.Pattern[str]], ...]:
    """Each template with the regular expression that parses it."""
    found = []
    for template in TEMPLATES:
        pattern = re.escape(template.text).replace(r'\ ', ' ')
        pattern = pattern.replace(r'\{where\}', '(?: in (?:this|the) (?:image|scene|picture|photo))?')
        pattern = re.sub(r'\\{level\\} ?', r'(?:(?P<level>\\w+) )?', pattern)
        found.append((template, re.compile(re.sub(r'\\{(\w+)\\}', r'(?P<\1>.+?)', pattern))))
    return tuple(found)

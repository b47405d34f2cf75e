"""The nearest question that is understood, for one in everyday words."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from geores.questions.forms import (
    Area,
    Comparison,
    Count,
    Form,
    LabelPresence,
    Objects,
    Presence,
    QuestionError,
    Relation,
    RuralUrban,
)
from geores.questions.grammar_nouns import plural, singular, unspoken
from geores.questions.grammar_wordings import MAX_LENGTH, parse, phrase
from geores.questions.suggest_words import scan
from geores.questions.vocabulary import CATEGORIES, MASS, PHRASES, SYNONYMS

__all__ = ['TYPES', 'Suggestion', 'suggest', 'what_is_known']

TYPES = ('presence', 'count', 'area', 'comp', 'rural_urban')


@dataclass(frozen=True)
class Suggestion:
    """A question that is understood.

    Attributes:
        form: What it asks.
        text: Its wording.
    """

    form: Form
    text: str


def suggest(
    text: str, known: Iterable[str] | None = None, types: Collection[str] = TYPES
) -> Suggestion | None:
    """The question that someone most likely means.

    Everything that the text says has to go into the suggestion: a word that it does not know makes it
    give up rather than answer another question.

    Args:
        text: A question in everyday words: "any rivers here?", "how much of it is forest".
        known: Categories that can be answered about; all that geores knows of where not given.
        types: Kinds of question that can be answered.

    Returns:
        Form and wording; None where the text asks for something else, or in another language.
    """
    categories = tuple(known) if known is not None else (*CATEGORIES, *MASS, *PHRASES)
    form: Form | None
    try:
        form = parse(text)
    except QuestionError:
        form = _guess(text, categories) if isinstance(text, str) and len(text) <= MAX_LENGTH else None
    else:
        form = _known_form(form, categories)
    return None if form is None or form.type not in types else Suggestion(form, phrase(form))


def what_is_known(known: Iterable[str] | None = None, types: Collection[str] = TYPES) -> str:
    """What can be asked, in a sentence or two for people."""
    categories = sorted(set(CATEGORIES if known is None else known))
    things = [Objects(one) for one in categories[:2]] or [Objects('road')]
    first, last = things[0], things[-1]
    samples: dict[str, Form] = {
        'presence': Presence(first),
        'count': Count(first),
        'area': Area(first),
        'comp': Comparison('more', first, last),
        'rural_urban': RuralUrban(),
    }
    asked = '; '.join(phrase(form) for kind, form in samples.items() if kind in types)
    return f'Questions such as: {asked} They can be about: {", ".join(categories)}.'


def _known_form(form: Form, categories: tuple[str, ...]) -> Form | None:
    """A form whose categories are all known, by their own names or others."""
    if isinstance(form, LabelPresence):
        if len(form.classes) > 1 or len(form.classes[0]) > 1:
            return form
        found = _category(form.classes[0][0], categories)
        return None if found is None else Presence(Objects(found))
    parts = [_known_objects(part, categories) for part in form.parts()]
    if any(part is None for part in parts):
        return None
    made = [part for part in parts if part is not None]
    if isinstance(form, Comparison):
        return Comparison(form.choice, *made)
    return type(form)(made[0]) if made else form  # type: ignore[call-arg]


def _known_objects(objects: Objects, categories: tuple[str, ...]) -> Objects | None:
    relation = objects.relation
    if relation is not None:
        other = _known_objects(relation.other, categories)
        if other is None:
            return None
        relation = Relation(relation.place, other)
    found = _category(objects.category, categories)
    return None if found is None else Objects(found, objects.size, objects.shape, relation)


def _category(words: str, categories: tuple[str, ...]) -> str | None:
    """The known category that words name, as they are, in the singular, or by a synonym."""
    for name in dict.fromkeys((words, unspoken(words), singular(words))):
        if name in categories:
            return name
        for other in SYNONYMS.get(name, ()):
            if other in categories:
                return other
    return None


def _guess(text: str, categories: tuple[str, ...]) -> Form | None:
    """Put together the form whose every part the text says."""
    found = scan(text, lambda words: _category(words, categories), tuple(_spellings(categories)))
    if found is None:
        return None
    if not found.things:
        return RuralUrban() if found.rural else None
    things = [Objects(*thing) for thing in found.things]
    if len(things) == 1:
        kind = _KINDS.get(found.cue or 'presence')
        return None if kind is None or found.place is not None else kind(things[0])
    if len(things) > 2 or found.rural:
        return None
    if found.cue in _CHOICES and found.place is None:
        return Comparison(found.cue, *things)  # type: ignore[arg-type]
    kind = _KINDS.get(found.cue or 'presence')
    if found.place is None or kind is None:
        return None
    first, other = things
    return kind(Objects(first.category, first.size, first.shape, Relation(found.place, other)))


def _spellings(categories: tuple[str, ...]) -> list[str]:
    """Words of one word that misspelt ones are held against."""
    usual = [word for word, others in SYNONYMS.items() if set(others).intersection(categories)]
    return sorted(
        {form for word in (*categories, *usual) if ' ' not in word for form in (word, plural(word))}
    )


_KINDS: dict[str, Callable[[Objects], Form]] = {'presence': Presence, 'count': Count, 'area': Area}
_CHOICES = ('less', 'more', 'equal')

"""The slots of wordings: noun phrases and lists of classes, written and read."""

import re
from collections.abc import Mapping

from geores.questions.forms import (
    SHAPES,
    SIZES,
    Comparison,
    Form,
    LabelPresence,
    LandCover,
    Objects,
    Place,
    QuestionError,
    Relation,
    RuralUrban,
)
from geores.questions.grammar_nouns import article, plural, singular, spoken, unspoken
from geores.questions.vocabulary import MASS

__all__ = ['PLACE_WORDS', 'form', 'reordered', 'slots']

PLACE_WORDS: dict[Place, str] = {
    'top': 'at the top of',
    'right': 'on the right of',
    'bottom': 'at the bottom of',
    'left': 'on the left of',
    'next': 'next to',
}
_PLACES = {words: place for place, words in PLACE_WORDS.items()}
_RELATION = re.compile(rf'(?P<things>.+?) (?P<place>{"|".join(_PLACES)}) (?P<other>.+)')
_WHERE = '(?P<where> in (?:this|the) (?:image|scene|picture|photo))?'
_BEHIND = (
    (
        re.compile(rf'(?P<head>how many .+?) are (?:there )?(?P<tail>(?:{"|".join(_PLACES)}) .+?){_WHERE}'),
        'are there',
    ),
    (
        re.compile(rf'(?P<head>(?:is|are) .+?) present (?P<tail>(?:{"|".join(_PLACES)}) .+?){_WHERE}'),
        'present',
    ),
)
_ARTICLE = re.compile(r'(?:an?|any|the) ')


def slots(form: Form, released: bool, the: tuple[bool, ...]) -> dict[str, str]:
    """What the slots of a form's templates hold.

    Args:
        form: The form.
        released: Whether the released wordings are wanted, faults and all.
        the: For each of its objects, whether the other of its relation has "the".
    """
    if isinstance(form, LabelPresence):
        return {'classes': ' or '.join(' and '.join(group) for group in form.classes)}
    if isinstance(form, LandCover):
        level = f'{form.level} ' if form.level else ''
        return {'level': level, 'besides': ' and '.join(form.besides)}
    parts = list(form.parts())
    tails = [_tail(part, released, part_the) for part, part_the in zip(parts, the, strict=True)]
    many = [f'{_many(part, released)}{tail}' for part, tail in zip(parts, tails, strict=True)]
    if isinstance(form, Comparison):
        return {'first': many[0], 'second': many[1]}
    if isinstance(form, RuralUrban):
        return {}
    bare = _is_bare(parts[0], released)
    category = f'{parts[0].category}{tails[0]}'
    return {
        'one': f'any {category}' if bare else f'{_one(parts[0], released)}{tails[0]}',
        'many': many[0],
        'cover': category if bare else many[0],
    }


def reordered(text: str) -> str:
    """A question whose place comes last, with the place where the templates have it.

    "How many buildings are next to a road" is "how many buildings next to a road are there".

    Args:
        text: In lower case with single spaces and without its mark.
    """
    for pattern, verb in _BEHIND:
        if match := pattern.fullmatch(text):
            return f'{match["head"]} {match["tail"]} {verb}{match["where"] or ""}'
    return text


def _is_bare(objects: Objects, released: bool) -> bool:
    """Whether it is asked about as stuff: "any grass", but "a small patch of grass"."""
    return not released and objects.category in MASS and not (objects.size or objects.shape)


def _adjectives(objects: Objects) -> str:
    return ''.join(f'{word} ' for word in (objects.size, objects.shape) if word)


def _one(objects: Objects, released: bool, the: bool = False) -> str:
    """'a large road', 'an island'; released: 'a island'."""
    phrase = f'{_adjectives(objects)}{objects.category if released else spoken(objects.category)}'
    if the:
        return f'the {phrase}'
    return f'{"a" if released else article(phrase)} {phrase}'


def _many(objects: Objects, released: bool) -> str:
    nouns = f'{objects.category}s' if released else plural(objects.category)
    return f'{_adjectives(objects)}{nouns}'


def _tail(objects: Objects, released: bool, the: bool) -> str:
    """' on the left of a road'; released: ' on the left of a  road'."""
    if objects.relation is None:
        return ''
    other = _one(objects.relation.other, released, the)
    if released:
        other = other.replace(' ', '  ', 1)
    return f' {PLACE_WORDS[objects.relation.place]} {other}'


def form(kind: type[Form], choice: str | None, said: Mapping[str, str | None]) -> Form:
    """The form that filled slots say.

    Args:
        kind: Kind of form.
        choice: Its comparison.
        said: Text of each slot, in lower case with single spaces.

    Raises:
        QuestionError: A slot does not hold what it should.
    """
    if kind is LabelPresence:
        return LabelPresence(_classes(said['classes'] or ''))
    if kind is LandCover:
        besides = said.get('besides')
        return LandCover((said['level'] or '').upper(), tuple(besides.split(' and ')) if besides else ())
    if kind is RuralUrban:
        return RuralUrban()
    if kind is Comparison:
        first, second = (_objects(said[side] or '', many=True) for side in ('first', 'second'))
        return Comparison(choice, first, second)  # type: ignore[arg-type]
    ((slot, text),) = said.items()
    return kind(_objects(text or '', many=slot != 'one'))  # type: ignore[call-arg]


def _classes(text: str) -> tuple[tuple[str, ...], ...]:
    """'a or b and c': "and" binds first."""
    return tuple(tuple(group.split(' and ')) for group in text.split(' or '))


def _objects(text: str, *, many: bool) -> Objects:
    """Read a noun phrase, perhaps with a relation."""
    if match := _RELATION.fullmatch(text):
        other = _thing(match['other'], many=False)
        things = _thing(match['things'], many=many)
        return Objects(things.category, things.size, things.shape, Relation(_PLACES[match['place']], other))
    return _thing(text, many=many)


def _thing(text: str, *, many: bool) -> Objects:
    """Read adjectives and a noun."""
    rest = _ARTICLE.sub('', text, count=1) if _ARTICLE.match(text) else text
    found: dict[str, str] = {}
    while True:
        word, _, after = rest.partition(' ')
        name = 'size' if word in SIZES else 'shape' if word in SHAPES else None
        if name is None or not after:
            break
        if name in found:
            raise QuestionError(f'{text!r} has two words for {name}')
        found[name], rest = word, after
    return Objects(singular(rest) if many else unspoken(rest), **found)  # type: ignore[arg-type]

"""Nouns of questions: articles, plurals, and back to the singular.

The slots of wordings: noun phrases and lists of classes, written and read.
"""

import re
from collections.abc import Mapping
from functools import cache

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
from geores.questions.vocabulary import CATEGORIES, MASS, PHRASES, PLURALS

__all__ = ['PLACE_WORDS', 'article', 'form', 'plural', 'reordered', 'singular', 'slots', 'spoken', 'unspoken']

_AN = re.compile(r'(?:[aeio]|u(?!ni|se|su|ti)|hour|heir|honou?r)(?!ne\b|uro)')
_ES = re.compile(r'(?:s|x|z|ch|sh)$')
_Y = re.compile(r'(?<=[^aeiou])y$')
_OF = re.compile(r' (?:of|for) ')


def article(words: str) -> str:
    """'a' or 'an', by how the first word sounds."""
    return 'an' if _AN.match(words) else 'a'


def spoken(category: str) -> str:
    """How one thing of a category is called: grass comes in patches."""
    return MASS.get(category) or PHRASES.get(category) or category


def unspoken(words: str) -> str:
    """The category of which `spoken` gave the words."""
    return _spoken().get(words, words)


def plural(category: str) -> str:
    """English plural of a category: of its last word, or of the one before "of".

    >>> [plural(noun) for noun in ('cemetery', 'church', 'place of worship', 'farmland')]
    ['cemeteries', 'churches', 'places of worship', 'areas of farmland']
    """
    words = spoken(category)
    cut = match.start() if (match := _OF.search(words)) else len(words)
    before, space, last = words[:cut].rpartition(' ')
    return f'{before}{space}{_plural_word(last)}{words[cut:]}'


def singular(words: str) -> str:
    """The category that a noun phrase in the plural names.

    Known categories are looked up, also with the released questions' bare s ("cemeterys"); other nouns
    follow rules. A noun that is no plural is left as it is.
    """
    if words in _plurals():
        return _plurals()[words]
    if words in MASS:
        return words
    cut = match.start() if (match := _OF.search(words)) else len(words)
    before, space, last = words[:cut].rpartition(' ')
    return unspoken(f'{before}{space}{_plurals().get(last) or _singular_word(last)}{words[cut:]}')


def _plural_word(word: str) -> str:
    if word in PLURALS:
        return PLURALS[word]
    if _Y.search(word):
        return _Y.sub('ies', word)
    return f'{word}es' if _ES.search(word) else f'{word}s'


def _singular_word(word: str) -> str:
    if word.endswith('ies') and len(word) > 4:
        return f'{word[:-3]}y'
    if re.search(r'(?:ss|x|z|ch|sh|(?<![ao])us)es$', word):
        return word[:-2]
    return word if re.search(r'(?:[su]|i)s$', word) else word.removesuffix('s')


@cache
def _spoken() -> dict[str, str]:
    return {words: category for category, words in (MASS | PHRASES).items()}


@cache
def _plurals() -> dict[str, str]:
    """Known categories by their plurals."""
    known = (*CATEGORIES, *MASS, *PHRASES, *PLURALS)
    naive = {f'{category}s': category for category in known}
    # A noun that is another's plural ("woods") is not one of these, so the order does not matter.
    return naive | {plural(category): category for category in known}


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
        form: the form.
        released: whether the released wordings are wanted, faults and all.
        the: for each of its objects, whether the other of its relation has "the".
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
        text: in lower case with single spaces and without its mark.
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
        kind: kind of form.
        choice: its comparison.
        said: text of each slot, in lower case with single spaces.

    Raises:
        QuestionError: if a slot does not hold what it should.
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

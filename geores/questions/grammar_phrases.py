"""The noun phrases in questions: articles, plurals and relations, written and parsed.

`fill_slots` fills the slots of a template for a form, and `form_from_slots` makes the form of filled slots.
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

__all__ = [
    'PLACE_WORDS',
    'article',
    'fill_slots',
    'form_from_slots',
    'plural',
    'reorder',
    'singular',
    'spoken',
    'unspoken',
]

_AN = re.compile(r'(?:[aeio]|u(?!ni|se|su|ti)|hour|heir|honou?r)(?!ne\b|uro)')
_ES = re.compile(r'(?:s|x|z|ch|sh)$')
_Y = re.compile(r'(?<=[^aeiou])y$')
_OF = re.compile(r' (?:of|for) ')


def article(words: str) -> str:
    """'a' or 'an', by the sound of the first word."""
    return 'an' if _AN.match(words) else 'a'


def spoken(category: str) -> str:
    """The countable noun phrase of a category: 'grass' is 'patch of grass'."""
    return MASS.get(category) or PHRASES.get(category) or category


def unspoken(words: str) -> str:
    """The category whose `spoken` phrase this is; the words themselves if there is none."""
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
    """The category that a plural noun phrase names.

    Known categories are looked up, also with the plain s of the released questions ("cemeterys"); other
    nouns follow rules. A noun that is no plural is returned unchanged.
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
    # No known noun is the plural of another, so the order of the two tables does not matter.
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


def fill_slots(form: Form, released: bool, the: tuple[bool, ...]) -> dict[str, str]:
    """The texts that fill the slots of a form's templates.

    Args:
        form: the question.
        released: whether to use the released wordings, including their faults.
        the: for each object asked about, whether the other object of its relation has "the".
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


def reorder(text: str) -> str:
    """Move a relation at the end of a question to where the templates expect it.

    "How many buildings are next to a road" becomes "how many buildings next to a road are there".

    Args:
        text: the question in lower case, with single spaces and without its question mark.
    """
    for pattern, verb in _BEHIND:
        if match := pattern.fullmatch(text):
            return f'{match["head"]} {match["tail"]} {verb}{match["where"] or ""}'
    return text


def _is_bare(objects: Objects, released: bool) -> bool:
    """Whether the category is used as a mass noun: "any grass", but "a small patch of grass"."""
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


def form_from_slots(kind: type[Form], choice: str | None, texts: Mapping[str, str | None]) -> Form:
    """The form that the filled slots of a template express.

    Raises:
        QuestionError: if the text of a slot cannot be parsed.
    """
    if kind is LabelPresence:
        return LabelPresence(_classes(texts['classes'] or ''))
    if kind is LandCover:
        besides = texts.get('besides')
        return LandCover((texts['level'] or '').upper(), tuple(besides.split(' and ')) if besides else ())
    if kind is RuralUrban:
        return RuralUrban()
    if kind is Comparison:
        first, second = (_objects(texts[side] or '', many=True) for side in ('first', 'second'))
        return Comparison(choice, first, second)  # type: ignore[arg-type]
    ((slot, text),) = texts.items()
    return kind(_objects(text or '', many=slot != 'one'))  # type: ignore[call-arg]


def _classes(text: str) -> tuple[tuple[str, ...], ...]:
    """Parse 'a or b and c', in which "and" binds before "or"."""
    return tuple(tuple(group.split(' and ')) for group in text.split(' or '))


def _objects(text: str, *, many: bool) -> Objects:
    """Parse a noun phrase, perhaps with a relation."""
    if match := _RELATION.fullmatch(text):
        other = _thing(match['other'], many=False)
        things = _thing(match['things'], many=many)
        return Objects(things.category, things.size, things.shape, Relation(_PLACES[match['place']], other))
    return _thing(text, many=many)


def _thing(text: str, *, many: bool) -> Objects:
    """Parse adjectives and a noun."""
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

"""Nouns of questions: articles, plurals, and back to the singular."""

import re
from functools import cache

from geores.questions.vocabulary import CATEGORIES, MASS, PHRASES, PLURALS

__all__ = ['article', 'plural', 'singular', 'spoken', 'unspoken']

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

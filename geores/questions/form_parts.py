"""The objects that questions are about, and which words may name them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from geores.errors import UsageError

__all__ = [
    'CHOICES',
    'PLACES',
    'SHAPES',
    'SIZES',
    'Choice',
    'Objects',
    'Place',
    'QuestionError',
    'Relation',
    'Shape',
    'Size',
    'Value',
    'as_json',
    'check_category',
    'check_class',
    'need',
]

Size = Literal['small', 'medium', 'large']
Shape = Literal['square', 'rectangular', 'circular']
Place = Literal['top', 'right', 'bottom', 'left', 'next']
Choice = Literal['less', 'more', 'equal']

SIZES: tuple[Size, ...] = get_args(Size)
SHAPES: tuple[Shape, ...] = get_args(Shape)
PLACES: tuple[Place, ...] = get_args(Place)
CHOICES: tuple[Choice, ...] = get_args(Choice)

# Words that the wordings are built from: a category that held one could not be read back.
RESERVED = frozenset(
    re.findall(
        r'\w+',
        'a an the some any no is are was were it there present than equal next less more fewer many much how '
        'what which and or not does do show in on at by',
    )
)
_RESERVED_IN_CLASSES = RESERVED - {'in', 'the', 'on', 'at', 'by', 'not', 'no', 'a', 'an'}
_CATEGORY = re.compile(r"[^\W\d_](?:[\w'.&/-]| (?! ))*(?<! )")


class QuestionError(UsageError):
    """A question, or a part of one, that cannot be understood as it is given."""


def need(value: object, allowed: tuple[str, ...], name: str, *, optional: bool = False) -> None:
    """Raise `QuestionError` where a value is none of those allowed."""
    if value not in allowed and not (optional and value is None):
        raise QuestionError(f'{name} must be one of {", ".join(allowed)}, not {value!r}')


def as_json(value: object) -> str:
    """One text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(',', ':'))


class Value:
    """Order and JSON text that all parts of forms share."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `form_from_dict` makes the form again."""
        raise NotImplementedError

    def __lt__(self, other: object) -> bool:
        return (
            as_json(self.to_dict()) < as_json(other.to_dict()) if isinstance(other, Value) else NotImplemented
        )

    def __le__(self, other: object) -> bool:
        return self == other or self < other


@dataclass(frozen=True)
class Objects(Value):
    """Things of one category, perhaps of one size or shape, perhaps somewhere beside another.

    Args:
        category: singular noun phrase in lower case, such as ``'water area'``.
        size: ``'small'``, ``'medium'`` or ``'large'``.
        shape: ``'square'``, ``'rectangular'`` or ``'circular'``.
        relation: where they lie; the other objects have no relation of their own.

    Raises:
        QuestionError: if a part is not one of those; the category is empty, is not in lower case, begins
            with a size or shape or holds a word that questions are built from (such as ``the``).
    """

    category: str
    size: Size | None = None
    shape: Shape | None = None
    relation: 'Relation | None' = None

    def __post_init__(self) -> None:
        check_category(self.category)
        need(self.size, SIZES, 'size', optional=True)
        need(self.shape, SHAPES, 'shape', optional=True)
        if self.relation is not None and not isinstance(self.relation, Relation):
            raise QuestionError(f'relation must be a Relation, not {self.relation!r}')

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without what is not said."""
        record: dict[str, Any] = {'category': self.category}
        record |= {name: value for name in ('size', 'shape') if (value := getattr(self, name)) is not None}
        return record | ({} if self.relation is None else {'relation': self.relation.to_dict()})

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> 'Objects':
        """The objects that `to_dict` wrote."""
        relation = record.get('relation')
        return cls(
            record['category'],
            record.get('size'),
            record.get('shape'),
            None if relation is None else Relation(relation['place'], cls.from_dict(relation['other'])),
        )


@dataclass(frozen=True)
class Relation(Value):
    """Where objects lie: on a side of others, or next to them.

    Args:
        place: ``'top'``, ``'right'``, ``'bottom'``, ``'left'`` or ``'next'``.
        other: the objects beside which they lie.
    """

    place: Place
    other: Objects

    def __post_init__(self) -> None:
        need(self.place, PLACES, 'place')
        if not isinstance(self.other, Objects) or self.other.relation is not None:
            raise QuestionError('a relation needs other objects, which have no relation of their own')

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {'place': self.place, 'other': self.other.to_dict()}


def check_category(category: object) -> None:
    """Raise `QuestionError` where a value cannot be a category."""
    if not isinstance(category, str) or not _CATEGORY.fullmatch(category) or category != category.lower():
        raise QuestionError(f'a category is a noun in lower case, such as "water area", not {category!r}')
    _check_category_words(category)


@lru_cache(4096)
def _check_category_words(category: str) -> None:
    words = category.split(' ')
    if words[0] in SIZES + SHAPES:
        raise QuestionError(f'{category!r}: {words[0]!r} belongs into the size or shape, not the category')
    if {'and', 'or'}.intersection(words):
        raise QuestionError(f'{category!r} names more than one thing: ask about one at a time')
    if taken := RESERVED.intersection(words):
        raise QuestionError(f'{category!r} cannot be a category: questions use the word {min(taken)!r}')


def check_class(name: object) -> None:
    """Raise `QuestionError` where a value cannot be the name of a class in a question.

    Names with "and" or "or" between words are refused, as in RSVQAxBEN (spec 2.8): a question with
    them has two readings.
    """
    if not isinstance(name, str) or not name:
        raise QuestionError(f'a class is a name, not {name!r}')
    _check_class_words(name)


@lru_cache(4096)
def _check_class_words(name: str) -> None:
    if name != ' '.join(name.lower().split()).strip('?.! '):
        raise QuestionError(f'a class is a name in lower case on one line, not {name!r}')
    words = re.split(r'\W+', name)
    if {'and', 'or'}.intersection(words):
        raise QuestionError(f'{name!r} holds "and" or "or", which join classes in a question')
    if taken := _RESERVED_IN_CLASSES.intersection(words):
        raise QuestionError(f'{name!r} cannot be a class: questions use the word {min(taken)!r}')

"""Forms of questions: what a question asks, as a machine-readable value.

A form says neither how a question is worded (`geores.questions.grammar` does) nor what its answer is. Forms
are immutable, hashable, ordered, and plain JSON through ``to_dict`` and `form_from_dict`. The question
types and their official names (``type``) are those of RSVQA (Lobry et al. 2020: presence, count, comp,
area, rural_urban) and of RSVQAxBEN (Lobry et al. 2021: presence, LC). A form is about `Objects`: a
category, perhaps with a size, a shape or a relation to other objects.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args

from geores.errors import UsageError

__all__ = [
    'CHOICES',
    'PLACES',
    'SHAPES',
    'SIZES',
    'Area',
    'Choice',
    'Comparison',
    'Count',
    'Form',
    'LabelPresence',
    'LandCover',
    'Objects',
    'Place',
    'Presence',
    'QuestionError',
    'Relation',
    'RuralUrban',
    'Shape',
    'Size',
    'check_category',
    'check_class',
    'form_from_dict',
]

Size = Literal['small', 'medium', 'large']
Shape = Literal['square', 'rectangular', 'circular']
Place = Literal['top', 'right', 'bottom', 'left', 'next']
Choice = Literal['less', 'more', 'equal']

SIZES: tuple[Size, ...] = get_args(Size)
SHAPES: tuple[Shape, ...] = get_args(Shape)
PLACES: tuple[Place, ...] = get_args(Place)
CHOICES: tuple[Choice, ...] = get_args(Choice)

# Words of the templates: a category that contains one could not be parsed again.
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
    """A question, or a part of one, that cannot be understood."""


def need(value: object, allowed: tuple[str, ...], name: str, *, optional: bool = False) -> None:
    """Raise `QuestionError` if a value is not among those allowed."""
    if value not in allowed and not (optional and value is None):
        raise QuestionError(f'{name} must be one of {", ".join(allowed)}, not {value!r}')


def as_json(value: object) -> str:
    """Canonical JSON: equal values give the same text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(',', ':'))


class Value:
    """Base of forms and their parts: ordered by their JSON."""

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
    """A query for objects of one category, perhaps with a size, a shape or a relation.

    Args:
        category: singular noun phrase in lower case, such as ``'water area'``.
        size: ``'small'``, ``'medium'`` or ``'large'``.
        shape: ``'square'``, ``'rectangular'`` or ``'circular'``.
        relation: where the objects lie; the other objects have no relation of their own.

    Raises:
        QuestionError: if a part is not one of those; if the category is empty, is not in lower case, begins
            with a size or shape, or contains a word of the templates (such as ``the``).
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
        """Plain JSON values, without the parts that are None."""
        record: dict[str, Any] = {'category': self.category}
        record |= {name: value for name in ('size', 'shape') if (value := getattr(self, name)) is not None}
        return record | ({} if self.relation is None else {'relation': self.relation.to_dict()})

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> 'Objects':
        """Make the objects that `to_dict` wrote."""
        relation = record.get('relation')
        return cls(
            record['category'],
            record.get('size'),
            record.get('shape'),
            None if relation is None else Relation(relation['place'], cls.from_dict(relation['other'])),
        )


@dataclass(frozen=True)
class Relation(Value):
    """Where objects lie: on a side of other objects, or next to them."""

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
    """Raise `QuestionError` if a value cannot be a category."""
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
    """Raise `QuestionError` if a value cannot be the name of a class in a question.

    Names with "and" or "or" between words are refused as in RSVQAxBEN (Lobry et al. 2021), because a
    question with them is ambiguous.
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


class Form(Value):
    """Base class of all forms.

    Attributes:
        type: official name of the question type.
        name: name of the form, the value of ``form`` in its JSON.
    """

    type: ClassVar[str]
    name: ClassVar[str]

    def parts(self) -> Iterator[Objects]:
        """The objects asked about, without the other objects of relations."""
        return iter(())

    @property
    def key(self) -> str:
        """A text that is equal for two forms exactly if they ask the same."""
        return as_json(self.to_dict())


@dataclass(frozen=True)
class _OfObjects(Form):
    objects: Objects

    def __post_init__(self) -> None:
        if not isinstance(self.objects, Objects):
            raise QuestionError(f'{self.name} needs Objects, not {self.objects!r}')

    def parts(self) -> Iterator[Objects]:
        yield self.objects

    def to_dict(self) -> dict[str, Any]:
        return {'form': self.name, 'objects': self.objects.to_dict()}


class Presence(_OfObjects):
    """Are there such objects? Answers: yes, no."""

    type = name = 'presence'


class Count(_OfObjects):
    """How many such objects are there? Answer: a whole number."""

    type = name = 'count'


class Area(_OfObjects):
    """What area do such objects cover? Answer: whole square metres, as ``10632m2``."""

    type = name = 'area'


@dataclass(frozen=True)
class Comparison(Form):
    """Are there fewer of the first than of the second, more, or as many? Answers: yes, no."""

    type: ClassVar[str] = 'comp'
    name: ClassVar[str] = 'comp'
    choice: Choice
    first: Objects
    second: Objects

    def __post_init__(self) -> None:
        need(self.choice, CHOICES, 'choice')
        if not (isinstance(self.first, Objects) and isinstance(self.second, Objects)):
            raise QuestionError('a comparison needs two Objects')

    def parts(self) -> Iterator[Objects]:
        """Both sides of the comparison."""
        yield self.first
        yield self.second

    @property
    def key(self) -> str:
        """Fewer of A than of B is more of B than of A, and equality is symmetric."""
        first, second = self.first, self.second
        if self.choice == 'more' or (self.choice == 'equal' and second < first):
            first, second = second, first
        choice: Choice = 'equal' if self.choice == 'equal' else 'less'
        return as_json(Comparison(choice, first, second).to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        sides = {'first': self.first.to_dict(), 'second': self.second.to_dict()}
        return {'form': self.name, 'choice': self.choice, **sides}


@dataclass(frozen=True)
class RuralUrban(Form):
    """Is it a rural or an urban area? Answers: rural, urban."""

    type: ClassVar[str] = 'rural_urban'
    name: ClassVar[str] = 'rural_urban'

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {'form': self.name}


@dataclass(frozen=True)
class LabelPresence(Form):
    """Are these classes present? Answered from labels; answers: yes, no.

    Args:
        classes: alternatives, each a group of classes that all have to be present ("and" binds before
            "or"): ``(('forests',), ('inland waters', 'pastures'))`` asks for forests, or for both others.
    """

    type: ClassVar[str] = 'presence'
    name: ClassVar[str] = 'label_presence'
    classes: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.classes or not all(self.classes):
            raise QuestionError('a question about classes needs at least one class')
        for one in (one for group in self.classes for one in group):
            check_class(one)

    @property
    def key(self) -> str:
        """Neither the order of the alternatives nor that of their classes matters."""
        groups = sorted({tuple(sorted(set(group))) for group in self.classes})
        return as_json(LabelPresence(tuple(groups)).to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {'form': self.name, 'classes': [list(group) for group in self.classes]}


@dataclass(frozen=True)
class LandCover(Form):
    """Which classes are present? Answered from labels; the answer is their names.

    Args:
        level: level of the class hierarchy, such as ``'L1'``; empty for the labels themselves.
        besides: classes that are present and named in the question, so not in the answer.
    """

    type: ClassVar[str] = 'LC'
    name: ClassVar[str] = 'land_cover'
    level: str = ''
    besides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.level, str) or not re.fullmatch(r'([A-Z][A-Z0-9]*)?', self.level):
            raise QuestionError(f'a level is a short name such as L1, not {self.level!r}')
        for one in self.besides:
            check_class(one)

    @property
    def key(self) -> str:
        """The order of the classes does not matter."""
        return as_json(LandCover(self.level, tuple(sorted(set(self.besides)))).to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {'form': self.name, 'level': self.level, 'besides': list(self.besides)}


def form_from_dict(record: Mapping[str, Any]) -> Form:
    """Make the form that `to_dict` wrote.

    Returns:
        An equal form.

    Raises:
        QuestionError: if the record is not one of a form.
    """
    try:
        name = record['form']
        if name in _OF_OBJECTS:
            return _OF_OBJECTS[name](Objects.from_dict(record['objects']))
        if name == Comparison.name:
            first, second = (Objects.from_dict(record[side]) for side in ('first', 'second'))
            return Comparison(record['choice'], first, second)
        if name == RuralUrban.name:
            return RuralUrban()
        if name == LabelPresence.name:
            return LabelPresence(tuple(tuple(group) for group in record['classes']))
        if name == LandCover.name:
            return LandCover(record['level'], tuple(record['besides']))
    except (KeyError, TypeError, AttributeError) as error:
        raise QuestionError(f'not the record of a question: {record!r}') from error
    raise QuestionError(f'not a kind of question: {name!r}')


_OF_OBJECTS: dict[str, type[_OfObjects]] = {kind.name: kind for kind in (Presence, Count, Area)}

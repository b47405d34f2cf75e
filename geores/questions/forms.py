"""What a question asks, as values: the machine-readable form behind every wording.

A form says nothing of how a question is put into words (`geores.questions.grammar` does) nor of its
answer. Forms are immutable, hashable, ordered and plain JSON through ``to_dict`` and `form_from_dict`.
The kinds and their official names (``type``) are those of RSVQA (spec 2.2, 2.3: presence, count, comp,
area, rural_urban) and of RSVQAxBEN (spec 2.8: presence, LC).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from geores.questions.form_parts import (
    CHOICES,
    PLACES,
    SHAPES,
    SIZES,
    Choice,
    Objects,
    Place,
    QuestionError,
    Relation,
    Shape,
    Size,
    Value,
    as_json,
    check_category,
    check_class,
    need,
)

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


class Form(Value):
    """Base of all forms.

    Attributes:
        type: official name of the kind of question.
        name: name of the kind of form, the ``form`` of its JSON.
    """

    type: ClassVar[str]
    name: ClassVar[str]

    def parts(self) -> Iterator[Objects]:
        """The objects asked about, without those of relations."""
        return iter(())

    @property
    def key(self) -> str:
        """Equal for two forms exactly where one question is the other in other words."""
        return as_json(self.to_dict())

    @property
    def is_directional(self) -> bool:
        """Whether a side is named, so that flipping the image changes the answer."""
        return any(part.relation is not None and part.relation.place != 'next' for part in self.parts())


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
    """Are there less of the first than of the second, more, or as many? Answers: yes, no."""

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
        """Both sides."""
        yield self.first
        yield self.second

    @property
    def key(self) -> str:
        """Less of A than of B is more of B than of A, and equal numbers have no order."""
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
    """Are there these classes? The label route; answers: yes, no.

    Args:
        classes: alternatives, each of classes that all have to be there ("and" binds before "or"):
            ``(('forests',), ('inland waters', 'pastures'))`` asks for forests, or for both others.
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
    """Which classes are there, perhaps besides some? The label route; answer: their names.

    Args:
        level: level of the class hierarchy, such as ``'L1'``; empty for the labels as they are.
        besides: classes that are there and are not to be named again.
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
    """The form of which `to_dict` gave the record.

    Args:
        record: plain JSON values with the key ``form``.

    Returns:
        An equal form.

    Raises:
        QuestionError: if the record is not that of a form.
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

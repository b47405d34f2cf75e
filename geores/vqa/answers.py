"""Answers of visual question answering as classes: their encoding, and the vocabulary of a model.

The files of RSVQA (Lobry et al. 2020) hold raw answers: '449' for a count, '10632m2' for an area. A model
chooses among classes, so counts at low resolution and areas are put into bins. The bins are the same
everywhere, their names are not: the released code writes 'between 0 and 10' where the paper writes
'between 1 and 10'. A figure therefore says which encoding it was measured with.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, Self, get_args

from geores.errors import DatasetError, UsageError

__all__ = ['UNKNOWN', 'AnswerEncoding', 'AnswerVocabulary', 'Style', 'Variant']

Style = Literal['official', 'paper']
Variant = Literal['lr', 'hr', 'xben']

UNKNOWN = '<unknown>'
"""The class of answers that did not occur in training; always the first of a vocabulary."""

_EDGES = (0, 10, 100, 1000)
_CLOSED = {'presence': ('yes', 'no'), 'comp': ('yes', 'no'), 'rural_urban': ('rural', 'urban')}
_BINNED: dict[Variant, tuple[str, ...]] = {'lr': ('count', 'area'), 'hr': ('area',), 'xben': ()}
_UNITS = {'count': '', 'area': 'm2'}
_NUMBER = re.compile(r'(\d{1,15})(m2)?')


@dataclass(frozen=True)
class AnswerEncoding:
    """Maps raw answers to the names of their classes.

    Counts are binned at low resolution ('lr') and exact at high ('hr'); areas are binned at both: none, 1 to
    10, 11 to 100, 101 to 1000, more. Land cover ('xben', type 'LC') is text and stays as it is.

    Args:
        style: names of the bins: 'official' as the released code writes them, 'paper' as the paper does.
        variant: variant of RSVQA: 'lr', 'hr' or 'xben'.

    Raises:
        UsageError: if there is no such style or variant.

    >>> AnswerEncoding('official', 'lr').encode('count', '449')
    'between 100 and 1000'
    >>> AnswerEncoding('paper', 'hr').encode('area', '10m2')
    'between 1m2 and 10m2'
    """

    style: Style = 'official'
    variant: Variant = 'lr'

    def __post_init__(self) -> None:
        for name, kinds in (('style', get_args(Style)), ('variant', get_args(Variant))):
            if (value := getattr(self, name)) not in kinds:
                raise UsageError(f'{name} of answers has to be one of {", ".join(kinds)}, not {value!r}')

    @property
    def name(self) -> str:
        """Name of the encoding, such as 'official-lr', with which results are labelled."""
        return f'{self.style}-{self.variant}'

    def encode(self, question_type: str, answer: str) -> str:
        """The class of a raw answer; the name of a bin, in either style, is accepted too.

        Args:
            question_type: 'presence', 'count', 'comp', 'area', 'rural_urban', 'LC' or another of free text.
            answer: the raw answer, as in the files.

        Raises:
            DatasetError: if a question of this type cannot have this answer.
        """
        answer = answer.strip()
        if question_type in _UNITS:
            return self._encode_number(question_type, answer)
        known = _CLOSED.get(question_type)
        if not answer or (known is not None and answer not in known):
            wanted = 'text' if known is None else ' or '.join(known)
            raise DatasetError(f'{_shown(answer)} is no answer of type {question_type!r}, which is {wanted}')
        return answer

    def bounds(self, answer: str) -> tuple[float, float] | None:
        """Smallest and largest number that a class stands for, of an area in square metres, in either style.

        Returns:
            Lower and upper end, both inclusive, the upper one may be infinite; None if it is no number.
        """
        if match := _NUMBER.fullmatch(answer):
            return float(match[1]), float(match[1])
        return _intervals().get(answer)

    def to_dict(self) -> dict[str, str]:
        """The encoding as plain JSON values."""
        return {'style': self.style, 'variant': self.variant}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Make the encoding that `to_dict` wrote.

        Raises:
            UsageError: if a field is missing, or there is no such style or variant.
        """
        try:
            return cls(fields['style'], fields['variant'])
        except (KeyError, TypeError) as error:
            raise UsageError(f'an answer encoding has style and variant, not {_shown(fields)}') from error

    def _encode_number(self, question_type: str, answer: str) -> str:
        unit = _UNITS[question_type]
        bounds = self.bounds(answer)
        if bounds is None or answer.endswith('m2') != bool(unit):
            wanted = f'a whole number{f" followed by {unit}" if unit else ""}'
            raise DatasetError(f'{_shown(answer)} is no answer of type {question_type!r}, which is {wanted}')
        if question_type in _BINNED[self.variant]:
            return _names(self.style, unit)[sum(bounds[0] > edge for edge in _EDGES)]
        if bounds[0] != bounds[1]:
            raise DatasetError(
                f'{answer!r} is a range, and {self.variant} has exact answers of {question_type!r}'
            )
        return f'{int(bounds[0])}{unit}'


class AnswerVocabulary:
    """The classes of answers in the training data, and one class for all others.

    Raises:
        UsageError: if the first class is not `UNKNOWN`, or a class comes twice.
    """

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = tuple(answers)
        if self.answers[:1] != (UNKNOWN,):
            raise UsageError(
                f'the first class of answers has to be {UNKNOWN}, not {_shown(self.answers[:1])}'
            )
        self._indices = {answer: index for index, answer in enumerate(self.answers)}
        if len(self._indices) != len(self.answers):
            raise UsageError('a class of answers comes twice')

    @classmethod
    def from_training(cls, answers: Iterable[str], size: int | None = None) -> Self:
        """Collect the classes of the training answers: the most frequent first, ties by text.

        Raises:
            UsageError: if there are no answers, or the size is not positive.
        """
        counts = Counter(answers)
        if not counts or (size is not None and size < 1):
            raise UsageError('a vocabulary of answers needs one answer at least')
        counts.pop(UNKNOWN, None)
        ranked = sorted(counts, key=lambda answer: (-counts[answer], answer))
        return cls((UNKNOWN, *ranked[:size]))

    def __len__(self) -> int:
        return len(self.answers)

    def __contains__(self, answer: object) -> bool:
        return answer in self._indices and answer != UNKNOWN

    def __getitem__(self, index: int) -> str:
        return self.answers[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnswerVocabulary) and other.answers == self.answers

    def __hash__(self) -> int:
        return hash(self.answers)

    def index(self, answer: str) -> int:
        """Index of the class of an encoded answer; 0 if it did not occur in training."""
        return self._indices.get(answer, 0)

    def indices(self, answers: Iterable[str]) -> list[int]:
        """Indices of the classes of encoded answers."""
        return [self.index(answer) for answer in answers]

    def unknown(self, answers: Iterable[str]) -> Counter[str]:
        """Count the answers that did not occur in training, which an evaluation reports.

        Their questions stay in the evaluation, although no model can answer them correctly.
        """
        return Counter(answer for answer in answers if answer not in self)


@cache
def _names(style: Style, unit: str) -> tuple[str, ...]:
    """Names of the five bins in ascending order."""
    start = 1 if style == 'paper' else 0
    between = (f'between {low + start}{unit} and {high}{unit}' for low, high in pairwise(_EDGES))
    return (f'0{unit}', *between, f'more than {_EDGES[-1]}{unit}')


@cache
def _intervals() -> dict[str, tuple[float, float]]:
    limits = [(0.0, 0.0), *((low + 1.0, float(high)) for low, high in pairwise(_EDGES))]
    limits.append((_EDGES[-1] + 1.0, float('inf')))
    return {
        text: interval
        for style in get_args(Style)
        for unit in _UNITS.values()
        for text, interval in zip(_names(style, unit), limits, strict=True)
    }


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'

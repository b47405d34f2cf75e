"""Which answers fit which kind of question.

A VQA model beside what knows no image: alone its figures say nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from geores.errors import UsageError
from geores.metrics.vqa import NumericError, VQAScores, majority_answers, numeric_error, vqa_scores
from geores.vqa.answers import UNKNOWN, AnswerEncoding

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = [
    'MAJORITY',
    'MODEL',
    'QUESTION_ONLY',
    'Majority',
    'ModelComparison',
    'answer_kind',
    'compare_models',
    'fitting',
    'forms_of',
    'kind_of',
]

_CLOSED = {'yes': 'presence', 'no': 'presence', 'rural': 'rural_urban', 'urban': 'rural_urban'}


def kind_of(answer: str) -> str:
    """The kind of question that an answer is to; 'yes' and 'no' may be to a comparison too.

    Args:
        answer: encoded.
    """
    if answer in _CLOSED:
        return _CLOSED[answer]
    if AnswerEncoding().bounds(answer) is None:
        return 'LC'
    return 'area' if answer.endswith('m2') else 'count'


def answer_kind(form: 'Form') -> str:
    """The kind, as `kind_of` says it, of the answers to a question; a comparison's are those of presence.

    Args:
        form: the question as the grammar parses it.
    """
    return 'presence' if form.type == 'comp' else form.type


def fitting(labels: Sequence[str], forms: 'Sequence[Form | None]') -> Tensor:
    """Which answers can be given to which question.

    A question that the grammar parses takes answers of its kind, so that nobody is told "urban" who asked
    how many; one that does not parse takes any. The class of unknown answers is none to give.

    Args:
        labels: K answers.
        forms: Q questions as the grammar parses them.

    Returns:
        (Q, K) of bool; True throughout but for the unknown class where no answer fits.
    """
    kinds = [None if label == UNKNOWN else kind_of(label) for label in labels]
    known = torch.tensor([kind is not None for kind in kinds])
    rows = {}
    asked = [form and answer_kind(form) for form in forms]
    for wanted in set(asked):
        row = torch.tensor([one == wanted for one in kinds])
        rows[wanted] = known if wanted is None or not row.any() else row
    return torch.stack([rows[wanted] for wanted in asked])


def forms_of(questions: Sequence[str]) -> 'list[Form | None]':
    """Questions as the grammar parses them.

    Args:
        questions: texts.

    Returns:
        A form a question, None for what does not parse.
    """
    return [_form(question) for question in questions]


@lru_cache(maxsize=2**18)
def _form(question: str) -> 'Form | None':
    from geores.questions.forms import QuestionError
    from geores.questions.grammar import parse

    try:
        return parse(question)
    except QuestionError:
        return None


MAJORITY, QUESTION_ONLY, MODEL = 'majority', 'question-only', 'model'
NUMBERS = {'count': 'error', 'area': 'error m2'}
"""Kinds of questions whose answers are numbers, and what their mean error is called."""


@dataclass(frozen=True)
class Majority:
    """The most frequent answers of a training part, by question and by kind of question.

    Attributes:
        questions: question in lower case, single-spaced and without its mark -> answer.
        types: kind -> answer.
        most: of all.
    """

    questions: Mapping[str, str]
    types: Mapping[str, str]
    most: str

    @classmethod
    def of(cls, questions: Sequence[str], types: Sequence[str], answers: Sequence[str]) -> 'Majority':
        """Learn from a training part.

        Args:
            questions: texts.
            types: kind of each.
            answers: encoded.

        Raises:
            UsageError: if there are none, or their numbers differ.
        """
        return cls(
            majority_answers(answers, [_plain(question) for question in questions]),
            majority_answers(answers, types),
            majority_answers(answers, [''] * len(answers))[''],
        )

    def answer(self, questions: Sequence[str], types: Sequence[str]) -> list[str]:
        """Answer each question as it mostly is; where training did not ask it, as its kind mostly is.

        Args:
            questions: texts.
            types: kind of each.
        """
        return [
            self.questions.get(_plain(question)) or self.types.get(kind, self.most)
            for question, kind in zip(questions, types, strict=True)
        ]


def _plain(question: str) -> str:
    return ' '.join(question.lower().rstrip(' ?.!').split())


@dataclass(frozen=True)
class ModelComparison:
    """Figures of several, on the same questions.

    Attributes:
        scores: whose -> accuracies; those that need no image first.
        numbers: whose -> kind of question -> error of its numbers.
        images: how many.
        unknown: how many true answers training never gave; none can be right there.
    """

    scores: Mapping[str, VQAScores]
    numbers: Mapping[str, Mapping[str, NumericError]]
    images: int
    unknown: int

    @property
    def questions(self) -> int:
        """How many."""
        return sum(next(iter(self.scores.values())).counts.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: `accuracy` (OA), `accuracy_mean` (AA) and `accuracy_<type>` of each."""
        return {'images': self.images, 'questions': self.questions, 'unknown_answers': self.unknown} | {
            who: _flat(scores) | self._errors(who) for who, scores in self.scores.items()
        }

    def figures(self) -> dict[str, float]:
        """The model's under their names, those of others with whose they are before."""
        return {
            name if who == MODEL else f'{who.replace("-", "_")}_{name}': value
            for who, scores in self.scores.items()
            for name, value in (_flat(scores) | self._errors(who)).items()
        }

    def _errors(self, who: str) -> dict[str, float]:
        return {f'{kind}_log_error': error.log for kind, error in self.numbers.get(who, {}).items()}

    def table(self, title: str = '', intervals: Mapping[str, tuple[float, float]] | None = None) -> Table:
        """One row a kind of question, then AA and OA, then mean errors of numbers and of their log10.

        There is a column each, and all fit in 80 letters.

        Args:
            title: of the table.
            intervals: of the last one's figures by the names of `to_dict`; a column more, if any are given.
        """
        limits = intervals or {}
        heads = ['', 'questions', *self.scores, *['95 % interval'] * bool(limits)]
        table = Table(*heads, title=title or None, title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = 'right'
        for kind, count in next(iter(self.scores.values())).counts.items():
            values = [one.by_type[kind] for one in self.scores.values()]
            table.add_row(kind, f'{count:,}', *_shown(values), *_span(limits, f'accuracy_{kind}'))
        table.add_section()
        values = [one.average for one in self.scores.values()]
        table.add_row('mean (AA)', '', *_shown(values), *_span(limits, 'accuracy_mean'))
        values = [one.overall for one in self.scores.values()]
        table.add_row('all (OA)', f'{self.questions:,}', *_shown(values), *_span(limits, 'accuracy'))
        for kind, name in NUMBERS.items():
            errors = [self.numbers[who].get(kind) for who in self.scores]
            if any(errors):
                logs = [math.nan if one is None else one.log for one in errors]
                means = [math.nan if one is None else one.mean for one in errors]
                table.add_row(f'{kind}, {name}', '', *_shown(means, 1))
                table.add_row(f'{kind}, log10', '', *_shown(logs, 2))
        return table


def _shown(values: Sequence[float], places: int = 3) -> list[str]:
    """Figures; a dash where there is none, such as an error where no number was answered."""
    return ['-' if math.isnan(value) else f'{value:,.{places}f}' for value in values]


def _span(limits: Mapping[str, tuple[float, float]], name: str) -> list[str]:
    return [' to '.join(_shown(limits[name]))] if name in limits else []


def compare_models(
    said: Mapping[str, Sequence[str]],
    answers: Sequence[str],
    types: Sequence[str],
    *,
    raw: Sequence[str] | None = None,
    images: int = 0,
    known: Sequence[str] = (),
) -> ModelComparison:
    """Score answers of several to the same questions.

    Args:
        said: whose -> encoded answers.
        answers: true ones, encoded.
        types: kind of each question.
        raw: true ones as the files say them, from which errors of numbers are measured; None takes `answers`.
        images: how many the questions are on.
        known: answers that can be given; empty does not count others.

    Raises:
        UsageError: if numbers of questions differ, or there are none.
    """
    if not said or not answers:
        raise UsageError('there are no answers to compare')
    bounds = AnswerEncoding().bounds
    numbers: dict[str, dict[str, NumericError]] = {who: {} for who in said}
    for kind in NUMBERS:
        places = [place for place, one in enumerate(types) if one == kind]
        for who, given in said.items():
            if places:
                truth = raw if raw is not None else answers
                chosen = [given[place] for place in places], [truth[place] for place in places]
                numbers[who][kind] = numeric_error(*chosen, bounds)
    return ModelComparison(
        {who: vqa_scores(given, answers, types) for who, given in said.items()},
        numbers,
        images,
        sum(answer not in known for answer in answers) if known else 0,
    )


def _flat(scores: VQAScores) -> dict[str, float]:
    by_type = {f'accuracy_{kind}': value for kind, value in scores.by_type.items()}
    return {'accuracy': scores.overall, 'accuracy_mean': scores.average, **by_type}

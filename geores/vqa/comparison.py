"""Compare a VQA model with image-blind baselines, without which its figures say nothing.

`fitting` says which answers a question can have, `Majority` is the simplest baseline, and `compare_models`
scores the predictions of all models on the same questions.
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
    """The question type that an answer belongs to; 'yes' and 'no' count as presence."""
    if answer in _CLOSED:
        return _CLOSED[answer]
    if AnswerEncoding().bounds(answer) is None:
        return 'LC'
    return 'area' if answer.endswith('m2') else 'count'


def answer_kind(form: 'Form') -> str:
    """The type of the answers to a question, as `kind_of` returns it; a comparison has those of presence."""
    return 'presence' if form.type == 'comp' else form.type


def fitting(labels: Sequence[str], forms: 'Sequence[Form | None]') -> Tensor:
    """Mask of the answers that each question can have.

    A question that the grammar parses takes answers of its type, so that "how many" is never answered by
    "urban"; a question that does not parse takes any answer. The class of unknown answers is never given.

    Args:
        labels: K answers.
        forms: Q parsed questions, None for those that do not parse.

    Returns:
        Boolean mask (Q, K); if no answer fits a question, all but the unknown class are True.
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
    """Parse questions by the grammar.

    Returns:
        One form per question, None for those that do not parse.
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
"""Question types with numbers as answers, and the name of their mean error."""


@dataclass(frozen=True)
class Majority:
    """The most frequent answers of a training part, per question and per question type.

    Attributes:
        questions: most frequent answer by question, in lower case with single spaces and without its mark.
        types: most frequent answer by question type.
        most: most frequent answer of all.
    """

    questions: Mapping[str, str]
    types: Mapping[str, str]
    most: str

    @classmethod
    def of(cls, questions: Sequence[str], types: Sequence[str], answers: Sequence[str]) -> 'Majority':
        """Count the answers of a training part.

        Raises:
            UsageError: if there are no answers, or the lengths differ.
        """
        return cls(
            majority_answers(answers, [_plain(question) for question in questions]),
            majority_answers(answers, types),
            majority_answers(answers, [''] * len(answers))[''],
        )

    def answer(self, questions: Sequence[str], types: Sequence[str]) -> list[str]:
        """Give the most frequent answer to each question, or to its type if it was not asked in training."""
        return [
            self.questions.get(_plain(question)) or self.types.get(kind, self.most)
            for question, kind in zip(questions, types, strict=True)
        ]


def _plain(question: str) -> str:
    return ' '.join(question.lower().rstrip(' ?.!').split())


@dataclass(frozen=True)
class ModelComparison:
    """Scores of several models on the same questions.

    Attributes:
        scores: accuracies by model name, baselines first.
        numbers: errors of numbers by model name and question type.
        images: number of images.
        unknown: number of true answers that did not occur in training, which no model can give.
    """

    scores: Mapping[str, VQAScores]
    numbers: Mapping[str, Mapping[str, NumericError]]
    images: int
    unknown: int

    @property
    def questions(self) -> int:
        """Number of questions."""
        return sum(next(iter(self.scores.values())).counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: `accuracy` (OA), `accuracy_mean` (AA) and `accuracy_<type>` per model."""
        return {'images': self.images, 'questions': self.questions, 'unknown_answers': self.unknown} | {
            who: _flat(scores) | self._errors(who) for who, scores in self.scores.items()
        }

    def figures(self) -> dict[str, float]:
        """All figures in one dictionary; those of baselines are prefixed with the name of the baseline."""
        return {
            name if who == MODEL else f'{who.replace("-", "_")}_{name}': value
            for who, scores in self.scores.items()
            for name, value in (_flat(scores) | self._errors(who)).items()
        }

    def _errors(self, who: str) -> dict[str, float]:
        return {f'{kind}_log_error': error.log for kind, error in self.numbers.get(who, {}).items()}

    def table(self, title: str = '', intervals: Mapping[str, tuple[float, float]] | None = None) -> Table:
        """One row per question type, then AA and OA, then mean errors of numbers and of their log10.

        There is one column per model, and the table fits into 80 characters.

        Args:
            title: title of the table.
            intervals: confidence intervals of the last model by the names of `to_dict`, an extra column.
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
    """Formatted figures; a dash for NaN, such as the error if no number was answered."""
    return ['-' if math.isnan(value) else f'{value:,.{places}f}' for value in values]


def _span(limits: Mapping[str, tuple[float, float]], name: str) -> list[str]:
    return [' to '.join(_shown(limits[name]))] if name in limits else []


def compare_models(
    predicted: Mapping[str, Sequence[str]],
    answers: Sequence[str],
    types: Sequence[str],
    *,
    raw: Sequence[str] | None = None,
    images: int = 0,
    known: Sequence[str] = (),
) -> ModelComparison:
    """Score the predictions of several models on the same questions.

    Args:
        predicted: encoded predictions by model name.
        answers: true answers, encoded.
        types: type of each question.
        raw: true answers as in the files, against which errors of numbers are measured; None for `answers`.
        images: number of images that the questions are about.
        known: answers that models can give, to count the unknown ones; empty does not count them.

    Raises:
        UsageError: if numbers of questions differ, or there are none.
    """
    if not predicted or not answers:
        raise UsageError('there are no answers to compare')
    bounds = AnswerEncoding().bounds
    numbers: dict[str, dict[str, NumericError]] = {who: {} for who in predicted}
    for kind in NUMBERS:
        places = [place for place, one in enumerate(types) if one == kind]
        for who, given in predicted.items():
            if places:
                truth = raw if raw is not None else answers
                chosen = [given[place] for place in places], [truth[place] for place in places]
                numbers[who][kind] = numeric_error(*chosen, bounds)
    return ModelComparison(
        {who: vqa_scores(given, answers, types) for who, given in predicted.items()},
        numbers,
        images,
        sum(answer not in known for answer in answers) if known else 0,
    )


def _flat(scores: VQAScores) -> dict[str, float]:
    by_type = {f'accuracy_{kind}': value for kind, value in scores.by_type.items()}
    return {'accuracy': scores.overall, 'accuracy_mean': scores.average, **by_type}

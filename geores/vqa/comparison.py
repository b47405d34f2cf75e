"""A VQA model beside what knows no image: alone its figures say nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from geores.errors import UsageError
from geores.metrics.vqa import NumericError, VQAScores, majority_answers, numeric_error, vqa_scores
from geores.vqa.answers import AnswerEncoding

__all__ = ['MAJORITY', 'MODEL', 'QUESTION_ONLY', 'Comparison', 'Majority', 'compare']

MAJORITY, QUESTION_ONLY, MODEL = 'majority', 'question-only', 'model'
NUMBERS = ('count', 'area')


@dataclass(frozen=True)
class Majority:
    """The most frequent answers of a training part, by question and by kind of question.

    Attributes:
        questions: Question in lower case, single-spaced and without its mark -> answer.
        types: Kind -> answer.
        most: Of all.
    """

    questions: Mapping[str, str]
    types: Mapping[str, str]
    most: str

    @classmethod
    def of(cls, questions: Sequence[str], types: Sequence[str], answers: Sequence[str]) -> 'Majority':
        """Learn from a training part.

        Args:
            questions: Texts.
            types: Kind of each.
            answers: Encoded.

        Raises:
            UsageError: There are none, or their numbers differ.
        """
        return cls(
            majority_answers(answers, [_plain(question) for question in questions]),
            majority_answers(answers, types),
            majority_answers(answers, [''] * len(answers))[''],
        )

    def answer(self, questions: Sequence[str], types: Sequence[str]) -> list[str]:
        """Answer each question as it mostly is; where training did not ask it, as its kind mostly is.

        Args:
            questions: Texts.
            types: Kind of each.
        """
        return [
            self.questions.get(_plain(question)) or self.types.get(kind, self.most)
            for question, kind in zip(questions, types, strict=True)
        ]


def _plain(question: str) -> str:
    return ' '.join(question.lower().rstrip(' ?.!').split())


@dataclass(frozen=True)
class Comparison:
    """Figures of several, on the same questions.

    Attributes:
        scores: Whose -> accuracies; those that need no image first.
        numbers: Whose -> kind of question -> error of its numbers.
        images: How many.
        unknown: How many true answers training never gave; none can be right there.
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

    def table(self, title: str = '') -> Table:
        """One row a kind of question, then AA and OA, then errors of numbers; one column each.

        Args:
            title: Of the table.
        """
        table = Table('', 'questions', *self.scores, title=title or None, title_justify='left')
        counts = next(iter(self.scores.values())).counts
        for kind, count in counts.items():
            table.add_row(kind, f'{count:,}', *[f'{one.by_type[kind]:.3f}' for one in self.scores.values()])
        table.add_section()
        table.add_row('mean of kinds (AA)', '', *[f'{one.average:.3f}' for one in self.scores.values()])
        overall = [f'{one.overall:.3f}' for one in self.scores.values()]
        table.add_row('all questions (OA)', f'{self.questions:,}', *overall)
        for kind in NUMBERS:
            errors = [self.numbers[who].get(kind) for who in self.scores]
            if any(errors):
                # Undefined where no number was answered.
                shown = ['-' if one is None or math.isnan(one.log) else f'{one.log:.2f}' for one in errors]
                table.add_row(f'{kind}, log10 error', '', *shown)
        return table


def compare(
    said: Mapping[str, Sequence[str]],
    answers: Sequence[str],
    types: Sequence[str],
    *,
    raw: Sequence[str] | None = None,
    images: int = 0,
    known: Sequence[str] = (),
) -> Comparison:
    """Score answers of several to the same questions.

    Args:
        said: Whose -> encoded answers.
        answers: True ones, encoded.
        types: Kind of each question.
        raw: True ones as the files say them, from which errors of numbers are measured; None takes `answers`.
        images: How many the questions are on.
        known: Answers that can be given; empty does not count others.

    Raises:
        UsageError: Numbers of questions differ, or there are none.
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
    return Comparison(
        {who: vqa_scores(given, answers, types) for who, given in said.items()},
        numbers,
        images,
        sum(answer not in known for answer in answers) if known else 0,
    )


def _flat(scores: VQAScores) -> dict[str, float]:
    by_type = {f'accuracy_{kind}': value for kind, value in scores.by_type.items()}
    return {'accuracy': scores.overall, 'accuracy_mean': scores.average, **by_type}

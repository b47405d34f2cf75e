"""Which answers fit which kind of question."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geores.vqa.answers import UNKNOWN, AnswerEncoding

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = ['answer_kind', 'fitting', 'forms_of', 'kind_of']

_CLOSED = {'yes': 'presence', 'no': 'presence', 'rural': 'rural_urban', 'urban': 'rural_urban'}


def kind_of(answer: str) -> str:
    """The kind of question that an answer is to; 'yes' and 'no' may be to a comparison too.

    Args:
        answer: Encoded.
    """
    if answer in _CLOSED:
        return _CLOSED[answer]
    if AnswerEncoding().bounds(answer) is None:
        return 'LC'
    return 'area' if answer.endswith('m2') else 'count'


def answer_kind(form: 'Form') -> str:
    """The kind, as `kind_of` says it, of the answers to a question; a comparison's are those of presence.

    Args:
        form: The question as the grammar parses it.
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
        questions: Texts.

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

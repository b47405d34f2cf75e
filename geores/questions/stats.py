"""Statistics of a set of questions, including its language bias.

Language bias is the accuracy of models that never see the image: the most frequent answer per question
type, and per question text. Measured on the questions from which the answers were counted
("resubstitution") it is too high, because a text that is asked once is always right. So both are also given
with the questions of the same image left out.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geores.errors import DatasetError
from geores.questions.official import Official

__all__ = ['Bias', 'QuestionStats', 'TypeStats', 'question_stats']

Row = tuple[int, str, str, str]
"""Image, type, text and answer of a question."""
Encode = Callable[[str, str], str]
"""From type and raw answer to the answer that is counted."""


@dataclass(frozen=True)
class Bias:
    """Accuracies of image-blind models, from 0 to 1.

    Attributes:
        type_resubstitution: the most frequent answer per question type.
        type_left_out: the same, counted on the other images.
        text_resubstitution: the most frequent answer per question text.
        text_left_out: the same, counted on the other images; texts that no other image has fall back to
            the answer of their type.
    """

    type_resubstitution: float
    type_left_out: float
    text_resubstitution: float
    text_left_out: float


@dataclass(frozen=True)
class TypeStats:
    """Statistics of the questions of one type.

    Attributes:
        questions: number of questions.
        share: share of all questions.
        texts: number of different texts.
        answers: frequency of each answer, the most frequent first.
        bias: accuracies of image-blind models.
    """

    questions: int
    share: float
    texts: int
    answers: dict[str, int]
    bias: Bias


@dataclass(frozen=True)
class QuestionStats:
    """Statistics of a set of questions.

    Attributes:
        images: number of images.
        questions: number of questions.
        per_image: minimum, mean and maximum number of questions per image.
        texts: number of different question texts.
        types: statistics per type, the most frequent first.
        bias: accuracies of image-blind models over all questions.
        mean_bias: the same, averaged over the types.
    """

    images: int
    questions: int
    per_image: tuple[int, float, int]
    texts: int
    types: dict[str, TypeStats]
    bias: Bias
    mean_bias: Bias

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def question_stats(official: Official, encode: Encode | None = None) -> QuestionStats:
    """Compute the statistics of a set of questions.

    Args:
        official: the questions.
        encode: maps type and raw answer to the answer that is counted, such as the bin of a number; raw
            answers by default.

    Raises:
        DatasetError: if the set has no question.
    """
    if not official.questions:
        raise DatasetError('there is no question in it')
    asked = [
        (record['img_id'], record['type'], ' '.join(record['question'].lower().split()), '')
        for record in official.questions.values()
    ]
    answers = (official.answer_of(number) for number in official.questions)
    encode = encode or (lambda _, answer: answer)
    asked = [(*one[:3], encode(one[1], answer)) for one, answer in zip(asked, answers, strict=True)]
    hits = _hits(asked)
    by_type: dict[str, list[int]] = defaultdict(list)
    for index, (_, kind, _, _) in enumerate(asked):
        by_type[kind].append(index)
    types = {kind: _type_stats(asked, hits, indices) for kind, indices in _by_number(by_type)}
    numbers = Counter(image for image, *_ in asked)
    each = [numbers[image] for image in official.images]
    return QuestionStats(
        len(official.images),
        len(asked),
        (min(each), len(asked) / len(each), max(each)),
        len({text for _, _, text, _ in asked}),
        types,
        _bias(hits, range(len(asked))),
        Bias(*(sum(values) / len(types) for values in zip(*map(_figures, types.values()), strict=True))),
    )


def _type_stats(asked: Sequence[Row], hits: Sequence[tuple[bool, ...]], indices: list[int]) -> TypeStats:
    answers = Counter(asked[index][3] for index in indices)
    return TypeStats(
        len(indices),
        len(indices) / len(asked),
        len({asked[index][2] for index in indices}),
        dict(sorted(answers.items(), key=lambda item: (-item[1], item[0]))),
        _bias(hits, indices),
    )


def _by_number(groups: dict[str, list[int]]) -> list[tuple[str, list[int]]]:
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))


def _figures(stats: TypeStats) -> tuple[float, ...]:
    bias = stats.bias
    return bias.type_resubstitution, bias.type_left_out, bias.text_resubstitution, bias.text_left_out


def _bias(hits: Sequence[tuple[bool, ...]], indices: Sequence[int]) -> Bias:
    chosen = [hits[index] for index in indices]
    return Bias(*(sum(column) / len(chosen) for column in zip(*chosen, strict=True)))


def _hits(asked: Sequence[Row]) -> list[tuple[bool, ...]]:
    """For each question, whether each of the four models of `Bias` answers it correctly."""
    types = _Tally([(kind, image, answer) for image, kind, _, answer in asked])
    texts = _Tally([((kind, text), image, answer) for image, kind, text, answer in asked])
    found = []
    for image, kind, text, answer in asked:
        guesses = (
            types.commonest(kind),
            types.commonest(kind, image),
            texts.commonest((kind, text)),
            texts.commonest((kind, text), image) or types.commonest(kind, image),
        )
        found.append(tuple(guess == answer for guess in guesses))
    return found


class _Tally:
    """Counts of the answers to groups of questions, in total and per image."""

    def __init__(self, entries: Sequence[tuple[Hashable, int, str]]) -> None:
        self.all: dict[Hashable, Counter[str]] = defaultdict(Counter)
        self.of_image: dict[tuple[Hashable, int], Counter[str]] = defaultdict(Counter)
        self.known: dict[tuple[Hashable, int | None], str | None] = {}
        for group, image, answer in entries:
            self.all[group][answer] += 1
            self.of_image[group, image][answer] += 1

    def commonest(self, group: Hashable, without: int | None = None) -> str | None:
        """The most frequent answer, ties by name, perhaps without one image; None if there is none."""
        if (group, without) not in self.known:
            counts = self.all[group]
            if without is not None:
                counts = counts - self.of_image[group, without]
            best = min(counts.items(), key=lambda item: (-item[1], item[0]), default=None)
            self.known[group, without] = None if best is None else best[0]
        return self.known[group, without]

"""What a set of questions holds, and what the question alone gives away of its answer.

The language-bias figures are accuracies of models that never see the image: the commonest answer of each
type, and of each question text. Counted on the questions they are taken from they flatter ("resubstitution":
a text that is asked once is always right), so both are also given with the image's own questions left out.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geores.errors import DatasetError
from geores.questions.official import Official

__all__ = ['Bias', 'QuestionStats', 'TypeStats', 'question_stats']

Asked = tuple[int, str, str, str]  # image, type, text, answer
Encode = Callable[[str, str], str]


@dataclass(frozen=True)
class Bias:
    """Accuracies without the image, from 0 to 1.

    Attributes:
        type_resubstitution: commonest answer of each type.
        type_left_out: the same, of the other images.
        text_resubstitution: commonest answer of each question text.
        text_left_out: the same, of the other images; the type's for a text that no other image has.
    """

    type_resubstitution: float
    type_left_out: float
    text_resubstitution: float
    text_left_out: float


@dataclass(frozen=True)
class TypeStats:
    """Questions of one type.

    Attributes:
        questions: their number.
        share: of all questions.
        texts: number of different texts.
        answers: how often each answer is given, the commonest first.
        bias: accuracies without the image.
    """

    questions: int
    share: float
    texts: int
    answers: dict[str, int]
    bias: Bias


@dataclass(frozen=True)
class QuestionStats:
    """A set of questions.

    Attributes:
        images: number of images.
        questions: number of questions.
        per_image: fewest, mean and most questions of an image.
        texts: number of different question texts.
        types: each type, the most frequent first.
        bias: accuracies without the image, over all questions.
        mean_bias: the same, as the mean of the types' figures.
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
    """Describe a set of questions.

    Args:
        official: the set.
        encode: from type and raw answer to the answer that is counted, such as the bin of a number; raw
            answers by default.

    Raises:
        DatasetError: if there is no question in it.
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


def _type_stats(asked: Sequence[Asked], hits: Sequence[tuple[bool, ...]], indices: list[int]) -> TypeStats:
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


def _hits(asked: Sequence[Asked]) -> list[tuple[bool, ...]]:
    """For each question, whether each of the four models of `Bias` answers it."""
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
    """How often each answer is given to a group of questions, by image."""

    def __init__(self, entries: Sequence[tuple[Hashable, int, str]]) -> None:
        self.all: dict[Hashable, Counter[str]] = defaultdict(Counter)
        self.of_image: dict[tuple[Hashable, int], Counter[str]] = defaultdict(Counter)
        self.known: dict[tuple[Hashable, int | None], str | None] = {}
        for group, image, answer in entries:
            self.all[group][answer] += 1
            self.of_image[group, image][answer] += 1

    def commonest(self, group: Hashable, without: int | None = None) -> str | None:
        """The commonest answer, of two equally common ones the first by name; None where there is none."""
        if (group, without) not in self.known:
            counts = self.all[group]
            if without is not None:
                counts = counts - self.of_image[group, without]
            best = min(counts.items(), key=lambda item: (-item[1], item[0]), default=None)
            self.known[group, without] = None if best is None else best[0]
        return self.known[group, without]

"""Statistics of a set of questions, including its language bias.

Language bias is the accuracy of models that never see the image: the most frequent answer per question
type, and per question text. Measured on the questions from which the answers were counted
("resubstitution") it is too high, because a text that is asked once is always right. So both are also given
with the questions of the same image left out.

Compute and plot the statistics of a folder of questions.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geores.errors import OutputError, UsageError
from geores.io.whole_files import whole_files
from geores.questions.question_files import QuestionFolder, read_question_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    'ENCODINGS',
    'Bias',
    'QuestionStats',
    'TypeStats',
    'describe_questions',
    'plot_stats',
    'question_stats',
]

Row = tuple[str, str, str, str]
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


def question_stats(held: QuestionFolder, encode: Encode | None = None) -> QuestionStats:
    """Compute the statistics of a set of questions.

    Args:
        held: images and questions.
        encode: maps type and raw answer to the answer that is counted, such as the bin of a number; raw
            answers by default.
    """
    encode = encode or (lambda _, answer: answer)
    asked = [
        (one.image, one.type, ' '.join(one.text.lower().split()), encode(one.type, one.answer))
        for one in held.questions
    ]
    hits = _hits(asked)
    by_type: dict[str, list[int]] = defaultdict(list)
    for index, (_, kind, _, _) in enumerate(asked):
        by_type[kind].append(index)
    types = {kind: _type_stats(asked, hits, indices) for kind, indices in _by_number(by_type)}
    numbers = Counter(image for image, *_ in asked)
    each = [numbers[image.id] for image in held.images]
    return QuestionStats(
        len(held.images),
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

    def __init__(self, entries: Sequence[tuple[Hashable, str, str]]) -> None:
        self.all: dict[Hashable, Counter[str]] = defaultdict(Counter)
        self.of_image: dict[tuple[Hashable, str], Counter[str]] = defaultdict(Counter)
        self.known: dict[tuple[Hashable, str | None], str | None] = {}
        for group, image, answer in entries:
            self.all[group][answer] += 1
            self.of_image[group, image][answer] += 1

    def commonest(self, group: Hashable, without: str | None = None) -> str | None:
        """The most frequent answer, ties by name, perhaps without one image; None if there is none."""
        if (group, without) not in self.known:
            counts = self.all[group]
            if without is not None:
                counts = counts - self.of_image[group, without]
            best = min(counts.items(), key=lambda item: (-item[1], item[0]), default=None)
            self.known[group, without] = None if best is None else best[0]
        return self.known[group, without]


ENCODINGS = ('auto', 'raw', 'lr', 'hr')
SHOWN = 12
"""Maximum number of answers per type that get a bar of their own."""


def describe_questions(folder: str | Path, encoding: str = 'auto') -> tuple[QuestionStats, str]:
    """Compute statistics of a set of questions in the official layout.

    Args:
        folder: folder in a layout of RSVQA (`geores.questions.question_files`); images need not be there.
        encoding: how numbers are counted: ``'raw'``; ``'lr'`` or ``'hr'``, in RSVQA's bins; or ``'auto'``,
            as in RSVQA for pixels of that size (from 5 m ``lr``, below ``hr``), otherwise raw.

    Returns:
        The statistics and the encoding.

    Raises:
        UsageError: if there is no such encoding.
        DatasetError: if the folder cannot be read, or an answer does not fit its type.
    """
    if encoding not in ENCODINGS:
        raise UsageError(f'encoding must be one of {", ".join(ENCODINGS)}, not {encoding!r}')
    held = read_question_folder(Path(folder), find=Path)
    variant = _variant(held) if encoding == 'auto' else encoding
    if variant == 'raw':
        return question_stats(held), variant
    from geores.vqa.answers import AnswerEncoding

    encoder = AnswerEncoding('official', 'lr' if variant == 'lr' else 'hr')
    return question_stats(held, encoder.encode), variant


def _variant(held: QuestionFolder) -> str:
    """The encoding that suits the most frequent pixel size."""
    sizes = Counter(str(image.fields.get('res_x', '')) for image in held.images)
    try:
        size = float(sizes.most_common(1)[0][0].removesuffix('m'))
    except (ValueError, IndexError):
        return 'raw'
    return 'lr' if size >= 5 else 'hr'


def plot_stats(stats: QuestionStats, path: str | Path) -> None:
    """Plot the answers per type and the accuracies of image-blind models.

    Raises:
        OutputError: if the extension is none of these.
        WriteError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() not in {'.png', '.pdf', '.svg'}:
        raise OutputError(f'{path}: a plot is .png, .pdf or .svg')
    rows = len(stats.types)
    figure = Figure(figsize=(11, 1.4 + 1.9 * rows), layout='constrained')
    grid = figure.subplots(rows, 2, squeeze=False, width_ratios=(3, 2))
    for (answers, bias), (name, found) in zip(grid, stats.types.items(), strict=True):
        _plot_answers(answers, name, found.answers, found.share)
        left_out = (found.bias.type_left_out, found.bias.text_left_out)
        bars = bias.barh(['of the type', 'of the question'], left_out, color=['tab:gray', 'tab:orange'])
        bias.bar_label(bars, fmt='{:.1%}', padding=3)
        bias.set_xlim(0, 1.15)
        bias.invert_yaxis()
        bias.set_title('accuracy of the commonest answer of other images', fontsize=9, loc='left')
    figure.suptitle(f'{stats.questions:,} questions about {stats.images:,} images')
    if not path.parent.is_dir():
        raise OutputError(f'{path} cannot be written: {path.parent} is no folder')
    with whole_files([path]) as (partial,):
        figure.savefig(partial, dpi=120)


def _plot_answers(axes: 'Axes', name: str, answers: dict[str, int], share: float) -> None:
    """One bar per frequent answer, and one for all others."""
    shown = list(answers.items())[:SHOWN]
    if rest := sum(answers.values()) - sum(number for _, number in shown):
        shown.append((f'{len(answers) - SHOWN:,} others', rest))
    labels = [text if len(text) <= 28 else f'{text[:25]}...' for text, _ in shown]
    axes.bar(range(len(shown)), [number for _, number in shown], color='tab:blue')
    axes.set_xticks(range(len(shown)), labels, rotation=25, ha='right', fontsize=7)
    axes.set_title(f'{name}: {share:.1%} of questions', fontsize=9, loc='left')

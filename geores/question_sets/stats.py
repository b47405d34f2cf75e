"""Compute and plot the statistics of a folder of questions."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from geores.errors import OutputError, UsageError, WriteError
from geores.questions.official import Official, read_official
from geores.questions.stats import QuestionStats, question_stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['ENCODINGS', 'describe_questions', 'plot_stats']

ENCODINGS = ('auto', 'raw', 'lr', 'hr')
SHOWN = 12
"""Maximum number of answers per type that get a bar of their own."""


def describe_questions(folder: str | Path, encoding: str = 'auto') -> tuple[QuestionStats, str]:
    """Compute statistics of a set of questions in the official layout.

    Args:
        folder: folder that `geores.questions.official.read_official` can read.
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
    official = read_official(folder)
    variant = _variant(official) if encoding == 'auto' else encoding
    if variant == 'raw':
        return question_stats(official), variant
    from geores.vqa.answers import AnswerEncoding

    encoder = AnswerEncoding('official', 'lr' if variant == 'lr' else 'hr')
    return question_stats(official, encoder.encode), variant


def _variant(official: Official) -> str:
    """The encoding that suits the most frequent pixel size."""
    sizes = Counter(str(image.get('res_x', '')) for image in official.images.values())
    try:
        size = float(sizes.most_common(1)[0][0].removesuffix('m'))
    except (ValueError, IndexError):
        return 'raw'
    return 'lr' if size >= 5 else 'hr'


def plot_stats(stats: QuestionStats, path: str | Path) -> None:
    """Plot the answers per type and the accuracies of image-blind models.

    Args:
        stats: the statistics.
        path: file to write: PNG, PDF or SVG by its extension.

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
    partial = path.with_name(f'.{path.stem}.partial{path.suffix}')
    try:
        figure.savefig(partial, dpi=120)
        partial.replace(path)
    except OSError as error:
        raise WriteError(f'{path} cannot be written: {error}') from error
    finally:
        partial.unlink(missing_ok=True)


def _plot_answers(axes: 'Axes', name: str, answers: dict[str, int], share: float) -> None:
    """One bar per frequent answer, and one for all others."""
    shown = list(answers.items())[:SHOWN]
    if rest := sum(answers.values()) - sum(number for _, number in shown):
        shown.append((f'{len(answers) - SHOWN:,} others', rest))
    labels = [text if len(text) <= 28 else f'{text[:25]}...' for text, _ in shown]
    axes.bar(range(len(shown)), [number for _, number in shown], color='tab:blue')
    axes.set_xticks(range(len(shown)), labels, rotation=25, ha='right', fontsize=7)
    axes.set_title(f'{name}: {share:.1%} of questions', fontsize=9, loc='left')

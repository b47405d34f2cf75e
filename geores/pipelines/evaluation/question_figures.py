"""Plots of an evaluation of answers."""

from pathlib import Path

import numpy as np

from geores.pipelines.evaluation.figures import BLUE, GREY, ORANGE, draw_reliability, new_figure, write
from geores.pipelines.evaluation.question_report import COLUMNS, VQAEvaluation
from geores.vqa.comparison import MAJORITY, MODEL, QUESTION_ONLY

__all__ = ['write_answer_accuracy', 'write_answer_reliability']

COLOURS = {MAJORITY: GREY, QUESTION_ONLY: ORANGE, MODEL: BLUE}


def write_answer_accuracy(found: VQAEvaluation, path: Path) -> None:
    """Draw accuracy by kind of question and over all: majority, question-only model and model.

    Args:
        found: The evaluation.
        path: PNG to write.
    """
    names = {'accuracy': 'all (OA)', 'accuracy_mean': 'mean of kinds (AA)'}
    names = {f'accuracy_{kind}': kind for kind in found.per_type.index} | names
    figure = new_figure(3 + 1.3 * len(names), 4.2)
    axes = figure.subplots()
    width = 0.8 / len(COLUMNS)
    for place, who in enumerate(COLUMNS):
        before = '' if who == MODEL else f'{COLUMNS[who]}_'
        keys = [f'{before}{name}' for name in names]
        at = np.arange(len(names)) + (place - 1) * width
        values = np.array([found.metrics[key] for key in keys])
        axes.bar(at, values, width, color=COLOURS[who], label=who)
        if found.intervals:
            limits = np.array([found.intervals[key] for key in keys]).T
            # A percentile interval need not hold the figure itself.
            spans = np.maximum([values - limits[0], limits[1] - values], 0)
            axes.errorbar(at, values, spans, fmt='none', ecolor='black', elinewidth=0.8, capsize=2)
    axes.set_xticks(range(len(names)), list(names.values()), fontsize=8)
    axes.set(ylabel='accuracy', ylim=(0, 1.02))
    axes.grid(axis='y', alpha=0.3)
    axes.set_axisbelow(True)
    bars = '; lines: 95 % intervals over images' if found.intervals else ''
    axes.set_title(f'{_answers_title(found)}{bars}', fontsize=9)
    figure.legend(loc='outside lower center', ncols=len(COLUMNS), fontsize=8, frameon=False)
    write(figure, path)


def write_answer_reliability(found: VQAEvaluation, path: Path) -> None:
    """Draw probabilities of answers against the share that is right, beside the error of each kind.

    Args:
        found: The evaluation.
        path: PNG to write.
    """
    title = f'{_answers_title(found)}: reliability, ECE {found.metrics["ece"]:.3f}'
    draw_reliability(found.reliability, found.per_type['ece'], title, ('answers', 'kind of question'), path)


def _answers_title(found: VQAEvaluation) -> str:
    images = found.comparison.images
    return f'{found.card.name} on {len(found):,} questions about {images:,} images'

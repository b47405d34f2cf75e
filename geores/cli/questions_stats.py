"""`geores questions stats`: what a set of questions holds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from geores.questions.stats import Bias, QuestionStats

__all__ = ['stats']

TOLD = 6


def stats(
    folder: Annotated[Path, typer.Argument(metavar='DIR', help='Folder of questions in the RSVQA layout.')],
    encoding: Annotated[
        str, typer.Option(help='How numbers are counted: raw, lr or hr (the bins of RSVQA), or auto.')
    ] = 'auto',
    plot: Annotated[Path | None, typer.Option(metavar='FILE', help='Draw them: PNG, PDF, SVG.')] = None,
    as_json: Annotated[bool, typer.Option('--json', help='One JSON object.')] = False,
) -> None:
    """Describe questions: types, answers, and how much the question alone gives away."""
    from geores.pipelines.question_stats import describe_questions, plot_stats

    found, used = describe_questions(folder, encoding)
    if plot is not None:
        plot_stats(found, plot)
    if as_json:
        print(json.dumps({'folder': str(folder), 'encoding': used} | found.to_dict()))
        return
    _print_stats(folder, found, used)
    if plot is not None:
        print(f'plot: {plot}')


def _print_stats(folder: Path, found: 'QuestionStats', encoding: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    fewest, mean, most = found.per_image
    console.print(
        f'{folder}: {found.questions:,} questions ({found.texts:,} different texts) about {found.images:,} '
        f'images, {fewest} to {most} each (mean {mean:.1f}); numbers counted as {encoding}',
        soft_wrap=True,
    )
    answers = Table('type', 'questions', 'share', 'texts', 'answers')
    for name, one in found.types.items():
        shown = [f'{text} {number / one.questions:.1%}' for text, number in list(one.answers.items())[:TOLD]]
        more = [f'{len(one.answers) - TOLD:,} more'] if len(one.answers) > TOLD else []
        answers.add_row(
            name, f'{one.questions:,}', f'{one.share:.1%}', f'{one.texts:,}', ', '.join(shown + more)
        )
    console.print(answers)
    bias = Table(
        'accuracy without the image',
        'of the type',
        'left out',
        'of the question',
        'left out',
        title='Answering with the commonest answer (left out: that of other images)',
        title_justify='left',
    )
    for name, one in found.types.items():
        bias.add_row(name, *_row(one.bias))
    bias.add_row('all questions', *_row(found.bias))
    bias.add_row('mean of types', *_row(found.mean_bias))
    console.print(bias)


def _row(bias: 'Bias') -> list[str]:
    figures = (
        bias.type_resubstitution,
        bias.type_left_out,
        bias.text_resubstitution,
        bias.text_left_out,
    )
    return [f'{figure:.1%}' for figure in figures]

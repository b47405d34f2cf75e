"""`geores questions`: questions and answers about imagery, made and described."""

import typer

from geores.cli import questions_from_labels, questions_make, questions_stats

__all__ = ['app']

app = typer.Typer(
    help='Make questions and answers about imagery, and describe sets of them.',
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command(name='from-labels')(questions_from_labels.from_labels)
app.command(name='make')(questions_make.make)
app.command(name='stats')(questions_stats.stats)

"""The command line: one module a command."""

import sys
from typing import Annotated

import click
import typer

from geores.cli import classify, info, models
from geores.errors import GeoresError, UsageError

__all__ = ['app', 'main']

app = typer.Typer(
    help='From a satellite scene of any size to labels.',
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(name='classify')(classify.classify)
app.command(name='info')(info.info)
app.command(name='models')(models.models)


@app.command(
    name='train',
    add_help_option=False,
    context_settings={'allow_extra_args': True, 'ignore_unknown_options': True},
)
def train(context: typer.Context) -> None:
    """Train a task: geores train --config FILE [--help]."""
    from geores.cli.train import train as run

    run(context.args)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option('--debug', help='Show tracebacks of errors.')] = False,
) -> None:
    """Read by `main` itself; declared for the help."""


def main() -> None:
    """Run the command line: exit code 2 for the user's mistakes, 1 for failures, one line each."""
    debug = '--debug' in sys.argv
    try:
        code = app(standalone_mode=False)
    except (GeoresError, click.ClickException, click.Abort, KeyboardInterrupt) as error:
        if debug:
            raise
        sys.exit(_report(error))
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: BaseException) -> int:
    """Say what went wrong, on one line; the exit code."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        print('geores: stopped; finished work is kept, run again to continue', file=sys.stderr)
        return 130
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    print(f'geores: error: {" ".join(message.split())}', file=sys.stderr)
    return 2 if isinstance(error, UsageError | click.UsageError) else 1

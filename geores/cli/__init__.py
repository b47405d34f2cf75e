"""The command line: a module for the commands of each job."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from geores import __version__
from geores.cli import (
    ask,
    baselines,
    classify,
    converting,
    evaluate,
    info,
    map_accuracy,
    questions,
    splits,
    training,
)
from geores.cli.common import escaped_output
from geores.errors import GeoresError, UsageError, missing_extra, without_secrets

__all__ = ['app', 'main']

# Typer depends on click or carries a copy of it, by version: reached by a name that both have.
_CommandUsageError, _CommandError = typer.BadParameter.__mro__[1:3]

STOPPED = 130
_STOPPED_LINE = 'geores: stopped; finished work is kept, run again to continue'


class SortedGroup(TyperGroup):
    """Commands that its help lists by name."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - click's, or typer's copy of it
        """Names of the commands, sorted."""
        return sorted(super().list_commands(ctx))


app = typer.Typer(
    cls=SortedGroup,
    context_settings={'help_option_names': ['-h', '--help']},
    help='From a satellite scene of any size to labels and answers.',
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(name='accuracy')(map_accuracy.accuracy)
app.command(name='ask')(ask.ask)
app.command(name='audit')(splits.audit)
app.command(name='baselines')(baselines.baselines)
app.command(name='classify')(classify.classify)
app.add_typer(converting.app, name='convert')
app.command(name='evaluate')(evaluate.evaluate)
app.command(name='finetune')(training.finetune)
app.command(name='info')(info.info)
app.command(name='merge')(classify.merge)
app.command(name='models')(info.models)
app.add_typer(questions.app, name='questions')
app.command(name='sample')(map_accuracy.sample)
app.command(name='split')(splits.split)
app.command(name='verify')(converting.verify)
app.command(name='verify-model')(converting.verify_model)


@app.command(
    name='train',
    add_help_option=False,
    context_settings={'allow_extra_args': True, 'ignore_unknown_options': True},
)
def train(context: typer.Context) -> None:
    """Train a task: geores train --config FILE [--help [TASK], --list]."""
    training.train(context.args)


def _print_version(asked: bool) -> None:
    if asked:
        print(f'geores {__version__}')
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option('--version', callback=_print_version, is_eager=True, help='Show the version and exit.'),
    ] = False,
    debug: Annotated[bool, typer.Option('--debug', help='Show tracebacks of errors.')] = False,
) -> None:
    """Show the help where no command is given; `--debug` is read by `main` itself."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line: exit code 2 for the user's mistakes, 1 for failures, one line each."""
    with escaped_output():
        try:
            code = app(standalone_mode=False)
        except (Exception, KeyboardInterrupt) as error:
            if '--debug' in sys.argv:
                raise
            sys.exit(_report(error))
        if code == STOPPED:
            print(_STOPPED_LINE, file=sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)


def _report(error: BaseException) -> int:
    """Print an error on one line, and return the exit code."""
    if isinstance(error, typer.Abort | KeyboardInterrupt):
        print(_STOPPED_LINE, file=sys.stderr)
        return STOPPED
    if isinstance(error, _CommandError):
        message = error.format_message()  # type: ignore[attr-defined]
    elif isinstance(error, ImportError) and (missing := missing_extra(error)):
        error, message = missing, str(missing)
    elif isinstance(error, GeoresError):
        message = str(error)
    else:
        message = f'{type(error).__name__}: {error} (a fault of geores: --debug shows where)'
    print(f'geores: error: {without_secrets(" ".join(message.split()))}', file=sys.stderr)
    return 2 if isinstance(error, UsageError | _CommandUsageError) else 1

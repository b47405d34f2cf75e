"""`geores train`: a task as YAML describes it. `geores finetune`: a model of the user's own classes."""

import argparse
import ast
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.cli import common
from geores.cli.common import (
    figures_table,
    listed,
    plain_console,
    print_messages,
    print_outputs,
    progress_bar,
)
from geores.cli.info import HEADLINE_METRICS
from geores.cli.option_sets import with_options
from geores.errors import OutputError, UsageError
from geores.training.finetune_options import FinetuneOptions

if TYPE_CHECKING:
    from rich.table import Table

    from geores.plugins import Plugin
    from geores.training.finetune import FinetunePlan
    from geores.training.finetune_result import Finetuned, SplitScore

__all__ = ['finetune', 'train']

CONFIGS = {'.yaml', '.yml', '.json'}

HELP = """usage: geores train --config FILE [--KEY VALUE ...]

Fit a task as a configuration describes, and write its bundle; the same command goes on where it was stopped.

  --config, -c FILE       YAML of data, model (the task), trainer and export
  --data.KEY VALUE        replaces a value of the configuration, such as --data.root DIR
  --model.KEY VALUE       likewise, such as --model.learning_rate 1e-4
  --trainer.KEY VALUE     Lightning's Trainer, such as --trainer.max_epochs 5 or --trainer.devices 2 [1]
  --export.KEY VALUE      what the bundle's card says
  --no-resume             begin anew instead of going on with an unfinished run
  --checkpoint_minutes N  minutes between checkpoints within an epoch [5]
  --checkpoint_steps N    steps of the optimizer between them, beside that
  --folds N --out DIR     cross-validate, then train on everything
  --list [--json]         what a configuration can name
  --help NAME             options of a task or datamodule
  --help-all              every option, Lightning's too

Tasks that packages offer: {tasks}.
Datamodules: {data}."""

KINDS = {'geores.tasks': 'task', 'geores.datasets': 'datamodule', 'geores.architectures': 'architecture'}


def train(args: list[str]) -> None:
    """Fit a task as a configuration describes, or list what a configuration can name (`--list`).

    With `--folds N --out DIR` the task is fitted once per fold and then on everything; the card states the
    figures of the folds.

    Raises:
        UsageError: if the configuration or what it names is not usable.
    """
    if '--list' in args:
        _list(as_json='--json' in args)
        return
    if {'--help', '-h'} & {*args}:
        names = [arg for arg in args if not arg.startswith('-')]
        _help(names[0] if names and Path(names[0]).suffix not in CONFIGS else None)
        return
    if '--help-all' in args:
        args = ['--help']
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--folds', type=int)
    parser.add_argument('--out', '-o', type=Path)
    try:
        own, rest = parser.parse_known_args(args)
    except SystemExit:
        raise UsageError('--folds takes a whole number and --out a folder') from None
    if (own.folds is None) != (own.out is None):
        raise UsageError('--folds and --out go together: how many folds, and the folder for their bundles')
    if own.folds is None:
        from geores.training.train import train as fit  # Lightning takes seconds to import.

        with print_messages():
            fit(rest)
        return
    from geores.training.train import cross_validate

    with print_messages():
        evidence = cross_validate(rest, own.folds, own.out)
    for source, figures in evidence.metrics.items():
        shown = ', '.join(
            f'{name} {value:.3f} ± {figures[name + "_std"]:.3f}'
            for name, value in figures.items()
            if name in HEADLINE_METRICS
        )
        print(f'{source}: {shown} ({figures["split"]})')


def _help(name: str | None) -> None:
    """Print what can be given, at once: Lightning, which takes seconds to import, knows the rest.

    Args:
        name: a task or datamodule, whose options are printed; None for the command's own.

    Raises:
        UsageError: if there is no such task or datamodule.
    """
    from geores.plugins import DATASETS, TASKS, find_plugins

    offered = {TASKS: find_plugins(TASKS)[0], DATASETS: find_plugins(DATASETS)[0]}
    if name is None:
        tasks, data = (
            ', '.join(f'{one.name} ({one.package})' for one in offered[group]) or 'none' for group in offered
        )
        print(HELP.format(tasks=tasks, data=data))
        return
    found = [(group, one) for group in offered for one in offered[group] if one.name == name]
    if not found:
        known = ', '.join(one.name for group in offered for one in offered[group])
        raise UsageError(f'no task and no datamodule is named {name!r}: there are {known}')
    group, plugin = found[0]
    print(f'{plugin.name} ({plugin.package})')
    print(f'Options of a configuration, under {"model" if group == TASKS else "data"}: init_args:\n')
    for option, default, about in _options(plugin):
        print(f'  {option}{"" if default is None else f" = {default}"}')
        if about:
            print(f'      {about}')


def _options(plugin: 'Plugin') -> list[tuple[str, str | None, str]]:
    """Name, default and description of what a class takes, read from its source without importing it."""
    module, _, wanted = plugin.value.partition(':')
    spec = find_spec(module.partition('.')[0])  # a package's spec is found without importing it
    if spec is None or spec.origin is None:
        return []
    place = Path(spec.origin).parent.joinpath(*module.split('.')[1:])
    for path in sorted(place.glob('*.py')) if place.is_dir() else [place.with_suffix('.py')]:
        for node in ast.parse(path.read_text(encoding='utf-8')).body if path.is_file() else ():
            if isinstance(node, ast.ClassDef) and node.name == wanted:
                return _arguments(node)
    return []


def _arguments(node: ast.ClassDef) -> list[tuple[str, str | None, str]]:
    """Arguments of a class's constructor, with what its docstring says of them."""
    told = re.findall(r'^ {4}(\w+): (.*(?:\n {8,}.*)*)', ast.get_docstring(node) or '', re.MULTILINE)
    about = {name: ' '.join(text.split()) for name, text in told}
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == '__init__':
            given = [*one.args.args[1:], *one.args.kwonlyargs]
            bare: list[ast.expr | None] = [None] * (len(one.args.args) - 1 - len(one.args.defaults))
            defaults = [*bare, *one.args.defaults, *one.args.kw_defaults]
            return [
                (arg.arg, None if default is None else ast.unparse(default), about.get(arg.arg, ''))
                for arg, default in zip(given, defaults, strict=True)
            ]
    return [(name, None, text) for name, text in about.items()]


def _list(*, as_json: bool) -> None:
    """Print the tasks, datamodules and architectures that packages declare, without importing them."""
    from geores.plugins import find_plugins

    rows = []
    for group, kind in KINDS.items():
        found, problems = find_plugins(group)
        rows += [(kind, plugin.name, plugin.value, plugin.package) for plugin in found]
        for problem in problems:
            print(f'geores: warning: {problem}', file=sys.stderr)
    columns = ('kind', 'name', 'value', 'package')
    if as_json:
        for row in rows:
            print(json.dumps(dict(zip(columns, row, strict=True))))
        return
    from rich.table import Table

    table = Table(*columns, title='What a configuration can name', title_justify='left')
    for row in rows:
        table.add_row(*row)
    plain_console().print(table)


Option = typer.Option
STOPPED = 130
_NAMES = {'blocks': 'geographic split', 'random': 'random split (optimistic)'}


@with_options(FinetuneOptions)
def finetune(
    scenes: Annotated[
        list[str], typer.Argument(metavar='SCENE...', help='GeoTIFF, folder of bands or Sentinel-2 product.')
    ],
    labels: Annotated[Path, Option(help='Vector file of polygons or points, in any CRS.')],
    column: Annotated[str, Option(help='Column of the file that holds the class.')],
    out: Annotated[Path, Option('--out', '-o', help='Folder for the bundle, its report and figure.')],
    base: Annotated[
        str, Option(help='Name or path of the bundle to start from; auto picks by bands and pixel size.')
    ] = 'auto',
    bands: common.Bands = None,
    sensor: common.Sensor = None,
    offset: common.Offset = 'auto',
    *,
    options: FinetuneOptions,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace a bundle at --out.')] = False,
    resume: common.Resume = True,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='The report as one JSON object.')] = False,
) -> None:
    """Train a model of your own classes on SCENE and labelled polygons or points, and say how good it is.

    A tile has the class that covers the largest area of it, if that is at least --min-share of the whole
    tile; with points, the class of the points inside. Whole blocks of ground are kept for validation.
    """
    from geores.training.finetune_result import check_bundle_path

    check_bundle_path(out, overwrite=overwrite)
    try:
        said = {'bands': listed(bands), 'sensor': sensor, 'offset': offset}
        plan = _planned(scenes, labels, column, base, options, said)
        _run(plan, out, overwrite=overwrite, resume=resume, quiet=quiet, as_json=as_json)
    except KeyboardInterrupt:
        print('geores: stopped; nothing was written', file=sys.stderr)
        sys.exit(STOPPED)


def _planned(
    scenes: list[str], labels: Path, column: str, base: str, options: FinetuneOptions, said: dict[str, Any]
) -> 'FinetunePlan':
    """Check and read everything, and say what will be trained on."""
    from geores.training.finetune import plan_finetune

    plan = plan_finetune(scenes, labels, column, base, options, **said)
    for note in plan.notes:
        print(f'note: {note}', file=sys.stderr, flush=True)
    for kind, split in plan.splits.items():
        print(
            f'training on {len(split.train):,} tiles for {plan.epochs(split)} epochs, {len(split.val):,} '
            f'for validation ({_NAMES[kind]})',
            file=sys.stderr,
            flush=True,
        )
    return plan


def _run(
    plan: 'FinetunePlan', out: Path, *, overwrite: bool, resume: bool, quiet: bool, as_json: bool
) -> None:
    from geores.training.finetune_result import FinetuneWork

    with print_messages():
        work = FinetuneWork(out, plan.fingerprint(), resume=resume, overwrite=overwrite)
    try:
        with print_messages(), progress_bar('training', shown=not as_json, quiet=quiet) as progress:
            result = plan.run(progress, work)
        result.save(out, overwrite=overwrite)
        work.remove()
    except OutputError:  # a disk that fails takes nothing of what was learnt
        raise
    except UsageError:  # such as a divergence, to which the same way would lead again
        work.remove()
        raise
    except (KeyboardInterrupt, SystemExit) as stop:
        work.release()
        if not work.keeps and not isinstance(stop, SystemExit):
            raise
        print('geores: stopped; the same command goes on', file=sys.stderr)
        sys.exit(stop.code if isinstance(stop, SystemExit) else STOPPED)
    finally:
        work.release()
    (_print_json if as_json else _print)(result, out)


def _outputs(out: Path) -> dict[str, str]:
    from geores.training.finetune_result import FIGURE_FILE, REPORT_FILE

    return {'bundle': str(out), 'report': str(out / REPORT_FILE), 'figure': str(out / FIGURE_FILE)}


def _print_json(result: 'Finetuned', out: Path) -> None:
    print(json.dumps(result.report | {'outputs': _outputs(out)}), flush=True)


def _print(result: 'Finetuned', out: Path) -> None:
    """A table of classes for each split, the error matrices side by side, and where the files lie."""
    from rich.columns import Columns

    console = plain_console()
    for score in result.scores:
        console.print(_classes(score))
        accuracy, f1 = score.metrics['accuracy'], score.metrics['f1_macro']
        console.print(
            f'{accuracy:.1%} of {score.matrix.sum():,} validation tiles right, mean F1 of classes {f1:.3f}',
            soft_wrap=True,
        )
        console.print(f'kept: {score.choice.said}', soft_wrap=True)
    console.print(Columns([_matrix(score) for score in result.scores], padding=(0, 2)))
    if len(result.scores) > 1:
        console.print('The bundle is that of the geographic split.')
    print_outputs(console, _outputs(out))


def _title(score: 'SplitScore') -> str:
    return _NAMES[score.kind]


def _classes(score: 'SplitScore') -> 'Table':

    names = ('training', 'validation', "user's", "producer's", 'F1')
    table = figures_table('class', *names, title=f'{_title(score)}: tiles and accuracies')
    for label, row in score.to_dict()['per_class'].items():
        shares = (row['users_accuracy'], row['producers_accuracy'], row['f1'])
        cells = ('-' if share is None else f'{share:.1%}' for share in shares)
        table.add_row(label, str(row['train_tiles']), str(row['validation_tiles']), *cells)
    return table


def _matrix(score: 'SplitScore') -> 'Table':
    """Rows are classes of the labels, columns those that the model gave, by their numbers."""
    from rich.box import SIMPLE

    numbers = map(str, range(1, len(score.labels) + 1))
    table = figures_table(
        '', 'reference', *numbers, title=f'{_title(score)}\n(columns: classified)', box=SIMPLE, words=2
    )
    for index, label in enumerate(score.labels):
        table.add_row(str(index + 1), label, *(str(tiles) if tiles else '·' for tiles in score.matrix[index]))
    return table

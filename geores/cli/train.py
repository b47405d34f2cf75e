"""`geores train`: fit a task as a YAML configuration describes."""

import argparse
import ast
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from geores.cli.common import print_messages
from geores.cli.info import HEADLINE_METRICS
from geores.errors import UsageError

if TYPE_CHECKING:
    from geores.plugins import Plugin

__all__ = ['train']

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

    Args:
        args: as given after `geores train`, untouched.

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
    from geores.training.crossval import cross_validate

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
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title='What a configuration can name', title_justify='left')
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)

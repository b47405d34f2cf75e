"""`geores train`: fit a task as a YAML configuration describes."""

import argparse
import json
import sys
from pathlib import Path

from geores.cli.common import print_messages
from geores.cli.info import HEADLINE_METRICS
from geores.errors import UsageError

__all__ = ['train']

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

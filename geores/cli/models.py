"""`geores models`: the bundles that ship and those of other packages."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from geores.card import Bundle

__all__ = ['models']

TOLD = ('accuracy', 'f1_micro', 'f1_macro', 'ap_micro', 'ap_macro', 'mae', 'rmse', 'r2')


def models(
    as_json: Annotated[
        bool, typer.Option('--json', help='One JSON object a line: the card, its package and folder.')
    ] = False,
) -> None:
    """List the models known by name: labels, bands, licence, measured metrics, where they come from."""
    from geores.card import list_bundles

    bundles, problems = list_bundles()
    for problem in problems:
        print(f'geores: warning: {problem}', file=sys.stderr)
    if as_json:
        for bundle in bundles:
            record = bundle.card.to_dict() | {'package': bundle.package, 'path': str(bundle.folder)}
            print(json.dumps(record))
        return
    from rich.console import Console

    console = Console(markup=False)
    for bundle in bundles:
        console.print(_table(bundle))
    console.print('Tasks, datamodules and architectures: geores train --list')


def _table(bundle: 'Bundle') -> 'Table':
    from rich.table import Table

    card = bundle.card
    table = Table(title=f'{card.name}: {card.description}', title_justify='left', show_header=False)
    low, high = card.gsd
    table.add_row('values' if card.task == 'regression' else 'labels', ', '.join(card.labels))
    table.add_row('bands', f'{", ".join(card.bands)} ({card.units})')
    table.add_row('pixels', f'{low:g} to {high:g} m, tiles of {card.input_size}')
    for source, metrics in card.metrics.items():
        table.add_row(f'measured on {source}', _metrics(metrics))
    table.add_row('trained on', card.training_data)
    table.add_row('licence', card.licence)
    table.add_row('comes with', bundle.package)
    return table


def _metrics(metrics: 'Mapping[str, object]') -> str:
    """The figures that people compare by, and what they were measured on."""
    shown = [f'{name} {value:.3f}' for name, value in metrics.items() if _told(name, value)]
    return f'{", ".join(shown)} ({metrics.get("split", "split unknown")})'


def _told(name: str, value: object) -> bool:
    return name in TOLD and isinstance(value, float)

"""`geores models`: the bundles that ship."""

import json
from typing import Annotated

import typer

__all__ = ['models']


def models(
    as_json: Annotated[bool, typer.Option('--json', help='One JSON object a line, the card.')] = False,
) -> None:
    """List the models that ship: labels, bands, licence and measured metrics."""
    from geores.card import list_models

    cards = list_models()
    if as_json:
        for card in cards:
            print(json.dumps(card.to_dict()))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)
    for card in cards:
        table = Table(title=f'{card.name}: {card.description}', title_justify='left', show_header=False)
        low, high = card.gsd
        table.add_row('labels', ', '.join(card.labels))
        table.add_row('bands', f'{", ".join(card.bands)} ({card.units})')
        table.add_row('pixels', f'{low:g} to {high:g} m, tiles of {card.input_size}')
        for source, metrics in card.metrics.items():
            table.add_row(f'measured on {source}', _metrics(metrics))
        table.add_row('trained on', card.training_data)
        table.add_row('licence', card.licence)
        console.print(table)


def _metrics(metrics: object) -> str:
    if not isinstance(metrics, dict):
        return str(metrics)
    return ', '.join(
        f'{name} {value:.3f}' if isinstance(value, float) else f'{name} {value}'
        for name, value in metrics.items()
    )

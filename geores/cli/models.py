"""`geores models`: the bundles that ship."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ['models']

TOLD = ('accuracy', 'f1_micro', 'f1_macro', 'ap_micro', 'ap_macro')


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


def _metrics(metrics: 'Mapping[str, object]') -> str:
    """The figures that people compare by, and what they were measured on."""
    shown = [f'{name} {value:.3f}' for name, value in metrics.items() if _told(name, value)]
    return f'{", ".join(shown)} ({metrics.get("split", "split unknown")})'


def _told(name: str, value: object) -> bool:
    return name in TOLD and isinstance(value, float)

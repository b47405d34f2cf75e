"""`geores info`: what a scene's headers say. `geores models`: the bundles that are known by name."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from geores.card import Bundle

__all__ = ['info', 'models']

HEADLINE_METRICS = ('accuracy', 'f1_micro', 'f1_macro', 'ap_micro', 'ap_macro', 'mae', 'rmse', 'r2')
"""Metrics that people compare models by."""

COLUMNS = ('name', 'resolution', 'dtype', 'shape', 'nodata', 'units', 'compression')


def info(
    scenes: Annotated[list[str], typer.Argument(metavar='SCENE...', help='Raster, folder or product.')],
    bands: Annotated[str | None, typer.Option(help='Names of the bands in file order, by commas.')] = None,
    allow_vrt: Annotated[bool, typer.Option(help='Open GDAL virtual rasters.')] = False,
    as_json: Annotated[bool, typer.Option('--json', help='One JSON object per line, one per scene.')] = False,
) -> None:
    """Say what a scene is, from its headers: bands, CRS, pixel size, and the model that suits it."""
    from geores.classification.scored import choose_model
    from geores.cli.common import listed
    from geores.errors import BandError
    from geores.inference.masks import mask_in_words
    from geores.scenes import open_scene
    from geores.scenes.scene import describe

    for path in scenes:
        scene = open_scene(path, bands=listed(bands), allow_vrt=allow_vrt)
        described = describe(scene) | {'mask': mask_in_words(scene)}
        try:
            described['model'] = choose_model(scene)[1]
        except BandError as error:
            described['model'] = str(error)
        if as_json:
            print(json.dumps(described))
        else:
            _print(described)


def _print(described: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    rows = described.pop('bands')
    for key, value in described.items():
        if value not in (None, [], ()):
            text = _text(value, between='; ' if key == 'notes' else ', ')
            console.print(Text.assemble((key, 'bold'), f': {text}'), soft_wrap=True)
    if not isinstance(rows, list) or not rows:
        return
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*(_text(row[name]) for name in COLUMNS))
    console.print(table)


def _text(value: object, between: str = 'x') -> str:
    if isinstance(value, list | tuple):
        return between.join(map(_text, value))
    if isinstance(value, float):
        return f'{value:.10g}'
    return '' if value is None else str(value)


def models(
    as_json: Annotated[
        bool, typer.Option('--json', help='One JSON object per line: the card, its package and folder.')
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
    """The headline metrics, and the split that they were measured on."""
    shown = [
        f'{name} {value:.3f}'
        for name, value in metrics.items()
        if name in HEADLINE_METRICS and isinstance(value, float)
    ]
    return f'{", ".join(shown)} ({metrics.get("split", "split unknown")})'

"""`geores info`: what a scene's headers say. `geores models`: the bundles that are known by name."""

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli import common
from geores.cli.common import plain_console
from geores.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from geores.card import Bundle, ModelCard

__all__ = ['info', 'models']

HEADLINE_METRICS = ('accuracy', 'f1_micro', 'f1_macro', 'ap_micro', 'ap_macro', 'mae', 'rmse', 'r2')
"""Metrics that people compare models by."""
ANSWERS = {
    'multi-label': '{} labels, any number a tile',
    'single-label': '{} classes, one a tile',
    'segmentation': '{} classes, one a pixel',
    'regression': '{} values a tile',
    'vqa': 'answers to questions',
}
"""What a model gives, by its task."""
LICENCE = 20
"""Letters of a licence's first words that are a use, such as 'Academic use'."""
WORST = 2
"""Labels that the table of all bundles names as the worst ones."""
COLUMNS = ('name', 'resolution', 'dtype', 'shape', 'nodata', 'units', 'compression')


def info(
    scenes: Annotated[list[str], typer.Argument(metavar='SCENE...', help='Raster, folder or product.')],
    bands: Annotated[str | None, typer.Option(help='Names of the bands in file order, by commas.')] = None,
    sensor: common.Sensor = None,
    offset: common.Offset = 'auto',
    allow_vrt: Annotated[bool, typer.Option(help='Open GDAL virtual rasters.')] = False,
    as_json: Annotated[bool, typer.Option('--json', help='One JSON object per line, one per scene.')] = False,
) -> None:
    """Say what a scene is, by which evidence, and the model that suits it."""
    from geores.classification.scored import choose_model
    from geores.cli.common import listed
    from geores.errors import BandError
    from geores.inference.masks import mask_in_words
    from geores.scenes import open_scene
    from geores.scenes.offset import checked_offset
    from geores.scenes.scene import describe

    for path in scenes:
        # The one look at pixels: a few windows, where Sentinel-2's offset is to be checked.
        scene = checked_offset(
            open_scene(path, bands=listed(bands), allow_vrt=allow_vrt, sensor=sensor, offset=offset)
        )
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
    from rich.table import Table
    from rich.text import Text

    console = plain_console()
    rows = described.pop('bands')
    for key, value in described.items():
        if value not in (None, [], ()):
            text = _text(value, between='; ' if key in {'notes', 'evidence'} else ', ')
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
    names: Annotated[
        list[str] | None, typer.Argument(metavar='[NAME...]', help='Bundles whose whole card is shown.')
    ] = None,
    as_json: Annotated[
        bool, typer.Option('--json', help='One JSON object per line: the card, its package and folder.')
    ] = False,
) -> None:
    """List the models known by name in one table, or show the whole card of some."""
    from geores.card import list_bundles

    bundles, problems = list_bundles()
    for problem in problems:
        print(f'geores: warning: {problem}', file=sys.stderr)
    chosen = _named(bundles, names) if names else bundles
    if as_json:
        for bundle in chosen:
            record = bundle.card.to_dict() | {'package': bundle.package, 'path': str(bundle.folder)}
            print(json.dumps(record))
        return

    console = plain_console()
    if names:
        for bundle in chosen:
            console.print(_card(bundle))
        return
    console.print(_overview(chosen))
    console.print('The whole card of one, with bands, licence and figures: geores models NAME')
    console.print('Tasks, datamodules and architectures: geores train --list')


def _named(bundles: 'list[Bundle]', names: list[str]) -> 'list[Bundle]':
    known = {bundle.card.name: bundle for bundle in bundles}
    for name in names:
        if name not in known:
            raise UsageError(f'no bundle is named {name!r}; known are {", ".join(known)}')
    return [known[name] for name in names]


def _overview(bundles: 'list[Bundle]') -> 'Table':
    """One row per bundle: what it is for, what it takes and gives, and where it is weakest."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_lines=True, pad_edge=False, expand=True)
    table.add_column('bundle', no_wrap=True)
    for head, ratio in (('what it is for', 5), ('takes', 4), ('labels', 3), ('weakest', 4)):
        table.add_column(head, ratio=ratio, overflow='fold')
    for bundle in bundles:
        card = bundle.card
        gives = ANSWERS[card.task].format(len(card.labels))
        table.add_row(card.name, _purpose(card), _taken(card), gives, _weakest(card))
    return table


def _purpose(card: 'ModelCard') -> str:
    """The first clause of the description, and in short a licence that restricts use."""
    first = re.split(r'[.:] | \(', card.description)[0].rstrip('.')
    use, restricted, _ = card.licence.partition(': ')
    return f'{first} ({use.lower()})' if restricted and len(use) < LICENCE else first


def _taken(card: 'ModelCard') -> str:
    low, high = card.gsd
    metres = f'{low:g} m' if low == high else f'{low:g} to {high:g} m'
    return f'{card.sensor}, {len(card.bands)} bands, {metres}'


def _weakest(card: 'ModelCard') -> str:
    if not card.limits or not card.limits.get('worst'):
        return 'not measured'
    worst = sorted(card.limits['worst'].items(), key=lambda pair: float(pair[1]))[:WORST]
    shown = ', '.join(f'{label.replace("_", " ")} {value:.2f}' for label, value in worst)
    return f'{shown} ({card.limits["figure"]})'


def _card(bundle: 'Bundle') -> 'Table':
    """All of a card that people read."""
    from rich.table import Table

    card = bundle.card
    table = Table(title=f'{card.name}: {card.description}', title_justify='left', show_header=False)
    low, high = card.gsd
    table.add_row('values' if card.task == 'regression' else 'labels', ', '.join(card.labels))
    table.add_row('bands', f'{", ".join(card.bands)} ({card.units})')
    table.add_row('pixels', f'{low:g} to {high:g} m, tiles of {card.input_size}')
    for source, metrics in card.metrics.items():
        table.add_row(f'measured on {source}', _metrics(metrics))
    limits = card.limits or {}
    if 'worst' in limits:
        worst = ', '.join(f'{label} {value:.3f}' for label, value in limits['worst'].items())
        table.add_row('weakest', f'{limits["figure"]}: {worst} ({limits["measured_on"]})')
    if 'unseen' in limits:
        table.add_row('never seen', '; '.join(limits['unseen']))
    if card.calibration and 'ece' in card.calibration:
        told = card.calibration
        table.add_row(
            'calibration error',
            f'{told["ece"]:.3f}, and {told["ece_uncalibrated"]:.3f} without the temperature '
            f'({told["measured_on"]})',
        )
    if card.intervals is not None:
        told_of = card.intervals
        table.add_row(
            'intervals of areas',
            f'made for {told_of.level:.0%}, held {told_of.held:.0%} ({told_of.measured_on})',
        )
    table.add_row('trained on', '\n'.join(map(str, card.training_data)))
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

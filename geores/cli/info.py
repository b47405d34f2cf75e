"""`geores info`: what a scene's headers say."""

import json
from typing import Annotated

import typer

__all__ = ['info']

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

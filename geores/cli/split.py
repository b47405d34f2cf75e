"""`geores split`: which ground trains, validates and tests."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli.option_sets import with_options
from geores.options import SplitOptions

if TYPE_CHECKING:
    from geores.splits.table import SplitResult

__all__ = ['split']

Option = typer.Option


@with_options(SplitOptions)
def split(
    input_: Annotated[
        str,
        typer.Argument(
            metavar='INPUT',
            help='GeoParquet, GeoPackage, GeoJSON, Shapefile, CSV with lon and lat, reBEN metadata, or a '
            'folder of georeferenced rasters.',
        ),
    ],
    out: Annotated[
        Path, Option('--out', '-o', help='.parquet, .gpkg, .geojson or .csv for the rows with column split.')
    ],
    *,
    options: SplitOptions,
    layer: Annotated[str | None, Option(help='Layer of INPUT.')] = None,
    id_: Annotated[
        str | None, Option('--id', metavar='COLUMN', help='Column of ids [id, patch_id, name ...].')
    ] = None,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace --out.')] = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Split rows by where they lie, so that the test shows how a model does on ground it has not seen.

    Neighbouring patches look alike: a model tested beside its training patches looks better than it is.
    Blocks, hexagons, clusters and regions go to one part each; --buffer keeps the parts apart. Test rows all
    stay; val rows near a test row are dropped, then training rows near either. `geores audit` says
    whether a split can be trusted, and how wide a buffer should be.
    """
    from geores.io.whole_files import check_free
    from geores.splits.files import check_suffix
    from geores.splits.source import read_source
    from geores.splits.table import make_split

    options.check()
    check_suffix(out)
    check_free([out], overwrite=overwrite)
    result = make_split(read_source(input_, layer, id_), options)
    result.save(out, overwrite=overwrite)
    if as_json:
        print(json.dumps(result.to_dict() | {'outputs': {'split': str(out)}}))
    else:
        _print(result, out)


def _print(result: 'SplitResult', out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    notes = Console(stderr=True, highlight=False, markup=False)
    for note in result.notes:
        notes.print(f'note: {note}', style='dim', soft_wrap=True)
    balance = result.balance
    table = Table('', *balance.sizes, title=result.source.name)
    for column in table.columns[1:]:
        column.justify = 'right'
    table.add_row('rows', *(f'{count:,}' for count in balance.sizes.values()))
    kept = [f'{balance.share(part):.2%}' if part != 'dropped' else '' for part in balance.sizes]
    table.add_row('share', *kept, end_section=True)
    for label, counts in balance.labels.items():
        cells = [f'{counts[part]:,} ({_share(counts[part], size)})' for part, size in balance.sizes.items()]
        table.add_row(label, *cells)
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f'split: {result.parts.id}', soft_wrap=True)
    console.print(f'{out}', soft_wrap=True)


def _share(count: int, size: int) -> str:
    return f'{count / size:.1%}' if size else '-'

"""`geores split`: which ground trains, validates and tests."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from geores.cli.common import listed
from geores.errors import UsageError

if TYPE_CHECKING:
    from geores.splits.table import SplitResult

__all__ = ['split']

Option = typer.Option


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
    method: Annotated[
        str, Option(help='reben (official), blocks, hexagons, clusters, regions or random.')
    ] = 'blocks',
    fractions: Annotated[str, Option(help='Of train,val,test, or of train,test.')] = '0.7,0.15,0.15',
    buffer: Annotated[
        float, Option(help='Metres between the middles of rows of different parts; nearer ones are dropped.')
    ] = 0.0,
    stratify: Annotated[
        str | None, Option(metavar='COLUMN', help='Label or list of labels to hold even.')
    ] = None,
    seed: Annotated[int, Option(help='Gives another split.')] = 0,
    block_size: Annotated[
        float | None, Option(help='Metres of a block, or from hexagon to hexagon [four footprints].')
    ] = None,
    block_crs: Annotated[
        str | None, Option(help='Equal-area CRS of the blocks [one about the middle of the rows].')
    ] = None,
    clusters: Annotated[int | None, Option(help='How many clusters [20].')] = None,
    regions: Annotated[str | None, Option(metavar='FILE', help='Polygons of regions.')] = None,
    region_column: Annotated[
        str | None, Option(help="Column with regions' names, of --regions or else of INPUT.")
    ] = None,
    images: Annotated[
        str | None,
        Option(metavar='DIR', help='Images named after the ids; near duplicates go to one part.'),
    ] = None,
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
    from geores.splits.table import SplitOptions, make_split

    options = SplitOptions(
        method=cast('Any', method),
        fractions=_fractions(fractions),
        buffer=buffer,
        stratify=stratify,
        seed=seed,
        block_size=block_size,
        block_crs=block_crs,
        clusters=clusters,
        regions=regions,
        region_column=region_column,
        images=images,
    )
    options.check()
    check_suffix(out)
    check_free([out], overwrite=overwrite)
    result = make_split(read_source(input_, layer, id_), options)
    result.save(out, overwrite=overwrite)
    if as_json:
        print(json.dumps(result.to_dict() | {'outputs': {'split': str(out)}}))
    else:
        _print(result, out)


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in listed(text) or [])
    except ValueError as error:
        raise UsageError(
            f'--fractions takes numbers separated by commas, such as 0.8,0.1,0.1, not {text!r}'
        ) from error


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

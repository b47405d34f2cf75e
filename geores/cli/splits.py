"""`geores split`: which ground trains, validates, tests. `geores audit`: can a split be trusted."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli import common
from geores.cli.common import figures_table, plain_console, print_notes, progress_bar
from geores.cli.option_sets import with_options
from geores.errors import OutputError
from geores.options import AuditOptions, SplitOptions

if TYPE_CHECKING:
    from rich.console import Console

    from geores.audit import AuditReport
    from geores.splits.table import SplitResult

__all__ = ['audit', 'split']

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
        _print_split(result, out)


def _print_split(result: 'SplitResult', out: Path) -> None:

    print_notes(result.notes)
    balance = result.balance
    table = figures_table('', *balance.sizes, title=result.source.name)
    table.add_row('rows', *(f'{count:,}' for count in balance.sizes.values()))
    kept = [f'{balance.share(part):.2%}' if part != 'dropped' else '' for part in balance.sizes]
    table.add_row('share', *kept, end_section=True)
    for label, counts in balance.labels.items():
        cells = [f'{counts[part]:,} ({_share(counts[part], size)})' for part, size in balance.sizes.items()]
        table.add_row(label, *cells)
    console = plain_console()
    console.print(table)
    console.print(f'split: {result.parts.id}', soft_wrap=True)
    console.print(f'{out}', soft_wrap=True)


def _share(count: int, size: int) -> str:
    return f'{count / size:.1%}' if size else '-'


_WORST = 5
"""Labels whose drift is printed."""


@with_options(AuditOptions)
def audit(
    split: Annotated[
        str,
        typer.Argument(
            metavar='SPLIT', help='Table of geores split, or any with positions and a column of parts.'
        ),
    ],
    *,
    options: AuditOptions,
    map_: Annotated[
        Path | None, Option('--map', metavar='FILE.png', help='Map of the parts to draw.')
    ] = None,
    layer: Annotated[str | None, Option(help='Layer of SPLIT.')] = None,
    id_: Annotated[
        str | None, Option('--id', metavar='COLUMN', help='Column of ids [id, patch_id, name ...].')
    ] = None,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace --map.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Say whether a split can be trusted: how near its parts come to each other, and what they share.

    Distances are geodesics between the centres of rows. Moran's I tells how far away labels still resemble
    each other: a buffer as wide as the distance where it has faded makes a test of new ground.
    """
    from geores.audit import audit_split
    from geores.audit.audit import write_map
    from geores.io.whole_files import check_free, whole_files
    from geores.splits.source import read_source

    options.check()
    if map_ is not None:
        if map_.suffix.lower() != '.png':
            raise OutputError(f'{map_}: the map is a .png')
        check_free([map_], overwrite=overwrite)
    with progress_bar('images', shown=not as_json and options.images is not None, quiet=quiet) as progress:
        report = audit_split(read_source(split, layer, id_), options, progress)
    if map_ is not None:
        with whole_files([map_]) as (partial,):
            write_map(report, partial)
    if as_json:
        print(json.dumps(report.to_dict() | {'outputs': {'map': str(map_)} if map_ else {}}))
    else:
        _print_audit(report, map_)


def _print_audit(report: 'AuditReport', map_: Path | None) -> None:

    print_notes(report.notes)
    console = plain_console()
    sizes = ', '.join(f'{count:,} {part}' for part, count in report.balance.sizes.items() if count)
    console.print(f'{len(report.names):,} rows at {report.places:,} places: {sizes}', soft_wrap=True)
    _print_distances(report, console)
    _print_labels(report, console)
    if report.duplicates is not None:
        found = report.duplicates
        console.print(
            f'{found.images:,} images compared: {found.groups:,} groups of near duplicates across parts'
        )
    console.print(f'verdict: {report.verdict.level}, grade {report.verdict.grade} (A to E)', style='bold')
    for reason in report.verdict.reasons:
        console.print(f'- {reason}', soft_wrap=True)
    console.print(f'recommended: {report.command}', soft_wrap=True)
    if map_ is not None:
        console.print(f'map: {map_}', soft_wrap=True)


def _print_distances(report: 'AuditReport', console: 'Console') -> None:

    from geores.audit.audit import metres

    columns = [f'{pair.part} - {pair.other}' for pair in report.distances]
    table = figures_table('nearest of the other part', *columns)
    for name, key in (('least', 'minimum'), ('1 % of rows', 'percentile_1'), ('median', 'median')):
        table.add_row(name, *(metres(getattr(pair, key)) for pair in report.distances))
    for radius in report.distances[0].rows_within:
        cells = [f'{pair.rows_within[radius]:,} ({pair.pairs_within[radius]:,})' for pair in report.distances]
        table.add_row(f'rows (pairs) within {metres(float(radius))}', *cells)
    table.add_row('rows at the same place', *(f'{pair.same_place:,}' for pair in report.distances))
    if report.overlaps is not None:
        table.add_row('rows that overlap', *(f'{pair.rows:,}' for pair in report.overlaps))
    if report.drift and len(report.drift) == len(report.distances):
        table.add_row('drift of labels, bits', *(f'{pair.overall:.4f}' for pair in report.drift))
    console.print(table)


def _print_labels(report: 'AuditReport', console: 'Console') -> None:
    from geores.audit.audit import metres

    for pair in report.drift or ():
        worst = sorted(pair.labels.items(), key=lambda item: -item[1])[:_WORST]
        told = ', '.join(f'{name} {bits:.4f}' for name, bits in worst)
        console.print(f'labels that drift most from {pair.other} to {pair.part}: {told}', soft_wrap=True)
    found = report.autocorrelation
    if found is None:
        return
    curve = ', '.join(
        f'{value:.2f} to {metres(edge)}'
        for edge, value in zip(found.distances, found.values, strict=True)
        if value is not None
    )
    console.print(f"Moran's I of labels by distance: {curve}", soft_wrap=True)
    if not found.alike:
        console.print('labels of neighbours are hardly alike: they ask for no buffer', soft_wrap=True)
        return
    half, gone = (
        'beyond that' if one is None else f'at {metres(one)}' for one in (found.halves_at, found.fades_at)
    )
    console.print(f'it has halved {half}, and faded below 0.1 {gone}: a buffer lies between', soft_wrap=True)

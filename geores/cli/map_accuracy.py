"""`geores sample`: a random sample of a map. `geores accuracy`: what follows when it is labelled."""

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from geores.cli.common import figures_table, plain_console, print_notes, print_outputs
from geores.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from geores.map_accuracy.assess import AccuracyReport
    from geores.map_accuracy.sampling import Sample

__all__ = ['accuracy', 'sample']

Option = typer.Option


def sample(
    map_: Annotated[
        str,
        typer.Argument(
            metavar='MAP', help='Raster of classes, or _scores.tif or _tiles.parquet of classify.'
        ),
    ],
    out: Annotated[
        Path, Option('--out', '-o', help='GeoPackage for the points; the design goes into a .json beside it.')
    ],
    size: Annotated[int | None, Option(help='Points in all.')] = None,
    standard_error: Annotated[
        float | None, Option(help='Of overall accuracy, such as 0.01; instead of --size.')
    ] = None,
    expected_accuracy: Annotated[
        str | None,
        Option(help='With --standard-error: 0.85, or user\'s accuracies such as "Water=0.95,Forest=0.8".'),
    ] = None,
    allocation: Annotated[
        str, Option(help='recommended (rare classes get --min-per-class), proportional or equal.')
    ] = 'recommended',
    min_per_class: Annotated[int, Option(help='Least points of a class when recommended.')] = 50,
    seed: Annotated[int, Option(help='Of the random draw.')] = 0,
    classes: Annotated[
        str | None, Option(help='Names of values, such as "1=Water,2=Forest"; others are left out.')
    ] = None,
    geometry: Annotated[str, Option(help='point, or polygon: the outline of the pixel.')] = 'point',
    blind: Annotated[bool, Option('--blind', help="Leave the map's class out of the points.")] = False,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace --out, labels included.')] = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object: the design.')] = False,
) -> None:
    """Draw a stratified random sample of a map, to label with what is really there (see accuracy).

    Why: the share of area that one gets by counting a map's pixels is biased, since the errors of a map
    do not cancel. Label the points in their column "reference", as in QGIS, without looking at the map,
    and `geores accuracy` tells how accurate the map is and corrects the areas.
    """
    from geores.map_accuracy.sampling import check_sample
    from geores.map_accuracy.sampling import sample as draw

    check_sample(out, overwrite=overwrite)
    drawn = draw(
        map_,
        size=size,
        standard_error=standard_error,
        expected_accuracy=_expected(expected_accuracy),
        allocation=cast('Any', allocation),
        min_per_class=min_per_class,
        seed=seed,
        classes=_parse_classes(classes, '--classes') if classes else None,
        geometry=cast('Any', geometry),
        blind=blind,
    )
    paths = drawn.save(out, overwrite=overwrite)
    if as_json:
        told = drawn.design.to_dict()
        told.pop('strata_by_id')
        print(json.dumps(told | {'outputs': {kind: str(path) for kind, path in paths.items()}}))
    else:
        _print_sample(drawn, paths)


def _expected(text: str | None) -> Any:  # noqa: ANN401 - a number, names with numbers, or None
    if text is None or '=' in text:
        return None if text is None else _parse_values(text, '--expected-accuracy')
    return _parse_values(f'all={text}', '--expected-accuracy')['all']


def _parse_pairs(text: str, option: str) -> dict[str, str]:
    """Read ``Water=0.9,Forest=0.8``."""
    pairs: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(','))):
        left, equals, right = (piece.strip() for piece in part.partition('='))
        if not (left and equals and right):
            raise UsageError(f'{option} is written as a=b,c=d: {part!r} cannot be read')
        if left in pairs:
            raise UsageError(f'{option} names {left!r} twice')
        pairs[left] = right
    return pairs


def _parse_values(text: str, option: str) -> dict[str, float]:
    """Read ``Water=0.9,Forest=0.8`` as numbers."""
    pairs = _parse_pairs(text, option)
    try:
        return {name: float(value) for name, value in pairs.items()}
    except ValueError as error:
        raise UsageError(f'{option} takes a number for each class, not {text!r}') from error


def _parse_classes(text: str, option: str) -> dict[int, str]:
    """Read ``1=Water,2=Forest``."""
    pairs = _parse_pairs(text, option)
    try:
        return {int(value): name for value, name in pairs.items()}
    except ValueError as error:
        raise UsageError(f'{option} takes whole numbers, such as 1=Water,2=Forest, not {text!r}') from error


def _print_sample(drawn: 'Sample', paths: dict[str, Path]) -> None:

    design = drawn.design
    print_notes(design.notes)
    console = plain_console()
    metres = design.area_unit == 'm2'
    total = sum(stratum.area for stratum in design.strata)
    table = figures_table(
        'stratum',
        f'{design.unit}s',
        'ha' if metres else 'area',
        'share',
        'sample',
        title=Path(design.map).name,
    )
    for stratum in design.strata:
        area = stratum.area / 10_000 if metres else stratum.area
        table.add_row(
            stratum.map_class,
            f'{stratum.units:,}',
            f'{area:,.1f}',
            f'{stratum.area / total:.2%}',
            f'{stratum.sample:,}',
        )
    console.print(table)
    console.print(f'{design.size:,} points to label in the column "reference"', soft_wrap=True)
    print_outputs(console, paths)


def accuracy(
    sample: Annotated[str, typer.Argument(metavar='SAMPLE', help='Labelled points of `geores sample`.')],
    reference: Annotated[str, Option(help='Column of the true class.')] = 'reference',
    map_column: Annotated[str, Option(help="Column of the map's class.")] = 'map_class',
    map_: Annotated[
        str | None,
        Option('--map', metavar='MAP', help="Raster to look the map's class up in, or to take areas from."),
    ] = None,
    classes: Annotated[str | None, Option(help='Names of its values, such as "1=Water,2=Forest".')] = None,
    areas: Annotated[
        str | None,
        Option(help='Mapped m² of each class, such as "Water=2e6,Forest=9e7"; else from the design.'),
    ] = None,
    design: Annotated[str | None, Option(help='JSON of `geores sample` [beside SAMPLE].')] = None,
    out: Annotated[Path | None, Option('--out', '-o', help='Folder for CSV, JSON and a plot.')] = None,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace files in --out.')] = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object: all figures.')] = False,
) -> None:
    """Estimate a map's accuracy and the true areas of its classes from a labelled sample.

    Why: the share of area that one gets by counting a map's pixels is biased, since the errors of a map
    do not cancel. These estimates (Olofsson et al. 2014; Stehman 2014) correct for the errors that the
    sample shows, and come with 95 % confidence intervals.
    """
    from geores.io.whole_files import check_free
    from geores.map_accuracy.assess import accuracy as estimate
    from geores.map_accuracy.assess import report_files

    if out is not None:
        check_free(list(report_files(out).values()), overwrite=overwrite)
    report = estimate(
        sample,
        reference=reference,
        map_column=map_column,
        map=map_,
        classes=_parse_classes(classes, '--classes') if classes else None,
        areas=_parse_values(areas, '--areas') if areas else None,
        design=design,
    )
    paths = {} if out is None else report.save(out, overwrite=overwrite)
    if as_json:
        outputs = {kind: str(path) for kind, path in paths.items()}
        print(json.dumps(report.to_dict() | ({'outputs': outputs} if outputs else {})))
    else:
        _print_report(report, paths)


def _print_report(report: 'AccuracyReport', paths: dict[str, Path]) -> None:

    print_notes(report.notes)
    console = plain_console()
    counts = [[f'{count:,}' if count else '' for count in row] for row in report.counts.tolist()]
    shares = [
        [f'{100 * part:.1f}' if part else '' for part in row] for row in report.estimates.matrix.tolist()
    ]
    console.print(_matrix(report, counts, 'Error matrix: labelled points'))
    console.print(_matrix(report, shares, 'Error matrix: estimated % of area'))
    console.print(_classes(report))
    overall = report.overall
    console.print(
        f'overall accuracy {overall.value:.3f} ± {overall.margin:.3f} from {report.labelled:,} '
        'labelled points; ± is half a 95 % confidence interval',
        soft_wrap=True,
    )
    print_outputs(console, paths)


def _table(*columns: str, title: str) -> 'Table':
    """A narrow table with numbers in all columns but the first."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, title=title, box=box.SIMPLE, title_justify='left', collapse_padding=True)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = 'right', True
    return table


def _matrix(report: 'AccuracyReport', cells: list[list[str]], title: str) -> 'Table':
    """A table of an error matrix; reference classes appear by number, so that there is room for many."""
    numbers = [str(place) for place in range(1, len(report.classes) + 1)]
    table = _table('map \\ reference', *numbers, title=title)
    for number, name, row in zip(numbers, report.classes, cells, strict=True):
        table.add_row(f'{number} {name}', *row)
    return table


def _classes(report: 'AccuracyReport') -> 'Table':
    from geores.map_accuracy.assess import area_unit

    scale, unit, spec = area_unit(report)
    heads = ("user's", "producer's", f'mapped {unit}', f'estimated {unit}')
    table = _table(
        'class', *heads, title="User's and producer's accuracy; areas corrected for the errors of the map"
    )
    for row in report.table.to_dict('records'):
        table.add_row(
            row['class'],
            _with_margin(row['users_accuracy'], row['users_accuracy_ci95'], '.3f'),
            _with_margin(row['producers_accuracy'], row['producers_accuracy_ci95'], '.3f'),
            _number(row['mapped_area'] * scale, spec),
            _with_margin(row['area'] * scale, row['area_ci95'] * scale, spec),
        )
    return table


def _with_margin(value: float, margin: float, spec: str) -> str:
    return _number(value, spec) if isnan(value) else f'{value:{spec}} ± {margin:{spec}}'


def _number(value: float, spec: str) -> str:
    return '-' if isnan(value) else f'{value:{spec}}'

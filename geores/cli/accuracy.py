"""`geores accuracy`: accuracy of a map and true areas, from a labelled sample."""

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from geores.map_accuracy.report import AccuracyReport

__all__ = ['accuracy']

Option = typer.Option


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
    from geores.map_accuracy.class_names import parse_classes, parse_values
    from geores.map_accuracy.report import report_files

    if out is not None:
        check_free(list(report_files(out).values()), overwrite=overwrite)
    report = estimate(
        sample,
        reference=reference,
        map_column=map_column,
        map=map_,
        classes=parse_classes(classes, '--classes') if classes else None,
        areas=parse_values(areas, '--areas') if areas else None,
        design=design,
    )
    paths = {} if out is None else report.save(out, overwrite=overwrite)
    if as_json:
        outputs = {kind: str(path) for kind, path in paths.items()}
        print(json.dumps(report.to_dict() | ({'outputs': outputs} if outputs else {})))
    else:
        _print(report, paths)


def _print(report: 'AccuracyReport', paths: dict[str, Path]) -> None:
    from rich.console import Console

    notes = Console(stderr=True, highlight=False, markup=False)
    for note in report.notes:
        notes.print(f'note: {note}', style='dim', soft_wrap=True)
    console = Console(highlight=False, markup=False)
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
    for kind, path in paths.items():
        console.print(f'{kind}: {path}', soft_wrap=True)


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
    from geores.map_accuracy.report import area_unit

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

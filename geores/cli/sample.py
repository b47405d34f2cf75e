"""`geores sample`: a stratified random sample of a map, to be labelled."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from geores.map_accuracy.sampling import Sample

__all__ = ['sample']

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
    from geores.map_accuracy.class_names import parse_classes, parse_values
    from geores.map_accuracy.sampling import check_sample
    from geores.map_accuracy.sampling import sample as draw

    check_sample(out, overwrite=overwrite)
    drawn = draw(
        map_,
        size=size,
        standard_error=standard_error,
        expected_accuracy=_expected(expected_accuracy, parse_values),
        allocation=cast('Any', allocation),
        min_per_class=min_per_class,
        seed=seed,
        classes=parse_classes(classes, '--classes') if classes else None,
        geometry=cast('Any', geometry),
        blind=blind,
    )
    paths = drawn.save(out, overwrite=overwrite)
    if as_json:
        told = drawn.design.to_dict()
        told.pop('strata_by_id')
        print(json.dumps(told | {'outputs': {kind: str(path) for kind, path in paths.items()}}))
    else:
        _print(drawn, paths)


def _expected(text: str | None, parse: Any) -> Any:  # noqa: ANN401 - a number, names with numbers, or None
    if text is None or '=' in text:
        return None if text is None else parse(text, '--expected-accuracy')
    return parse(f'all={text}', '--expected-accuracy')['all']


def _print(drawn: 'Sample', paths: dict[str, Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    design = drawn.design
    for note in design.notes:
        Console(stderr=True, highlight=False, markup=False).print(
            f'note: {note}', style='dim', soft_wrap=True
        )
    console = Console(highlight=False, markup=False)
    metres = design.area_unit == 'm2'
    total = sum(stratum.area for stratum in design.strata)
    table = Table(
        'stratum',
        f'{design.unit}s',
        'ha' if metres else 'area',
        'share',
        'sample',
        title=Path(design.map).name,
    )
    for column in table.columns[1:]:
        column.justify = 'right'
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
    for kind, path in paths.items():
        console.print(f'{kind}: {path}', soft_wrap=True)

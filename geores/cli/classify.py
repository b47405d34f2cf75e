"""`geores classify`: scenes of any size to label maps. `geores merge`: its shards to the results.

A result of this run is printed from itself, a result of an earlier run from its entry in `run.json`.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.classification.options import ClassifyOptions
from geores.cli import common
from geores.cli.common import figures_table, keeping, listed, plain_console, print_outputs, progress_bar
from geores.cli.option_sets import with_options
from geores.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from geores.classification.result import Result
    from geores.inference.prepared import Progress, RunTime
    from geores.scenes import Scene

__all__ = ['classify', 'merge']

Option = typer.Option


@with_options(ClassifyOptions)
def classify(
    scenes: Annotated[
        list[str], typer.Argument(metavar='SCENE...', help='GeoTIFF, folder of bands or Sentinel-2 product.')
    ],
    out: Annotated[Path, Option('--out', '-o', help='Folder for the results.')],
    model: Annotated[
        str, Option(help='Name or path of a bundle; auto picks by bands and pixel size.')
    ] = 'auto',
    beside: Annotated[
        list[str] | None,
        Option('--with', metavar='FILE', help='Another source of the same place (repeatable).'),
    ] = None,
    with_bands: Annotated[
        str | None, Option(help='Names of the bands of --with in file order, such as VV,VH.')
    ] = None,
    bands: common.Bands = None,
    sensor: common.Sensor = None,
    offset: common.Offset = 'auto',
    *,
    options: ClassifyOptions,
    shard: Annotated[
        str | None,
        Option(metavar='I/N', help='Do the I-th of N shares only; geores merge OUT puts all together.'),
    ] = None,
    dask: Annotated[
        str | None,
        Option(metavar='ADDRESS', help='Do it on the workers of this scheduler of dask, by shards.'),
    ] = None,
    resume: common.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace results in --out.')] = False,
    allow_vrt: common.AllowVrt = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object per line, one per scene.')] = False,
) -> None:
    """Classify scenes of any size to maps, areas and a picture in the folder OUT."""
    from geores.classification.classify import classify_many

    given = options.given() | {
        'bands': listed(bands),
        'allow_vrt': allow_vrt,
        'sensor': sensor,
        'offset': offset,
        'resume': resume,
        'overwrite': overwrite,
    }
    if dask is not None:
        from geores.classification.on_dask import classify_on_dask

        if shard is not None or with_bands is not None:
            raise UsageError(f'{"--shard" if shard else "--with-bands"} does not go with --dask: drop one')
        outcomes = classify_on_dask(dask, scenes, model, out=out, beside=beside or [], **given)
    else:
        outcomes = classify_many(
            scenes,
            model,
            out=out,
            beside=_beside(beside or [], listed(with_bands), allow_vrt=allow_vrt),
            shard=shard,
            watch=partial(_watched, shown=not as_json, quiet=quiet),
            **given,
        )
    show = print_json if as_json else print_result
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.result is not None:
                show(outcome.result, out)
            elif outcome.share is not None and shard is not None:
                print_share(outcome.name, outcome.share, shard, out, as_json=as_json)
            elif outcome.earlier is not None:
                print_earlier(outcome.name, outcome.earlier, out, as_json=as_json)
            else:
                print(f'geores: error: {" ".join(str(outcome.error).split())}', file=sys.stderr)


def _beside(paths: list[str], bands: list[str] | None, *, allow_vrt: bool) -> 'list[Scene]':
    """Open the other sources; --with-bands names the bands of one."""
    from geores.scenes import open_scene

    if bands is not None and len(paths) != 1:
        raise UsageError(f'--with-bands names the bands of one --with, and there are {len(paths)}')
    return [open_scene(path, bands=bands, allow_vrt=allow_vrt) for path in paths]


@contextmanager
def _watched(name: str, folder: Path, *, shown: bool, quiet: bool) -> 'Iterator[Progress]':
    """Show the progress of a scene, and say what is kept where it is stopped."""
    with keeping(name, folder) as kept, progress_bar(name, shown=shown, quiet=quiet) as progress:
        yield kept.watch(progress)


def merge(
    folder: Annotated[
        Path, typer.Argument(metavar='DIR', help='Folder of results in which all shards lie (--out).')
    ],
    overwrite: Annotated[bool, Option('--overwrite', help='Replace results in DIR.')] = False,
    mixed: Annotated[
        bool, Option('--mixed', help='Shards may have been computed on machines of different kinds.')
    ] = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object per line, one per scene.')] = False,
) -> None:
    """Put the shards of geores classify --shard together: the same files as those of one run."""
    from geores.classification.merge import merge as merge_shards

    show = print_json if as_json else print_result
    with closing(merge_shards(folder, overwrite=overwrite, mixed=mixed)) as outcomes:
        for outcome in outcomes:
            if outcome.result is not None:
                show(outcome.result, folder)
            elif outcome.earlier is not None:
                print_earlier(outcome.name, outcome.earlier, folder, as_json=as_json)
            else:
                print(f'geores: error: {" ".join(str(outcome.error).split())}', file=sys.stderr)


_OF_TILES = {'single-label': ' of tiles', 'multi-label': ' of tiles with it'}
"""What areas and shares measure, by the model's task; models that label pixels need no such words."""


def print_json(result: 'Result', out: Path) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(_record(result, out)), flush=True)


def print_result(result: 'Result', out: Path) -> None:
    """Print notes, a table of labels with areas and shares, and where the files lie."""
    console = plain_console()
    for note in result.info.notes:
        console.print(f'note: {note}', style='dim', soft_wrap=True)
    console.print(_table(result))
    for line in _remarks(result):
        console.print(line, soft_wrap=True)
    info = result.info
    console.print(
        f'{result.plan.tiling.count:,} tiles, {result.valid_share:.1%} of the area classified; '
        f'{info.tiles:,} tiles in {info.seconds:.1f} s ({info.tiles_per_second:,.0f} tiles/s, '
        f'{info.device}, {info.precision})',
        soft_wrap=True,
    )
    for kind, path in _record(result, out)['outputs'].items():
        console.print(f'{kind}: {path}', soft_wrap=True)


def _record(result: 'Result', out: Path) -> dict[str, Any]:
    """The JSON object of a result."""
    from geores.classification.outputs import kinds_of, legend_values, outputs

    paths = outputs(out, result.name)
    return {
        'scene': result.name,
        'model': result.card.name,
        'device': result.info.device,
        'precision': result.info.precision,
        'tiles': result.plan.tiling.count,
        'valid_share': round(result.valid_share, 6),
        **{
            kind: {label: figure and round(figure, 6) for label, figure in figures.items()}
            for kind, figures in result.figures.items()
        },
        'legend': legend_values(result),
        'outputs': {kind: str(paths[kind]) for kind in kinds_of(result)},
        'seconds': round(result.info.seconds, 3),
        'tiles_per_second': round(result.info.tiles_per_second, 2),
        'notes': list(result.notes),
    }


def _table(result: 'Result') -> 'Table':

    from geores.cartography.areas import say_area
    from geores.classification.result import Classification

    title = f'{result.name} ({result.card.name})'
    if isinstance(result, Classification) and result.card.task == 'regression':
        table = figures_table('value', 'mean of valid area', title=title)
        for label, figure in result.means.items():
            table.add_row(label, f'{figure:.4g}')
        return table
    what = _OF_TILES.get(result.card.task, '')
    table = figures_table('label', f'area{what}', f'share{what}', title=title)
    metric = 'area_m2' in result.areas
    for row in result.areas.to_dict('records'):
        area = say_area(row['area_m2']) if metric else f'{row["area_px"]:,.0f} px'
        table.add_row(row['label'], area, f'{row["share"]:.1%}')
    return table


def _remarks(result: 'Result') -> list[str]:
    """Sentences that keep the numbers from being misread."""
    lines = []
    if result.card.task in ('single-label', 'multi-label'):
        tile = result.plan.tiling.y.tile
        size = f'{tile} pixels' if result.gsd is None else f'{tile * result.gsd:,.0f} m'
        several = '; shares of several labels may add up to more' if result.card.task == 'multi-label' else ''
        lines.append(
            f'Areas are of tiles of {size}: a tile counts whole for its label, as where a river crosses it'
            f'{several}.'
        )
    if result.sureness is not None:
        lines.append(str(result.sureness))
    return lines


def print_earlier(name: str, entry: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    """Print the result of an earlier run from its record.

    Args:
        name: of the scene.
        entry: of the scene in the record.
        folder: of the results.
        as_json: as one JSON object on a line, with `done_before`.
    """
    from rich.table import Table

    from geores.classification.earlier_runs import DONE, as_printed

    record = as_printed(entry, folder, name)
    if as_json:
        print(json.dumps(record), flush=True)
        return
    console = plain_console()
    for note in record.get('notes', []):
        console.print(f'note: {note}', style='dim', soft_wrap=True)
    for kind in ('labels', 'means'):
        if isinstance(figures := record.get(kind), dict):
            head = ('label', 'share of valid area') if kind == 'labels' else ('value', 'mean of valid area')
            table = Table(*head, title=f'{name} ({record.get("model")})')
            for label, figure in figures.items():
                table.add_row(label, _in_words(figure, share=kind == 'labels'))
            console.print(table)
    console.print(f'{DONE}: {record["tiles"]:,} tiles; --overwrite computes them again', soft_wrap=True)
    print_outputs(console, record['outputs'])


def print_share(name: str, took: 'RunTime', shard: str, folder: Path, *, as_json: bool) -> None:
    """Print what a shard did.

    Args:
        name: of the scene.
        took: time and tiles.
        shard: 'I/N'.
        folder: where its work is kept.
        as_json: as one JSON object on a line.
    """
    rate = took.tiles / took.seconds if took.seconds > 0 else 0.0
    if as_json:
        record = {'scene': name, 'shard': shard, 'tiles': took.tiles, 'seconds': round(took.seconds, 3)}
        print(json.dumps(record | {'tiles_per_second': round(rate, 2), 'outputs': {}}), flush=True)
        return
    print(
        f'{name}: shard {shard} is done: {took.tiles:,} tiles in {took.seconds:.1f} s ({rate:,.0f} tiles/s); '
        f'geores merge {folder} puts all shards together',
        flush=True,
    )


def _in_words(figure: float | None, *, share: bool) -> str:
    if figure is None:
        return ''
    return f'{figure:.1%}' if share else f'{figure:.4g}'

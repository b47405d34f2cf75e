"""How results are printed: as one JSON object per line, or as notes, a table and paths.

A result of this run is printed from itself, a result of an earlier run from its entry in `run.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from geores.classification.result import Result
    from geores.inference.prepared import RunTime

__all__ = ['print_earlier', 'print_earlier_answer', 'print_json', 'print_result', 'print_share']

_OF_TILES = {'single-label': ' of tiles', 'multi-label': ' of tiles with it'}
"""What areas and shares measure, by the model's task; models that label pixels need no such words."""


def print_json(result: 'Result', out: Path) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(_record(result, out)), flush=True)


def print_result(result: 'Result', out: Path) -> None:
    """Print notes, a table of labels with areas and shares, and where the files lie."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)  # paths may hold brackets
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
    from rich.table import Table

    from geores.cartography.areas import say_area
    from geores.classification.result import Classification

    title = f'{result.name} ({result.card.name})'
    if isinstance(result, Classification) and result.card.task == 'regression':
        table = Table('value', 'mean of valid area', title=title)
        table.columns[1].justify = 'right'
        for label, figure in result.means.items():
            table.add_row(label, f'{figure:.4g}')
        return table
    what = _OF_TILES.get(result.card.task, '')
    table = Table('label', f'area{what}', f'share{what}', title=title)
    for column in table.columns[1:]:
        column.justify = 'right'
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
    from rich.console import Console
    from rich.table import Table

    from geores.classification.earlier_runs import DONE, as_printed

    record = as_printed(entry, folder, name)
    if as_json:
        print(json.dumps(record), flush=True)
        return
    console = Console(highlight=False, markup=False)  # paths may hold brackets
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
    _print_outputs(console, record)


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


def print_earlier_answer(entry: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    """Print the answer of an earlier run from its record.

    Args:
        entry: of the question in the record.
        folder: of the results.
        as_json: as one JSON object on a line, with `done_before`.
    """
    from rich.console import Console

    from geores.asking.understand import how_sure
    from geores.classification.earlier_runs import DONE, as_printed

    record = as_printed(entry, folder)
    if as_json:
        print(json.dumps(record), flush=True)
        return
    console = Console(highlight=False, markup=False)
    console.print(record['question'], style='bold', soft_wrap=True)
    console.print(f'  {record["text"]}{how_sure(record["probability"])}', soft_wrap=True)
    for note in record.get('notes', []):
        console.print(f'  note: {note}', style='dim', soft_wrap=True)
    console.print(f'  {DONE}; --overwrite computes it again', soft_wrap=True)
    _print_outputs(console, record, indent='  ')


def _in_words(figure: float | None, *, share: bool) -> str:
    if figure is None:
        return ''
    return f'{figure:.1%}' if share else f'{figure:.4g}'


def _print_outputs(console: Any, record: Mapping[str, Any], indent: str = '') -> None:  # noqa: ANN401
    for kind, path in record['outputs'].items():
        console.print(f'{indent}{kind}: {path}', soft_wrap=True)

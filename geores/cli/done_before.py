"""What a command prints of results that stand already."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ['show_answer_done', 'show_done']


def show_done(name: str, entry: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    """Print what a classification gave, from its record.

    Args:
        name: of the scene.
        entry: what the record says of it.
        folder: of the results.
        as_json: as one JSON object a line, with ``done_before``.
    """
    from rich.console import Console
    from rich.table import Table

    from geores.pipelines.done_before import DONE, as_printed

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


def show_answer_done(entry: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    """Print an answer that was given before, from its record.

    Args:
        entry: what the record says of the question.
        folder: of the results.
        as_json: as one JSON object a line, with ``done_before``.
    """
    from rich.console import Console

    from geores.asking.words import how_sure
    from geores.pipelines.done_before import DONE, as_printed

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

"""What commands share: reading lists and sizes from options, and the progress bar."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geores.errors import UsageError

if TYPE_CHECKING:
    from geores.inference.work import Progress

__all__ = ['listed', 'numbers', 'parse_size', 'progress_bar']

UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


def listed(text: str | None) -> list[str] | None:
    """Names separated by commas."""
    return None if text is None else [name.strip() for name in text.split(',') if name.strip()]


def numbers(text: str | None, option: str) -> list[int] | None:
    """Whole numbers separated by commas."""
    names = listed(text)
    try:
        return None if names is None else [int(name) for name in names]
    except ValueError as error:
        raise UsageError(f'{option} takes whole numbers separated by commas, not {text!r}') from error


def parse_size(text: str) -> int:
    """Bytes of a size such as ``500M``, ``8G`` or ``1.5TB``."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?', text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f'a size is a number with K, M, G or T, such as 8G, not {text!r}')
    return int(float(match[1]) * UNITS[match[2].upper()])


@contextmanager
def progress_bar(name: str, *, shown: bool = True, unit: str = 'tiles') -> Iterator['Progress']:
    """A bar on standard error with tiles, or what `unit` says, a second and the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn('{task.fields[rate]}'),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(name, total=None, rate='')

        def advance(tiles: int, total: int) -> None:
            speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
            rate = '' if speed is None else f'{speed:,.0f} {unit}/s'
            bar.update(task, advance=tiles, total=total, rate=rate)

        yield advance

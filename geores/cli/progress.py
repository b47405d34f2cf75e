"""What a command says while it works: a bar, plain lines where there is no terminal, and what is kept."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from geores.errors import GeoresError

if TYPE_CHECKING:
    from geores.inference.work import Progress

__all__ = ['Kept', 'keeping', 'progress_bar']

EVERY_SECONDS = 30.0
"""From one plain line to the next."""


@contextmanager
def progress_bar(name: str, *, shown: bool = True, unit: str = 'tiles') -> Iterator['Progress']:
    """A bar on standard error with tiles, or what `unit` says, a second and the time left.

    Where standard error is no terminal, a plain line every 30 s says the same, whatever `shown` says.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(name, unit).advance
        return
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn('{task.fields[rate]}'),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not shown) as bar:
        task = bar.add_task(name, total=None, rate='')

        def advance(tiles: int, total: int) -> None:
            speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
            rate = '' if speed is None else f'{speed:,.0f} {unit}/s'
            bar.update(task, advance=tiles, total=total, rate=rate)

        yield advance


class _Lines:
    """Plain lines for logs."""

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit
        self.done = self.before = 0
        self.start: float | None = None
        self.said = time.monotonic()

    def advance(self, count: int, total: int) -> None:
        """Count on, and say so where the last line is 30 s old."""
        now = time.monotonic()
        self.done += count
        if self.start is None:  # what comes first was finished before
            self.start, self.before = now, self.done
        if now - self.said < EVERY_SECONDS or self.done >= total:
            return
        self.said = now
        share = f'{100 * self.done / max(total, 1):.0f} %'
        line = f'{self.name}: {self.done:,} of {total:,} {self.unit} ({share})'
        speed = (self.done - self.before) / max(now - self.start, 1e-9)
        if speed > 0:
            rate = f'{speed:,.0f}' if speed >= 10 else f'{speed:.2g}'
            line += f', {rate} {self.unit}/s, {_duration((total - self.done) / speed)} left'
        print(f'geores: {line}', file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60} min'


class Kept:
    """Counts what a run has finished, of which nothing is lost where it stops."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.done = self.total = 0
        self._started = False

    def watch(self, progress: 'Progress') -> 'Progress':
        """The same progress, counted; says what a run that continues had before."""

        def advance(tiles: int, total: int) -> None:
            self.done, self.total = self.done + tiles, total
            if not self._started and tiles:
                print(
                    f'geores: {self.name}: continues: {tiles:,} of {total:,} tiles were kept',
                    file=sys.stderr,
                    flush=True,
                )
            self._started = True
            progress(tiles, total)

        return advance

    def tell(self) -> None:
        """Say what is kept, where anything is."""
        if self.done and self.folder.is_dir():
            print(
                f'geores: {self.name}: stopped: {self.done:,} of {self.total:,} tiles are kept in '
                f'{self.folder}; run the same command again to continue',
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def keeping(name: str, folder: Path | None) -> Iterator[Kept]:
    """Say what is kept where the block is left by an error or an interrupt.

    Args:
        name: of the scene.
        folder: of unfinished work; None where nothing is kept.
    """
    kept = Kept(name, folder or Path())
    try:
        yield kept
    except (GeoresError, KeyboardInterrupt):
        if folder is not None:
            kept.tell()
        raise

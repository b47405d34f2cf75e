"""What commands share: options, reading lists and sizes from them, and what is shown while they work.

Library code never prints: it logs. A command that runs long shows these messages as plain lines, warnings
with `geores: warning:` before them. A message whose record carries `result` (by `extra={'result': ...}`) is
part of the output of the command and goes to standard output, all others go to standard error.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from geores.errors import GeoresError, UsageError, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from geores.inference.prepared import Progress

__all__ = [
    'AllowVrt',
    'Bands',
    'KeptWork',
    'Offset',
    'Quiet',
    'Resume',
    'Sensor',
    'cores',
    'escaped_output',
    'figures_table',
    'keeping',
    'listed',
    'numbers',
    'parse_size',
    'plain_console',
    'print_messages',
    'print_notes',
    'print_outputs',
    'progress_bar',
]


_STYLES: Final = re.compile(r'\x1b\[\??[0-9;]*[A-KhlmnsuG]')
"""Codes of colours and of places of the cursor, by which tables and bars are drawn on a terminal."""


class _Escaped:
    """A text stream that writes control characters as escapes.

    A terminal gets codes of colours and cursor, which `rich` draws with; a file or a pipe gets none.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; a carriage return is kept where it starts one, as in a bar that is drawn again."""
        start = '\r' if text.startswith('\r') else ''
        text = text.removeprefix('\r')
        if self._stream.isatty():
            parts, codes = _STYLES.split(text), [*_STYLES.findall(text), '']
            text = ''.join(printable(part) + code for part, code in zip(parts, codes, strict=True))
        else:
            text = printable(text)
        return self._stream.write(start + text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Write control characters in what is printed as escapes, until the end of the block."""
    before = sys.stdout, sys.stderr
    streams: list[Any] = [_Escaped(stream) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Terminal(logging.Handler):
    """Prints each message on a line of its own, at once."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            result = getattr(record, 'result', None)
            if result is None:
                prefix = 'geores: warning: ' if record.levelno >= logging.WARNING else ''
                print(f'{prefix}{record.getMessage()}', file=sys.stderr, flush=True)
            elif isinstance(result, str):
                print(result)
            else:  # a table of rich
                from rich.console import Console

                Console(highlight=False).print(result)
        except Exception:  # as every handler of `logging` does: a closed terminal stops no training
            self.handleError(record)


@contextmanager
def print_messages() -> Iterator[None]:
    """Print what geores logs, from level INFO on, until the end of the block."""
    logger, handler = logging.getLogger('geores'), _Terminal()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a handler of the root logger would print everything twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
"""Bytes of a unit of sizes."""

EVERY_SECONDS = 30.0
"""Time from one plain line of progress to the next."""

Option = typer.Option

Bands = Annotated[str | None, Option(help='Names of the bands in file order, by commas.')]
Sensor = Annotated[
    str | None, Option(help='Sensor, and level: sentinel-2-l2a, landsat-8-l2, planetscope ... [decided].')
]
Offset = Annotated[
    str, Option(help="What is added to Sentinel-2's digital numbers: auto (decided), none or -1000.")
]
Resume = Annotated[bool, Option(help='Continue unfinished work of the same run.')]
Quiet = Annotated[bool, Option('--quiet', '-q', help='Show no progress.')]
AllowVrt = Annotated[bool, Option('--allow-vrt', help='Open GDAL virtual rasters.')]


def listed(text: str | None) -> list[str] | None:
    """Names of a text, separated by commas; None of None."""
    return None if text is None else [name.strip() for name in text.split(',') if name.strip()]


def numbers(text: str | None, option: str) -> list[int] | None:
    """Whole numbers of a text, separated by commas; None of None."""
    names = listed(text)
    try:
        return None if names is None else [int(name) for name in names]
    except ValueError as error:
        raise UsageError(f'{option} takes whole numbers separated by commas, not {text!r}') from error


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def parse_size(text: str) -> int:
    """Bytes of a size such as ``500M``, ``8G`` or ``1.5TB``."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?', text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f'a size is a number with K, M, G or T, such as 8G, not {text!r}')
    return int(float(match[1]) * UNITS[match[2].upper()])


@contextmanager
def progress_bar(
    name: str, *, shown: bool = True, quiet: bool = False, unit: str = 'tiles'
) -> Iterator['Progress']:
    """Show progress on standard error: what is done, how fast, and the time left.

    A terminal gets a bar; anything else, such as a log file, a plain line every 30 s, which does not
    depend on `shown`.

    Args:
        name: of what is worked on.
        shown: whether a terminal gets a bar.
        quiet: whether to show nothing at all.
        unit: what is counted.

    Yields:
        What is called with the number just done, and of all.
    """
    if quiet:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    """Progress as plain lines for logs."""

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit
        self.done = self.before = 0
        self.start: float | None = None
        self.printed = time.monotonic()

    def advance(self, count: int, total: int) -> None:
        """Add to the count, and print a line where the last one is 30 s old."""
        now = time.monotonic()
        self.done += count
        if self.start is None:  # the first call counts what an earlier run finished: it tells no speed
            self.start, self.before = now, self.done
        if now - self.printed < EVERY_SECONDS or self.done >= total:
            return
        self.printed = now
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


class KeptWork:
    """Counts the tiles that a run has finished, which are kept where it stops."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.done = self.total = 0
        self._started = False

    def watch(self, progress: 'Progress') -> 'Progress':
        """Wrap what is called with progress so that it counts, and says what an earlier run had finished."""

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
        """Say how many tiles are kept, if any."""
        if self.done and self.folder.is_dir():
            print(
                f'geores: {self.name}: stopped: {self.done:,} of {self.total:,} tiles are kept in '
                f'{self.folder}; run the same command again to continue',
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def keeping(name: str, folder: Path | None) -> Iterator[KeptWork]:
    """Say how much work is kept where the block is left by an error or an interrupt.

    Args:
        name: of the scene.
        folder: of unfinished work; None where nothing is kept.
    """
    kept = KeptWork(name, folder or Path())
    try:
        yield kept
    except (GeoresError, KeyboardInterrupt):
        if folder is not None:
            kept.tell()
        raise


def plain_console(*, stderr: bool = False) -> 'Console':
    """A console that prints texts as they are: paths may hold brackets."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False)


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on standard error."""
    console = plain_console(stderr=True)
    for note in notes:
        console.print(f'note: {note}', style='dim', soft_wrap=True)


def print_outputs(console: 'Console', outputs: Mapping[str, object], indent: str = '') -> None:
    """Print where files lie, one a line."""
    for kind, path in outputs.items():
        console.print(f'{indent}{kind}: {path}', soft_wrap=True)


def figures_table(*heads: str, words: int = 1, **style: Any) -> 'Table':  # noqa: ANN401 - as of rich
    """A table of figures, which are aligned to the right, behind one or several columns of words."""
    from rich.table import Table

    table = Table(*heads, **style)
    for column in table.columns[words:]:
        column.justify = 'right'
    return table

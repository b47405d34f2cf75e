"""Shows on the terminal what the library logs while it trains.

Library code never prints: it logs. A command that runs long shows these messages as plain lines, warnings
with `geores: warning:` before them. A message whose record carries `result` (by `extra={'result': ...}`) is
part of the output of the command and goes to standard output, all others go to standard error.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ['print_messages']


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

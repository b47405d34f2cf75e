"""What commands share: reading lists and sizes from options, and the progress bar."""

import re

from geores.cli.progress import progress_bar
from geores.errors import UsageError

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

"""Checks of single values: text, numbers, lists and objects as JSON gives them.

A check returns the value in its type, or raises a `ValueError` that says what it has to be.
`geores.card_fields` says which of them a field has to pass.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from geores.errors import printable

__all__ = [
    'MOST_NAMES',
    'MOST_PIXELS',
    'Check',
    'above_zero',
    'all_that',
    'finite',
    'is_positive',
    'list_of',
    'low_and_high',
    'mapping',
    'one_of',
    'or_none',
    'plain_json',
    'sha256',
    'short_name',
    'side',
    'string',
    'text',
    'two_different',
    'unique_names',
    'whole_count',
]

Check = Callable[[Any], Any]

MOST_PIXELS = 4096
"""Largest side of a model's input: one batch of it has to fit into memory."""
MOST_NAMES = 10_000
"""Largest number of labels or bands."""


def text(value: object) -> str:
    """Text that is not empty and has no control characters."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError('has to be text that is not empty')
    return string(value)


def short_name(value: object) -> str:
    """A name that can be part of file names."""
    if not isinstance(value, str) or not re.fullmatch(r'[A-Za-z0-9][\w.-]*', value, re.ASCII):
        raise ValueError('has to be letters, digits, dots, dashes and underscores')
    return value


def one_of(*choices: str) -> Check:
    """Make the check of a text that is one of some."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f'is {value!r}, and has to be one of {", ".join(choices)}')
        return value

    return parse


def finite(value: object) -> float:
    """A number that is neither NaN nor infinite, as float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f'has to hold finite numbers, not {value!r}')
    try:
        number = float(value)
    except OverflowError:
        raise ValueError('has to hold finite numbers, not one of more than 300 digits') from None
    if not math.isfinite(number):
        raise ValueError(f'has to hold finite numbers, not {value!r}')
    return number


def whole_count(value: object) -> int:
    """A whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'has to be a whole number above 0, not {value!r}')
    return value


def side(value: object) -> int:
    """A side of images in pixels."""
    pixels = whole_count(value)
    if pixels > MOST_PIXELS:
        raise ValueError(f'has to be at most {MOST_PIXELS:,} pixels, not {_shown(pixels)}')
    return pixels


def _shown(number: int) -> str:
    """A whole number for a message, which may have hundreds of digits."""
    return f'{number:,}' if abs(number) < 10**15 else f'one of {len(str(number))} digits'


def list_of(parse: Check) -> Check:
    """Make the check of a list that is not empty, whose items pass a check."""

    def parse_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError('has to be a list that is not empty')
        return tuple(parse(item) for item in value)

    return parse_all


def unique_names(value: object) -> tuple[str, ...]:
    """Names that differ, of which there are at most `MOST_NAMES`."""
    names: tuple[str, ...] = list_of(text)(value)
    if len(names) > MOST_NAMES:
        raise ValueError(f'has {len(names):,} names, and {MOST_NAMES:,} are the most')
    if broken := [name for name in names if not name.isprintable()]:
        raise ValueError(f'has a name with control characters: {broken[0][:80]!r}')
    twice = {name for name, times in Counter(names).items() if times > 1}
    if twice:
        raise ValueError(f'has {min(twice)!r} twice')
    return names


def all_that(parse: Check, holds: Callable[[float], bool], wanted: str) -> Check:
    """Wrap the check of numbers so that each has to meet a condition."""

    def parse_and_test(value: object) -> tuple[float, ...]:
        numbers: tuple[float, ...] = parse(value)
        for number in numbers:
            if not holds(number):
                raise ValueError(f'has {number:g}, and every value has to be {wanted}')
        return numbers

    return parse_and_test


def low_and_high(low: float, high: float) -> Check:
    """Make the check of a low and a high value within limits."""

    def parse(value: object) -> tuple[float, ...]:
        pair: tuple[float, ...] = list_of(finite)(value)
        if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
            raise ValueError(f'has to be a low and a high value between {low:g} and {high:g}')
        return pair

    return parse


def two_different(parse: Check) -> Check:
    """Wrap the check of a range so that two equal values are refused."""

    def check(value: object) -> tuple[float, float]:
        low, high = parse(value)
        if low == high:
            raise ValueError(f'has to be two different values, not twice {low:g}')
        return low, high

    return check


def or_none(parse: Check) -> Check:
    """Wrap a check so that None passes it."""
    return lambda value: None if value is None else parse(value)


def mapping(value: object) -> dict[str, Any]:
    """An object with names as keys, as dict."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError('has to be an object with names as keys')
    return dict(value)


def plain_json(value: object) -> dict[str, Any]:
    """An object that can be written as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError('has to hold plain JSON values, without NaN') from None
    except RecursionError:
        raise ValueError('is nested too deeply') from None
    return mapping(value)


def is_positive(value: object) -> bool:
    """Whether a value is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def sha256(value: object) -> str:
    """A SHA-256 in hexadecimal, or empty text."""
    if not isinstance(value, str) or not re.fullmatch(r'([0-9a-f]{64})?', value):
        raise ValueError('has to be a SHA-256 in hexadecimal')
    return value


def string(value: object) -> str:
    """Text, which may be empty, without control characters."""
    if not isinstance(value, str):
        raise ValueError('has to be text')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError('holds half of a character (a lone surrogate)') from None
    if printable(value) != value:
        raise ValueError(f'holds control characters: {printable(value)[:80]!r}')
    return value


def above_zero(value: object) -> float:
    """A number above 0."""
    number = finite(value)
    if number <= 0:
        raise ValueError(f'has to be a number above 0, not {value!r}')
    return number

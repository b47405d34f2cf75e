"""Checks of a card's fields, one by one.

A check takes a value as JSON gives it and returns it in its type, or raises a `ValueError` that says what the
value has to be. What two fields together have to be is checked by `geores.card.ModelCard`.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from geores.errors import UsageError, printable
from geores.vqa.answers import AnswerEncoding

__all__ = ['ACTIVATIONS', 'COLUMNS', 'FIELDS']

Check = Callable[[Any], Any]
_ERRORS = ('ece_before', 'ece_after')

MOST_PIXELS = 4096
"""Largest side of a model's input: one batch of it has to fit into memory."""
MOST_NAMES = 10_000
"""Largest number of labels or bands."""

ACTIVATIONS = {
    'multi-label': ('sigmoid',),
    'single-label': ('softmax',),
    'segmentation': ('softmax',),
    'regression': ('identity', 'sigmoid'),
    'vqa': ('softmax',),
}
"""Tasks, and the activations that fit each."""

COLUMNS = frozenset({'row', 'col', 'label', 'labels', 'score', 'valid_share', 'area', 'geometry'})
"""Columns of a table of tiles beside those of the labels."""

_TILE_OPTIONS = frozenset(
    {'dropped', 'layer', 'linear_s1', 'min_share', 'min_valid', 'placement', 'resolution', 'stride'}
)

# What a VQA card says of its encoder: either one shared with another bundle, or one of its own.
_SHARED = frozenset({'name', 'sha256', 'bands', 'grid'})
_SHARED_OPTIONAL = frozenset({'scale', 'looks'})  # left out where they are 1 and False
_OWN = frozenset({'architecture', 'architecture_kwargs', 'grid'})


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError('has to be text that is not empty')
    return _string(value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r'[A-Za-z0-9][\w.-]*', value, re.ASCII):
        raise ValueError('has to be letters, digits, dots, dashes and underscores')
    return value


def _one_of(*choices: str) -> Check:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f'is {value!r}, and has to be one of {", ".join(choices)}')
        return value

    return parse


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f'has to hold finite numbers, not {value!r}')
    try:
        number = float(value)
    except OverflowError:
        raise ValueError('has to hold finite numbers, not one of more than 300 digits') from None
    if not math.isfinite(number):
        raise ValueError(f'has to hold finite numbers, not {value!r}')
    return number


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'has to be a whole number above 0, not {value!r}')
    return value


def _side(value: object) -> int:
    side = _whole(value)
    if side > MOST_PIXELS:
        raise ValueError(f'has to be at most {MOST_PIXELS:,} pixels, not {_shown(side)}')
    return side


def _shown(number: int) -> str:
    """A whole number for a message, which may have hundreds of digits."""
    return f'{number:,}' if abs(number) < 10**15 else f'one of {len(str(number))} digits'


def _sequence(parse: Check) -> Check:
    def parse_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError('has to be a list that is not empty')
        return tuple(parse(item) for item in value)

    return parse_all


def _names(value: object) -> tuple[str, ...]:
    names: tuple[str, ...] = _sequence(_text)(value)
    if len(names) > MOST_NAMES:
        raise ValueError(f'has {len(names):,} names, and {MOST_NAMES:,} are the most')
    if broken := [name for name in names if not name.isprintable()]:
        raise ValueError(f'has a name with control characters: {broken[0][:80]!r}')
    twice = {name for name, count in Counter(names).items() if count > 1}
    if twice:
        raise ValueError(f'has {min(twice)!r} twice')
    return names


def _where(parse: Check, holds: Callable[[float], bool], wanted: str) -> Check:
    def parse_and_test(value: object) -> tuple[float, ...]:
        numbers: tuple[float, ...] = parse(value)
        for number in numbers:
            if not holds(number):
                raise ValueError(f'has {number:g}, and every value has to be {wanted}')
        return numbers

    return parse_and_test


def _range(low: float, high: float) -> Check:
    def parse(value: object) -> tuple[float, ...]:
        pair: tuple[float, ...] = _sequence(_number)(value)
        if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
            raise ValueError(f'has to be a low and a high value between {low:g} and {high:g}')
        return pair

    return parse


def _span(parse: Check) -> Check:
    """Wrap the check of a range so that two equal values are refused."""

    def check(value: object) -> tuple[float, float]:
        low, high = parse(value)
        if low == high:
            raise ValueError(f'has to be two different values, not twice {low:g}')
        return low, high

    return check


def _optional(parse: Check) -> Check:
    return lambda value: None if value is None else parse(value)


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError('has to be an object with names as keys')
    return dict(value)


def _plain(value: object) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError('has to hold plain JSON values, without NaN') from None
    except RecursionError:
        raise ValueError('is nested too deeply') from None
    return _mapping(value)


def _arguments(value: object) -> dict[str, Any]:
    arguments = _plain(value)
    if 'pretrained' in arguments:
        raise ValueError("must not hold 'pretrained': the weights are in the bundle")
    return arguments


def _calibration(value: object) -> dict[str, Any]:
    calibration = _mapping(value)
    unknown = sorted(calibration.keys() - {'temperature', *_ERRORS, 'measured_on'})
    if 'temperature' not in calibration or unknown:
        raise ValueError(f"has to hold 'temperature', and may hold {', '.join(_ERRORS)} and measured_on")
    checked: dict[str, Any] = {'temperature': _number(calibration['temperature'])}
    if checked['temperature'] <= 0:
        raise ValueError('has a temperature that is not above 0')
    for name in _ERRORS:
        if name in calibration:
            checked[name] = _number(calibration[name])
            if not 0 <= checked[name] <= 1:
                raise ValueError(f'has {name} outside of 0 to 1')
    if 'measured_on' in calibration:
        checked['measured_on'] = _text(calibration['measured_on'])
    elif len(checked) > 1:
        raise ValueError("has to say on what its errors were measured: 'measured_on'")
    return checked


def _limits(value: object) -> dict[str, Any]:
    limits = _mapping(value)
    unknown = sorted(limits.keys() - {'figure', 'worst', 'measured_on', 'unseen'})
    if unknown:
        raise ValueError(f'has {unknown[0]!r}, and it holds figure, worst, measured_on and unseen')
    checked: dict[str, Any] = {}
    if limits.keys() & {'figure', 'worst', 'measured_on'}:
        if not limits.keys() >= {'figure', 'worst', 'measured_on'}:
            raise ValueError('has to name with its worst labels the figure and what it was measured on')
        worst = _mapping(limits['worst'])
        checked['figure'] = _text(limits['figure'])
        checked['worst'] = {_text(label): _number(figure) for label, figure in worst.items()}
        checked['measured_on'] = _text(limits['measured_on'])
    if 'unseen' in limits:
        checked['unseen'] = _names(limits['unseen'])
    return checked


def _tiles(value: object) -> dict[str, Any]:
    tiles = _plain(value)
    unknown = sorted(tiles.keys() - _TILE_OPTIONS)
    if unknown:
        raise ValueError(f'has {unknown[0]!r}, and tiles are cut by {", ".join(sorted(_TILE_OPTIONS))}')
    if 'dropped' in tiles:
        tiles['dropped'] = list(_names(tiles['dropped']))
    return tiles


def _metrics(value: object) -> dict[str, dict[str, Any]]:
    metrics = _plain(value)
    for source, figures in metrics.items():
        if not isinstance(figures, Mapping) or not isinstance(figures.get('split'), str):
            raise ValueError(f"has to say under {source!r} on which 'split' it was measured")
    return {source: dict(figures) for source, figures in metrics.items()}


def _answer_encoding(value: object) -> dict[str, str]:
    encoding = _mapping(value)
    try:
        return AnswerEncoding.from_dict(encoding).to_dict()
    except UsageError as error:
        raise ValueError(f'is none: {error}') from None


def _encoder(value: object) -> dict[str, Any]:
    encoder = _plain(value)
    if encoder.keys() - _SHARED_OPTIONAL != _SHARED and encoder.keys() != _OWN:
        kinds = [', '.join(sorted(names)) for names in (_SHARED, _OWN)]
        raise ValueError(f'has to hold either {kinds[0]} of a shared bundle, or {kinds[1]}')
    encoder['grid'] = _optional(_whole)(encoder['grid'])
    if 'architecture' in encoder:
        kwargs = _arguments(encoder['architecture_kwargs'])
        return encoder | {'architecture': _text(encoder['architecture']), 'architecture_kwargs': kwargs}
    if not _sha256(encoder['sha256']):
        raise ValueError('needs the SHA-256 of the shared bundle')
    if not isinstance(encoder.get('looks', True), bool) or not _positive(encoder.get('scale', 1)):
        raise ValueError('has to hold a scale above 0, and looks of true or false')
    bands = _mapping(encoder['bands'])
    return encoder | {'name': _name(encoder['name']), 'bands': {band: _text(bands[band]) for band in bands}}


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r'([0-9a-f]{64})?', value):
        raise ValueError('has to be a SHA-256 in hexadecimal')
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError('has to be text')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError('holds half of a character (a lone surrogate)') from None
    if printable(value) != value:
        raise ValueError(f'holds control characters: {printable(value)[:80]!r}')
    return value


def _domain(value: object) -> dict[str, tuple[float, ...]]:
    domain = _mapping(value)
    unknown = sorted(domain.keys() - {'latitudes', 'months'})
    if unknown:
        raise ValueError(f'has {unknown[0]!r}, and it holds latitudes and months')
    checked = {name: tuple(_sequence(_number)(numbers)) for name, numbers in domain.items()}
    if 'latitudes' in checked:
        _range(-90, 90)(checked['latitudes'])
    if not set(checked.get('months', ())) <= set(range(1, 13)):
        raise ValueError('has to hold months from 1 to 12')
    return checked


def _positive_number(value: object) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError(f'has to be a number above 0, not {value!r}')
    return number


def _margin(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_PIXELS:
        raise ValueError(f'has to be a whole number of pixels, from 0 to {MOST_PIXELS:,}')
    return value


def _colour(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r'#[0-9a-fA-F]{6}', value):
        raise ValueError(f"has to hold colours such as '#1b6e32', not {value!r}")
    return value.lower()


FIELDS: dict[str, Check] = {
    'format_version': _whole,
    'name': _name,
    'description': _text,
    'architecture': _text,
    'architecture_kwargs': _arguments,
    'activation': _one_of('sigmoid', 'softmax', 'identity'),
    'task': _one_of(*ACTIVATIONS),
    'sensor': _text,
    'processing_level': _text,
    'bands': _names,
    'units': _text,
    'display_stretch': _optional(_span(_range(0, 100))),
    'display_range': _optional(_span(_range(0, 1e5))),
    'gsd': _range(1e-3, 1e6),
    'input_size': _side,
    'resampling': _one_of('nearest', 'bilinear'),
    'mean': _sequence(_number),
    'std': _where(_sequence(_number), lambda number: number > 0, 'above 0'),
    'labels': _names,
    'thresholds': _optional(_where(_sequence(_number), lambda number: 0 < number < 1, 'between 0 and 1')),
    'log_scale': _optional(_positive_number),
    'context': _optional(_margin),
    'alignment': _side,
    'colours': _optional(_sequence(_colour)),
    'domain': _optional(_domain),
    'calibration': _optional(_calibration),
    'limits': _optional(_limits),
    'tiles': _optional(_tiles),
    'tokenizer': _optional(_plain),
    'answer_encoding': _optional(_answer_encoding),
    'encoder': _optional(_encoder),
    'split_id': _text,
    'training_data': _text,
    'licence': _text,
    'metrics': _metrics,
    'sha256': _sha256,
    'geores_version': _string,
}
"""The check of each field of a card, in the order in which they are made."""

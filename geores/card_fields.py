"""Checks of a card's fields, one by one.

A check takes a value as JSON gives it and returns it in its type, or raises a `ValueError` that says what the
value has to be. What two fields together have to be is checked by `geores.card.ModelCard`.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from geores.card_checks import (
    MOST_PIXELS,
    Check,
    above_zero,
    all_that,
    finite,
    is_positive,
    list_of,
    low_and_high,
    mapping,
    one_of,
    or_none,
    plain_json,
    sha256,
    short_name,
    side,
    string,
    text,
    two_different,
    unique_names,
    whole_count,
)
from geores.card_values import IN_WORDS, DataSource, Intervals, SplitParameters, Units
from geores.errors import UsageError
from geores.vqa.answers import AnswerEncoding

__all__ = ['ACTIVATIONS', 'COLUMNS', 'FIELDS']

_ERRORS = ('ece_uncalibrated', 'ece')
_FORMER_ERRORS = {'ece_before': 'ece_uncalibrated', 'ece_after': 'ece'}  # up to format version 4

MOST_SOURCES = 1000
"""Largest number of data sets, and of places or other names of one."""

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

_WHOLE = frozenset({'seed', 'fold', 'folds'})

_TILE_OPTIONS = frozenset(
    {'dropped', 'layer', 'linear_s1', 'min_share', 'min_valid', 'placement', 'resolution', 'stride'}
)

# What a VQA card says of its encoder: either one shared with another bundle, or one of its own.
_SHARED = frozenset({'name', 'sha256', 'bands', 'grid'})
_SHARED_OPTIONAL = frozenset({'scale', 'looks'})  # left out where they are 1 and False
_OWN = frozenset({'architecture', 'architecture_kwargs', 'grid'})


def _arguments(value: object) -> dict[str, Any]:
    arguments = plain_json(value)
    if 'pretrained' in arguments:
        raise ValueError("must not hold 'pretrained': the weights are in the bundle")
    return arguments


def _calibration(value: object) -> dict[str, Any]:
    calibration = {_FORMER_ERRORS.get(name, name): one for name, one in mapping(value).items()}
    unknown = sorted(calibration.keys() - {'temperature', *_ERRORS, 'measured_on'})
    if 'temperature' not in calibration or unknown:
        raise ValueError(f"has to hold 'temperature', and may hold {', '.join(_ERRORS)} and measured_on")
    checked: dict[str, Any] = {'temperature': finite(calibration['temperature'])}
    if checked['temperature'] <= 0:
        raise ValueError('has a temperature that is not above 0')
    for name in _ERRORS:
        if name in calibration:
            checked[name] = finite(calibration[name])
            if not 0 <= checked[name] <= 1:
                raise ValueError(f'has {name} outside of 0 to 1')
    if 'measured_on' in calibration:
        checked['measured_on'] = text(calibration['measured_on'])
    elif len(checked) > 1:
        raise ValueError("has to say on what its errors were measured: 'measured_on'")
    return checked


def _intervals(value: object) -> Intervals:
    given = _parts(value, Intervals)
    for name in ('level', 'held', 'measured_on'):
        if name not in given:
            raise ValueError(f'has to hold {name!r}')
    for name in ('level', 'held'):
        given[name] = finite(given[name])
        if not 0 <= given[name] <= 1:
            raise ValueError(f'has {name} outside of 0 to 1')
    return Intervals(**given | {'measured_on': text(given['measured_on'])})


def _limits(value: object) -> dict[str, Any]:
    limits = mapping(value)
    unknown = sorted(limits.keys() - {'figure', 'worst', 'measured_on', 'unseen'})
    if unknown:
        raise ValueError(f'has {unknown[0]!r}, and it holds figure, worst, measured_on and unseen')
    checked: dict[str, Any] = {}
    if limits.keys() & {'figure', 'worst', 'measured_on'}:
        if not limits.keys() >= {'figure', 'worst', 'measured_on'}:
            raise ValueError('has to name with its worst labels the figure and what it was measured on')
        worst = mapping(limits['worst'])
        checked['figure'] = text(limits['figure'])
        checked['worst'] = {text(label): finite(figure) for label, figure in worst.items()}
        checked['measured_on'] = text(limits['measured_on'])
    if 'unseen' in limits:
        checked['unseen'] = unique_names(limits['unseen'])
    return checked


def _tiles(value: object) -> dict[str, Any]:
    tiles = plain_json(value)
    unknown = sorted(tiles.keys() - _TILE_OPTIONS)
    if unknown:
        raise ValueError(f'has {unknown[0]!r}, and tiles are cut by {", ".join(sorted(_TILE_OPTIONS))}')
    if 'dropped' in tiles:
        tiles['dropped'] = list(unique_names(tiles['dropped']))
    return tiles


def _metrics(value: object) -> dict[str, dict[str, Any]]:
    metrics = plain_json(value)
    for source, figures in metrics.items():
        if not isinstance(figures, Mapping) or not isinstance(figures.get('split'), str):
            raise ValueError(f"has to say under {source!r} on which 'split' it was measured")
    return {source: dict(figures) for source, figures in metrics.items()}


def _answer_encoding(value: object) -> dict[str, str]:
    encoding = mapping(value)
    try:
        return AnswerEncoding.from_dict(encoding).to_dict()
    except UsageError as error:
        raise ValueError(f'is none: {error}') from None


def _encoder(value: object) -> dict[str, Any]:
    encoder = plain_json(value)
    if encoder.keys() - _SHARED_OPTIONAL != _SHARED and encoder.keys() != _OWN:
        kinds = [', '.join(sorted(names)) for names in (_SHARED, _OWN)]
        raise ValueError(f'has to hold either {kinds[0]} of a shared bundle, or {kinds[1]}')
    encoder['grid'] = or_none(whole_count)(encoder['grid'])
    if 'architecture' in encoder:
        kwargs = _arguments(encoder['architecture_kwargs'])
        return encoder | {'architecture': text(encoder['architecture']), 'architecture_kwargs': kwargs}
    if not sha256(encoder['sha256']):
        raise ValueError('needs the SHA-256 of the shared bundle')
    if not isinstance(encoder.get('looks', True), bool) or not is_positive(encoder.get('scale', 1)):
        raise ValueError('has to hold a scale above 0, and looks of true or false')
    bands = mapping(encoder['bands'])
    return encoder | {
        'name': short_name(encoder['name']),
        'bands': {band: text(bands[band]) for band in bands},
    }


def _domain(value: object) -> dict[str, tuple[float, ...]]:
    domain = mapping(value)
    unknown = sorted(domain.keys() - {'latitudes', 'months'})
    if unknown:
        raise ValueError(f'has {unknown[0]!r}, and it holds latitudes and months')
    checked = {name: tuple(list_of(finite)(numbers)) for name, numbers in domain.items()}
    if 'latitudes' in checked:
        low_and_high(-90, 90)(checked['latitudes'])
    if not set(checked.get('months', ())) <= set(range(1, 13)):
        raise ValueError('has to hold months from 1 to 12')
    return checked


def _margin(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_PIXELS:
        raise ValueError(f'has to be a whole number of pixels, from 0 to {MOST_PIXELS:,}')
    return value


def _colour(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r'#[0-9a-fA-F]{6}', value):
        raise ValueError(f"has to hold colours such as '#1b6e32', not {value!r}")
    return value.lower()


def _units(value: object) -> Units:
    try:
        return Units(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise ValueError(f'is {str(value)[:80]!r}, and has to be one of {"; ".join(Units)}') from None


def _data_sources(value: object) -> tuple[DataSource, ...]:
    if isinstance(value, str):
        return (DataSource(name=IN_WORDS, licence=IN_WORDS, note=text(value)),)
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError('has to be a list of name, licence and places of each data set')
    if len(value) > MOST_SOURCES:
        raise ValueError(f'has {len(value):,} data sets, and {MOST_SOURCES:,} are the most')
    return tuple(_data_source(source) for source in value)


def _data_source(value: object) -> DataSource:
    given = _parts(value, DataSource)
    for name in ('name', 'licence'):
        if name not in given:
            raise ValueError(f'has a data set without {name!r}')
        given[name] = text(given[name])
    for name in ('places', 'also'):
        names = given.get(name) or ()
        if not isinstance(names, (list, tuple)) or len(names) > MOST_SOURCES:
            raise ValueError(f'has to hold {name} as a list, of at most {MOST_SOURCES:,}')
        given[name] = tuple(text(one) for one in names)
    return DataSource(**given | {'note': string(given.get('note', ''))})


def _split_method(value: object) -> SplitParameters:
    given = {name: one for name, one in _parts(value, SplitParameters).items() if one is not None}
    method = one_of(*get_args(get_type_hints(SplitParameters)['method']))(given.pop('method', None))
    parts = or_none(list_of(text))(given.pop('parts', None))
    if parts is not None and len(parts) != 2:
        raise ValueError('has to hold as parts the one that trained and the one that validated')
    for name, one in given.items():
        number = finite(one)
        if number < 0 or (name in _WHOLE and not isinstance(one, int)):
            raise ValueError(
                f'has {name} {one!r}, and it has to be a {"whole " if name in _WHOLE else ""}number from 0 on'
            )
        given[name] = one if name in _WHOLE else number
    return SplitParameters(method=method, parts=parts, **given)


def _parts(value: object, kind: type[Any]) -> dict[str, Any]:
    """Fields of a dataclass, which is given as one or as an object of JSON."""
    known = [field.name for field in fields(kind)]
    given = {name: getattr(value, name) for name in known} if isinstance(value, kind) else value
    unknown = sorted(mapping(given).keys() - {*known})
    if unknown:
        raise ValueError(f'has {unknown[0]!r}, and it holds {", ".join(known)}')
    return mapping(given)


FIELDS: dict[str, Check] = {
    'format_version': whole_count,
    'name': short_name,
    'description': text,
    'architecture': text,
    'architecture_kwargs': _arguments,
    'activation': one_of('sigmoid', 'softmax', 'identity'),
    'task': one_of(*ACTIVATIONS),
    'sensor': text,
    'processing_level': text,
    'bands': unique_names,
    'units': _units,
    'display_stretch': or_none(two_different(low_and_high(0, 100))),
    'display_range': or_none(two_different(low_and_high(0, 1e5))),
    'gsd': low_and_high(1e-3, 1e6),
    'input_size': side,
    'resampling': one_of('nearest', 'bilinear'),
    'mean': list_of(finite),
    'std': all_that(list_of(finite), lambda number: number > 0, 'above 0'),
    'labels': unique_names,
    'thresholds': or_none(all_that(list_of(finite), lambda number: 0 < number < 1, 'between 0 and 1')),
    'log_scale': or_none(above_zero),
    'context': or_none(_margin),
    'alignment': side,
    'colours': or_none(list_of(_colour)),
    'domain': or_none(_domain),
    'calibration': or_none(_calibration),
    'limits': or_none(_limits),
    'intervals': or_none(_intervals),
    'tiles': or_none(_tiles),
    'tokenizer': or_none(plain_json),
    'answer_encoding': or_none(_answer_encoding),
    'encoder': or_none(_encoder),
    'split_id': text,
    'split': or_none(_split_method),
    'training_data': _data_sources,
    'licence': text,
    'metrics': _metrics,
    'sha256': sha256,
    'geores_version': string,
}
"""The check of each field of a card, in the order in which they are made."""

"""Upgrades of cards that earlier versions of geores wrote, one format version at a time."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from geores.card_values import Units
from geores.errors import BundleError

__all__ = ['FORMAT_VERSION', 'UPGRADES', 'upgrade']

FORMAT_VERSION = 5

_NUMBER = r'[\d.]+(?:e[+-]?\d+)?'
_HASH = r'-[0-9a-f]+'
# Up to version 4 the parameters of a split stood in its id alone.
_SPLIT_IDS = {
    'stratified': re.compile(rf'stratified-(?P<val_share>{_NUMBER})-seed(?P<seed>\d+){_HASH}'),
    'blocks': re.compile(
        rf'blocks-(?P<block_size>{_NUMBER})m-buffer(?P<buffer>{_NUMBER})m-(?P<val_share>{_NUMBER})'
        rf'-seed(?P<seed>\d+){_HASH}'
    ),
    'folds': re.compile(rf'(?:(?P<folds>\d+)-fold|fold(?P<fold>\d+)of(?P<of>\d+)-seed(?P<seed>\d+){_HASH})'),
    'location': re.compile(
        rf'location-buffer(?P<buffer>{_NUMBER})m-(?:fold(?P<fold>\d+)of(?P<of>\d+)|'
        rf'stratified-(?P<val_share>{_NUMBER}))-seed(?P<seed>\d+){_HASH}(?:-generated\d+)?'
    ),
    'official': re.compile(r'official|reben-official-(?P<train>[a-z]+)-(?P<val>[a-z]+)(?:-snow-and-clouds)?'),
    'everything': re.compile('everything'),
}
_WHOLE = frozenset({'seed', 'fold', 'folds'})


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """Bring the fields of a card to the newest format version.

    Args:
        data: field -> value, as read.

    Raises:
        BundleError: if the format version is none, or newer than this geores.
    """
    version = data.get('format_version')
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError("field 'format_version' has to be a whole number from 1 on")
    if version > FORMAT_VERSION:
        raise BundleError(
            f'field {"format_version"!r} is {version}, and this geores reads up to '
            f'{FORMAT_VERSION}: upgrade geores'
        )
    while version < FORMAT_VERSION:
        data = UPGRADES[version](data)
        version += 1
    return data


def _to_five(data: dict[str, Any]) -> dict[str, Any]:
    """Units of a fixed list, and parameters of the split beside its id; texts of training data stay so."""
    data = data | {'format_version': 5}
    units, split_id = data.get('units'), data.get('split_id')
    if isinstance(units, str) and units.strip() and units not in {*Units}:
        data['units'] = Units.OTHER
    if isinstance(split_id, str):
        data.setdefault('split', _split_of(split_id))
    return data


def _split_of(split_id: str) -> Mapping[str, Any] | None:
    """Read the parameters of a split from its id; None where it has none that geores makes."""
    for method, pattern in _SPLIT_IDS.items():
        if match := pattern.fullmatch(split_id):
            found = {name: value for name, value in match.groupdict().items() if value is not None}
            parts = [found.pop(name) for name in ('train', 'val') if name in found]
            if 'of' in found:
                found['folds'] = found.pop('of')
            numbers: dict[str, Any] = {
                name: int(value) if name in _WHOLE else float(value) for name, value in found.items()
            }
            return {'method': method, **numbers} | ({'parts': parts} if parts else {})
    return None


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda data: data | {'format_version': 2},
    2: lambda data: data | {'format_version': 3},
    3: lambda data: data | {'format_version': 4},
    4: _to_five,
}
"""What turns a card of one format version into the next.

Version 2 added what only VQA models have (tokenizer, answer encoding, encoder), the range of display and how
tiles were cut; version 3 what per-pixel models have (context, alignment), a logarithm before normalisation,
and colours; version 4 where a model fails, and its calibration error without and with the temperature;
version 5 units of a fixed list, training data as a list, and parameters of the split.
"""

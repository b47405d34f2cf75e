"""Values of a card that have parts, and upgrades of cards that earlier versions of geores wrote."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from geores.errors import BundleError

__all__ = [
    'FORMAT_VERSION',
    'IN_WORDS',
    'NO_NAMES',
    'UPGRADES',
    'DataSource',
    'Intervals',
    'SplitParameters',
    'Units',
    'bare_name',
    'known_names',
    'upgrade',
]

IN_WORDS = 'described in words'
"""Name and licence of training data that a text describes instead of naming each data set."""

NO_NAMES = frozenset({
    'aerial', 'all', 'data', 'dataset', 'eval', 'image', 'imagery', 'images', 'img', 'imgs', 'label',
    'labelled', 'labels', 'new', 'patches', 'sentinel', 'sentinel2', 'scenes', 'set', 'test', 'tiles',
    'train', 'training', 'val', 'validation', 'with', 'without',
})  # fmt: skip
"""Names of folders that name no data set, whatever they hold."""


class Units(StrEnum):
    """Units of the pixel values that a model takes; a member equals its text."""

    REFLECTANCE = 'reflectance*10000'
    """Reflectance times 10,000: Sentinel-2's digital numbers without offset."""
    REFLECTANCE_AND_DECIBELS = 'reflectance*10000, dB'
    """Sentinel-2 as above beside Sentinel-1 in dB."""
    EIGHT_BIT = '8-bit'
    """0 to 255, as pictures have them."""
    DECIBELS = 'dB'
    """Backscatter of Sentinel-1 on a logarithmic scale."""
    OTHER = 'other'
    """Values that a scene states by scale and offset, or none that geores would convert."""

    @property
    def has_reflectance(self) -> bool:
        """Whether bands are reflectances times 10,000, all but those of Sentinel-1."""
        return self in {Units.REFLECTANCE, Units.REFLECTANCE_AND_DECIBELS}


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set that trained a model.

    Args:
        name: name of the data set, as its authors write it.
        licence: licence of images and labels, or the terms of use.
        places: where on Earth its images were taken, such as countries; empty where it is not known.
        also: other names, such as those of its folders: data of one of these names trained the model.
        note: what of it was used and how, the authors, whose credit is due.
    """

    name: str
    licence: str
    places: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    note: str = ''

    @property
    def in_words(self) -> bool:
        """Whether `note` describes training data that no field names."""
        return self.name == IN_WORDS

    def __str__(self) -> str:
        """The source in one line for people."""
        if self.in_words:
            return self.note
        places = f' in {", ".join(self.places)}' if self.places else ''
        return f'{self.name}{places} ({self.licence})' + (f': {self.note}' if self.note else '')


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """How often intervals of areas on a class map held the ground truth.

    Args:
        level: share that they were made for.
        held: share that they held.
        measured_on: the areas.
    """

    level: float
    held: float
    measured_on: str


@dataclass(frozen=True, kw_only=True)
class SplitParameters:
    """How samples were split, with all that is needed to make the split again of the same samples.

    Args:
        method: 'stratified' keeps a share of each class (`geores.splits.stratified_split`), 'blocks' keeps
            blocks of ground (`block_split`), 'folds' are of images or groups of them (`group_folds`),
            'location' keeps places of the images of RSVQA, 'official' are parts that the publishers made,
            'file' are parts of a table, and 'everything' trains on all samples.
        seed: random seed.
        val_share: share kept for validation.
        block_size: side of a block in metres.
        buffer: minimum gap between training and validation, in metres.
        fold: number of the validation fold, from 1; None where a model was trained on all folds after each
            was measured.
        folds: number of folds.
        parts: official parts that trained and validated.
    """

    method: Literal['stratified', 'blocks', 'folds', 'location', 'official', 'file', 'everything']
    seed: int | None = None
    val_share: float | None = None
    block_size: float | None = None
    buffer: float | None = None
    fold: int | None = None
    folds: int | None = None
    parts: tuple[str, str] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Name -> value of the parameters that the method has."""
        return {name: value for name, value in asdict(self).items() if name != 'method' and value is not None}


def bare_name(name: str) -> str:
    """Letters and digits of a name, in lower case.

    Args:
        name: name of a label or a data set, however people write it.
    """
    return ''.join(re.findall(r'[^\W_]+', name.lower()))


def known_names(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Those of some names that are known, sorted.

    Names are equal if their letters and digits are; 'images', 'train' and such name no data set.
    """
    bare = {bare_name(name) for name in known} - NO_NAMES
    return [name for name in sorted(set(names)) if len(bare_name(name)) > 2 and bare_name(name) in bare]


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

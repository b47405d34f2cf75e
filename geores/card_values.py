"""Values of a card that have parts: units, the split, and the data sets that trained a model."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

__all__ = ['IN_WORDS', 'NO_NAMES', 'DataSource', 'SplitMethod', 'Units', 'bare_name', 'known_names']

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
class SplitMethod:
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
    def parameters(self) -> dict[str, Any]:
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

    Args:
        known: names of data sets.
        names: names of folders or scenes.
    """
    bare = {bare_name(name) for name in known} - NO_NAMES
    return [name for name in sorted(set(names)) if len(bare_name(name)) > 2 and bare_name(name) in bare]

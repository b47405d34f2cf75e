"""The design of a sample: how many units to label in all and per stratum, and the record of the draw."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geores.errors import UsageError

__all__ = [
    'LEAST',
    'Allocation',
    'Design',
    'Stratum',
    'allocate',
    'allocate_within',
    'read_design',
    'sample_size',
    'side_file',
]

Allocation = Literal['recommended', 'proportional', 'equal']

LEAST = 2
"""Sample units of a stratum without which it has no standard error."""


def sample_size(
    shares: ArrayLike, accuracies: ArrayLike, standard_error: float, units: float | None = None
) -> int:
    """Sample units needed for a standard error of overall accuracy.

    Olofsson et al. (2014), equation 13.

    Args:
        shares: share of the area per stratum, (K,); they sum to 1.
        accuracies: expected user's accuracy of each, 0 to 1, (K,).
        standard_error: aimed at, such as 0.01.
        units: pixels of the map; without it, far more than the sample.

    Raises:
        UsageError: if the standard error or an accuracy is out of range.

    Example:
        >>> sample_size([0.02, 0.015, 0.32, 0.645], [0.7, 0.6, 0.9, 0.95], standard_error=0.01)
        641
    """
    share, expected = np.asarray(shares, float), np.asarray(accuracies, float)
    if not 0 < standard_error < 0.5:
        raise UsageError(f'standard-error must lie between 0 and 0.5, not {standard_error}')
    if not ((expected > 0) & (expected <= 1)).all():
        raise UsageError('an expected accuracy must be above 0 and at most 1')
    spread = np.sqrt(expected * (1 - expected))
    rest = 0.0 if units is None else float((share * spread**2).sum()) / units
    return int(np.ceil((share * spread).sum() ** 2 / (standard_error**2 + rest) - 1e-9))


def allocate(
    shares: ArrayLike, size: int, how: Allocation = 'recommended', min_per_class: int = 50
) -> NDArray[np.int64]:
    """Allocate a sample to strata.

    Olofsson et al. (2014), section 5.1.2. ``equal`` serves user's accuracies, ``proportional`` the
    overall accuracy and the areas of common classes; ``recommended`` lies between: rare classes get
    ``min_per_class`` (50 to 100 in the paper), and the rest is shared out by area.

    Args:
        shares: share of the area per stratum, above 0, (K,).
        size: sample units in all.
        how: ``recommended``, ``proportional`` (but never fewer than 2 a stratum) or ``equal``.
        min_per_class: least of a stratum with ``recommended``; lowered to ``size / K`` where the
            sample is too small for it.

    Returns:
        Number of sample units per stratum, (K,); they sum to ``size``.

    Raises:
        UsageError: if the size has not two units for each stratum, or an option is out of range.
    """
    share = np.asarray(shares, float) / np.sum(shares)
    if how not in get_args(Allocation):
        raise UsageError(f'allocation has to be one of {", ".join(get_args(Allocation))}, not {how!r}')
    if min_per_class < LEAST:
        raise UsageError(f'min-per-class must be at least {LEAST}, not {min_per_class}')
    if size < LEAST * len(share):
        raise UsageError(
            f'size {size} is too small for {len(share)} strata: give at least {LEAST * len(share)}'
        )
    if how == 'equal':
        return _rounded(np.full(len(share), size / len(share)))
    least = LEAST if how == 'proportional' else min(min_per_class, size // len(share))
    rare = np.zeros(len(share), bool)
    while True:
        rest = np.where(rare, 0, share)
        wanted = np.where(rare, least, (size - least * rare.sum()) * rest / max(rest.sum(), 1e-300))
        if not (wanted[~rare] < least).any():
            return _rounded(wanted)
        rare |= wanted < least


def allocate_within(
    shares: ArrayLike, units: ArrayLike, size: int, how: Allocation = 'recommended', min_per_class: int = 50
) -> NDArray[np.int64]:
    """Allocate a sample to strata like `allocate`, but never more units than a stratum has.

    The units that a small stratum cannot provide go to the others. `units` are the pixels of each, (K,); all
    else is as in `allocate`.

    Returns:
        Number of sample units per stratum, (K,); they sum to ``size``, or to all units where these are fewer.

    Raises:
        UsageError: as in `allocate`.
    """
    share, most = np.asarray(shares, float), np.asarray(units, np.int64)
    counts, open_ = most.copy(), np.ones(len(most), bool)
    while open_.any():
        left = size - int(most[~open_].sum())
        wanted = allocate(share[open_], left, how, min_per_class)
        counts[open_] = np.minimum(wanted, most[open_])
        full = wanted > most[open_]
        if not full.any():
            break
        open_[open_] = ~full
    return counts


def _rounded(wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round to whole numbers of the same sum (largest remainder method)."""
    whole = np.floor(wanted + 1e-9).astype(np.int64)
    left = round(float(wanted.sum())) - int(whole.sum())
    whole[np.argsort(-(wanted - whole), kind='stable')[:left]] += 1
    return whole


@dataclass(frozen=True)
class Stratum:
    """A class of the map that was sampled.

    Attributes:
        stratum: number of the stratum, from 1.
        map_class: name of the class on the map.
        value: value of the class in the map.
        units: pixels, cells or tiles.
        area: area in the design's ``area_unit``.
        sample: number of units drawn.
    """

    stratum: int
    map_class: str
    value: int
    units: int
    area: float
    sample: int


@dataclass(frozen=True)
class Design:
    """How a sample was drawn.

    Attributes:
        map: path of the map.
        map_sha256: digest of its file.
        unit: sampling unit: ``pixel``, ``cell`` or ``tile``.
        area_unit: ``m2``, or ``pixel`` where the map has no CRS.
        strata: one stratum per class.
        options: options as given by the user.
        notes: one sentence each.
        strata_by_id: number of the stratum of each point, by its id from 1; for blind samples only.
        geores_version: version of geores that drew the sample.
    """

    map: str
    map_sha256: str
    unit: str
    area_unit: str
    strata: tuple[Stratum, ...]
    options: dict[str, Any]
    notes: tuple[str, ...] = ()
    strata_by_id: tuple[int, ...] = ()
    geores_version: str = ''

    @property
    def size(self) -> int:
        """Units drawn, of all strata."""
        return sum(stratum.sample for stratum in self.strata)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def side_file(points: Path) -> Path:
    """Path of the design of a sample."""
    return points.with_suffix('.json')


def read_design(path: Path) -> Design:
    """Read the JSON beside a sample.

    Raises:
        UsageError: if it is missing, or not what `geores.sample` writes.
    """
    try:
        told: dict[str, Any] = json.loads(path.read_text())
        strata = tuple(Stratum(**stratum) for stratum in told.pop('strata'))
        lists: dict[str, Any] = {key: tuple(told.pop(key, ())) for key in ('notes', 'strata_by_id')}
        design = Design(strata=strata, **lists, **told)
        if not design.strata or not all(s.area > 0 and s.units >= 0 for s in design.strata):
            raise ValueError('no strata with areas')
    except OSError as error:
        raise UsageError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f'{path} is no record of a sample by `geores sample` ({error})') from error
    return design

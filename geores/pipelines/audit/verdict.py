"""What an audit's figures mean, in words."""

from collections.abc import Iterator, Sequence

import numpy as np

from geores.pipelines.audit.autocorrelation import Autocorrelation
from geores.pipelines.audit.drift import PairDrift
from geores.pipelines.audit.duplicates import Duplicates
from geores.pipelines.audit.overlap import PairOverlap
from geores.pipelines.audit.pairs import PairDistances
from geores.pipelines.audit.report import Verdict

__all__ = ['judge', 'metres']

TOUCHING = 1.5
"""Middles nearer than so many sides of a footprint, or distances between places, are of neighbours."""
DRIFT = 0.05
"""Jensen-Shannon divergence, bits, from which labels of parts differ."""


def metres(length: float) -> str:
    """A length as people read it.

    Args:
        length: metres.
    """
    return f'{length / 1000:,.3f} km' if length >= 1000 else f'{length:.1f} m'


def judge(
    distances: Sequence[PairDistances],
    overlaps: Sequence[PairOverlap] | None,
    drift: Sequence[PairDrift] | None,
    correlation: Autocorrelation | None,
    duplicates: Duplicates | None,
    step: float,
) -> Verdict:
    """Draw conclusions.

    Args:
        distances: of pairs of parts.
        overlaps: of pairs of parts, if there are footprints.
        drift: of pairs of parts, if there are labels.
        correlation: of labels, if there are any.
        duplicates: if there are images.
        step: metres between the middles of neighbours: a footprint's side, or what places lie apart.
    """
    leaks = list(_leaks(distances, overlaps, duplicates))
    cautions = [*_neighbours(distances, correlation, step), *_labels(drift or ())]
    apart = list(_apart(distances, step))
    level = 'leaks' if leaks else 'caution' if cautions else 'sound'
    return Verdict(level, (*leaks, *cautions, *apart))  # type: ignore[arg-type]


def _leaks(
    distances: Sequence[PairDistances], overlaps: Sequence[PairOverlap] | None, duplicates: Duplicates | None
) -> Iterator[str]:
    for pair in distances:
        if pair.same_place:
            dates = pair.same_place_other_date
            told = '' if dates is None else f' ({dates:,} of them on another date)'
            yield f'{pair.same_place:,} {pair.part} rows show the place of a {pair.other} row{told}'
    for overlap in overlaps or ():
        if overlap.rows:
            yield (
                f'{overlap.rows:,} {overlap.part} footprints overlap {overlap.other} footprints, '
                f'by up to {overlap.largest:.0%}'
            )
    if duplicates is not None and duplicates.groups:
        yield (
            f'{duplicates.rows:,} images are near duplicates of one in another part '
            f'({duplicates.groups:,} groups)'
        )


def _neighbours(
    distances: Sequence[PairDistances], correlation: Autocorrelation | None, step: float
) -> Iterator[str]:
    for pair in distances:
        if not pair.same_place and pair.minimum <= TOUCHING * step:
            yield (
                f'{pair.part} touches {pair.other}: the nearest are {metres(pair.minimum)} apart, as '
                f'neighbours are, so that {pair.part} scores of a model that knows {pair.other} are too good'
            )
    if correlation is None:
        return
    halved = correlation.halves_at
    for pair in distances:
        if halved is not None and TOUCHING * step < pair.minimum < halved:
            yield (
                f'{pair.part} comes within {metres(pair.minimum)} of {pair.other}, and labels are alike as '
                f'far as {metres(halved)} (half of their correlation between neighbours): widen the buffer'
            )


def _labels(drift: Sequence[PairDrift]) -> Iterator[str]:
    for pair in drift:
        if pair.missing:
            shown = ', '.join(pair.missing[:3]) + (' ...' if len(pair.missing) > 3 else '')
            yield f'{len(pair.missing)} labels of {pair.part} are in no {pair.other} row: {shown}'
        if pair.overall > DRIFT:
            yield f'labels of {pair.part} and {pair.other} differ by {pair.overall:.3f} bits (Jensen-Shannon)'


def _apart(distances: Sequence[PairDistances], step: float) -> Iterator[str]:
    for pair in distances:
        if pair.minimum > TOUCHING * step and np.isfinite(pair.minimum):
            yield f'{pair.part} and {pair.other} are {metres(pair.minimum)} apart at least'

"""The result of an audit: its figures, the verdict in words, and a map of the parts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from geores.audit.autocorrelation import Autocorrelation
from geores.audit.overlap import Duplicates, PairDistances, PairDrift, PairOverlap
from geores.splits import DROPPED, PARTS
from geores.splits.buffer import local_crs
from geores.splits.source import Source
from geores.splits.table import SplitBalance

__all__ = ['AuditReport', 'Verdict', 'judge', 'metres', 'write_map']

TOUCHING = 1.5
"""Rows count as neighbours up to this multiple of the footprint side, or of the spacing of places."""
DRIFT = 0.05
"""Jensen-Shannon divergence in bits above which the labels of two parts differ."""
COLOURS = {'train': '#4477aa', 'validation': '#ccbb44', 'test': '#ee6677', DROPPED: '#bbbbbb'}


@dataclass(frozen=True)
class Verdict:
    """Verdict on a split.

    Attributes:
        level: 'leaks' where parts share ground, places or images; 'caution' where they are neighbours or
            differ in labels; 'sound' otherwise.
        reasons: reasons for the verdict, one sentence each.
    """

    level: Literal['sound', 'caution', 'leaks']
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class AuditReport:
    """Result of an audit.

    Attributes:
        source: the rows that were audited.
        names: (N,) part of each row.
        places: number of different places, to a metre.
        side: side of a footprint in metres; None for point positions.
        spacing: median distance from a place to its nearest neighbour, in metres.
        balance: number of rows and labels per part.
        distances: distances between each pair of parts.
        overlaps: overlaps between each pair of parts; None for point positions.
        drift: label drift between each pair of parts; None without labels.
        autocorrelation: spatial autocorrelation of the labels; None without labels or with too few places.
        duplicates: None without images.
        verdict: verdict with its reasons.
        notes: notes for the user.
    """

    source: Source
    names: NDArray[np.object_]
    places: int
    side: float | None
    spacing: float
    balance: SplitBalance
    distances: tuple[PairDistances, ...]
    overlaps: tuple[PairOverlap, ...] | None
    drift: tuple[PairDrift, ...] | None
    autocorrelation: Autocorrelation | None
    duplicates: Duplicates | None
    verdict: Verdict
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {
            'split': self.source.name,
            'verdict': self.verdict.level,
            'reasons': list(self.verdict.reasons),
            'rows': len(self.names),
            'places': self.places,
            'side_m': self.side,
            'spacing_m': self.spacing if np.isfinite(self.spacing) else None,
            **self.balance.to_dict(),
            'distances': [one.to_dict() for one in self.distances],
            'overlaps': None if self.overlaps is None else [one.to_dict() for one in self.overlaps],
            'drift': None if self.drift is None else [one.to_dict() for one in self.drift],
            'autocorrelation': None if self.autocorrelation is None else self.autocorrelation.to_dict(),
            'duplicates': None if self.duplicates is None else self.duplicates.to_dict(),
            'notes': list(self.notes),
        }


def metres(length: float) -> str:
    """Format a length for people.

    Args:
        length: length in metres.
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
    """Draw a verdict from the figures of an audit.

    Args:
        distances: distances between each pair of parts.
        overlaps: overlaps between each pair of parts, if there are footprints.
        drift: label drift between each pair of parts, if there are labels.
        correlation: spatial autocorrelation of the labels, if there are labels.
        duplicates: near duplicates, if there are images.
        step: distance between neighbours in metres: side of a footprint, or spacing of places.
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


def write_map(report: 'AuditReport', path: Path) -> None:
    """Draw a map of the row centres, coloured by part, in an equal-area projection.

    Args:
        report: result of the audit.
        path: PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    places = report.source.places
    change = Transformer.from_crs(4326, local_crs(places), always_xy=True)
    x, y = (np.asarray(one) / 1000 for one in change.transform(*places.T))
    x, y = x - x.min(), y - y.min()
    figure = Figure(figsize=(8, 8), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    size = float(np.clip(60_000 / len(places), 0.05, 30))
    colours = np.array([COLOURS[name] for name in report.names])
    order = np.random.RandomState(0).permutation(len(places))  # so that no part hides the others
    axes.scatter(x[order], y[order], s=size, c=colours[order], linewidths=0, marker='s')
    axes.set_aspect('equal')
    axes.set(xlabel='km', ylabel='km', title=f'{report.source.name}: {report.verdict.level}')
    sizes = report.balance.sizes
    handles = [
        Line2D([], [], marker='s', linestyle='', color=COLOURS[part], label=f'{part} {sizes[part]:,}')
        for part in (*PARTS, DROPPED)
        if sizes[part]
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=4, frameon=False)
    figure.savefig(path, format='png', metadata={'Software': 'geores'})

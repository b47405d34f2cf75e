"""The result of an audit: its figures, the verdict in words, and a map of the parts."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from geores.audit.autocorrelation import Autocorrelation
from geores.audit.overlap import Duplicates, PairDistances, PairDrift, PairOverlap
from geores.errors import DatasetError
from geores.splits import DROPPED, PARTS
from geores.splits.buffer import local_crs
from geores.splits.geographic import geographic_split
from geores.splits.source import Source
from geores.splits.table import SplitBalance

__all__ = ['AuditReport', 'Verdict', 'judge', 'metres', 'recommend', 'write_map']

TOUCHING = 1.5
"""Rows count as neighbours up to this multiple of the footprint side, or of the spacing of places."""
GRADES = {'C': 0.01, 'D': 0.1}
"""Grades of leaks, and the share of rows below which they are given."""
TRIED = 50_000
"""Number of rows that a recommended split is tried on."""
DRIFT = 0.05
"""Jensen-Shannon divergence in bits above which the labels of two parts differ."""
COLOURS = {'train': '#4477aa', 'val': '#ccbb44', 'test': '#ee6677', DROPPED: '#bbbbbb'}


@dataclass(frozen=True)
class Verdict:
    """Verdict on a split.

    Attributes:
        level: 'leaks' where parts share ground, places or images; 'caution' where they are neighbours or
            differ in labels; 'sound' otherwise.
        reasons: reasons for the verdict, one sentence each.
        grade: 'A' sound; 'B' caution; 'C', 'D' and 'E' leaks, by `affected`: below 1 %, below 10 %, and more.
        affected: largest share of the rows of a part that share ground, place or image with another part.
    """

    level: Literal['sound', 'caution', 'leaks']
    reasons: tuple[str, ...]
    grade: Literal['A', 'B', 'C', 'D', 'E'] = 'A'
    affected: float = 0.0


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
        command: the one command that is recommended next.
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
    command: str = ''

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {
            'split': self.source.name,
            'verdict': self.verdict.level,
            'grade': self.verdict.grade,
            'affected': round(self.verdict.affected, 6),
            'recommended': self.command,
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
    cautions = [*_neighbours(distances, correlation, step), *_label_drift(drift or ())]
    apart = list(_apart(distances, step))
    level = 'leaks' if leaks else 'caution' if cautions else 'sound'
    affected = _affected(distances, overlaps, duplicates)
    grade = 'A' if level == 'sound' else 'B' if level == 'caution' else _grade(affected)
    return Verdict(level, (*leaks, *cautions, *apart), grade, affected)  # type: ignore[arg-type]


def _grade(affected: float) -> str:
    return next((grade for grade, limit in GRADES.items() if affected < limit), 'E')


def _affected(
    distances: Sequence[PairDistances], overlaps: Sequence[PairOverlap] | None, duplicates: Duplicates | None
) -> float:
    """Largest share of the rows of a part that another part gives away."""
    rows = {(pair.part, pair.other): pair.rows for pair in distances}
    shares = [pair.same_place / pair.rows for pair in distances]
    shares += [pair.rows / rows[pair.part, pair.other] for pair in overlaps or ()]
    if duplicates is not None and duplicates.images:
        shares.append(duplicates.rows / duplicates.images)
    return max(shares, default=0.0)


def recommend(
    report: 'AuditReport', labels: str | None, images: Path | None, place: Path | None = None
) -> str:
    """The one command that is recommended after an audit: to split anew, or to train.

    Distances are such that a split by them is known to work: the widest buffer out of what the labels ask for
    and what footprints need that leaves rows in every part.

    Args:
        report: result of the audit.
        labels: column of the labels, if there are any.
        images: folder of the images, if they were compared.
        place: where the rows were read; the name of the source by default.
    """
    path = str(place or report.source.path or report.source.name)
    if report.verdict.level == 'sound':
        return f'geores train --config CONFIG.yaml --data.split {shlex.quote(path)}'
    step = report.side or (report.spacing if np.isfinite(report.spacing) else 1.0)
    halved = report.autocorrelation.halves_at if report.autocorrelation is not None else None
    needed = (2 * TOUCHING * step, halved or 0.0)
    wanted = sorted({float(f'{one * 1.05:.2g}') for one in needed if one}, reverse=True)
    train, val = (float(f'{report.balance.share(part):.2f}') for part in ('train', 'val'))
    fractions = (train, val, round(1 - train - val, 2))
    options: dict[str, str] = {}
    places = report.source.places[:: 1 + len(report.source.places) // TRIED]
    for buffer in (*wanted, 0.0):
        size = float(f'{max(4 * step, 3 * buffer):.2g}')
        try:
            geographic_split(places, 'blocks', fractions, block_size=size, buffer=buffer)
        except DatasetError:
            continue
        options = {'--block-size': f'{size:g}', '--buffer': f'{buffer:g}'}
        break
    command = ['geores', 'split', path, '--method', 'blocks' if options else 'clusters']
    command += [text for pair in options.items() for text in pair]
    command += ['--fractions', ','.join(f'{one:g}' for one in fractions)]
    command += [] if labels is None else ['--stratify', labels]
    command += [] if images is None else ['--images', str(images)]
    out = Path(path)
    suffix = out.suffix if out.suffix.lower() in ('.parquet', '.gpkg', '.geojson', '.csv') else '.parquet'
    return shlex.join([*command, '--out', str(out.with_name(f'{out.stem}-apart{suffix}'))])


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


def _label_drift(drift: Sequence[PairDrift]) -> Iterator[str]:
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

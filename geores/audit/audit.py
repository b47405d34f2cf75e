"""Audit a split: measure everything that can make its scores too good, and say what that means."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from geores.audit.autocorrelation import Autocorrelation, autocorrelation
from geores.audit.overlap import (
    Duplicates,
    PairDistances,
    PairDrift,
    PairOverlap,
    distances_between,
    drift_between,
    find_duplicates,
    overlap_between,
)
from geores.errors import DatasetError
from geores.options import AuditOptions
from geores.splits import DROPPED, PARTS, LabelMatrix, label_matrix
from geores.splits.assignment import part_name
from geores.splits.buffer import local_crs, spacing
from geores.splits.geographic import geographic_split
from geores.splits.source import Source, footprints_of
from geores.splits.table import SplitBalance, split_balance

__all__ = ['AuditReport', 'Verdict', 'audit_split', 'judge', 'metres', 'recommend', 'write_map']

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
            'distances': [asdict(one) for one in self.distances],
            'overlaps': None if self.overlaps is None else [asdict(one) for one in self.overlaps],
            'drift': None if self.drift is None else [asdict(one) for one in self.drift],
            'autocorrelation': None if self.autocorrelation is None else asdict(self.autocorrelation),
            'duplicates': None if self.duplicates is None else asdict(self.duplicates),
            'notes': list(self.notes),
        }


def metres(length: float) -> str:
    """A length in metres for people."""
    return f'{length / 1000:,.3f} km' if length >= 1000 else f'{length:.1f} m'


def judge(
    distances: Sequence[PairDistances],
    overlaps: Sequence[PairOverlap] | None,
    drift: Sequence[PairDrift] | None,
    correlation: Autocorrelation | None,
    duplicates: Duplicates | None,
    step: float,
) -> Verdict:
    """Draw a verdict from the figures of an audit, of which those that were not measured are None.

    `step` is the distance between neighbours in metres: the side of a footprint, or the spacing of places.
    """
    leaks = list(_leaks(distances, overlaps, duplicates))
    cautions = [*_neighbours(distances, correlation, step), *_label_drift(drift or ())]
    level = 'leaks' if leaks else 'caution' if cautions else 'sound'
    affected = _affected(distances, overlaps, duplicates)
    leaking = next((grade for grade, limit in GRADES.items() if affected < limit), 'E')
    grade = leaking if leaks else 'B' if cautions else 'A'
    return Verdict(level, (*leaks, *cautions, *_apart(distances, step)), grade, affected)  # type: ignore[arg-type]


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


def recommend(report: AuditReport, labels: str | None, images: Path | None, place: Path | None = None) -> str:
    """The one command that is recommended after an audit: to split anew, or to train.

    Distances are such that a split by them is known to work: the widest buffer out of what the labels ask for
    and what footprints need that leaves rows in every part. `labels` is their column, `images` the folder of
    those that were compared, and `place` where the rows were read, by default the name of the source.
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


def write_map(report: AuditReport, path: Path) -> None:
    """Draw a map of the row centres, coloured by part, in an equal-area projection, as a PNG file."""
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


PAIRS = (('test', 'train'), ('test', 'val'), ('val', 'train'))
Rows: TypeAlias = dict[str, NDArray[np.bool_]]
_DATES = ('date', 'datetime', 'acquired', 'acquisition_date', 'timestamp')


def audit_split(
    source: Source, options: AuditOptions, progress: Callable[[int, int], None] = lambda done, total: None
) -> AuditReport:
    """Audit a split for leakage between its parts.

    Args:
        source: rows with a column that holds their part.
        options: options of the audit.
        progress: called with the number of images just read and the total.

    Raises:
        DatasetError: if a column is missing or holds no parts, or fewer than two parts have rows.
        ReadError: if an image cannot be read.
    """
    options.check()
    names = _parts(source, options.column)
    labels, notes = _labels(source, options.labels)
    rows = {part: names == part for part in PARTS}
    pairs = [pair for pair in PAIRS if all(rows[part].any() for part in pair)]
    if not pairs:
        raise DatasetError(f'{source.name}: an audit needs rows in two parts at least')
    if options.images is not None and source.ids is None:
        raise DatasetError(f'{source.name} has no column of ids, by which images are found: name it by --id')
    duplicates = None
    if options.images is not None:
        duplicates = find_duplicates(options.images, source.ids or [], names, progress)
    distances = _distances(source, rows, pairs, options.radii)
    overlaps, side = _overlaps(source, rows, pairs)
    drift = None
    if labels is not None:
        found = (drift_between(pair, labels, *(rows[part] for part in pair)) for pair in pairs)
        drift = tuple(one for one in found if one is not None)
    correlation = None if labels is None else autocorrelation(source.places, labels)
    spots = np.unique(np.rint(source.places * 1e5), axis=0) / 1e5
    apart = spacing(spots)
    report = AuditReport(
        source=source,
        names=names,
        places=len(spots),
        side=side,
        spacing=apart,
        balance=split_balance(names, labels),
        distances=distances,
        overlaps=overlaps,
        drift=drift,
        autocorrelation=correlation,
        duplicates=duplicates,
        verdict=judge(distances, overlaps, drift, correlation, duplicates, side or apart),
        notes=(*source.notes, *notes),
    )
    return replace(report, command=recommend(report, _label_column(source, options.labels), options.images))


def _distances(
    source: Source, rows: Rows, pairs: Sequence[tuple[str, str]], radii: Sequence[float]
) -> tuple[PairDistances, ...]:
    dates = _dates(source)
    return tuple(
        distances_between(
            (part, other),
            source.places[rows[part]],
            source.places[rows[other]],
            radii,
            None if dates is None else (dates[rows[part]], dates[rows[other]]),
        )
        for part, other in pairs
    )


def _overlaps(
    source: Source, rows: Rows, pairs: Sequence[tuple[str, str]]
) -> tuple[tuple[PairOverlap, ...] | None, float | None]:
    """Overlaps between pairs of parts, and the side of a footprint in metres; None for point positions."""
    shapes = footprints_of(source)
    if shapes is None:
        return None, None
    found = (overlap_between(pair, shapes[rows[pair[0]]], shapes[rows[pair[1]]]) for pair in pairs)
    return tuple(found), float(np.sqrt(np.median(shapely.area(shapes))))


def _parts(source: Source, column: str) -> NDArray[np.object_]:
    parts = [part_name(_text(value)) for value in source.column(column, '--column')]
    if odd := sorted({*parts} - {*PARTS, DROPPED}):
        raise DatasetError(
            f'{source.name}: column {column!r} holds {odd[0]!r}; parts are train, val, test and dropped'
        )
    return np.array(parts, object)


def _text(value: object) -> str:
    text = '' if value is None or value != value else str(value).strip().lower()
    return text or DROPPED


def _labels(source: Source, name: str | None) -> tuple[LabelMatrix | None, Sequence[str]]:
    wanted = _label_column(source, name)
    if wanted is None:
        return None, ('no labels: name their column by --labels to see drift and spatial autocorrelation',)
    return label_matrix(source.column(wanted, '--labels'), wanted), ()


def _label_column(source: Source, name: str | None) -> str | None:
    return name or next((one for one in ('labels', 'label') if one in source.frame.columns), None)


def _dates(source: Source) -> NDArray[Any] | None:
    """Acquisition day of each row as text, None if unknown."""
    if source.squares is not None:
        return np.asarray(source.frame['patch_id'].astype(str).str.slice(11, 19), object)
    columns = {str(one).lower(): str(one) for one in source.frame.columns}
    found = next((columns[name] for name in _DATES if name in columns), None)
    return None if found is None else np.array([str(value)[:10] for value in source.frame[found]], object)

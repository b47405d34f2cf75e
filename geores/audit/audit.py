"""Audit a split: measure everything that can make its scores too good."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.audit.autocorrelation import autocorrelation
from geores.audit.overlap import (
    PairDistances,
    PairOverlap,
    distances_between,
    drift_between,
    find_duplicates,
    overlap_between,
)
from geores.audit.report import AuditReport, judge, recommend
from geores.errors import DatasetError
from geores.options import AuditOptions
from geores.splits import DROPPED, PARTS, LabelMatrix, label_matrix
from geores.splits.assignment import part_name
from geores.splits.buffer import spacing
from geores.splits.source import Source, footprints_of
from geores.splits.table import split_balance

__all__ = ['audit_split']

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
    known = {*PARTS, DROPPED}
    texts = [_text(value) for value in source.column(column, '--column')]
    parts = [part_name(text) for text in texts]
    odd = sorted(set(parts) - known)
    if odd:
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
        names = source.frame['patch_id'].astype(str)
        return np.asarray(names.str.slice(11, 19), object)
    columns = {str(one).lower(): str(one) for one in source.frame.columns}
    found = next((columns[name] for name in _DATES if name in columns), None)
    return None if found is None else np.array([str(value)[:10] for value in source.frame[found]], object)

"""Accuracy of a map and true areas of its classes, from a labelled sample, and the report of both."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geores.errors import UsageError
from geores.io.tables import csv_frame
from geores.io.whole_files import check_free, whole_files
from geores.map_accuracy.class_maps import (
    RasterMap,
    class_names,
    column_of,
    map_digest,
    mapped_at,
    read_sample,
    strata_of,
)
from geores.map_accuracy.class_names import Census
from geores.map_accuracy.strata import Design, read_design, side_file
from geores.metrics.map_accuracy import Estimate, MapEstimates, estimate_map

__all__ = ['AccuracyReport', 'accuracy', 'area_unit', 'report_files']

FILES = {
    'counts': 'error_matrix_counts.csv',
    'proportions': 'error_matrix_area.csv',
    'classes': 'classes.csv',
    'accuracy': 'accuracy.json',
    'plot': 'areas.png',
}
M2_PER_HA = 10_000
LARGE_HA = 100_000
MAPPED, ESTIMATED = '#b0b0b0', '#1f5f8b'


def report_files(folder: str | Path) -> dict[str, Path]:
    """Paths of a report's files."""
    return {kind: Path(folder) / name for kind, name in FILES.items()}


@dataclass(frozen=True)
class AccuracyReport:
    """Accuracy of a map of K classes, and areas.

    Attributes:
        classes: names, those of the map first.
        counts: (K, K) labelled points: rows map, columns reference.
        estimates: shares of area and accuracies, with standard errors.
        mapped: area of each class by counting the map's pixels, in ``area_unit``; biased. NaN where the
            map was not given.
        total: area of all strata, in ``area_unit``.
        area_unit: ``m2``, or ``pixel`` where the map has no CRS.
        labelled: points with a label.
        unlabelled: points without.
        notes: one sentence each.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    estimates: MapEstimates
    mapped: NDArray[np.float64]
    total: float
    area_unit: str
    labelled: int
    unlabelled: int
    notes: tuple[str, ...]

    @property
    def overall(self) -> Estimate:
        """Overall accuracy."""
        return self.estimates.overall

    @property
    def reported_unit(self) -> str:
        """Unit of areas in tables: ``ha``, or ``pixel``."""
        return 'ha' if self.area_unit == 'm2' else self.area_unit

    @cached_property
    def error_matrix(self) -> pd.DataFrame:
        """Labelled points: rows map, columns reference."""
        return self._square(self.counts)

    @cached_property
    def area_matrix(self) -> pd.DataFrame:
        """The error matrix in estimated proportions of area."""
        return self._square(self.estimates.matrix)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per class: accuracies, and areas in `reported_unit`.

        Standard errors end in ``_se``, halves of 95 % intervals in ``_ci95``. ``mapped_area`` counts the
        map's pixels and is biased; ``area`` is the estimate.
        """
        scale = 1 / M2_PER_HA if self.area_unit == 'm2' else 1.0
        area = Estimate(*(part * self.total * scale for part in self.estimates.areas))
        columns: dict[str, Any] = {
            'class': self.classes,
            'mapped_points': self.counts.sum(1),
            'reference_points': self.counts.sum(0),
        }
        for name, estimate in (
            ('users_accuracy', self.estimates.users),
            ('producers_accuracy', self.estimates.producers),
            ('area', area),
        ):
            if name == 'area':
                columns['mapped_area'] = self.mapped * scale
            columns |= {name: estimate.value, f'{name}_se': estimate.standard_error}
            columns[f'{name}_ci95'] = estimate.margin
        return pd.DataFrame(columns)

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON values; None for what the sample does not determine."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict('records')
        return {
            'overall_accuracy': float(self.overall.value),
            'overall_accuracy_se': float(self.overall.standard_error),
            'overall_accuracy_ci95': float(self.overall.margin),
            'classes': rows,
            'error_matrix_counts': self.counts.tolist(),
            'error_matrix_area': self.estimates.matrix.tolist(),
            'area_unit': self.reported_unit,
            'labelled': self.labelled,
            'unlabelled': self.unlabelled,
            'notes': list(self.notes),
            'geores_version': version('geores'),
        }

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write the two error matrices and the classes as CSV, all as JSON, and a plot of areas.

        Returns:
            Paths under ``counts``, ``proportions``, ``classes``, ``accuracy`` and ``plot``.

        Raises:
            OutputError: if a file of that name exists, or the folder cannot be written.
            WriteError: if writing failed, as on a full disk; no file is left half written.
        """
        paths = report_files(folder)
        check_free(list(paths.values()), overwrite=overwrite)
        with whole_files(list(paths.values())) as (counts, proportions, classes, record, plot):
            csv_frame(self.error_matrix).to_csv(counts)
            csv_frame(self.area_matrix).to_csv(proportions)
            csv_frame(self.table).to_csv(classes, index=False)
            record.write_text(json.dumps(self.to_dict(), indent=1) + '\n')
            _draw_areas(self, plot)
        return paths

    def _square(self, values: NDArray[Any]) -> pd.DataFrame:
        rows, columns = (pd.Index(self.classes, name=name) for name in ('map', 'reference'))
        return pd.DataFrame(values, rows, columns)


def area_unit(report: AccuracyReport) -> tuple[float, str, str]:
    """Factor, unit (ha, km² or pixels) and number format that make the areas of a table readable."""
    if report.area_unit != 'm2':
        return 1.0, 'pixels', ',.0f'
    total = report.total / M2_PER_HA
    scale, unit = (0.01, 'km²') if total >= LARGE_HA else (1.0, 'ha')
    return scale, unit, ',.0f' if total * scale >= 1000 else ',.2f'


def _draw_areas(report: AccuracyReport, path: Path) -> None:
    """Draw one line per class: bars for the mapped area, points with 95 % intervals for the estimate."""
    scale, unit, spec = area_unit(report)
    table = report.table
    order = np.argsort(table['area'].to_numpy())
    mapped, area, margin = (
        table[name].to_numpy(float)[order] * scale for name in ('mapped_area', 'area', 'area_ci95')
    )
    mapped = np.nan_to_num(mapped)
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(order)), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = range(len(order))
    axes.barh(places, mapped, height=0.6, color=MAPPED, label='counted on the map (biased)')
    axes.errorbar(
        area, places, xerr=margin, fmt='o', color=ESTIMATED, capsize=4, label='estimated, 95 % interval'
    )
    reach = np.nanmax([*(area + margin), *mapped])
    for place, value, half, counted in zip(places, area, margin, mapped, strict=True):
        end = max(value + half, counted)
        axes.text(end + 0.015 * reach, place, f'{value:{spec}} ± {half:{spec}}', va='center', fontsize=8)
    axes.set(
        yticks=places,
        yticklabels=[report.classes[k] for k in order],
        xlabel=f'area, {unit}',
        xlim=(min(0.0, float((area - margin).min()) - 0.02 * reach), 1.25 * reach),
    )
    axes.axvline(0, color='black', linewidth=0.8)
    overall = f'Overall accuracy {report.overall.value:.3f} ± {report.overall.margin:.3f}'
    axes.set_title(f'{overall} ({report.labelled:,} labelled points)', fontsize=10)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower center', ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, format='png', metadata={'Software': 'geores'})


class _Strata(NamedTuple):
    """Names and areas of the strata, and where known their numbers of units."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    areas: NDArray[np.float64]
    units: NDArray[np.int64] | None
    area_unit: str


def accuracy(
    sample: str | Path | pd.DataFrame,
    *,
    reference: str = 'reference',
    map_column: str = 'map_class',
    map: str | Path | None = None,
    classes: Mapping[int, str] | None = None,
    areas: Mapping[str, float] | None = None,
    design: str | Path | Design | None = None,
) -> AccuracyReport:
    """Estimate how accurate a map is, and the true areas of its classes, from a labelled sample.

    Why: the share of area that one gets by counting a map's pixels is biased, since the errors of a map
    do not cancel. The estimates here correct for the errors that the sample shows, and come with 95 %
    confidence intervals.

    Estimators of Olofsson et al. (2014) and, where the strata are not the map's classes, of Stehman
    (2014): see `geores.metrics.map_accuracy`.

    Args:
        sample: what `geores.sample` wrote, with labels filled in; or any points of a stratified random
            sample, in a vector file, a CSV table or a frame. Points without a label are left out.
        reference: column of the true class: names of classes, or their values in the map.
        map_column: column of the map's class.
        map: a raster to look the map's class up in instead: another map of the same place is assessed
            with the same sample so. For a sample without a design, also where areas come from.
        classes: names of that raster's values, as in `geores.sample`.
        areas: mapped area of each class, which are the strata, in square metres.
        design: JSON of `geores.sample`; ``<sample>.json`` where that exists.

    Raises:
        UsageError: if a column is missing, nothing is labelled, or a stratum has fewer than 2 labelled
            points.
        ReadError: if the map cannot be read.
    """
    frame = sample if isinstance(sample, pd.DataFrame) else read_sample(sample)
    design = _design(sample, design, areas)
    opened = None if map is None else RasterMap(map, classes)
    if opened and design and map_digest(opened.path) == design.map_sha256:
        opened = None  # the map that it was drawn from
    strata = _strata(design, opened, areas)
    written = column_of(frame, reference, 'the reference class')
    labelled = (written != '').to_numpy()
    if not labelled.any():
        raise UsageError(f'no point has a label in column {reference!r}: fill it in, as in QGIS')
    mapped = _mapped(frame, map_column, opened, design, strata)
    stratum = mapped if design is None else strata_of(frame, design)
    truth = class_names(written, strata.names, strata.values)
    names = tuple(dict.fromkeys([*strata.names, *(opened.census.classes if opened else ())]))
    points = pd.DataFrame({'stratum': stratum, 'map': mapped, 'reference': truth})
    outside = labelled & (points['map'] == '').to_numpy()
    points = points[labelled & ~outside]
    _check_strata(points, strata)
    notes = _notes(points, strata, names, unlabelled=int((~labelled).sum()), outside=int(outside.sum()))
    names = tuple(dict.fromkeys([*names, *sorted({*points['map'], *points['reference']})]))
    counts = _counts(points, strata.names, names)
    return AccuracyReport(
        classes=names,
        counts=counts.sum(0),
        estimates=estimate_map(counts, strata.areas, strata.units),
        mapped=_mapped_areas(points, strata, opened.census if opened else None, names),
        total=float(strata.areas.sum()),
        area_unit=strata.area_unit,
        labelled=len(points),
        unlabelled=int((~labelled).sum()),
        notes=tuple(notes),
    )


def _design(
    sample: object, given: str | Path | Design | None, areas: Mapping[str, float] | None
) -> Design | None:
    if isinstance(given, Design) or (given is None and (areas or not isinstance(sample, str | Path))):
        return given
    if given is not None and areas:
        raise UsageError('give either areas or design')
    path = Path(given) if given is not None else side_file(Path(str(sample)))
    return read_design(path) if given is not None or path.exists() else None


def _strata(design: Design | None, opened: RasterMap | None, areas: Mapping[str, float] | None) -> _Strata:
    """Strata from the design, from given areas, or from a map."""
    if design is not None:
        strata = design.strata
        return _Strata(
            tuple(s.map_class for s in strata),
            tuple(s.value for s in strata),
            np.array([s.area for s in strata]),
            np.array([s.units for s in strata]),
            design.area_unit,
        )
    if areas:
        if not all(0 < area < np.inf for area in areas.values()):
            raise UsageError('areas have to be above 0')
        return _Strata(tuple(areas), (), np.array(list(areas.values()), float), None, 'm2')
    if opened is None:
        raise UsageError(
            'areas of the strata are unknown: keep the .json of `geores sample` beside the sample, or '
            'give the map (--map) or areas (--areas)'
        )
    census = opened.census
    return _Strata(census.classes, census.values, census.areas, census.units.sum(0), census.area_unit)


def _mapped(
    frame: pd.DataFrame, column: str, opened: RasterMap | None, design: Design | None, strata: _Strata
) -> list[str]:
    """The map's class of each point: from another map, from a column, or from the design."""
    if opened is not None and (design is not None or column not in frame.columns):
        return mapped_at(frame, opened)
    if design is not None and column == 'map_class' and column not in frame.columns:
        return strata_of(frame, design)
    return class_names(column_of(frame, column, "the map's class"), strata.names, strata.values)


def _check_strata(points: pd.DataFrame, strata: _Strata) -> None:
    sizes = points['stratum'].value_counts()
    unknown = [str(name) for name in sizes.index if name not in strata.names]
    if unknown:
        raise UsageError(
            f'the sample has points of the map class {unknown[0]!r}, whose area is unknown; known are '
            f'{", ".join(strata.names)}'
        )
    units = [None] * len(strata.names) if strata.units is None else strata.units.tolist()
    for name, whole in zip(strata.names, units, strict=True):
        count = int(sizes.get(name, 0))
        if count < 2 and (count, whole) != (1, 1):
            raise UsageError(
                f'stratum {name!r} has {count} labelled points of the at least 2 that it takes: label more'
            )
        if whole is not None and count > whole:
            raise UsageError(f'stratum {name!r} has {count} labelled points but only {whole} units')


def _notes(
    points: pd.DataFrame, strata: _Strata, names: tuple[str, ...], *, unlabelled: int, outside: int
) -> list[str]:
    notes = []
    if unlabelled:
        notes.append(
            f'left out, having no label: {unlabelled:,} of {len(points) + unlabelled + outside:,} points'
        )
    if outside:
        notes.append(f'left out, since the map has no class there: {outside:,} points')
    new = points.loc[~points['reference'].isin(names), 'reference'].value_counts()
    notes += [
        f'{name!r} (points: {count:,}) is no class of the map: it is estimated as one that the map lacks'
        for name, count in new.items()
    ]
    agree = (points['map'] == points['reference']) & (points['map'] == points['stratum'])
    right = agree.groupby(points['stratum']).agg(['all', 'size']).loc[list(strata.names)]
    units = strata.areas if strata.units is None else strata.units
    if sure := list(right.index[right['all'] & (right['size'] != units)]):
        notes.append(
            f'no error found in the sample of {", ".join(sure)}: their standard errors of 0 are too small'
        )
    return notes


def _counts(points: pd.DataFrame, strata: tuple[str, ...], names: tuple[str, ...]) -> NDArray[np.int64]:
    """Number of points per stratum, map class and reference class, (H, K, K)."""
    counts = np.zeros((len(strata), len(names), len(names)), np.int64)
    known = {'stratum': strata, 'map': names, 'reference': names}
    np.add.at(counts, tuple(pd.Index(known[name]).get_indexer(pd.Index(points[name])) for name in known), 1)
    return counts


def _mapped_areas(
    points: pd.DataFrame, strata: _Strata, census: Census | None, names: tuple[str, ...]
) -> NDArray[np.float64]:
    """Area of each class by counting the map's pixels; NaN where that is unknown."""
    if census is not None:
        known = dict(zip(census.classes, census.areas, strict=True))
    elif (points['stratum'] == points['map']).all():
        known = dict(zip(strata.names, strata.areas, strict=True))
    else:
        return np.full(len(names), np.nan)
    return np.array([known.get(name, 0.0) for name in names])

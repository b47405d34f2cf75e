"""The accuracy report of a map: tables, JSON and a plot of mapped and estimated areas."""

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geores.io.tables import csv_frame
from geores.io.whole_files import check_free, whole_files
from geores.metrics.map_accuracy import Estimate, MapEstimates

__all__ = ['AccuracyReport', 'area_unit', 'report_files', 'write_areas']

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
        named = {
            'users_accuracy': self.estimates.users,
            'producers_accuracy': self.estimates.producers,
            'area': area,
        }
        for name, estimate in named.items():
            if name == 'area':
                columns['mapped_area'] = self.mapped * scale
            columns[name] = estimate.value
            columns[f'{name}_se'] = estimate.standard_error
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

        Args:
            folder: created where absent.
            overwrite: replace files of an earlier run.

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
            write_areas(self, plot)
        return paths

    def _square(self, values: NDArray[Any]) -> pd.DataFrame:
        return pd.DataFrame(
            values,
            index=pd.Index(self.classes, name='map'),
            columns=pd.Index(self.classes, name='reference'),
        )


def area_unit(report: 'AccuracyReport') -> tuple[float, str, str]:
    """Factor, unit (ha, km² or pixels) and number format that make the areas of a table readable."""
    if report.area_unit != 'm2':
        return 1.0, 'pixels', ',.0f'
    total = report.total / 10_000
    scale, unit = (0.01, 'km²') if total >= LARGE_HA else (1.0, 'ha')
    return scale, unit, ',.0f' if total * scale >= 1000 else ',.2f'


def write_areas(report: 'AccuracyReport', path: Path) -> None:
    """Draw one line per class: bars for the mapped area, points with 95 % intervals for the estimate."""
    scale, unit, spec = area_unit(report)
    table = report.table
    order = np.argsort(table['area'].to_numpy())
    mapped, area, margin = (
        table[name].to_numpy(float)[order] * scale for name in ('mapped_area', 'area', 'area_ci95')
    )
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(order)), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = range(len(order))
    axes.barh(places, np.nan_to_num(mapped), height=0.6, color=MAPPED, label='counted on the map (biased)')
    axes.errorbar(
        area, places, xerr=margin, fmt='o', color=ESTIMATED, capsize=4, label='estimated, 95 % interval'
    )
    reach = np.nanmax([*(area + margin), *np.nan_to_num(mapped)])
    for place, value, half, counted in zip(places, area, margin, np.nan_to_num(mapped), strict=True):
        end = max(value + half, counted)
        axes.text(end + 0.015 * reach, place, f'{value:{spec}} ± {half:{spec}}', va='center', fontsize=8)
    axes.set(
        yticks=places,
        yticklabels=[report.classes[k] for k in order],
        xlabel=f'area, {unit}',
        xlim=(min(0.0, float((area - margin).min()) - 0.02 * reach), 1.25 * reach),
    )
    axes.axvline(0, color='black', linewidth=0.8)
    overall = report.overall
    axes.set_title(
        f'Overall accuracy {overall.value:.3f} ± {overall.margin:.3f} ({report.labelled:,} labelled points)',
        fontsize=10,
    )
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower center', ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, format='png', metadata={'Software': 'geores'})

"""The picture of areas: counted on the map, and estimated with their intervals."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from geores.pipelines.accuracy.report import AccuracyReport

__all__ = ['area_unit', 'write_areas']

LARGE_HA = 100_000
MAPPED, ESTIMATED = '#b0b0b0', '#1f5f8b'


def area_unit(report: 'AccuracyReport') -> tuple[float, str, str]:
    """How people read the areas of a report's table: factor, unit (ha, km² or pixels) and format."""
    if report.area_unit != 'm2':
        return 1.0, 'pixels', ',.0f'
    total = report.total / 10_000
    scale, unit = (0.01, 'km²') if total >= LARGE_HA else (1.0, 'ha')
    return scale, unit, ',.0f' if total * scale >= 1000 else ',.2f'


def write_areas(report: 'AccuracyReport', path: Path) -> None:
    """Draw a line a class: bars for the mapped area, points with 95 % intervals for the estimate."""
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

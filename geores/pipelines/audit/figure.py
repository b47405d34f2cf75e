"""A map of the parts."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pyproj import Transformer

from geores.splits import DROPPED, PARTS
from geores.splits.ground import local_crs

if TYPE_CHECKING:
    from geores.pipelines.audit.report import AuditReport

__all__ = ['write_map']

COLOURS = {'train': '#4477aa', 'validation': '#ccbb44', 'test': '#ee6677', DROPPED: '#bbbbbb'}


def write_map(report: 'AuditReport', path: Path) -> None:
    """Draw the middle of each row in the colour of its part, on an equal-area map.

    Args:
        report: of the audit.
        path: PNG to write.
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

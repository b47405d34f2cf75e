"""The picture of a result: image beside the map of labels or values, with legend and scale."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from geores.pipelines.labels import dominant
from geores.pipelines.scored import Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes


__all__ = ['colours', 'draw_scale_bar', 'stretched_picture', 'write_map']

MAP_CELLS = 1024
EMPTY = '#d9d9d9'
NAMED = {
    'water': '#2b7bba',
    'sealake': '#2166ac',
    'sea': '#2166ac',
    'river': '#67a9cf',
    'dock': '#8c96c6',
    'ship': '#6a51a3',
    'forest': '#1b6e32',
    'trees': '#2e8b45',
    'herbaceousvegetation': '#8fbc5a',
    'grass': '#a6d96a',
    'chaparral': '#9a9a4a',
    'pasture': '#c9e08c',
    'field': '#e6c34a',
    'annualcrop': '#f2d25c',
    'permanentcrop': '#d99a2b',
    'residential': '#d7301f',
    'buildings': '#d7301f',
    'industrial': '#8c2d8c',
    'highway': '#5a5a5a',
    'pavement': '#7f7f7f',
    'baresoil': '#b5835a',
    'sand': '#f0d9a0',
}
"""Colours that people expect of a label, by its letters in lower case."""

SPARE = ('#e377c2', '#17becf', '#9467bd', '#bcbd22', '#ff7f0e', '#8c564b', '#7b4173', '#3f7f7f')


def colours(labels: tuple[str, ...]) -> list[str]:
    """A colour for each label: the expected one where there is one, else one that is left."""
    spare = 0
    chosen = []
    for label in labels:
        key = ''.join(letter for letter in label.lower() if letter.isalnum())
        if key not in NAMED:
            spare += 1
        chosen.append(NAMED.get(key, SPARE[(spare - 1) % len(SPARE)]))
    return chosen


def write_map(result: Scored, path: Path) -> None:
    """Draw the scene beside the strongest label, or the first value, of each cell."""
    picture = stretched_picture(result.look.assemble(result.plan, result.store))
    height, width = picture.shape[:2]
    wide = width >= 1.3 * height
    panel = np.array([8.0, max(8.0 * height / width, 1.5)]) if wide else np.array([6.0 * width / height, 6.0])
    size = (panel[0], 2 * panel[1] + 1.6) if wide else (2 * panel[0] + 0.6, panel[1] + 1.6)
    figure = Figure(figsize=tuple(np.maximum(size, (7.0, 3.5))), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(*((2, 1) if wide else (1, 2)))
    tiling = result.plan.tiling
    extent = (0, tiling.width, tiling.height, 0)
    axes[0].imshow(picture, extent=extent, interpolation='nearest')
    axes[0].set_title(result.name, fontsize=9)
    (_draw_values if result.card.task == 'regression' else _draw_labels)(figure, axes[1], result)
    for panel_axes in axes:
        panel_axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:], facecolor=EMPTY)
    draw_scale_bar(axes[0], tiling.width, tiling.height, result.gsd)
    figure.savefig(path, format='png', metadata={'Software': 'geores'})


def _draw_labels(figure: Figure, axes: 'Axes', result: Scored) -> None:
    labels = _cell_map(result, lambda means: dominant(means, result.limits))
    palette = colours(result.card.labels)
    axes.imshow(
        np.ma.masked_less(labels, 0),
        cmap=ListedColormap(palette),
        vmin=-0.5,
        vmax=len(palette) - 0.5,
        extent=_cell_extent(result),
        interpolation='nearest',
    )
    axes.set_title(f'{result.card.name}: strongest label of each cell', fontsize=9)
    _legend(figure, result, labels, palette)


def _draw_values(figure: Figure, axes: 'Axes', result: Scored) -> None:
    """The first value; the others are in the table and the raster of scores."""
    values = _cell_map(result, lambda means: means[0])
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap='viridis', extent=_cell_extent(result), interpolation='nearest'
    )
    name = result.card.labels[0]
    axes.set_title(f'{result.card.name}: {name}, mean {result.means[name]:.4g}', fontsize=9)
    figure.colorbar(image, ax=axes, location='bottom', shrink=0.6, aspect=40).set_label(name, fontsize=8)


def stretched_picture(look: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bands (1 or 3, h, w) stretched to 8 bits each; white where invalid."""
    bands = look if len(look) == 3 else look[:1].repeat(3, axis=0)
    known = ~np.isnan(bands).any(axis=0)
    picture = np.full((*bands.shape[1:], 3), 255, np.uint8)
    if known.any():
        low, high = np.percentile(bands[:, known], (1, 99), axis=1)[..., None]
        scaled = (bands[:, known] - low) / np.maximum(high - low, 1e-6)
        picture[known] = (np.clip(scaled, 0, 1) ** 0.8 * 255).astype(np.uint8).T
    return picture


def _cell_map(result: Scored, choose: Callable[[NDArray[np.float32]], NDArray[Any]]) -> NDArray[Any]:
    """What to draw of each cell's means (K, rows, cols); of every n-th cell where there are very many."""
    rows, cols = result.plan.tiling.cell_shape
    step = -(-max(rows, cols) // MAP_CELLS)
    block = 256 * step
    return np.concatenate([
        np.concatenate([
            choose(result.table.cells(_part(row, block, rows), _part(col, block, cols))[0])[::step, ::step]
            for col in range(0, cols, block)
        ], axis=1)
        for row in range(0, rows, block)
    ])  # fmt: skip


def _part(start: int, size: int, end: int) -> slice:
    return slice(start, min(start + size, end))


def _cell_extent(result: Scored) -> tuple[float, float, float, float]:
    rows, cols = (count * result.plan.tiling.stride for count in result.plan.tiling.cell_shape)
    return (0, cols, rows, 0)


def draw_scale_bar(axes: 'Axes', width: int, height: int, gsd: float | None) -> None:
    """A bar of a round length, about a fifth of the picture."""
    unit = gsd or 1.0
    goal = width * unit / 5
    base = 10 ** np.floor(np.log10(goal))
    length = max(step * base for step in (1, 2, 5) if step * base <= goal)
    name = f'{length / 1000:g} km' if gsd and length >= 1000 else f'{length:g} {"m" if gsd else "px"}'
    left, bottom, thick = 0.03 * width, 0.95 * height, 0.012 * height
    box: dict[str, Any] = {'facecolor': 'white', 'edgecolor': 'black', 'linewidth': 0.6}
    axes.add_patch(Rectangle((left, bottom), length / unit, thick, **box))
    axes.text(
        left, bottom - thick, name, fontsize=8, va='bottom', color='black',
        bbox={'facecolor': 'white', 'alpha': 0.7, 'pad': 1, 'linewidth': 0},
    )  # fmt: skip


def _legend(figure: Figure, result: Scored, drawn: NDArray[np.int64], palette: list[str]) -> None:
    """Labels on the map with their shares of area, largest first."""
    order = {label: k for k, label in enumerate(result.card.labels)}
    shown = [label for label in result.shares if (drawn == order[label]).any()]
    handles = [
        Patch(facecolor=palette[order[label]], label=f'{label} {result.shares[label]:.1%}') for label in shown
    ]
    if (drawn < 0).any():
        handles.append(Patch(facecolor=EMPTY, edgecolor='#888888', label='none or no data'))
    if handles:
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=min(5, len(handles)),
            fontsize=8,
            frameon=False,
        )

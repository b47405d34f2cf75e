"""Sheets of map panels above a foot with legend and notes, laid out in inches so that nothing overlaps.

It also holds what every panel needs: the ground, the scene stretched to 8 bits, scale bar and north arrow.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, degrees, hypot
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geores.cartography.areas import say_length

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['EMPTY', 'Frame', 'Sheet', 'draw_north', 'draw_scale_bar', 'stretched_picture']

EMPTY = '#d9d9d9'
"""Colour of pixels without data."""

DPI = 150
MARGIN, GAP = 0.1, 0.12
"""Around the sheet and between panels, inches."""
LEAST_WIDTH = 6.5
"""Width of a sheet, inches."""
LEAST_HEIGHT, MOST_HEIGHT = 0.4, 20.0
"""Height of a panel whatever the shape of the scene, inches."""
LINE, SMALL_LINE = 0.172, 0.13
"""Height of a line of the legend and of the notes, inches."""

_BOX: dict[str, Any] = {'facecolor': 'white', 'alpha': 0.7, 'pad': 1, 'linewidth': 0}


@dataclass(frozen=True)
class Sheet:
    """Panels that show the same ground, and the foot below them.

    Attributes:
        figure: of matplotlib.
        axes: the panels, row by row.
        frame: the ground.
    """

    figure: 'Figure'
    axes: Sequence['Axes']
    frame: 'Frame'

    @classmethod
    def of(
        cls,
        frame: 'Frame',
        *,
        count: int,
        cols: int,
        width: float,
        above: float = 0.25,
        handles: Sequence['Artist'] = (),
        note: str = '',
        bar: float = 0.0,
    ) -> 'Sheet':
        """Lay out panels, a legend and a note.

        Args:
            frame: the ground.
            count: number of panels.
            cols: panels per row.
            width: of a panel, inches.
            above: room for the title of a panel, inches.
            handles: of the legend.
            note: text at the bottom, after CRS and pixel size.
            bar: room under the panels for what the caller draws there, inches.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        height = min(max(width * frame.height / frame.width, LEAST_HEIGHT), MOST_HEIGHT)
        rows = -(-count // cols)
        inner = cols * width + (cols - 1) * GAP
        wide = max(inner, LEAST_WIDTH) + 2 * MARGIN
        columns, legend = _legend_size(handles, wide)
        lines = [frame.caption, *textwrap.wrap(note, int(wide * 16))]
        foot = bar + legend + SMALL_LINE * len(lines) + 2 * MARGIN
        tall = rows * (height + above) + foot
        figure = Figure(figsize=(wide, tall), dpi=DPI)
        FigureCanvasAgg(figure)
        axes = []
        for number in range(count):
            row, col = divmod(number, cols)
            left = (wide - inner) / 2 + col * (width + GAP)
            bottom = tall - (row + 1) * (height + above)
            axes.append(figure.add_axes((left / wide, bottom / tall, width / wide, height / tall)))
        if handles:
            figure.legend(
                handles=handles,
                loc='upper center',
                bbox_to_anchor=(0.5, (foot - bar - 0.06) / tall),
                borderaxespad=0,
                ncols=columns,
                fontsize=8,
                frameon=False,
            )
        figure.text(
            0.5, MARGIN / tall, '\n'.join(lines), fontsize=7, color='#444444', ha='center', va='bottom'
        )
        return cls(figure, axes, frame)

    def bar_axes(self) -> 'Axes':
        """Axes in the room under the last panel, for a scale of colours."""
        box, tall = self.axes[-1].get_position(), self.figure.get_figheight()
        left, width = box.x0 + 0.2 * box.width, 0.6 * box.width
        return self.figure.add_axes((left, box.y0 - 0.22 / tall, width, 0.12 / tall))

    def finished(self) -> 'Figure':
        """The figure, with each panel cropped to the ground."""
        left, right, bottom, top = self.frame.extent
        for panel in self.axes:
            panel.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top), facecolor=EMPTY)
        return self.figure

    def write(self, path: Path) -> None:
        """Save the sheet."""
        self.finished().savefig(path, format='png', metadata={'Software': 'geores'})


def _legend_size(handles: Sequence['Artist'], wide: float) -> tuple[int, float]:
    """Columns of the legend that fit into a width, and its height, inches."""
    if not handles:
        return 1, 0.0
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(int(wide / (0.075 * longest + 0.6)), len(handles)))
    return columns, LINE * -(-len(handles) // columns) + 0.1


@dataclass(frozen=True)
class Frame:
    """The ground that a map shows.

    Attributes:
        height: in pixels of the target grid.
        width: in pixels of the target grid.
        gsd: metres on the ground per pixel; None where the scene has no CRS.
        crs: code and name of the CRS; None where there is none.
        north: direction of north in degrees clockwise from the top; None where there is no CRS.
    """

    height: int
    width: int
    gsd: float | None = None
    crs: str | None = None
    north: float | None = None

    @classmethod
    def of(cls, grid: GeoBox, gsd: float | None) -> 'Frame':
        """The frame of a grid.

        Args:
            grid: target grid of a map.
            gsd: metres on the ground per pixel.
        """
        height, width = grid.shape.yx
        if grid.crs is None:
            return cls(height, width)
        right, down = _towards_north(grid)
        return cls(height, width, gsd, _crs_text(grid.crs.proj), degrees(atan2(right, -down)))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top, in pixels from the upper left, as matplotlib takes them."""
        return (0, self.width, self.height, 0)

    @property
    def caption(self) -> str:
        """CRS and pixel size as one line."""
        size = '' if self.gsd is None else f'{self.gsd:.4g} m a pixel'
        return ' · '.join(filter(None, [self.crs or 'no CRS', size]))


def _towards_north(grid: GeoBox) -> tuple[float, float]:
    """Direction of north in columns and rows, of length 1."""
    inverse = ~grid.affine
    right, down = inverse.b, inverse.e
    length = hypot(right, down)
    return right / length, down / length


def _crs_text(crs: CRS) -> str:
    """Code and name of a CRS, such as 'EPSG:32633 (WGS 84 / UTM zone 33N)'."""
    code = crs.to_authority(min_confidence=100)
    return f'{":".join(code)} ({crs.name})' if code else str(crs.name)


def stretched_picture(look: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch bands (1 or 3, h, w) to an 8-bit picture (h, w, 3); white where invalid."""
    bands = look if len(look) == 3 else look[:1].repeat(3, axis=0)
    known = ~np.isnan(bands).any(axis=0)
    picture = np.full((*bands.shape[1:], 3), 255, np.uint8)
    if known.any():
        low, high = np.percentile(bands[:, known], (1, 99), axis=1)[..., None]
        scaled = (bands[:, known] - low) / np.maximum(high - low, 1e-6)
        picture[known] = (np.clip(scaled, 0, 1) ** 0.8 * 255).astype(np.uint8).T
    return picture


def draw_scale_bar(axes: 'Axes', width: int, height: int, gsd: float | None) -> None:
    """Draw a scale bar of a round length, about a fifth of the picture."""
    from matplotlib.patches import Rectangle

    unit = gsd or 1.0
    goal = width * unit / 5
    base = 10 ** np.floor(np.log10(goal))
    length = max(step * base for step in (1, 2, 5) if step * base <= goal)
    name = say_length(length) if gsd else f'{length:g} px'
    left, bottom, thick = 0.03 * width, 0.95 * height, 0.012 * height
    box: dict[str, Any] = {'facecolor': 'white', 'edgecolor': 'black', 'linewidth': 0.6}
    axes.add_patch(Rectangle((left, bottom), length / unit, thick, **box))
    axes.text(left, bottom - thick, name, fontsize=8, va='bottom', color='black', bbox=_BOX)


def draw_north(axes: 'Axes', frame: Frame) -> None:
    """Draw a north arrow in the upper right corner, where north is known."""
    if frame.north is None:
        return
    point = frame.width * axes.figure.dpi / (72 * axes.bbox.width)
    angle = np.deg2rad(frame.north)
    x, y = frame.width - 20 * point, 26 * point
    right, down = np.sin(angle) * point, -np.cos(angle) * point
    style = {'width': 2, 'headwidth': 8, 'headlength': 8}
    axes.annotate(
        '',
        xy=(x + 18 * right, y + 18 * down),
        xytext=(x - 4 * right, y - 4 * down),
        arrowprops={'facecolor': 'white', 'edgecolor': 'black', 'linewidth': 0.6, **style},
    )
    axes.text(
        x - 10 * right, y - 10 * down, 'N', fontsize=8, ha='center', va='center', color='black', bbox=_BOX
    )

"""A sheet of panels of one size above a foot, laid out in inches so that nothing lies over anything."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geores.cartography.map_parts import EMPTY, Frame

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['Sheet']

DPI = 150
MARGIN, GAP = 0.1, 0.12
LEAST_WIDTH = 6.5
LEAST_HEIGHT, MOST_HEIGHT = 0.4, 20.0
"""Of a panel, whatever the scene's sides."""
LINE, SMALL_LINE = 0.172, 0.13


@dataclass(frozen=True)
class Sheet:
    """Panels that show the same ground, and the foot below them.

    Attributes:
        figure: of matplotlib.
        axes: the panels, by rows.
        frame: the ground.
    """

    figure: 'Figure'
    axes: Sequence['Axes']
    frame: Frame

    @classmethod
    def of(
        cls,
        frame: Frame,
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
            count: panels.
            cols: of them in a row.
            width: of a panel, inches.
            above: room for the title of a panel, inches.
            handles: of the legend.
            note: below; what CRS and pixels are comes first.
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
        """The figure, each panel cut to the ground."""
        left, right, bottom, top = self.frame.extent
        for panel in self.axes:
            panel.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top), facecolor=EMPTY)
        return self.figure

    def write(self, path: Path) -> None:
        """Save it.

        Args:
            path: a PNG.
        """
        self.finished().savefig(path, format='png', metadata={'Software': 'geores'})


def _legend_size(handles: Sequence['Artist'], wide: float) -> tuple[int, float]:
    """Columns that fit into a width, and the height that the legend takes, inches."""
    if not handles:
        return 1, 0.0
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(int(wide / (0.075 * longest + 0.6)), len(handles)))
    return columns, LINE * -(-len(handles) // columns) + 0.1

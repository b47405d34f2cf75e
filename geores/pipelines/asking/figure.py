"""Pictures of evidence: the scene beside the tiles that an answer rests on."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from geores.pipelines.asking.answer import SceneAnswer
from geores.pipelines.figure import draw_scale_bar, stretched_picture

if TYPE_CHECKING:
    from matplotlib.artist import Artist

    from geores.pipelines.scored import Scored

__all__ = ['EvidenceMaps']

OUTLINED = 2000
"""Most tiles whose outlines can be told apart."""

LEGENDS = {
    'presence': 'chance that a tile shows it',
    'count': 'number in a tile, of the largest',
    'area': 'share of a tile that is covered',
    'comp': 'difference in a tile, of the largest',
    'rural_urban': 'chance of the answer in a tile',
}


class EvidenceMaps:
    """Draws maps of any number of answers; what they share is drawn once for each scene."""

    def __init__(self) -> None:
        self._sheets: dict[int, _Sheet] = {}

    def write(self, answer: SceneAnswer, path: Path) -> None:
        """Draw the scene beside what its tiles say; evidence is outlined.

        Args:
            answer: One that rests on tiles.
            path: A PNG.
        """
        assert answer.behind is not None  # noqa: S101 - for the type alone
        scored = answer.behind.scored
        if id(scored) not in self._sheets:
            self._sheets[id(scored)] = _Sheet(scored)  # which keeps it, so that its id stays its own
        self._sheets[id(scored)].write(answer, path)


class _Sheet:
    """Two panels with the picture of a scene, on which one answer after the other is drawn.

    Drawing all anew takes 0.2 s, and a hundred answers are more than the tiles of a small scene take.
    """

    def __init__(self, scored: 'Scored') -> None:
        self.scored = scored
        picture = stretched_picture(scored.look.assemble(scored.plan, scored.store))
        tiling = scored.plan.tiling
        self.figure, axes = _panels(tiling.width, tiling.height)
        extent = (0, tiling.width, tiling.height, 0)
        # In grey below the colours, which would mix with it.
        grey = picture.mean(2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
        for one, below in zip(axes, (picture, grey), strict=True):
            one.imshow(below, extent=extent, interpolation='nearest')
            one.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
        draw_scale_bar(axes[0], tiling.width, tiling.height, scored.gsd)
        self.axes: Any = axes[1]
        height = self.figure.get_size_inches()[1]
        self.title = self.figure.text(0.5, 1 - 0.1 / height, '', fontsize=10, va='top', ha='center')
        self.legend = self.figure.text(0.5, 0.18 / height, '', fontsize=8, va='top', ha='center')
        place = self.figure.add_axes((0.3, 0.44 / height, 0.4, 0.12 / height))
        bar = self.figure.colorbar(
            ScalarMappable(Normalize(0, 1), 'inferno'), cax=place, orientation='horizontal'
        )
        bar.ax.tick_params(labelsize=7)
        self.canvas: Any = FigureCanvasAgg(self.figure)  # whose methods have no types
        self.canvas.draw()
        self.bare = self.canvas.copy_from_bbox(self.figure.bbox)

    def write(self, answer: SceneAnswer, path: Path) -> None:
        behind = answer.behind
        assert behind is not None  # noqa: S101 - for the type alone
        kind = answer.question_type or ''
        named = f' ("{behind.combined.answer}")' if kind == 'rural_urban' else ''
        count = int(behind.evidence.sum())
        self.title.set_text(_title(answer))
        self.legend.set_text(f'{LEGENDS.get(kind, "")}{named}; outlined: evidence ({count:,} tiles)')
        self.canvas.restore_region(self.bare)
        drawn = [self._strength(behind.combined.strength), *self._outlines(behind.evidence)]
        for artist in drawn:
            self.axes.draw_artist(artist)
            artist.remove()
        for text in (self.title, self.legend):
            self.figure.draw_artist(text)
        info = PngInfo()
        info.add_text('Software', 'geores')
        pixels = np.asarray(self.canvas.buffer_rgba())[..., :3]
        Image.fromarray(pixels).save(path, format='png', pnginfo=info, compress_level=1)

    def _strength(self, strength: NDArray[np.float64]) -> 'Artist':
        tiling = self.scored.plan.tiling
        values = np.ma.masked_invalid(strength.reshape(tiling.shape))
        # Owned parts, so that tiles that overlap are not drawn over each other.
        mesh: Artist = self.axes.pcolormesh(
            tiling.x.edges, tiling.y.edges, values, cmap='inferno', vmin=0, vmax=1, alpha=0.5, linewidth=0
        )
        return mesh

    def _outlines(self, evidence: NDArray[np.bool_]) -> 'list[Artist]':
        tiling = self.scored.plan.tiling
        rows, cols = np.nonzero(evidence.reshape(tiling.shape))
        if len(rows) > OUTLINED:
            return []
        x, y = tiling.x.edges, tiling.y.edges
        across = np.stack([x[cols], x[cols + 1], x[cols + 1], x[cols]], 1)
        down = np.stack([y[rows], y[rows], y[rows + 1], y[rows + 1]], 1)
        corners = list(np.stack([across, down], 2))
        return [self.axes.add_collection(PolyCollection(corners, facecolor='none', edgecolor='#00e5ff'))]


def _panels(width: int, height: int) -> tuple[Figure, Any]:
    """A figure with two panels of that shape, side by side or one above the other."""
    wide, ratio = width >= 1.3 * height, height / width
    panel = (6.8, max(6.8 * ratio, 1.5)) if wide else (max(5.2 / ratio, 1.5), 5.2)
    size = (panel[0] + 0.6, 2 * panel[1] + 1.9) if wide else (2 * panel[0] + 0.8, panel[1] + 1.7)
    figure = Figure(figsize=tuple(np.maximum(size, (7.0, 3.8))), dpi=100)
    axes = figure.subplots(*((2, 1) if wide else (1, 2)))
    inches = figure.get_size_inches()[1]
    figure.subplots_adjust(0.02, 0.7 / inches, 0.98, 1 - 0.75 / inches, 0.03, 0.05)
    return figure, axes


def _title(answer: SceneAnswer) -> str:
    asked = answer.question if answer.understood_as is None else answer.understood_as
    sure = '' if answer.probability is None else f' (confidence {answer.probability:.2f})'
    lines = textwrap.wrap(asked, 80)[:2] + textwrap.wrap(f'{answer.text}{sure}', 80)[:2]
    return '\n'.join(line.replace('$', r'\$') for line in lines)

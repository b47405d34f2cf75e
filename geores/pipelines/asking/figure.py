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

from geores.pipelines.asking.answer import SceneAnswer
from geores.pipelines.figure import draw_scale_bar, stretched_picture

if TYPE_CHECKING:
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
    """Draws maps of one scene; the picture of the scene is put together once."""

    def __init__(self) -> None:
        self._pictures: dict[int, tuple[Scored, NDArray[np.uint8]]] = {}

    def write(self, answer: SceneAnswer, path: Path) -> None:
        """Draw the scene beside what its tiles say; evidence is outlined.

        Args:
            answer: One that rests on tiles.
            path: A PNG.
        """
        assert answer.behind is not None  # noqa: S101 - for the type alone
        scored = answer.behind.scored
        picture = self._picture(scored)
        tiling = scored.plan.tiling
        wide = tiling.width >= 1.3 * tiling.height
        ratio = tiling.height / tiling.width
        panel = (8.0, max(8.0 * ratio, 1.5)) if wide else (max(6.0 / ratio, 1.5), 6.0)
        size = (panel[0] + 0.6, 2 * panel[1] + 1.9) if wide else (2 * panel[0] + 0.8, panel[1] + 1.7)
        figure = Figure(figsize=tuple(np.maximum(size, (7.0, 3.8))), dpi=100)
        FigureCanvasAgg(figure)
        axes = figure.subplots(*((2, 1) if wide else (1, 2)))
        height = figure.get_size_inches()[1]
        figure.subplots_adjust(0.02, 0.7 / height, 0.98, 1 - 0.75 / height, 0.03, 0.05)
        extent = (0, tiling.width, tiling.height, 0)
        # In grey below the colours, which would mix with it.
        grey = picture.mean(2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
        for one, below in zip(axes, (picture, grey), strict=True):
            one.imshow(below, extent=extent, interpolation='nearest')
            one.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
        draw_scale_bar(axes[0], tiling.width, tiling.height, scored.gsd)
        self._draw(figure, axes[1], answer)
        figure.suptitle(_title(answer), fontsize=10, y=1 - 0.1 / height, va='top')
        figure.savefig(path, format='png', metadata={'Software': 'geores'}, pil_kwargs={'compress_level': 2})

    def _picture(self, scored: 'Scored') -> NDArray[np.uint8]:
        if id(scored) not in self._pictures:
            picture = stretched_picture(scored.look.assemble(scored.plan, scored.store))
            self._pictures[id(scored)] = (scored, picture)  # kept, so that its id stays its own
        return self._pictures[id(scored)][1]

    def _draw(self, figure: Figure, axes: Any, answer: SceneAnswer) -> None:  # noqa: ANN401 - of matplotlib
        behind = answer.behind
        assert behind is not None  # noqa: S101 - for the type alone
        tiling = behind.scored.plan.tiling
        strength = behind.combined.strength.reshape(tiling.shape)
        # Owned parts, so that tiles that overlap are not drawn over each other.
        axes.pcolormesh(
            tiling.x.edges, tiling.y.edges, np.ma.masked_invalid(strength), cmap='inferno', vmin=0, vmax=1,
            alpha=0.5, linewidth=0,
        )  # fmt: skip
        evidence = np.flatnonzero(behind.evidence)
        if len(evidence) <= OUTLINED:
            rows, cols = np.unravel_index(evidence, tiling.shape)
            x, y = tiling.x.edges, tiling.y.edges
            corners = np.stack(
                [
                    np.stack([x[cols], x[cols + 1], x[cols + 1], x[cols]], 1),
                    np.stack([y[rows], y[rows], y[rows + 1], y[rows + 1]], 1),
                ],
                2,
            )
            axes.add_collection(
                PolyCollection(list(corners), facecolor='none', edgecolor='#00e5ff', linewidth=1)
            )
        scale = ScalarMappable(Normalize(0, 1), 'inferno')
        height = figure.get_size_inches()[1]
        bar = figure.colorbar(scale, cax=figure.add_axes((0.3, 0.42 / height, 0.4, 0.12 / height)),
                              orientation='horizontal')  # fmt: skip
        bar.ax.tick_params(labelsize=7)
        kind = answer.question_type or ''
        named = f' ("{behind.combined.answer}")' if kind == 'rural_urban' else ''
        bar.set_label(
            f'{LEGENDS.get(kind, "")}{named}; outlined: evidence ({len(evidence)} tiles)', fontsize=8
        )


def _title(answer: SceneAnswer) -> str:
    asked = answer.question if answer.understood_as is None else answer.understood_as
    sure = '' if answer.probability is None else f' (confidence {answer.probability:.2f})'
    lines = textwrap.wrap(asked, 90)[:2] + textwrap.wrap(f'{answer.text}{sure}', 90)[:2]
    return '\n'.join(line.replace('$', r'\$') for line in lines)

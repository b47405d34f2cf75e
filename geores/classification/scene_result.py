"""What every result of a scene has: how it was computed, its confidence, and how it shows itself."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.card import ModelCard
from geores.cartography.areas import Legend
from geores.cartography.colours import read_colours
from geores.inference.plan import AnyPlan
from geores.inference.reader import ChunkStore
from geores.inference.sinks import Quicklook
from geores.scenes import Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geores.cartography.sheet import Sheet

__all__ = ['Confidence', 'RunInfo', 'SceneResult', 'map_legend']

LOW = 0.5
"""A best label with less than half of the probability is more likely wrong than right."""
MUCH = 0.25
"""Where more than this share is below `LOW`, shares of classes say little."""


@dataclass(frozen=True)
class Confidence:
    """How probable the best labels are over the valid area.

    Attributes:
        median: median probability of the best label.
        below_half: share of tiles or pixels whose best label has a probability below 0.5.
        what: 'tiles' or 'pixels'.
    """

    median: float
    below_half: float
    what: str

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]], weights: NDArray[Any], what: str) -> 'Confidence | None':
        """Sum up weighted probabilities.

        Args:
            values: probabilities of the best labels, (n,), NaN where there is no label.
            weights: of the probabilities, such as numbers of valid pixels, (n,).
            what: 'tiles' or 'pixels'.

        Returns:
            None where all weights are 0.
        """
        known = ~np.isnan(values) & (weights > 0)
        if not known.any():
            return None
        order = np.argsort(values[known])
        ordered, share = values[known][order], np.cumsum(weights[known][order]) / weights[known].sum()
        median = float(ordered[np.searchsorted(share, 0.5)])
        below = ordered < LOW
        return cls(median, float(share[below][-1]) if below.any() else 0.0, what)

    def __str__(self) -> str:
        text = (
            f'confidence: median {self.median:.2f}; {100 * self.below_half:.0f} % of {self.what} below {LOW}'
        )
        return f'{text}: treat shares with caution' if self.below_half > MUCH else text


SHOWN = 4
"""Most labels in the line of figures."""


def map_legend(card: ModelCard, colours: str | Path | None = None) -> Legend:
    """The legend of a model's maps.

    Args:
        card: of the model, which may bring colours.
        colours: file with other colours for some of the labels.

    Raises:
        UsageError: if the file cannot be read, or names other labels.
    """
    legend = Legend.of(card.labels, card.colours)
    return legend if colours is None else legend.recoloured(read_colours(Path(colours)), str(colours))


@dataclass(frozen=True)
class RunInfo:
    """How a result was computed.

    Attributes:
        device: where the network ran.
        precision: of the forward pass.
        seconds: duration of this run, from the first pixel read to the last score.
        tiles: tiles computed in this run; fewer than all where an earlier run was resumed.
        options: options of the user that have a value.
        key: everything that decides the scores.
        notes: what the user should know, one sentence each.
    """

    device: str
    precision: str
    seconds: float
    tiles: int
    options: Mapping[str, Any]
    key: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def tiles_per_second(self) -> float:
        """Tiles computed per second in this run."""
        return self.tiles / self.seconds if self.seconds > 0 else 0.0


class SceneResult(ABC):
    """A result of classifying a scene: it can be printed, shown in a notebook, drawn and saved."""

    # Fields of the frozen dataclasses that results are.
    scene: Scene
    card: ModelCard
    grid: GeoBox
    gsd: float | None
    plan: AnyPlan
    store: ChunkStore
    look: Quicklook
    info: RunInfo

    @property
    @abstractmethod
    def name(self) -> str:
        """The scene's name, with which file names begin."""

    @property
    @abstractmethod
    def class_grid(self) -> GeoBox:
        """The grid of the class map."""

    @property
    @abstractmethod
    def shares(self) -> dict[str, float]:
        """Share of the valid area that carries each label, largest first."""

    @property
    @abstractmethod
    def figures(self) -> dict[str, dict[str, float | None]]:
        """Shares under 'labels', or a regression's 'means'."""

    @property
    @abstractmethod
    def valid_share(self) -> float:
        """Share of the grid's pixels that were classified, from 0 to 1."""

    @property
    @abstractmethod
    def sureness(self) -> Confidence | None:
        """Confidence of the labels; None where the model gives none."""

    @abstractmethod
    def class_blocks(self) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
        """The class map in pieces that partition its grid."""

    @abstractmethod
    def confidence_blocks(self) -> Iterator[tuple[slice, slice, NDArray[np.uint8]]]:
        """Confidences times 255 in pieces that partition that grid, 0 where there is no data."""

    @cached_property
    def legend(self) -> Legend:
        """Labels of the map, their values and their colours."""
        return map_legend(self.card, self.info.options.get('colours'))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        sure = () if self.sureness is None else (str(self.sureness),)
        return (*self.info.notes, *sure)

    def __repr__(self) -> str:
        height, width = self.grid.shape.yx
        size = f'{width:,} x {height:,} pixels' + ('' if self.gsd is None else f' of {self.gsd:.3g} m')
        (kind, figures), *_ = self.figures.items()
        shown = [
            f'{label} {value:.1%}' if kind == 'labels' else f'{label} {value:.4g}'
            for label, value in list(figures.items())[:SHOWN]
            if value is not None
        ]
        more = f' and {len(figures) - SHOWN} more' if len(figures) > SHOWN else ''
        return '\n'.join(
            (
                f'{type(self).__name__} of {self.name} by {self.card.name}: {size}, '
                f'{self.valid_share:.1%} valid',
                f'  {", ".join(shown)}{more}',
                f'  {self.sureness or "no confidence"}; {len(self.info.notes)} notes (.notes)',
            )
        )

    def _repr_html_(self) -> str:
        from html import escape

        rows = ''.join(f'<li>{escape(note)}</li>' for note in self.notes)
        with TemporaryDirectory(prefix='geores-') as folder:
            path = Path(folder) / 'map.png'
            self._draw().write(path)
            picture = base64.b64encode(path.read_bytes()).decode()
        return (
            f'<div><pre>{escape(repr(self))}</pre><img alt="{escape(self.name)}" style="max-width: 100%" '
            f'src="data:image/png;base64,{picture}"/><ul>{rows}</ul></div>'
        )

    def plot(self) -> 'Figure':
        """The image beside the map, as a matplotlib figure."""
        return self._draw().finished()

    @abstractmethod
    def _draw(self) -> 'Sheet':
        """The image beside the map."""

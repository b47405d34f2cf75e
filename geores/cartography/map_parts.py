"""What maps in pictures are made of: where they lie, the scene stretched to be seen, scale and north."""

from dataclasses import dataclass
from math import atan2, degrees, hypot
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geores.cartography.units import say_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['EMPTY', 'Frame', 'draw_north', 'draw_scale_bar', 'stretched_picture']

EMPTY = '#d9d9d9'
"""Colour of what has no data."""

_BOX: dict[str, Any] = {'facecolor': 'white', 'alpha': 0.7, 'pad': 1, 'linewidth': 0}


@dataclass(frozen=True)
class Frame:
    """The ground that a map shows.

    Attributes:
        height: in pixels of the target grid.
        width: likewise.
        gsd: metres on the ground a pixel; None where the scene has no CRS.
        crs: its code and name, as text; None likewise.
        north: degrees from the top, clockwise, at which north lies; None likewise.
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
            gsd: metres on the ground a pixel.
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
        """CRS and size of pixels in a line."""
        size = '' if self.gsd is None else f'{self.gsd:.4g} m a pixel'
        return ' · '.join(filter(None, [self.crs or 'no CRS', size]))


def _towards_north(grid: GeoBox) -> tuple[float, float]:
    """Columns and rows by which a place moves that goes north."""
    inverse = ~grid.affine
    right, down = inverse.b, inverse.e
    length = hypot(right, down)
    return right / length, down / length


def _crs_text(crs: CRS) -> str:
    """Such as 'EPSG:32633 (WGS 84 / UTM zone 33N)'."""
    code = crs.to_authority(min_confidence=100)
    return f'{":".join(code)} ({crs.name})' if code else str(crs.name)


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


def draw_scale_bar(axes: 'Axes', width: int, height: int, gsd: float | None) -> None:
    """A bar of a round length, about a fifth of the picture."""
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
    """An arrow to the north in the upper right corner, where it is known."""
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
        x - 10 * right,
        y - 10 * down,
        'N',
        fontsize=8,
        ha='center',
        va='center',
        color='black',
        bbox=_BOX,
    )

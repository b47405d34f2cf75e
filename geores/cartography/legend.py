"""What the values of a map stand for: labels, and the colour of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geores.cartography.colours import choose_colours, parse_colour, rgb
from geores.errors import UsageError

__all__ = ['NODATA', 'NODATA_NAME', 'Legend']

NODATA = 0
NODATA_NAME = 'no data'
MOST_BYTE = 254
"""Most labels of a map of bytes; 255 is left free, since other tools take it for no data."""
MOST = 65_534
"""Most labels of any map."""


@dataclass(frozen=True)
class Legend:
    """Labels of a class map and their colours: value i of the map is the i-th label, 0 is no data.

    Attributes:
        labels: in the order of values, all different.
        colours: one for each, '#rrggbb'.

    Examples:
        >>> legend = Legend.of(['water', 'trees', 'crops'])
        >>> legend.names
        {1: 'water', 2: 'trees', 3: 'crops'}
    """

    labels: tuple[str, ...]
    colours: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'labels', tuple(self.labels))
        object.__setattr__(self, 'colours', tuple(parse_colour(colour) for colour in self.colours))
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise UsageError('a legend needs labels, and each only once')
        if len(self.labels) > MOST:
            raise UsageError(f'a legend has at most {MOST:,} labels, not {len(self.labels):,}')
        if len(self.colours) != len(self.labels):
            raise UsageError(f'{len(self.colours)} colours for {len(self.labels)} labels: give one for each')

    @classmethod
    def of(cls, labels: Sequence[str], colours: Sequence[str] | None = None) -> 'Legend':
        """A legend of labels.

        Args:
            labels: in the order of values.
            colours: one per label; None to choose them by known legends and by meaning.

        Raises:
            UsageError: if a label occurs twice, or there is not one valid colour for each.
        """
        return cls(tuple(labels), tuple(choose_colours(labels) if colours is None else colours))

    def recoloured(self, colours: Mapping[str, str], source: str = 'colours') -> 'Legend':
        """The legend with other colours for some labels.

        Args:
            colours: label -> '#rrggbb'.
            source: where they come from, for errors.

        Raises:
            UsageError: if a label is not in the legend, or a colour is not '#rrggbb'.
        """
        if unknown := [label for label in colours if label not in self.labels]:
            known = ', '.join(self.labels[:20]) + (' ...' if len(self.labels) > 20 else '')
            raise UsageError(f'{source}: {unknown[0]!r} is no label of this map; these are: {known}')
        pairs = zip(self.labels, self.colours, strict=True)
        return replace(self, colours=tuple(colours.get(label, colour) for label, colour in pairs))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def values(self) -> range:
        """Values of the map that stand for labels: 1 to K."""
        return range(1, len(self.labels) + 1)

    @property
    def names(self) -> dict[int, str]:
        """Value -> label."""
        return dict(zip(self.values, self.labels, strict=True))

    @property
    def dtype(self) -> Literal['uint8', 'uint16']:
        """The smallest type that holds all values: uint16 above 254 labels."""
        return 'uint8' if len(self.labels) <= MOST_BYTE else 'uint16'

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """Red, green and blue by label, (K, 3)."""
        return rgb(self.colours)

    @property
    def colour_of(self) -> dict[str, str]:
        """Label -> '#rrggbb'."""
        return dict(zip(self.labels, self.colours, strict=True))

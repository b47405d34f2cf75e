"""Confidence of a map: how probable its labels are, summed up in one line."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ['Confidence']

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

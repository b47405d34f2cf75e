"""How many rows each part has, and how much of each label."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.splits.parts import DROPPED, PARTS
from geores.splits.strata import LabelMatrix

__all__ = ['Balance', 'balance_of']


@dataclass(frozen=True)
class Balance:
    """Sizes of parts and labels in them.

    Attributes:
        sizes: part -> rows, dropped ones included.
        labels: label -> part -> rows with it.
    """

    sizes: dict[str, int]
    labels: dict[str, dict[str, int]]

    def share(self, part: str) -> float:
        """Share of a part in the rows that are not dropped.

        Args:
            part: its name.
        """
        kept = sum(count for name, count in self.sizes.items() if name != DROPPED)
        return self.sizes[part] / kept if kept else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        shares = {part: round(self.share(part), 6) for part in PARTS}
        return {'sizes': self.sizes, 'fractions': shares, 'labels': self.labels}


def balance_of(names: NDArray[np.object_], labels: LabelMatrix | None) -> Balance:
    """Count rows and labels.

    Args:
        names: (N,) parts.
        labels: of the rows.
    """
    parts = (*PARTS, DROPPED)
    masks = {part: names == part for part in parts}
    counts: dict[str, dict[str, int]] = {}
    if labels is not None:
        by_part = {part: labels.values[mask].sum(axis=0) for part, mask in masks.items()}
        counts = {
            name: {part: int(by_part[part][place]) for part in parts}
            for place, name in enumerate(labels.names)
        }
    return Balance({part: int(mask.sum()) for part, mask in masks.items()}, counts)

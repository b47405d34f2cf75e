"""How the labels of two parts differ."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geores.splits import LabelMatrix

__all__ = ['PairDrift', 'drift_between', 'jensen_shannon']


@dataclass(frozen=True)
class PairDrift:
    """Difference between the labels of two parts.

    Attributes:
        part: one part.
        other: the other.
        overall: Jensen-Shannon divergence of the shares of labels, in bits: 0 if they are the same, 1 if no
            label is in both.
        labels: label -> divergence of having it or not, in bits.
        missing: labels of `part` that no row of `other` has.
    """

    part: str
    other: str
    overall: float
    labels: dict[str, float]
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {'missing': list(self.missing)}


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Jensen-Shannon divergence in bits along the last axis (Lin 1991, IEEE Trans. Inf. Theory 37, 145-151).

    Args:
        first: (..., K) of 0 or more; they are brought to a sum of 1.
        second: (..., K).
    """
    one, two = (np.asarray(values, np.float64) for values in (first, second))
    one, two = (values / values.sum(axis=-1, keepdims=True) for values in (one, two))
    between = (one + two) / 2

    def bits(values: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = np.divide(values, between, out=np.ones_like(values), where=values > 0)
        return np.asarray((values * np.log2(ratio)).sum(axis=-1))

    return np.asarray(np.maximum((bits(one) + bits(two)) / 2, 0))


def drift_between(
    names: tuple[str, str], labels: LabelMatrix, rows: NDArray[np.bool_], others: NDArray[np.bool_]
) -> PairDrift | None:
    """Compare the labels of two parts; None where one has no labels at all.

    Args:
        names: of the part and the other.
        labels: of all rows.
        rows: (N,) which are of the part.
        others: (N,) which are of the other.
    """
    mine, theirs = labels.values[rows].sum(axis=0), labels.values[others].sum(axis=0)
    if not mine.any() or not theirs.any():
        return None
    having = [
        np.stack([count / total, 1 - count / total], axis=1)
        for count, total in ((mine, rows.sum()), (theirs, others.sum()))
    ]
    single = jensen_shannon(*having)
    return PairDrift(
        *names,
        overall=float(jensen_shannon(mine, theirs)),
        labels=dict(zip(labels.names, single.tolist(), strict=True)),
        missing=tuple(
            name for name, here, there in zip(labels.names, mine, theirs, strict=True) if here and not there
        ),
    )

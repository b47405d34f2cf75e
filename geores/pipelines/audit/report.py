"""What an audit found."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geores.pipelines.audit.autocorrelation import Autocorrelation
from geores.pipelines.audit.drift import PairDrift
from geores.pipelines.audit.duplicates import Duplicates
from geores.pipelines.audit.overlap import PairOverlap
from geores.pipelines.audit.pairs import PairDistances
from geores.pipelines.splitting import Source
from geores.pipelines.splitting.balance import Balance

__all__ = ['AuditReport', 'Verdict']


@dataclass(frozen=True)
class Verdict:
    """Whether a split can be trusted.

    Attributes:
        level: 'leaks' where parts share ground, places or images; 'caution' where they are neighbours or
            differ in labels; 'sound' otherwise.
        reasons: one sentence each.
    """

    level: Literal['sound', 'caution', 'leaks']
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class AuditReport:
    """Everything that an audit found.

    Attributes:
        source: the rows.
        names: (N,) parts.
        places: different places, to a metre.
        side: metres of a footprint's side; None where there are only points.
        spacing: median metres from a place to the next.
        balance: sizes and labels.
        distances: of pairs of parts.
        overlaps: of pairs of parts; None where there are only points.
        drift: of pairs of parts; None without labels.
        autocorrelation: of the labels; None without labels, or with too few places.
        duplicates: None without images.
        verdict: in words.
        notes: what the user should be told.
    """

    source: Source
    names: NDArray[np.object_]
    places: int
    side: float | None
    spacing: float
    balance: Balance
    distances: tuple[PairDistances, ...]
    overlaps: tuple[PairOverlap, ...] | None
    drift: tuple[PairDrift, ...] | None
    autocorrelation: Autocorrelation | None
    duplicates: Duplicates | None
    verdict: Verdict
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            'split': self.source.name,
            'verdict': self.verdict.level,
            'reasons': list(self.verdict.reasons),
            'rows': len(self.names),
            'places': self.places,
            'side_m': self.side,
            'spacing_m': self.spacing if np.isfinite(self.spacing) else None,
            **self.balance.to_dict(),
            'distances': [one.to_dict() for one in self.distances],
            'overlaps': None if self.overlaps is None else [one.to_dict() for one in self.overlaps],
            'drift': None if self.drift is None else [one.to_dict() for one in self.drift],
            'autocorrelation': None if self.autocorrelation is None else self.autocorrelation.to_dict(),
            'duplicates': None if self.duplicates is None else self.duplicates.to_dict(),
            'notes': list(self.notes),
        }

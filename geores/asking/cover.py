"""Which labels of a classification measure the area of which category.

Areas by classification, where a VQA bundle gives none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geores.asking.combine import Combined, Ownership, area
from geores.asking.readings import Bins, Floats, Readings
from geores.card import ModelCard, shipped_models
from geores.classification.options import assign_labels
from geores.classification.select import choose_model
from geores.errors import BandError, ModelNotFoundError
from geores.questions.forms import Objects
from geores.scenes import Scene

if TYPE_CHECKING:
    from geores.classification.scored import Scored

__all__ = [
    'LAND_COVER',
    'SHARES',
    'Cover',
    'cover_card',
    'covered_shares',
    'labels_of',
    'measurable',
    'share_of',
]

LAND_COVER: dict[str, tuple[str, ...]] = {
    'water area': ('SeaLake', 'River'),
    'water': ('SeaLake', 'River'),
    'lake': ('SeaLake',),
    'sea': ('SeaLake',),
    'river': ('River',),
    'forest': ('Forest',),
    'wood': ('Forest',),
    'tree': ('Forest',),
    'residential area': ('Residential',),
    'industrial area': ('Industrial',),
    'commercial area': ('Industrial',),
    'farmland': ('AnnualCrop', 'PermanentCrop'),
    'field': ('AnnualCrop', 'PermanentCrop'),
    'vineyard': ('PermanentCrop',),
    'orchard': ('PermanentCrop',),
    'grass area': ('HerbaceousVegetation', 'Pasture'),
    'grass': ('HerbaceousVegetation', 'Pasture'),
    'meadow': ('Pasture',),
    'pasture': ('Pasture',),
}
"""Categories of questions, and the labels of EuroSAT (Helber et al. 2019) whose area is theirs.

A label stands for the kind that prevails in a tile. Highways are left out: a tile that one crosses is not
covered by it; so are parks, gardens and buildings, which no label tells apart.
"""

SHARES = {'River': 0.25}
"""Part of a tile that what its label names covers, where it is not all: a river crosses its tile.

Measured on the 47 labelled patches of rivers that the bundle `sentinel2` was trained on, by NDWI above 0
(McFeeters 1996): 0.245 on average, 0.0 to 0.71 from the 5th to the 95th percentile. Patches of seas and lakes
have 0.97.
"""


def share_of(label: str) -> float:
    """Part of a tile that what its label names covers, 0 to 1."""
    return SHARES.get(label, 1.0)


def labels_of(category: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that measure a category; none where one of them is missing.

    Args:
        category: As in `LAND_COVER`.
        labels: Of the classification.
    """
    wanted = LAND_COVER.get(category, ())
    return wanted if set(wanted) <= set(labels) else ()


def measurable(labels: Sequence[str]) -> tuple[str, ...]:
    """Categories whose area a classification with these labels measures."""
    return tuple(category for category in LAND_COVER if labels_of(category, labels))


def cover_card(scene: Scene) -> ModelCard | None:
    """The classification that ships and measures areas of a scene; None where there is none."""
    cards = [card for card in shipped_models() if card.task == 'single-label' and measurable(card.labels)]
    cards = [card for card in cards if scene.gsd and card.gsd[0] / 1.5 <= scene.gsd <= card.gsd[1] * 1.5]
    try:
        return choose_model(scene, cards)[0]
    except (BandError, ModelNotFoundError):
        return None


@dataclass(frozen=True)
class Cover:
    """The classification of a scene, made when the first area is asked for.

    Attributes:
        card: Of the model that classifies.
        make: Classifies.
    """

    card: ModelCard
    make: 'Callable[[], Scored]'

    @cached_property
    def scored(self) -> 'Scored':
        """The classified scene."""
        return self.make()

    @cached_property
    def owned(self) -> Ownership:
        """What its tiles see and own."""
        valid, owned = (
            self._read(name).ravel().astype(np.float64) * self.scored.pixel_area
            for name in ('valid', 'owned')
        )
        return Ownership(self.scored.plan.tiling.shape, valid, owned)

    def measure(self, objects: Objects) -> tuple[Combined, Readings] | None:
        """The area of what the labels of a category cover; None where none do, or more is asked.

        A tile is covered whole, or to the label's `share_of` it, with the probability of the label: over
        mosaics of labelled patches scores are the shares that are covered, with less bias than to count the
        tiles that earn the label (docs/ask.md).
        """
        wanted = labels_of(objects.category, self.card.labels)
        if not wanted or objects.size or objects.shape or objects.relation:
            return None
        readings = self._readings([self.card.labels.index(label) for label in wanted])
        return area(readings, self.owned), readings

    def _readings(self, columns: list[int]) -> Readings:
        labels = self.card.labels
        scores = self._read('scores').reshape(-1, len(labels))
        earned = np.any(assign_labels(scores, self.scored.thresholds, 1)[:, columns], axis=1)
        shares = np.array([share_of(labels[column]) for column in columns])
        return covered_shares(scores[:, columns], shares, earned, self.owned.seen)

    def _read(self, name: str) -> NDArray[np.float32]:
        rows, cols = self.scored.plan.tiling.shape
        return self.scored.table.read(name, slice(0, rows), slice(0, cols))


def covered_shares(
    scores: NDArray[np.floating], shares: Floats, earned: NDArray[np.bool_], sizes: Floats
) -> Readings:
    """Areas that labels cover in tiles: a label's share of a tile, with its probability.

    Args:
        scores: Of the labels alone, (T, K), NaN where not seen.
        shares: Of a tile that each label covers, (K,).
        earned: Whether a tile carries one of them, (T,).
        sizes: Of tiles in square metres, (T,).
    """
    scores = scores.astype(np.float64)
    unseen, chance = np.isnan(scores[:, 0]), np.minimum(scores.sum(1), 1.0)
    steps = np.unique(shares)
    by_share = np.stack([scores[:, shares == step].sum(1) for step in steps], 1)
    upto = np.minimum(np.concatenate([1 - chance[:, None], by_share], 1).cumsum(1), 1.0)
    upto[~unseen, -1] = 1.0
    ends = np.concatenate([[0.0], steps])
    best = np.where(unseen, -1, earned).astype(np.float64)
    return Readings(best, np.maximum(chance, 1 - chance), chance, upto, Bins(ends, ends), sizes)

"""Areas by classification, for VQA bundles without answers in square metres.

`LAND_COVER` says which labels of a classification measure the area of which category of questions, and
`AreaEstimator` classifies the scene when the first area is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geores.asking.combine import SceneEstimate, area
from geores.asking.predictions import Bins, Floats, TileAreas, TilePredictions
from geores.card import ModelCard, shipped_models
from geores.classification.label_rule import assign_labels
from geores.classification.scored import choose_model
from geores.errors import BandError, ModelNotFoundError
from geores.questions.forms import Objects
from geores.scenes import Scene

if TYPE_CHECKING:
    from geores.classification.scored import Scored

__all__ = [
    'LAND_COVER',
    'SHARES',
    'AreaEstimator',
    'area_model_card',
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
"""Categories of questions, each with the EuroSAT labels (Helber et al. 2019) that measure its area.

A label names the dominant land cover of a tile. Highways are left out, because a tile that a highway
crosses is not covered by it; so are parks, gardens and buildings, which no label distinguishes.
"""

SHARES = {'River': 0.25}
"""Share of a tile that is covered by what its label names, where less than all: a river crosses its tile.

Measured on the 47 labelled river patches that the bundle `sentinel2` was trained on, by NDWI above 0
(McFeeters 1996): 0.245 on average, 0.0 to 0.71 from the 5th to the 95th percentile. Patches of seas and lakes
have 0.97.
"""


def share_of(label: str) -> float:
    """Share of a tile that is covered by what its label names, 0 to 1."""
    return SHARES.get(label, 1.0)


def labels_of(category: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that measure the area of a category; empty if the classification lacks one of them.

    Args:
        category: a key of `LAND_COVER`.
        labels: labels of the classification.
    """
    wanted = LAND_COVER.get(category, ())
    return wanted if set(wanted) <= set(labels) else ()


def measurable(labels: Sequence[str]) -> tuple[str, ...]:
    """Categories whose area can be measured by a classification with these labels."""
    return tuple(category for category in LAND_COVER if labels_of(category, labels))


def area_model_card(scene: Scene) -> ModelCard | None:
    """Card of the shipped classification model that can measure areas of a scene; None if there is none."""
    cards = [card for card in shipped_models() if card.task == 'single-label' and measurable(card.labels)]
    cards = [card for card in cards if scene.gsd and card.gsd[0] / 1.5 <= scene.gsd <= card.gsd[1] * 1.5]
    try:
        return choose_model(scene, cards)[0]
    except (BandError, ModelNotFoundError):
        return None


@dataclass(frozen=True)
class AreaEstimator:
    """Measures areas by a classification of the scene, which is made when the first area is asked for.

    Attributes:
        card: card of the classification model.
        make: classifies the scene.
    """

    card: ModelCard
    make: 'Callable[[], Scored]'

    @cached_property
    def scored(self) -> 'Scored':
        """The classified scene."""
        return self.make()

    @cached_property
    def areas(self) -> TileAreas:
        """Areas that the tiles of the classification see and own."""
        valid, owned = (
            self._read(name).ravel().astype(np.float64) * self.scored.pixel_area
            for name in ('valid', 'owned')
        )
        return TileAreas(self.scored.plan.tiling.shape, valid, owned)

    def measure(self, objects: Objects) -> tuple[SceneEstimate, TilePredictions] | None:
        """Area of a category; None if no label measures it, or a size, shape or relation is asked for.

        A tile is covered by the label's `share_of` it with the probability of the label. On mosaics of
        labelled patches this has less bias than counting the tiles that get the label (docs/ask.md).
        """
        wanted = labels_of(objects.category, self.card.labels)
        if not wanted or objects.size or objects.shape or objects.relation:
            return None
        predictions = self._readings([self.card.labels.index(label) for label in wanted])
        return area(predictions, self.areas), predictions

    def _readings(self, columns: list[int]) -> TilePredictions:
        labels = self.card.labels
        scores = self._read('scores').reshape(-1, len(labels))
        earned = np.any(assign_labels(scores, self.scored.thresholds, 1)[:, columns], axis=1)
        shares = np.array([share_of(labels[column]) for column in columns])
        return covered_shares(scores[:, columns], shares, earned, self.areas.seen)

    def _read(self, name: str) -> NDArray[np.float32]:
        rows, cols = self.scored.plan.tiling.shape
        return self.scored.table.read(name, slice(0, rows), slice(0, cols))


def covered_shares(
    scores: NDArray[np.floating], shares: Floats, earned: NDArray[np.bool_], sizes: Floats
) -> TilePredictions:
    """Distribution of the covered area per tile: each label covers its share with its probability.

    Args:
        scores: probabilities of the labels that measure the category, (T, K), NaN where not seen.
        shares: share of a tile that each label covers, (K,).
        earned: whether the tile is assigned one of the labels, (T,).
        sizes: area of each tile in square metres, (T,).
    """
    scores = scores.astype(np.float64)
    unseen, chance = np.isnan(scores[:, 0]), np.minimum(scores.sum(1), 1.0)
    steps = np.unique(shares)
    by_share = np.stack([scores[:, shares == step].sum(1) for step in steps], 1)
    upto = np.minimum(np.concatenate([1 - chance[:, None], by_share], 1).cumsum(1), 1.0)
    upto[~unseen, -1] = 1.0
    ends = np.concatenate([[0.0], steps])
    best = np.where(unseen, -1, earned).astype(np.float64)
    return TilePredictions(best, np.maximum(chance, 1 - chance), chance, upto, Bins(ends, ends), sizes)

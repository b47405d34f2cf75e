"""Areas by classification, where a VQA bundle gives none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geores.asking.combine import Combined, Ownership, area
from geores.asking.land_cover import labels_of, measurable, share_of
from geores.asking.readings import LEVEL, Readings
from geores.card import ModelCard, shipped_models
from geores.errors import BandError, ModelNotFoundError
from geores.pipelines.labels import assign
from geores.pipelines.select import choose_model
from geores.questions.forms import Objects
from geores.scenes import Scene

if TYPE_CHECKING:
    from geores.pipelines.scored import Scored

__all__ = ['Cover', 'cover_card']


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

        A tile that earns such a label counts with all that it owns, or the label's `share_of` it, and else
        not at all. The interval's ends take a tile as covered, or as not, where its score leaves no more than
        half of 1 - `LEVEL` of doubt; a tile that a river crosses may hold anything.
        """
        wanted = labels_of(objects.category, self.card.labels)
        if not wanted or objects.size or objects.shape or objects.relation:
            return None
        readings = self._readings([self.card.labels.index(label) for label in wanted])
        return area(readings, self.owned), readings

    def _readings(self, columns: list[int]) -> Readings:
        scores = self._read('scores').reshape(-1, len(self.card.labels)).astype(np.float64)
        chance = scores[:, columns].sum(1)
        best = assign(scores.astype(np.float32), self.scored.limits, 1)[:, columns]
        shares = np.array([share_of(self.card.labels[column]) for column in columns])
        part, whole = best @ shares, scores[:, columns] @ (shares == 1)
        unseen = np.isnan(chance)
        seen, tail = self.owned.seen, (1 - LEVEL) / 2
        earned = best.any(1)
        sure, none = earned & (whole >= 1 - tail), ~earned & (chance <= tail)
        values = {
            'best': np.where(unseen, -1, earned),
            'best_probability': np.maximum(chance, 1 - chance),
            'chance': chance,
            'mean': part * seen,
            'variance': seen**2 * chance * (1 - chance),
            'low': np.where(sure, seen, 0.0),
            'high': np.where(none, 0.0, seen),
            'below': np.where(sure, 1 - whole, 0.0),
            'upto': np.where(none, 1 - chance, 1.0),
        }
        return Readings(**{name: np.where(unseen, np.nan, array) for name, array in values.items()})

    def _read(self, name: str) -> NDArray[np.float32]:
        rows, cols = self.scored.plan.tiling.shape
        return self.scored.table.read(name, slice(0, rows), slice(0, cols))

"""The answer to a question about a scene."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from geores.asking.combine import SceneEstimate
from geores.asking.predictions import TilePredictions
from geores.classification.tables import tile_outlines
from geores.questions.forms import Form

if TYPE_CHECKING:
    from geores.classification.scored import Scored

__all__ = ['SceneAnswer', 'TileEvidence', 'evidence_columns']

UNITS = {'count': 'objects', 'area': 'm2'}


@dataclass(frozen=True)
class TileEvidence:
    """What an answer rests on.

    Attributes:
        scored: tiles, grid and picture of the scene.
        labels: answers that tiles can give.
        predictions: of every tile; two of a comparison.
        estimate: what came of them.
        top_k: most tiles that count as evidence; None for all that carry the answer.
    """

    scored: 'Scored'
    labels: tuple[str, ...]
    predictions: tuple[TilePredictions, ...]
    estimate: SceneEstimate
    top_k: int | None = None

    @property
    def evidence(self) -> NDArray[np.bool_]:
        """Which tiles count as evidence: those that carry the answer, the strongest `top_k` of them."""
        carries = self.estimate.carries
        if self.top_k is None or carries.sum() <= self.top_k:
            return carries
        strength = np.where(carries, np.nan_to_num(self.estimate.strength), -1.0)
        if self.estimate.answer == 'no':  # of which tiles that say "no" most clearly are the evidence
            strength = np.where(carries, 1 - np.nan_to_num(self.estimate.strength), -1.0)
        chosen = np.zeros(len(carries), bool)
        chosen[np.argsort(-strength, kind='stable')[: self.top_k]] = True
        return chosen


@dataclass(frozen=True)
class SceneAnswer:
    """What a scene's tiles together answer to a question.

    Attributes:
        scene: name of the scene.
        model: name of the model.
        question: as it was asked.
        question_type: 'presence', 'count', 'comp', 'area' or 'rural_urban'; None where it is not known.
        answer: 'yes', 'no', 'rural', 'urban', a count as '37', an area as '10632m2'; None for "I don't know"
            and "cannot measure".
        text: the answer in words.
        probability: that the answer is right; of a number, that the truth lies in the interval.
        tiles: how many were seen.
        understood_as: another wording, where the question was not understood as it stands.
        interval: ends of a number, both inclusive.
        value: the number itself.
        unit: of it, 'objects' or 'm2'.
        source: where the answer is from: 'vqa', or the name of the classification that measured an area.
        form: what was asked, machine-readable.
        notes: what the user should know, one sentence each.
        scene_notes: what was assumed of the scene, the same for all its questions.
        outputs: files under 'evidence' and 'map'.
    """

    scene: str
    model: str
    question: str
    question_type: str | None = None
    answer: str | None = None
    text: str = ''
    probability: float | None = None
    tiles: int = 0
    understood_as: str | None = None
    interval: tuple[float, float] | None = None
    value: float | None = None
    unit: str | None = None
    source: str | None = None
    form: Form | None = None
    notes: tuple[str, ...] = ()
    scene_notes: tuple[str, ...] = ()
    outputs: Mapping[str, Path] = field(default_factory=dict)
    basis: TileEvidence | None = field(default=None, repr=False, compare=False)

    @property
    def evidence(self) -> gpd.GeoDataFrame | None:
        """Every tile: outline, its own answer, and whether it counts as evidence; None without an answer.

        Columns: ``row``, ``col``; ``seen``; ``answer`` of the tile with its ``probability``; ``chance`` of
        "yes" or "urban", or of being covered; ``number`` expected of it with ``low`` and ``high`` (``first``
        and ``second`` of a comparison), NaN where there is none; ``evidence``; ``geometry``.
        """
        if self.basis is None:
            return None
        columns, scored = evidence_columns(self.basis, self.question_type or ''), self.basis.scored
        crs = None if scored.grid.crs is None else str(scored.grid.crs)
        return gpd.GeoDataFrame(columns, geometry=tile_outlines(scored), crs=crs)

    def with_outputs(self, outputs: Mapping[str, Path]) -> 'SceneAnswer':
        """The same with files."""
        return replace(self, outputs=dict(outputs))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: what ``--json`` prints."""
        record: dict[str, Any] = {
            'scene': self.scene,
            'model': self.model,
            'question': self.question,
            'question_type': self.question_type,
            'answer': self.answer,
            'probability': None if self.probability is None else round(self.probability, 4),
            'text': self.text,
            'tiles': self.tiles,
        }
        if self.basis is not None:
            record['evidence_tiles'] = int(self.basis.evidence.sum())
        if self.interval is not None:
            record['interval'] = list(self.interval)
        record |= {
            name: value
            for name in ('understood_as', 'value', 'unit', 'source')
            if (value := getattr(self, name)) is not None
        }
        record |= {name: list(notes) for name in ('notes', 'scene_notes') if (notes := getattr(self, name))}
        return record | {'outputs': {kind: str(path) for kind, path in self.outputs.items()}}


def evidence_columns(basis: TileEvidence, kind: str) -> dict[str, Any]:
    """The columns of `SceneAnswer.evidence` but for the outlines, arrays of (T,).

    Args:
        basis: what an answer rests on.
        kind: type of the question.
    """
    predictions = basis.predictions[0]
    shape = basis.scored.plan.tiling.shape
    row, col = (part.ravel().astype(np.int32) for part in np.mgrid[: shape[0], : shape[1]])
    columns: dict[str, Any] = {'row': row, 'col': col, 'seen': predictions.seen}
    if kind != 'comp' or len(basis.predictions) == 1:
        best = np.where(predictions.seen, predictions.best, 0).astype(int)
        words = np.array(basis.labels, object)[best]
        columns['answer'] = np.where(predictions.seen, words, None)
        columns['probability'] = predictions.best_probability.astype(np.float32)
    if kind in ('presence', 'rural_urban') or not np.isnan(predictions.chance).all():
        columns['chance'] = predictions.chance.astype(np.float32)
    if kind in UNITS:
        columns |= {'number': predictions.mean, 'low': predictions.low, 'high': predictions.high}
    if kind == 'comp' and len(basis.predictions) == 2:
        columns |= {'first': predictions.mean, 'second': basis.predictions[1].mean}
    return columns | {'evidence': basis.evidence}

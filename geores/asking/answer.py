"""The answer to a question about a whole scene, and what it rests on: tiles, areas, or labels of tiles.

Labels answer whether there is what they name, in aerial imagery.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np

from geores.asking.combine import SceneEstimate, TileEvidence
from geores.asking.map_source import MapEvidence
from geores.asking.predictions import TilePredictions
from geores.asking.understand import Understood
from geores.card import ModelCard, shipped_models
from geores.classification.label_rule import assign_labels
from geores.classification.result import Classification
from geores.classification.tables import tile_outlines
from geores.questions.everyday import MapQuestion
from geores.questions.forms import Form, Presence
from geores.scenes import Scene

if TYPE_CHECKING:
    pass

__all__ = [
    'AERIAL',
    'SceneAnswer',
    'answer_by_labels',
    'choose_label_card',
    'evidence_columns',
    'label_things',
]

UNITS = {'count': 'objects', 'area': 'm2'}


@dataclass(frozen=True)
class SceneAnswer:
    """The answer to one question about one scene.

    Attributes:
        scene: name of the scene.
        model: name of the model that answered.
        question: the question, word for word.
        question_type: 'presence', 'count', 'comp', 'area', 'share', 'where', 'largest', 'distance',
            'rural_urban', 'limit' or 'covers'; None where it is not known.
        answer: 'yes', 'no', 'too close to say', 'rural', 'urban', or the best guess with its unit ('7.6 km²
            of open water'); of a network a count as '37', an area as '10632m2'; None for "I don't know" and
            "cannot measure".
        text: the answer as a sentence.
        probability: probability that the answer is right; None of numbers, which have an interval.
        tiles: number of tiles with enough valid pixels to be encoded; 0 where a map answers.
        understood_as: the wording that was answered, where the question itself could not be parsed.
        interval: lower and upper end of a number, both inclusive.
        value: the number itself.
        unit: unit of `value`: 'objects' or 'm2' of a network; 'areas', 'm2' or the unit asked for, '%' or 'm'
            of a map ('pixel' where the scene has no CRS).
        source: 'vqa', or the name of the classification model that answered.
        form: the parsed question.
        notes: what the user should know about this answer, one sentence each.
        scene_notes: what was assumed about the scene; the same for all its questions.
        outputs: paths of the files written, under the keys 'evidence' and 'map'.
        basis: the tiles or areas that the answer rests on; None without an answer.
        record: what the answer was made with: provenance and key.
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
    form: Form | MapQuestion | None = None
    notes: tuple[str, ...] = ()
    scene_notes: tuple[str, ...] = ()
    outputs: Mapping[str, Path] = field(default_factory=dict)
    basis: TileEvidence | MapEvidence | None = field(default=None, repr=False, compare=False)
    record: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def low(self) -> float | None:
        """Lower end of the interval of a number."""
        return None if self.interval is None else self.interval[0]

    @property
    def high(self) -> float | None:
        """Upper end of the interval of a number."""
        return None if self.interval is None else self.interval[1]

    @property
    def evidence(self) -> gpd.GeoDataFrame | None:
        """What the answer rests on. None without an answer.

        Of a map one row per area that was counted, the largest first (`MapEvidence.polygons`). Of a network
        one row per tile: its outline, its own answer, and whether it is evidence, with the columns ``row``
        and ``col``; ``seen``, whether the tile was encoded; ``answer`` with its
        ``probability``; ``chance``, the probability of "yes", "urban" or of being covered; ``number``, the
        expected number, with ``low`` and ``high`` (``first`` and ``second`` for a comparison), NaN where
        there is none; ``evidence``; ``geometry``.
        """
        if self.basis is None:
            return None
        if isinstance(self.basis, MapEvidence):
            return self.basis.polygons
        columns, scored = evidence_columns(self.basis, self.question_type or ''), self.basis.scored
        crs = None if scored.grid.crs is None else str(scored.grid.crs)
        return gpd.GeoDataFrame(columns, geometry=tile_outlines(scored), crs=crs)

    def _repr_html_(self) -> str:
        from html import escape

        from geores.asking.evidence_maps import EvidenceMaps  # which takes matplotlib

        notes = ''.join(f'<li>{escape(note)}</li>' for note in self.notes)
        picture = ''
        if self.basis is not None:
            with TemporaryDirectory(prefix='geores-') as folder:
                path = Path(folder) / 'map.png'
                EvidenceMaps().write(self, self.basis, path)
                data = base64.b64encode(path.read_bytes()).decode()
            picture = (
                f'<img alt="{escape(self.text)}" style="max-width: 100%" src="data:image/png;base64,{data}"/>'
            )
        said = f'<p><b>{escape(self.question)}</b><br/>{escape(self.text)}</p>'
        return f'<div>{said}{picture}<ul>{notes}</ul></div>'

    def with_outputs(self, outputs: Mapping[str, Path]) -> 'SceneAnswer':
        """A copy of the answer that knows the files written for it."""
        return replace(self, outputs=dict(outputs))

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain JSON values: what ``--json`` prints."""
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
        if isinstance(self.basis, TileEvidence):
            record['evidence_tiles'] = int(self.basis.mask.sum())
        elif self.basis is not None:
            record['evidence_areas'] = self.basis.count
        if self.interval is not None:
            record['interval'] = list(self.interval)
        record |= {'value': self.value, 'low': self.low, 'high': self.high, 'unit': self.unit}
        record |= {
            name: value for name in ('understood_as', 'source') if (value := getattr(self, name)) is not None
        }
        record |= {name: list(notes) for name in ('notes', 'scene_notes') if (notes := getattr(self, name))}
        return record | {'outputs': {kind: str(path) for kind, path in self.outputs.items()}}


def evidence_columns(basis: TileEvidence, kind: str) -> dict[str, Any]:
    """The columns of `SceneAnswer.evidence` without the outlines, arrays of shape (T,).

    Args:
        basis: the tiles that an answer rests on.
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
    return columns | {'evidence': basis.mask}


AERIAL = 1.5
"""Largest pixels of aerial imagery, metres: what single objects can be told in."""

THINGS: dict[str, tuple[str, ...]] = {
    'airplane': ('airplane',),
    'bare-soil': ('bare soil',),
    'buildings': ('building',),
    'cars': ('car',),
    'chaparral': ('chaparral',),
    'court': ('tennis court', 'court'),
    'dock': ('dock',),
    'field': ('field',),
    'grass': ('grass', 'grass area'),
    'mobile-home': ('mobile home',),
    'pavement': ('pavement',),
    'sand': ('sand',),
    'sea': ('sea',),
    'ship': ('ship',),
    'tanks': ('storage tank', 'tank'),
    'trees': ('tree',),
    'water': ('water', 'water area'),
}
"""Labels (those of Chaudhuri et al. 2018), each with the categories of questions that it names."""


def label_things(labels: Sequence[str]) -> dict[str, str]:
    """Categories that labels name -> the label.

    Args:
        labels: of a classification.
    """
    return {thing: label for label in labels for thing in THINGS.get(label, ())}


def choose_label_card(scene: Scene) -> ModelCard | None:
    """Card of the shipped bundle that labels tiles of aerial imagery; None where the scene is none.

    Args:
        scene: the scene; one of unknown pixel size is taken for a photograph.
    """
    if scene.gsd is not None and scene.gsd > AERIAL:
        return None
    cards = [card for card in shipped_models() if card.task == 'multi-label' and label_things(card.labels)]
    return next((card for card in cards if not scene.missing(card.bands)), None)


def answer_by_labels(asked: Understood, scored: Classification, top_k: int | None) -> SceneAnswer:
    """Answer whether there is what a label names.

    Args:
        asked: a question for presence.
        scored: the scene with the scores of its tiles.
        top_k: most tiles that count as evidence.
    """
    if not isinstance(asked.form, Presence):
        raise TypeError('labels of tiles are asked what there is')
    label = label_things(scored.card.labels)[asked.form.objects.category]
    column = scored.card.labels.index(label)
    shape = scored.plan.tiling.shape
    whole = scored.table.read('scores', slice(0, shape[0]), slice(0, shape[1])).reshape(
        -1, len(scored.card.labels)
    )
    scores = whole[:, column].astype(np.float64)
    seen = ~np.isnan(scores)
    name, model = scored.name, scored.card.name
    head = SceneAnswer(name, model, asked.question, 'presence', scene_notes=scored.info.notes)
    if not seen.any():
        return SceneAnswer(
            name, model, asked.question, 'presence', text="I don't know: no tile has enough valid pixels"
        )
    earned = assign_labels(whole, scored.thresholds, None)[:, column]
    yes, best = bool(earned.any()), float(np.nanmax(scores))
    probability = best if yes else 1 - best
    predictions = TilePredictions(
        np.where(seen, earned, np.nan).astype(np.float64),
        np.where(seen, np.maximum(scores, 1 - scores), np.nan),
        scores,
        np.full((len(scores), 0), np.nan),
    )
    estimate = SceneEstimate('yes' if yes else 'no', probability, earned if yes else seen, scores)
    count, tile = int(seen.sum()), scored.plan.tiling.y.tile
    where = f'in {int(earned.sum()):,} of {count:,}' if yes else f'in none of {count:,}'
    text = f'{estimate.answer}: {where} tiles of {tile} pixels, by the label {label!r}; best score {best:.2f}'
    return SceneAnswer(
        name,
        model,
        asked.question,
        'presence',
        estimate.answer,
        text,
        probability if probability >= 0.5 else None,
        count,
        asked.understood_as,
        source=model,
        form=asked.form,
        scene_notes=head.scene_notes,
        basis=TileEvidence(scored, ('no', 'yes'), (predictions,), estimate, top_k),
    )

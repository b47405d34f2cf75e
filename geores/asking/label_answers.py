"""Answers from labels of tiles: whether there is what a label names, in aerial imagery."""

from collections.abc import Sequence

import numpy as np

from geores.asking.answer import SceneAnswer, TileEvidence
from geores.asking.combine import SceneEstimate
from geores.asking.predictions import TilePredictions
from geores.asking.understand import Understood
from geores.card import ModelCard, shipped_models
from geores.classification.options import assign_labels
from geores.classification.result import Classification
from geores.questions.forms import Presence
from geores.scenes import Scene

__all__ = ['AERIAL', 'answer_by_labels', 'choose_label_card', 'label_things']

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

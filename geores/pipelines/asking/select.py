"""Which VQA bundle suits a scene, and what it can answer about."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geores.asking.land_cover import measurable
from geores.asking.understand import Known, known_categories, known_types
from geores.card import ModelCard, list_models
from geores.errors import ModelNotFoundError, UsageError
from geores.pipelines.select import fitting_cards, off_range
from geores.questions.suggest import TYPES
from geores.scenes import Scene

if TYPE_CHECKING:
    from geores.model import Model
    from geores.vqa.model import VQAModel

__all__ = ['choose_vqa', 'known_to', 'vqa_for']

NEAR = 4.0
"""How many times coarser or finer than a model's range a scene may be for it to be chosen."""


def vqa_for(scene: Scene, model: 'str | Path | Model', device: str) -> tuple['VQAModel', tuple[str, ...]]:
    """The model that answers, on its device, and why it was chosen where it was.

    Raises:
        UsageError: It is no VQA model, or none suits the scene.
    """
    from geores.bundle import load_model
    from geores.model import Model
    from geores.runtime.device import pick_device
    from geores.vqa.model import VQAModel

    why: tuple[str, ...] = ()
    if not isinstance(model, Model):
        if model == 'auto':
            card, reason = choose_vqa(scene)
            model, why = card.name, (reason,)
        model = load_model(model, pick_device(device))
    if not isinstance(model, VQAModel):
        raise UsageError(
            f'model {model.name!r} gives labels and answers no questions: give --model a bundle of task vqa, '
            'or classify with it'
        )
    return model, why


def choose_vqa(scene: Scene, cards: Sequence[ModelCard] | None = None) -> tuple[ModelCard, str]:
    """The VQA bundle for a scene by its pixel size, and why.

    Args:
        scene: The scene.
        cards: To choose from; those known by name where not given.

    Raises:
        BandError: The scene lacks bands of every one.
        ModelNotFoundError: There is none for pixels of that size.
    """
    cards = [card for card in (list_models() if cards is None else cards) if card.task == 'vqa']
    if not cards:
        raise ModelNotFoundError('no VQA model is installed: give --model a bundle')
    fitting = fitting_cards(scene, cards, 'VQA model')
    best = min(fitting, key=lambda card: off_range(scene.gsd, card.gsd))
    if off_range(scene.gsd, best.gsd) > math.log(NEAR):
        spans = '; '.join(f'{card.name} takes {_span(card)}' for card in fitting)
        raise ModelNotFoundError(
            f'no VQA model is for pixels of {scene.gsd:.3g} m: {spans}; give --model or another scene'
        )
    size = 'pixel size unknown' if scene.gsd is None else f'pixels of {scene.gsd:.3g} m'
    return best, f'{best.name} chosen: {size}, and it takes {_span(best)}'


def _span(card: ModelCard) -> str:
    low, high = card.gsd
    return f'{low:g} m' if low == high else f'{low:g} to {high:g} m'


def known_to(model: 'VQAModel', cover: ModelCard | None) -> Known:
    """What can be answered about.

    Args:
        model: The VQA model.
        cover: Of the classification that measures areas where the model does not; None for none.
    """
    types = known_types(model.card.labels)
    categories = known_categories(model.tokenizer.definition)
    if 'area' in types:
        return Known(types, categories, categories)
    areas = () if cover is None else measurable(cover.labels)
    known = tuple(kind for kind in TYPES if kind in types or (kind == 'area' and areas))
    return Known(known, categories, areas)

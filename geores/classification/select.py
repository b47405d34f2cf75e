"""Choosing the model for a scene, and telling where a scene lies outside a model's training data."""

import math
from calendar import month_name
from collections.abc import Collection, Sequence

from geores.card import ModelCard, shipped_models
from geores.errors import BandError, ModelNotFoundError, UsageError
from geores.scenes import Scene

__all__ = [
    'CLASSIFYING',
    'LABEL_TILES',
    'check_bands',
    'check_classifies',
    'choose_model',
    'fitting_cards',
    'levels_differ',
    'off_range',
    'outside_training',
]

_LEVELS = frozenset({'L1C', 'L2A'})

LABEL_TILES = frozenset({'single-label', 'multi-label'})
"""Tasks that give labels to tiles."""

CLASSIFYING = LABEL_TILES | {'segmentation'}
"""Tasks that give labels to tiles or pixels."""

FAR = math.log(1.5)
"""Distance from a model's range of pixel sizes beyond which a note is given, as a logarithm of the ratio."""


def choose_model(
    scene: Scene, cards: Sequence[ModelCard] | None = None, tasks: Collection[str] = CLASSIFYING
) -> tuple[ModelCard, str]:
    """Choose the model for a scene.

    Among the models whose bands the scene has, the one wins whose range of pixel sizes is nearest to the
    scene's; among equals a model that labels pixels before one that labels tiles, then the one that uses
    most bands.

    Args:
        scene: the scene.
        cards: models to choose from; None for those that ship.
        tasks: that the model may have.

    Returns:
        A card, and a sentence that says why it was chosen.

    Raises:
        BandError: if the scene lacks bands of every model.
        ModelNotFoundError: if there is no model of these tasks.
    """
    cards = shipped_models() if cards is None else cards
    cards = [card for card in cards if card.task in tasks]
    if not cards:
        raise ModelNotFoundError('no model ships with this installation: give --model a bundle')
    fitting = fitting_cards(scene, cards, 'model')
    best = min(
        fitting,
        key=lambda card: (off_range(scene.gsd, card.gsd), card.task != 'segmentation', -len(card.bands)),
    )
    return best, f'{best.name} chosen: {_why(scene, best)}'


def fitting_cards(scene: Scene, cards: Sequence[ModelCard], what: str) -> list[ModelCard]:
    """The cards whose bands a scene has.

    Args:
        scene: the scene.
        cards: to choose from.
        what: what the cards describe, for the message.

    Raises:
        BandError: if the scene lacks bands of every card.
    """
    fitting = [card for card in cards if not scene.missing(card.bands)]
    if not fitting:
        needs = '; '.join(f'{card.name} needs {", ".join(card.bands)}' for card in cards)
        raise BandError(
            f'no {what} fits the bands of {scene.name} ({", ".join(scene.bands)}): {needs}; '
            'name the bands in file order with --bands, or give --model'
        )
    return fitting


def check_bands(scene: Scene, card: ModelCard) -> None:
    """Raise `BandError`, naming both sides, where a scene lacks bands of a model."""
    missing = scene.missing(card.bands)
    if missing:
        raise BandError(
            f'model {card.name!r} needs {", ".join(card.bands)}; {scene.name} has '
            f'{", ".join(scene.bands)} and lacks {", ".join(missing)}: '
            'name the bands in file order with --bands (--with-bands for another source), or choose another '
            'model'
        )


def check_classifies(card: ModelCard) -> None:
    """Raise `UsageError` where a model answers questions and does not classify."""
    if card.task == 'vqa':
        raise UsageError(f'model {card.name!r} answers questions and does not classify: use geores ask')


def levels_differ(scene: Scene, card: ModelCard) -> tuple[str, ...]:
    """Notes about a scene of another processing level than the model was trained on; empty where it fits."""
    level = scene.processing_level
    if level is None or level in card.processing_level or not _LEVELS & set(card.processing_level.split()):
        return ()
    return (
        f'the scene is {level}, and {card.name} was trained on {card.processing_level}: its scores are less '
        'reliable here',
    )


def outside_training(scene: Scene, card: ModelCard) -> tuple[str, ...]:
    """Notes about a scene that differs from a model's training images; empty where it does not.

    Latitude and season are compared where the card states them (`domain`) and the scene has a CRS or a
    date; pixel sizes are always compared.

    Args:
        scene: the scene.
        card: of the model.
    """
    domain, notes = card.domain or {}, []
    if 'latitudes' in domain and scene.crs is not None:
        low, high = domain['latitudes']
        latitude = scene.geobox.extent.centroid.to_crs('EPSG:4326').points[0][1]
        if not low <= latitude <= high:
            notes.append(
                f'the scene lies at {latitude:.0f} degrees of latitude, and {card.name} was trained on '
                f'{low:g} to {high:g}'
            )
    if 'months' in domain and scene.date is not None:
        month = int(scene.date[5:7])
        if month not in domain['months']:
            known = ', '.join(month_name[int(number)] for number in sorted(domain['months']))
            notes.append(
                f'the scene was taken in {month_name[month]}, and {card.name} was trained on {known}'
            )
    if off_range(scene.gsd, card.gsd) > FAR:
        low, high = card.gsd
        span = f'{low:g} m' if low == high else f'{low:g} to {high:g} m'
        notes.append(f'the scene has pixels of {scene.gsd:.3g} m, and {card.name} was trained on {span}')
    return tuple(f'{note}: its labels are less reliable here' for note in notes)


def off_range(native: float | None, gsd: tuple[float, float]) -> float:
    """Logarithm of how many times coarser or finer a scene is than a model's range; 0 up to 5 %.

    Args:
        native: metres per pixel of the scene; None where unknown, which suits every model.
        gsd: smallest and largest pixel size that the model takes, metres.
    """
    if native is None:
        return 0.0
    off = max(math.log(gsd[0] / native), math.log(native / gsd[1]), 0.0)
    return off if off > 0.05 else 0.0


def _why(scene: Scene, card: ModelCard) -> str:
    bands = f'the scene has its {len(card.bands)} bands'
    if scene.gsd is None:
        return f'{bands} (pixel size unknown)'
    low, high = card.gsd
    span = f'{low:g} m' if low == high else f'{low:g} to {high:g} m'
    fits = 'suit' if off_range(scene.gsd, card.gsd) == 0 else 'will be brought to'
    return f'{bands}, and pixels of {scene.gsd:.3g} m {fits} its {span}'

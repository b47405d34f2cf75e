"""Scores of a scene's tiles, the model chosen for it, and where it lies outside the training data."""

import math
from calendar import month_name
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geores.card import ModelCard, shipped_models
from geores.classification.label_rule import assign_labels, label_thresholds
from geores.classification.scene_result import RunInfo
from geores.errors import BandError, ModelNotFoundError, UsageError
from geores.inference.plan import TilePlan
from geores.inference.reader import ChunkStore
from geores.inference.sinks import Quicklook, TileTable
from geores.inference.target import SLACK
from geores.scenes import Scene
from geores.scenes.sensors import sensor_named

__all__ = [
    'CLASSIFYING',
    'LABEL_TILES',
    'Scored',
    'check_bands',
    'check_classifies',
    'choose_model',
    'fitting_cards',
    'level_rank',
    'levels_differ',
    'off_range',
    'outside_training',
    'unfit',
    'why_chosen',
]

_LEVELS = frozenset({'L1C', 'L2A'})

LABEL_TILES = frozenset({'single-label', 'multi-label'})
"""Tasks that give labels to tiles."""

CLASSIFYING = LABEL_TILES | {'segmentation'}
"""Tasks that give labels to tiles or pixels."""

UNASKED = 2.0
"""How many times coarser than a model's range a scene may be for the model to be taken unasked."""

FAR = math.log(1.5)
"""Distance from a model's range of pixel sizes beyond which a note is given, as a logarithm of the ratio."""


def choose_model(
    scene: Scene, cards: Sequence[ModelCard] | None = None, tasks: Collection[str] = CLASSIFYING
) -> tuple[ModelCard, str]:
    """Choose the model for a scene.

    Among the models that fit the scene (`unfit`), the one wins whose range of pixel sizes is nearest to the
    scene's; among equals a model that labels pixels before one that gives tiles any number of labels, and
    that before one that gives a tile one class (a tile of a scene need not show one thing), then one of the
    scene's processing level alone (`level_rank`), then the one that uses most bands.

    Args:
        scene: the scene.
        cards: models to choose from; None for those that ship.
        tasks: that the model may have.

    Returns:
        A card, and a sentence that says why it was chosen.

    Raises:
        BandError: if no model fits the scene; it says what each is missing.
        ModelNotFoundError: if there is no model of these tasks.
    """
    cards = shipped_models() if cards is None else cards
    cards = [card for card in cards if card.task in tasks]
    if not cards:
        raise ModelNotFoundError('no model ships with this installation: give --model a bundle')
    fitting = fitting_cards(scene, cards, 'model')
    best = min(
        fitting,
        key=lambda card: (
            off_range(_pixel(scene), card.gsd),
            _rank(card.task),
            level_rank(scene, card),
            -len(card.bands),
        ),
    )
    others = [
        card.name for card in fitting if card.bands == best.bands and _rank(card.task) > _rank(best.task)
    ]
    instead = f'; {" or ".join(others)} would give a tile one class: --model {others[0]}' if others else ''
    return best, f'{why_chosen(scene, best, fitting)}{instead}'


def why_chosen(scene: Scene, card: ModelCard, cards: Sequence[ModelCard]) -> str:
    """Why a model was taken for a scene unasked, as a sentence.

    Args:
        scene: the scene.
        card: of the model.
        cards: of the models that it was chosen from.
    """
    return f'{card.name} chosen: {_why(scene, card)}{_why_level(scene, card, cards)}'


def level_rank(scene: Scene, card: ModelCard) -> int:
    """Place of a model by processing level in the order in which models are taken unasked.

    Args:
        scene: the scene, whose level need not be known.
        card: of the model.

    Returns:
        0 for a model of the scene's level alone, 1 for one of several levels or of none that it states, 2 for
        one of another level; where the scene's is not known one of several goes first.
    """
    levels = _LEVELS & set(card.processing_level.split())
    if not levels:
        return 1
    if scene.processing_level not in _LEVELS:
        return int(len(levels) == 1) + 1
    return 2 if scene.processing_level not in levels else len(levels) - 1


def _why_level(scene: Scene, best: ModelCard, cards: Sequence[ModelCard]) -> str:
    """Why a model of one processing level was preferred to models like it; empty where it was not."""
    others = [card for card in cards if card.labels == best.labels and card.bands == best.bands]
    if level_rank(scene, best) or all(level_rank(scene, card) == 0 for card in others):
        return ''
    other = next(card for card in others if level_rank(scene, card))
    return (
        f'; it is for {scene.processing_level} alone, which the scene is ({other.name} is for '
        f'{other.processing_level}: --model {other.name})'
    )


def _rank(task: str) -> int:
    """Place of a task in the order in which models are taken unasked."""
    return {'segmentation': 0, 'multi-label': 1}.get(task, 2)


def fitting_cards(scene: Scene, cards: Sequence[ModelCard], what: str) -> list[ModelCard]:
    """The cards that fit a scene by bands, units and pixel size.

    Args:
        scene: the scene.
        cards: to choose from.
        what: what the cards describe, for the message.

    Raises:
        BandError: if none fits; it says what each is missing.
    """
    reasons = {card.name: unfit(scene, card) for card in cards}
    fitting = [card for card in cards if reasons[card.name] is None]
    if not fitting:
        needs = '; '.join(f'{name} {reason}' for name, reason in reasons.items())
        what_first = f'{scene.question}; ' if scene.question else ''
        raise BandError(
            f'no {what} fits {scene.name} ({", ".join(scene.bands)}): {what_first}{needs}; '
            'name the bands in file order with --bands, or give --model'
        )
    return fitting


def unfit(scene: Scene, card: ModelCard) -> str | None:
    """What keeps a model from being taken for a scene unasked; None where it fits.

    Args:
        scene: the scene.
        card: the model's card.
    """
    missing = scene.missing(card.bands)
    if missing:
        return f'lacks {", ".join(missing)} of its {len(card.bands)} bands'
    pixel, (low, high) = _pixel(scene), card.gsd
    if pixel is not None and pixel > high * UNASKED * (1 + SLACK):
        span = f'{low:g} m' if low == high else f'{low:g} to {high:g} m'
        return f'takes pixels of {span}, and those of the scene have {pixel:.3g} m'
    pictures = [name for name in card.bands if scene.band(name).units == '8-bit']
    if card.units.has_reflectance and pictures:
        return f'takes reflectance, and {", ".join(pictures)} are 8-bit values of a picture'
    return None


def _pixel(scene: Scene) -> float | None:
    """Size of a scene's pixels in metres; that of its sensor's finest where the scene does not place them."""
    return min(sensor_named(scene.sensor).pixels, default=None) if scene.gsd is None else scene.gsd


def check_bands(scene: Scene, card: ModelCard) -> None:
    """Raise `BandError`, naming both sides, where a scene lacks bands of a model."""
    missing = scene.missing(card.bands)
    if missing:
        raise BandError(
            f'model {card.name!r} needs {", ".join(card.bands)}; {scene.name} has '
            f'{", ".join(scene.bands)} and lacks {", ".join(missing)}: '
            + (f'{scene.question}; ' if scene.question else '')
            + 'name the bands in file order with --bands (--with-bands for another source), or choose '
            'another model'
        )


def check_classifies(card: ModelCard) -> None:
    """Raise `UsageError` where a model answers questions and does not classify."""
    if card.task == 'vqa':
        raise UsageError(f'model {card.name!r} answers questions and does not classify: use geores ask')


def levels_differ(scene: Scene, card: ModelCard) -> tuple[str, ...]:
    """Notes about a scene of another processing level than the model was trained on; empty where it fits."""
    level = scene.processing_level
    if (
        level not in _LEVELS
        or level in card.processing_level
        or not _LEVELS & set(card.processing_level.split())
    ):
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


@dataclass(frozen=True)
class Scored:
    """The scores of all tiles of a scene, read from a store a window at a time.

    Attributes:
        scene: what was classified.
        card: of the model that did.
        grid: the target grid.
        gsd: metres on the ground per pixel of the target grid; None where the scene has no CRS.
        plan: tiles and chunks.
        store: results of the chunks.
        look: how the picture of the scene was kept.
        threshold: threshold given by the user for all labels; None where there is none.
        top_k: most labels per tile; None where not given.
        info: how the result was computed.
    """

    scene: Scene
    card: ModelCard
    grid: GeoBox
    gsd: float | None
    plan: TilePlan
    store: ChunkStore = field(repr=False)
    look: Quicklook = field(repr=False)
    threshold: float | None
    top_k: int | None
    info: RunInfo = field(repr=False)

    @property
    def name(self) -> str:
        """The scene's name, with which file names begin."""
        return self.scene.name

    @cached_property
    def table(self) -> TileTable:
        """Scores by tile and by cell, read a window at a time."""
        return TileTable(self.plan, self.store)

    @property
    def cell_grid(self) -> GeoBox:
        """The grid of cells; the last row and column may reach past the scene."""
        side = Affine.scale(self.plan.tiling.stride)
        return GeoBox(self.plan.tiling.cell_shape, self.grid.affine @ side, self.grid.crs)

    @property
    def pixel_area(self) -> float:
        """Square metres on the ground of a pixel of the grid; 1 where the scene has no CRS."""
        return 1.0 if self.gsd is None else self.gsd**2

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """The threshold of each label, (K,)."""
        return label_thresholds(self.card, self.threshold)

    @property
    def label_count(self) -> int | None:
        """Most labels per tile; None for any number."""
        return self.top_k or (1 if self.card.task == 'single-label' else None)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Share of the classified area that carries each label, largest first.

        Areas are counted in valid pixels, each of which belongs to one tile. With a multi-label model the
        shares may add up to more than 1. A regression has no labels and no shares: see `means`.
        """
        if self.card.task == 'regression':
            return {}
        labelled, classified = self._pixels
        shares = labelled / max(classified, 1)
        order = np.argsort(-shares, kind='stable')
        return {self.card.labels[k]: float(shares[k]) for k in order}

    @property
    def figures(self) -> dict[str, dict[str, float | None]]:
        """Figures of the whole scene for JSON: shares under 'labels', or a regression's 'means'."""
        if self.card.task != 'regression':
            return {'labels': dict(self.shares)}
        return {'means': {label: None if np.isnan(mean) else mean for label, mean in self.means.items()}}

    @property
    def valid_share(self) -> float:
        """Share of the grid's pixels that are valid and lie in a classified tile, from 0 to 1."""
        return self._pixels[1] / (self.plan.tiling.height * self.plan.tiling.width)

    @cached_property
    def _pixels(self) -> tuple[NDArray[np.float64], int]:
        """Valid pixels owned by the tiles that earn each label, (K,), and by all classified tiles."""
        labelled, classified = np.zeros(len(self.card.labels)), 0
        count = 1 if self.card.task == 'single-label' else self.label_count
        for rows, cols in self.blocks():
            scores = self.table.read('scores', rows, cols)
            owned = self.table.read('owned', rows, cols)
            earned = assign_labels(scores, self.thresholds, count)
            labelled += (earned * owned[..., None]).sum(axis=(0, 1))
            classified += int(owned[~np.isnan(scores[..., 0])].sum())
        return labelled, classified

    @cached_property
    def means(self) -> dict[str, float]:
        """Mean score of each label, or mean value of a regression, over the classified area.

        Tiles are weighted by the valid pixels that they own; NaN where nothing was classified.
        """
        total, classified = np.zeros(len(self.card.labels)), self._pixels[1]
        for rows, cols in self.blocks():
            scores = np.nan_to_num(self.table.read('scores', rows, cols)).astype(np.float64)
            total += (scores * self.table.read('owned', rows, cols)[..., None]).sum(axis=(0, 1))
        means = total / classified if classified else np.full(len(total), np.nan)
        return dict(zip(self.card.labels, means.tolist(), strict=True))

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of tiles of each chunk."""
        return ((chunk.rows, chunk.cols) for chunk in self.plan)

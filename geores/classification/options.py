"""Options of `geores classify`, and the rule that they make: how scores become labels.

A tile earns a label whose score reaches the label's threshold, unless as many other labels as `top_k`
allows score higher.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geores.card import ModelCard
from geores.errors import UsageError
from geores.options import MAX_TILE, MIN_TILE, NO_MASK, RunOptions, SceneOptions, option

if TYPE_CHECKING:
    from geores.card import ModelCard

__all__ = [
    'MAX_OUTPUT',
    'ClassifyOptions',
    'assign_labels',
    'dominant_label',
    'label_names',
    'label_thresholds',
]


def label_thresholds(card: ModelCard, threshold: float | None = None) -> NDArray[np.float32]:
    """The threshold of each label, (K,), which a score has to reach.

    A threshold given by the user holds for all labels; else those of the card are taken; else 0.5 for
    multi-label models, and 0 for single-label models, whose best label counts whatever its score.
    The values of a regression earn no label, so that its thresholds are infinite.

    Args:
        card: of the model.
        threshold: given by the user for all labels; None where there is none.
    """
    if card.task == 'regression':
        return np.full(len(card.labels), np.inf, np.float32)
    if threshold is not None:
        return np.full(len(card.labels), threshold, np.float32)
    if card.task == 'single-label':
        return np.zeros(len(card.labels), np.float32)
    return np.asarray(card.thresholds or [0.5] * len(card.labels), np.float32)


def assign_labels(
    scores: NDArray[np.float32], thresholds: NDArray[np.float32], count: int | None
) -> NDArray[np.bool_]:
    """Which labels each tile earns: those that reach their threshold and are among its `count` best.

    Args:
        scores: (..., K), NaN for skipped tiles, which earn none.
        thresholds: (K,).
        count: most labels per tile; None for any number.
    """
    earned = scores >= thresholds
    if count is not None and count < scores.shape[-1]:
        # Ranks, not the count-th best score: equal scores must not give more labels than `count`.
        rank = np.argsort(np.argsort(-scores, axis=-1, kind='stable'), axis=-1, kind='stable')
        earned &= rank < count
    return np.asarray(earned, bool)


def label_names(
    scores: NDArray[np.float32], earned: NDArray[np.bool_], labels: Sequence[str]
) -> list[list[str]]:
    """Names of the labels that each tile earned, best first.

    Args:
        scores: (N, K).
        earned: (N, K), of `assign_labels`.
        labels: k names.

    Returns:
        N lists.
    """
    order = np.argsort(-scores, axis=-1, kind='stable')
    return [[labels[k] for k in best if row[k]] for best, row in zip(order, earned, strict=True)]


def dominant_label(scores: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the label to draw at each place: the one with the largest ratio of score to threshold.

    Args:
        scores: (K, ...), NaN where there is no score.
        thresholds: (K,).

    Returns:
        (...), -1 where no label reaches its threshold.
    """
    shape = (-1, *[1] * (scores.ndim - 1))
    strength = np.nan_to_num(scores / np.maximum(thresholds, 1e-6).reshape(shape), nan=-1.0)
    best = strength.argmax(axis=0)
    reached = np.take_along_axis(strength, best[None], axis=0)[0] >= 1
    return np.where(reached, best, -1)


MAX_OUTPUT = SceneOptions.max_output
"""Largest size of the results of a scene, bytes."""

POLYGONS = ('gpkg', 'parquet')
ATMOSPHERES = ('auto', 'none')


@dataclass(frozen=True)
class ClassifyOptions(RunOptions, SceneOptions):
    """Options of `geores classify` and `geores.classify`."""

    threshold: float | None = option(None, "Threshold for all labels [the model's].")
    top_k: int | None = option(None, 'Most labels per tile.')
    probabilities: bool = option(False, 'Write the probability of each label of a pixel too.')
    polygons: str | None = option(
        None, 'Outline areas of one class: GeoPackage or GeoParquet.', metavar='gpkg|parquet'
    )
    min_area: float | None = option(
        None, 'Polygons: smaller areas go to a neighbour, square metres [5 pixels].'
    )
    simplify: float | None = option(None, 'Polygons: how far outlines may move, metres [0].')
    colours: Path | str | None = option(
        None, 'Other colours of labels: JSON, YAML or CSV of label and #rrggbb.'
    )
    compile: bool = option(False, 'Compile the network (large scenes).')

    def __post_init__(self) -> None:
        """Refuse what is out of range before anything is opened."""
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        _check_label_rule(self.threshold, self.top_k)
        if self.tile is not None and not MIN_TILE <= self.tile <= MAX_TILE:
            raise UsageError(f'tile must lie between {MIN_TILE} and {MAX_TILE} pixels, not {self.tile}')
        if self.stride is not None and self.stride < 1:
            raise UsageError(f'stride must be at least 1 pixel, not {self.stride}')
        if self.resolution is not None and not 0 < self.resolution < math.inf:
            raise UsageError(f'resolution must be above 0 metres, not {self.resolution}')
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f'batch size must be at least 1, not {self.batch_size}')
        if self.bbox_crs is not None and self.bbox is None:
            raise UsageError('bbox_crs is that of a bbox, and there is none')
        if self.mask_values is not None and self.mask in (None, NO_MASK):
            raise UsageError('mask_values are those of a mask, and there is none')
        if self.clouds and self.mask not in (None, NO_MASK):
            raise UsageError('--clouds (clouds=) makes a mask, and --mask (mask=) gives one: use one of them')
        if isinstance(self.mask_values, str):
            raise UsageError(f'mask_values have to be whole numbers, not the text {self.mask_values!r}')
        if self.atmosphere not in ATMOSPHERES:
            raise UsageError(f'atmosphere must be {" or ".join(ATMOSPHERES)}, not {self.atmosphere!r}')
        if self.workers is not None and self.workers < 1:
            raise UsageError(f'workers must be at least 1, not {self.workers}')
        if self.polygons is not None and self.polygons not in POLYGONS:
            raise UsageError(f'polygons must be {" or ".join(POLYGONS)}, not {self.polygons!r}')
        for name in ('min_area', 'simplify'):
            value = getattr(self, name)
            if value is not None and self.polygons is None:
                raise UsageError(f'{name} is about polygons, and none are asked for: give polygons too')
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f'{name} must be 0 or more, not {value}')

    def given(self) -> dict[str, Any]:
        """The options that have a value, by name, as records keep them."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check_for(self, card: 'ModelCard') -> None:
        """Refuse options that mean nothing for a model, before any work is done.

        Args:
            card: of the model.

        Raises:
            UsageError: if an option does not suit what the model predicts.
        """
        if card.task == 'regression' and (self.threshold is not None or self.top_k is not None):
            option = 'threshold' if self.threshold is not None else 'top-k'
            raise UsageError(
                f'{option} chooses among labels, and model {card.name!r} is a regression: leave it out'
            )
        if self.colours is not None and card.task != 'regression':
            from geores.classification.scene_result import map_legend

            map_legend(card, self.colours)
        pixels = card.task == 'segmentation'
        if pixels and self.stride is not None:
            raise UsageError(f'stride is about tiles, and model {card.name!r} labels pixels: drop --stride')
        if pixels and (self.threshold is not None or self.top_k is not None):
            option = 'threshold' if self.threshold is not None else 'top-k'
            raise UsageError(
                f'{option} is about tiles, and model {card.name!r} labels pixels: drop --{option}'
            )
        if self.dense and pixels:
            raise UsageError(f'dense is about tiles, and model {card.name!r} labels pixels: drop --dense')
        if self.probabilities and not pixels:
            raise UsageError(
                f'probabilities are of pixels, and model {card.name!r} labels tiles, whose scores are '
                'written anyway: drop --probabilities'
            )
        if self.polygons is not None and card.task not in ('segmentation', 'single-label'):
            raise UsageError(
                f'polygons outline one class per place, and model {card.name!r} is {card.task}: '
                'drop --polygons'
            )


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """Turn paths and numbers of numpy into plain values, since options are written as JSON."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, 'tolist'):  # of numpy, which is not imported for help
        value = value.tolist()
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value


def _check_label_rule(threshold: float | None, top_k: int | None) -> None:
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f'threshold must lie between 0 and 1, not {threshold}')
    if top_k is not None and top_k < 1:
        raise UsageError(f'top-k must be at least 1, not {top_k}')

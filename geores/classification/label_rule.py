"""The rule by which scores become labels.

A tile earns a label whose score reaches the label's threshold, unless as many other labels as `top_k`
allows score higher.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geores.card import ModelCard

__all__ = ['assign_labels', 'dominant_label', 'label_names', 'label_thresholds']


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

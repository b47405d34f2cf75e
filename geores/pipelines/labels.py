"""From scores to labels, and from labels to shares of area."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geores.card import ModelCard
from geores.errors import UsageError

__all__ = ['assign', 'check_rule', 'check_task', 'dominant', 'limits', 'names']


def check_rule(threshold: float | None, top_k: int | None) -> None:
    """Raise `UsageError` where a threshold or a number of labels is out of range."""
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f'threshold must lie between 0 and 1, not {threshold}')
    if top_k is not None and top_k < 1:
        raise UsageError(f'top-k must be at least 1, not {top_k}')


def check_task(card: ModelCard, threshold: float | None, top_k: int | None) -> None:
    """Raise `UsageError` where labels are to be chosen of a model that answers in values."""
    if card.task == 'regression' and (threshold is not None or top_k is not None):
        option = 'threshold' if threshold is not None else 'top-k'
        raise UsageError(
            f'{option} chooses among labels, and model {card.name!r} is a regression: leave it out'
        )


def limits(card: ModelCard, threshold: float | None = None) -> NDArray[np.float32]:
    """The least score that earns each label, (K,).

    One threshold for all where given; else the card's; else 0.5 for multi-label models and none for
    single-label ones, whose best label counts. No value of a regression earns a label.
    """
    if card.task == 'regression':
        return np.full(len(card.labels), np.inf, np.float32)
    if threshold is not None:
        return np.full(len(card.labels), threshold, np.float32)
    if card.task == 'single-label':
        return np.zeros(len(card.labels), np.float32)
    return np.asarray(card.thresholds or [0.5] * len(card.labels), np.float32)


def assign(scores: NDArray[np.float32], least: NDArray[np.float32], count: int | None) -> NDArray[np.bool_]:
    """Which labels each tile earns: scored at least ``least``, and among its ``count`` best.

    Args:
        scores: (..., K), NaN for skipped tiles, which earn none.
        least: (K,).
        count: most labels a tile; None for any number.
    """
    earned = scores >= least
    if count is not None and count < scores.shape[-1]:
        rank = np.argsort(np.argsort(-scores, axis=-1, kind='stable'), axis=-1, kind='stable')
        earned &= rank < count
    return np.asarray(earned, bool)


def names(scores: NDArray[np.float32], earned: NDArray[np.bool_], labels: Sequence[str]) -> list[list[str]]:
    """Names of the labels that each tile earned, best first; (N, K) to N lists."""
    order = np.argsort(-scores, axis=-1, kind='stable')
    return [[labels[k] for k in best if row[k]] for best, row in zip(order, earned, strict=True)]


def dominant(scores: NDArray[np.float32], least: NDArray[np.float32]) -> NDArray[np.int64]:
    """The label to draw at each place: the one furthest above its least score, in proportion.

    Args:
        scores: (K, ...), NaN where there is none.
        least: (K,).

    Returns:
        (...), -1 where no label reaches its least score.
    """
    shape = (-1, *[1] * (scores.ndim - 1))
    strength = np.nan_to_num(scores / np.maximum(least, 1e-6).reshape(shape), nan=-1.0)
    best = strength.argmax(axis=0)
    reached = np.take_along_axis(strength, best[None], axis=0)[0] >= 1
    return np.where(reached, best, -1)

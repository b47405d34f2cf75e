"""Bootstrap intervals: how far figures would move with other samples of the same kind."""

from collections.abc import Iterator

import torch
from torch import Tensor

from geores.errors import UsageError
from geores.metrics.confusion import Counts, check_multi_label, fbeta, precision, recall

__all__ = ['LEVEL', 'bootstrap_intervals', 'bootstrap_weights', 'weighted_average_precision']

LEVEL = 0.95
"""Level of the intervals."""

_ELEMENTS = 2**22
"""Most elements of an array of replicates, samples and labels, which bounds the memory."""


def bootstrap_intervals(
    scores: Tensor, predictions: Tensor, target: Tensor, replicates: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of figures (Efron and Tibshirani 1993, chapter 13).

    Samples are drawn with replacement, as if they were independent. Neighbouring tiles of one scene are not,
    and their intervals are too narrow.

    Args:
        scores: (N, K), 0 to 1.
        predictions: (N, K) of 0 and 1.
        target: (N, K) of 0 and 1.
        replicates: number of drawings.
        seed: of the drawings.

    Returns:
        Lower and upper limit of `ap_`, `f1_`, `precision_` and `recall_`, each `micro` and `macro`.

    Raises:
        UsageError: if shapes differ, values are out of range, or there are no samples or replicates.
    """
    check_multi_label(scores, target)
    check_multi_label(predictions, target)
    if replicates < 1 or not len(scores):
        raise UsageError('intervals need at least one replicate and one sample')
    size = max(1, _ELEMENTS // scores.numel())
    drawn = [
        _figures(scores, predictions, target, weights)
        for weights in bootstrap_weights(len(scores), replicates, seed, size)
    ]
    tail = (1 - LEVEL) / 2
    limits = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    intervals = {}
    for name in drawn[0]:
        low, high = torch.cat([part[name] for part in drawn]).nanquantile(limits).tolist()
        intervals[name] = (low, high)
    return intervals


def bootstrap_weights(samples: int, replicates: int, seed: int, size: int) -> Iterator[Tensor]:
    """Number of times that each sample is drawn in each replicate.

    Args:
        samples: n, of which N are drawn with replacement.
        replicates: number of drawings.
        seed: of the drawings.
        size: replicates at a time, which changes nothing but the memory.

    Yields:
        (size or the rest, N), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, replicates, size):
        rows = min(size, replicates - start)
        drawn = torch.stack([torch.randint(samples, (samples,), generator=generator) for _ in range(rows)])
        ones = torch.ones(drawn.shape, dtype=torch.float64)
        yield torch.zeros_like(ones).scatter_add_(1, drawn, ones)


def weighted_average_precision(scores: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Average precision per label where samples count several times; with weights of 1 `average_precision`.

    Args:
        scores: (N, K).
        target: (N, K) of 0 and 1.
        weights: (R, N), 0 or more.

    Returns:
        (R, K), NaN where no example is true.
    """
    values = []
    for label in range(scores.shape[1]):
        ranked, order = scores[:, label].sort(descending=True)
        drawn = weights[:, order]
        # Equal scores are one step of the curve: no threshold lies between them.
        ends = torch.cat([ranked[:-1] > ranked[1:], torch.ones(1, dtype=torch.bool)])
        hits = (drawn * target[order, label]).cumsum(1)[:, ends]
        predicted = drawn.cumsum(1)[:, ends]
        steps = hits.diff(dim=1, prepend=torch.zeros_like(hits[:, :1]))
        values.append((steps * hits / predicted.clamp_min(1e-12)).sum(1) / hits[:, -1])
    return torch.stack(values, 1)


def _figures(scores: Tensor, predictions: Tensor, target: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Figures by name, one value per replicate, (R,)."""
    predicted, true = predictions.bool(), target.bool()
    counted = Counts(
        *(weights @ part.double() for part in (predicted & true, predicted & ~true, ~predicted & true))
    )
    total = Counts(*(part.sum(1) for part in counted))
    every = weights.repeat_interleave(scores.shape[1], 1)
    flat = scores.reshape(-1, 1), target.reshape(-1, 1)
    figures = {
        'ap_macro': weighted_average_precision(scores, target, weights).nanmean(1),
        'ap_micro': weighted_average_precision(*flat, every)[:, 0],
    }
    for name, figure in (('f1', fbeta), ('precision', precision), ('recall', recall)):
        figures[f'{name}_micro'] = figure(total)
        figures[f'{name}_macro'] = figure(counted).nanmean(1)
    return figures

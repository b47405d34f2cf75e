"""How far a network that labels pixels looks.

Metrics of scores as such, before any threshold.
"""

import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_average_precision, multilabel_average_precision

from geores.errors import UsageError
from geores.metrics.confusion import check_multi_label

__all__ = ['context_of']


def context_of(network: nn.Module, bands: int, alignment: int, size: int) -> int | None:
    """The margin around a pixel on which its logits depend, measured.

    The gradient of one pixel's logits is 0 wherever its label does not depend on. Every place of a pixel
    within the alignment is asked.

    Args:
        network: Takes (1, bands, size, size); put in evaluation mode, and left in the mode it was in.
        bands: Number of bands.
        alignment: Of its windows, in pixels.
        size: Height and width to measure on, a multiple of the alignment.

    Returns:
        In pixels; None if it reaches the edge of such a window, and so may look farther.
    """
    mode = network.training
    network.eval()
    middle = size // 2 // alignment * alignment
    reach = 0
    generator = torch.Generator().manual_seed(0)
    try:
        for place in range(middle, middle + alignment):
            images = torch.randn(1, bands, size, size, generator=generator).requires_grad_()
            with torch.enable_grad():
                logits: Tensor = network(images)
                (gradient,) = torch.autograd.grad(logits[0, :, place, place].sum(), images)
            touched = gradient[0].abs().amax(0) > 0
            for line in (touched.any(0), touched.any(1)):
                places = line.nonzero().flatten()
                if not len(places):
                    continue
                if places[0] == 0 or places[-1] == size - 1:
                    return None
                reach = max(reach, place - int(places[0]), int(places[-1]) - place)
    finally:
        network.train(mode)
    return reach


def average_precision(
    scores: Tensor, target: Tensor, average: Literal['macro', 'micro', 'none'] = 'macro'
) -> Tensor:
    """Area under the precision-recall curve as a step function, by torchmetrics.

    Args:
        scores: (N, K), 0 to 1.
        target: (N, K) of 0 and 1.
        average: 'micro' ranks all scores together; 'macro' is the mean over labels that have true
            examples; 'none' gives (K,), NaN for those that have none.

    Raises:
        UsageError: Shapes differ, or values are out of range.
    """
    check_multi_label(scores, target)
    if average not in {'macro', 'micro', 'none'}:
        raise UsageError(f"average has to be 'macro', 'micro' or 'none', not {average!r}")
    target = target.long()
    present = target.any(0)
    if not present.any():
        return torch.full_like(scores[0] if average == 'none' else scores.sum(), torch.nan)
    if average == 'micro':
        return binary_average_precision(scores.flatten(), target.flatten(), validate_args=False)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'No positive samples')
        values = multilabel_average_precision(
            scores, target, scores.shape[1], average='none', validate_args=False
        )
    values = values.where(present, torch.nan)
    return values.nanmean() if average == 'macro' else values


def best_thresholds(scores: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """The threshold per label from which on saying it gives the best F-beta.

    Thresholds lie midway between two scores, so that rounding does not flip a decision. A label
    without true examples gets 0.5.

    Args:
        scores: (N, K), 0 to 1; a label is said where its score is at or above the threshold.
        target: (N, K) of 0 and 1.
        beta: How much more recall counts than precision.

    Returns:
        (K,), above 0 and below 1.

    Raises:
        UsageError: Shapes differ, values are out of range, or there are no samples.
    """
    check_multi_label(scores, target)
    if not len(scores):
        raise UsageError('thresholds need at least one sample')
    ranked, order = scores.double().sort(dim=0, descending=True)
    true = target.gather(0, order).double()
    hits = true.cumsum(0)
    said = torch.arange(1, len(scores) + 1, device=scores.device)[:, None]
    score = (1 + beta**2) * hits / (said + beta**2 * true.sum(0))
    following = torch.cat([ranked[1:], torch.zeros_like(ranked[:1])])
    # Between equal scores there is no cut.
    best = score.where(ranked > following, -1).argmax(0, keepdim=True)
    cut = ((ranked + following) / 2).gather(0, best)[0]
    return cut.where(true.any(0), 0.5).clamp(1e-4, 1 - 1e-4).float()

"""Targets and losses of scene classification.

Targets can be shares of labels, so that images can be mixed and teachers can answer with probabilities.
"""

import math
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from geores.errors import UsageError

GAMMA, Q = 2.0, 0.7
"""Defaults of the focal and of the generalised cross-entropy loss."""
LossName = Literal['bce', 'ce', 'focal', 'gce']
Task = Literal['multi-label', 'single-label']


def known(target: Tensor) -> Tensor:
    """Which samples are labelled: those without a -1.

    Args:
        target: (N, K) of 0 and 1, or (N,) class indices.

    Returns:
        (N,) of bool.
    """
    return (target >= 0) if target.ndim == 1 else (target >= 0).all(1)


def shares(target: Tensor, labels: int) -> Tensor:
    """Targets as shares between 0 and 1; the rows of samples without a label are meaningless.

    Args:
        target: (N, K) of 0 and 1, or (N,) class indices; -1 without a label.
        labels: K.

    Returns:
        (N, K), float32.
    """
    target = target.clamp_min(0)
    return (functional.one_hot(target, labels) if target.ndim == 1 else target).float()


def mix(images: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each image and its target with another of the batch (Zhang et al. 2018, mixup, equation 1).

    Args:
        images: (N, C, H, W).
        target: (N, K), shares.
        alpha: alpha of the Beta distribution that the part of each is drawn from, once a batch.
    """
    part = torch.distributions.Beta(alpha, alpha).sample().to(images)
    order = torch.randperm(len(images), device=images.device)
    return torch.lerp(images[order], images, part), torch.lerp(target[order], target, part)


class Loss(Protocol):
    """A loss: logits and targets to one number."""

    def __call__(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Mean loss of a batch.

        Args:
            logits: (N, K).
            target: (N, K) of 0 and 1, or shares; or, of one label an image, (N,) class indices, of which -1
                does not count.
            weight: (K,) or None: multiplies the loss of each class, or that of the positives of each label.
        """


def make_loss(
    task: Task, name: LossName | None = None, label_smoothing: float = 0.0, gamma: float = 2.0, q: float = 0.7
) -> Loss:
    """The loss of a task.

    Args:
        task: 'multi-label' or 'single-label'.
        name: 'bce' (multi-label), 'ce' (single-label), 'focal' (either, Lin et al. 2017) or 'gce'
            (single-label, for noisy labels, Zhang and Sabuncu 2018); None takes the default of the task.
        label_smoothing: share of the target that is spread over all answers.
        gamma: how strongly 'focal' down-weights well-classified samples.
        q: how strongly 'gce' down-weights labels that the model contradicts.

    Raises:
        UsageError: if the loss does not fit the task, or a number is out of range.
    """
    if not 0 <= label_smoothing < 1 or gamma < 0:
        raise UsageError('label_smoothing has to be in [0, 1) and focal_gamma not below 0')
    if not 0 < q <= 1:
        raise UsageError('gce_q has to be above 0 and at most 1')
    multi = task == 'multi-label'
    losses: dict[str, Loss] = {
        'bce' if multi else 'ce': partial(
            binary_loss if multi else class_loss, label_smoothing=label_smoothing
        ),
        'focal': partial(
            binary_focal_loss if multi else class_focal_loss, gamma=gamma, label_smoothing=label_smoothing
        ),
    }
    if not multi:
        losses['gce'] = partial(generalised_class_loss, q=q, label_smoothing=label_smoothing)
    chosen = losses.get(name or ('bce' if multi else 'ce'))
    if chosen is None:
        raise UsageError(f'loss {name!r} does not fit {task}: take one of {", ".join(losses)}')
    return chosen


def check_options(loss: LossName | None, gamma: float, q: float, mixup: float = 0.0) -> None:
    """Check that options of a loss go with it, before anything is trained.

    Args:
        loss: name of the loss; None for the default of the task.
        gamma: that of 'focal'.
        q: that of 'gce'.
        mixup: alpha of mixup.

    Raises:
        UsageError: if one would have no effect, or mixup is out of range.
    """
    for name, value, default, owner in (('focal_gamma', gamma, GAMMA, 'focal'), ('gce_q', q, Q, 'gce')):
        if value != default and loss != owner:
            raise UsageError(
                f'{name} {value:g} goes with loss {owner!r}, not {loss or "the default"!r}: drop it'
            )
    if not 0 <= mixup < math.inf:
        raise UsageError(f'mixup has to be 0 or above, not {mixup}')


def binary_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float = 0.0
) -> Tensor:
    """Binary cross-entropy; `weight` multiplies the positives of each label."""
    target = target * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def class_loss(logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy; samples with target -1 do not count."""
    if target.ndim == 2:
        return functional.cross_entropy(logits, target, weight, label_smoothing=label_smoothing)
    return functional.cross_entropy(logits, target, weight, ignore_index=-1, label_smoothing=label_smoothing)


def generalised_class_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None, q: float = 0.7, label_smoothing: float = 0.0
) -> Tensor:
    """Generalised cross-entropy (Zhang and Sabuncu 2018, equation 6), which noisy labels harm less."""
    logits, target = _smoothed_shares(logits, target, label_smoothing)
    factors = target if weight is None else target * weight
    losses = (1 - (q * functional.log_softmax(logits, dim=1)).exp()) / q
    return (factors * losses).sum() / factors.sum()


def binary_focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None, gamma: float = 2.0, label_smoothing: float = 0.0
) -> Tensor:
    """Focal loss of each label on its own, without its alpha."""
    target = target * (1 - label_smoothing) + label_smoothing / 2
    loss: Tensor = sigmoid_focal_loss(logits, target, alpha=-1, gamma=gamma)
    return (loss if weight is None else loss * (1 + target * (weight - 1))).mean()


def class_focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None, gamma: float = 2.0, label_smoothing: float = 0.0
) -> Tensor:
    """Focal loss (Lin et al. 2017, equation 4): of the true class, or of each by its share."""
    logits, target = _smoothed_shares(logits, target, label_smoothing)
    log = functional.log_softmax(logits, dim=1)
    factors = target if weight is None else target * weight
    rest = (1 - log.exp()).clamp_min(1e-12)  # else gradients of a gamma below 1 are infinite
    return -(factors * rest**gamma * log).sum() / factors.sum()


def _smoothed_shares(logits: Tensor, target: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Logits of the samples that have a label, and their targets as shares, smoothed over all classes."""
    if target.ndim == 1:
        logits, target = logits[target >= 0], target[target >= 0]
        target = functional.one_hot(target, logits.shape[1]).to(logits.dtype)
    return logits, target * (1 - label_smoothing) + label_smoothing / logits.shape[1]


def balanced_weights(target: Tensor, labels: int, largest: float = 10.0) -> Tensor:
    """Weights that make rare labels count as much as frequent ones.

    Args:
        target: (N, K) of 0 and 1, or (N,) class indices.
        labels: K.
        largest: upper limit of the weights.

    Returns:
        (K,): negatives per positive of each label, or N / (K x samples of the class).
    """
    if target.ndim == 2:
        positives = target.sum(0).clamp_min(1)
        return ((len(target) - positives) / positives).clamp(max=largest)
    counts = torch.bincount(target[target >= 0], minlength=labels).clamp_min(1)
    return (counts.sum() / (labels * counts)).clamp(max=largest)

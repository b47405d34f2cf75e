"""Targets as shares of labels, which images can be mixed by and teachers can answer in."""

import torch
from torch import Tensor
from torch.nn import functional


def known(target: Tensor) -> Tensor:
    """Which samples are labelled: those without a -1.

    Args:
        target: (N, K) of 0 and 1, or (N,) class indices.

    Returns:
        (N,) of bool.
    """
    return (target >= 0) if target.ndim == 1 else (target >= 0).all(1)


def shares(target: Tensor, labels: int) -> Tensor:
    """Targets as numbers between 0 and 1; what stands for a sample without a label means nothing.

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
        alpha: Of the Beta distribution that the part of each is drawn from, once a batch.
    """
    part = torch.distributions.Beta(alpha, alpha).sample().to(images)
    order = torch.randperm(len(images), device=images.device)
    return torch.lerp(images[order], images, part), torch.lerp(target[order], target, part)

"""A careful start of fine-tuning: adapted batch norm statistics, and a head fitted by logistic regression.

The gradients of a fresh head spoil trained features before the head has learnt anything, and batch statistics
of a few images are noise. Fine-tuned as larger sets are, four classes of UC Merced with eight images each
score below a linear classifier on unchanged features (Kumar et al. 2022: linear probing, then fine-tuning).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from geores.datasets._module import ImageDataModule
from geores.tasks import SceneClassification

__all__ = ['FEW', 'RATE', 'KeepStatistics', 'adapt_statistics', 'are_few', 'fit_head']

FEW = 100
"""Training images a class below which they are few."""

RATE = 2e-4
"""Learning rate that changes features gently."""

_C = 0.01  # strong enough for more features than images
_BATCH = 64
_PRIOR = 32  # images that statistics of another scene count as


def are_few(images: int, classes: int) -> bool:
    """Whether a training part is small enough for a careful start.

    Args:
        images: images of the training part.
        classes: classes that it has.
    """
    return images < FEW * classes


class KeepStatistics(Callback):
    """Keeps mean and deviation of every batch norm as they were trained; its weights still learn."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Put batch norms in evaluation."""
        for part in pl_module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()


@torch.no_grad()
def adapt_statistics(task: SceneClassification, data: ImageDataModule, device: str = 'cpu') -> None:
    """Move mean and deviation of every batch norm towards those of the training part.

    A scene of another season, haze or processing level shifts all features by statistics of the old ones
    (Schneider et al. 2020, Improving robustness against common corruptions by covariate shift adaptation,
    equation 3: the old statistics count as some images beside the new).

    Args:
        task: only statistics of its network change.
        data: dataset and split; the training part is used without augmentation.
        device: where to compute.
    """
    norms = [part for part in task.network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    training, momenta = task.training, [norm.momentum for norm in norms]
    task.to(device).eval()
    before = [{name: one.clone() for name, one in norm.named_buffers()} for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for images in _batches(data, device):
        task(images)
    old = _PRIOR / (_PRIOR + len(data.split.train))
    for norm, held, momentum in zip(norms, before, momenta, strict=True):
        norm.momentum = momentum
        for name, one in norm.named_buffers():
            if one.is_floating_point():
                one.lerp_(held[name], old)
    task.train(training)


def fit_head(
    task: SceneClassification,
    data: ImageDataModule,
    device: str = 'cpu',
    *,
    weights: Sequence[float] | None = None,
) -> bool:
    """Fit the last layer of a trained network by logistic regression on the training part.

    Args:
        task: single-label; only its network's last layer changes.
        data: dataset and split; the training part is used without augmentation.
        device: where to compute features.
        weights: weights of each class; None for 1.

    Returns:
        Whether that was done: not where the network has no linear last layer, or a class has no image.
    """
    find_head = getattr(task.network, 'get_classifier', None)
    head = None if find_head is None else find_head()
    places = data.split.train
    classes = np.asarray([int(data.dataset.targets[place]) for place in places])
    if not isinstance(head, nn.Linear) or len(set(classes.tolist())) < head.out_features:
        return False
    features = _features(task.to(device), head, data, device)
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(
        C=_C, max_iter=1000, class_weight=None if weights is None else dict(enumerate(weights))
    )
    model.fit(scaler.transform(features), classes)
    matrix, bias = model.coef_, model.intercept_
    if len(matrix) == 1:  # two classes share one row
        matrix, bias = np.concatenate([-matrix, matrix]) / 2, np.concatenate([-bias, bias]) / 2
    matrix = matrix / scaler.scale_
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(matrix))
        head.bias.copy_(torch.from_numpy(bias - matrix @ scaler.mean_))
    return True


@torch.no_grad()
def _features(
    task: SceneClassification, head: nn.Linear, data: ImageDataModule, device: str
) -> NDArray[np.float64]:
    """Inputs of the last layer for the training part, (N, F)."""
    taken: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].float().cpu()))
    training = task.training
    task.eval()
    try:
        for images in _batches(data, device):
            task(images)
    finally:
        hook.remove()
        task.train(training)
    return np.asarray(torch.cat(taken).double().numpy())


def _batches(data: ImageDataModule, device: str) -> Iterator[Tensor]:
    """Images of the training part, in batches of about one size: a single image has no statistics."""
    places = data.split.train
    for part in np.array_split(places, -(-len(places) // _BATCH)):
        yield torch.stack([data.dataset[int(place)]['image'] for place in part]).to(device)

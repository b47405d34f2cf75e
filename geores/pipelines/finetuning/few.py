"""Fine-tuning on few images: a head that is fitted first, and batch norm that keeps its statistics.

A fresh head's gradients spoil trained features before it has learnt anything, and statistics of a few images
are noise: fine-tuned as larger sets are, four classes of UC Merced with eight images each come out below a
linear classifier of features that were not touched (Kumar et al. 2022, linear probing, then fine-tuning).
"""

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

__all__ = ['FEW', 'RATE', 'KeepStatistics', 'are_few', 'fit_head']

FEW = 50
"""Training images a class below which they are few."""

RATE = 2e-4
"""Learning rate that changes features gently."""

_C = 0.01  # strong enough for more features than images
_BATCH = 64


def are_few(images: int, classes: int) -> bool:
    """Whether a training part is small enough for a careful start.

    Args:
        images: Of the training part.
        classes: That it has.
    """
    return images < FEW * classes


class KeepStatistics(Callback):
    """Keeps mean and deviation of every batch norm as they were trained; its weights still learn."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Put batch norms in evaluation.

        Args:
            trainer: Ignored.
            pl_module: The task.
            batch: Ignored.
            batch_idx: Ignored.
        """
        for part in pl_module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()


def fit_head(
    task: SceneClassification, data: ImageDataModule, device: str = 'cpu', *, balanced: bool = False
) -> bool:
    """Fit the last layer of a trained network by logistic regression on the training part.

    Args:
        task: Single-label; only its network's last layer changes.
        data: Its training part is taken as it is, without augmentation.
        device: Where to compute features.
        balanced: Whether classes weigh the same.

    Returns:
        Whether that was done: not where the network has no linear last layer, or a class has no image.
    """
    find_head = getattr(task.network, 'get_classifier', None)
    head = None if find_head is None else find_head()
    places = data.split.train
    classes = np.asarray([int(data.dataset.targets[place]) for place in places])
    if not isinstance(head, nn.Linear) or len(set(classes.tolist())) < head.out_features:
        return False
    features = _features(task.to(device), head, data, places)
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=_C, max_iter=1000, class_weight='balanced' if balanced else None)
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
    task: SceneClassification, head: nn.Linear, data: ImageDataModule, places: list[int]
) -> NDArray[np.float64]:
    """What the last layer is given for some images, (N, F)."""
    taken: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].float().cpu()))
    training = task.training
    task.eval()
    try:
        for start in range(0, len(places), _BATCH):
            images = [data.dataset[place]['image'] for place in places[start : start + _BATCH]]
            task(torch.stack(images).to(task.device))
    finally:
        hook.remove()
        task.train(training)
    return np.asarray(torch.cat(taken).double().numpy())

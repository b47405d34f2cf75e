"""Classification of whole scenes or tiles, single-label or multi-label."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from geores import models
from geores.datasets._sampling import process_count
from geores.errors import UsageError
from geores.metrics import SceneReport
from geores.tasks.augment import Augmentation
from geores.tasks.losses import LossName, Task, balanced_weights, check_options, known, make_loss, mix, shares
from geores.tasks.schedule import ImageTask, check_schedule, freeze_parts
from geores.tasks.start import Teachers, start_from


class SceneClassification(ImageTask):
    """Trains a network of `geores.models` on images with labels.

    Mean, standard deviation and balanced weights come from the datamodule's training part when
    fitting starts (its `statistics` and `train_targets`).

    Args:
        labels: labels in the order of targets. `geores train` takes labels, bands and task from the data.
        bands: bands in the order of the images.
        task: 'multi-label' or 'single-label'.
        architecture: name in `geores.models`; it has to take `in_chans` and `num_classes`.
        architecture_kwargs: other arguments of the architecture.
        start: weights to start from, as in `geores.tasks.start`: a bundle or a file of weights.
        freeze: parts of the network that keep their weights and statistics, such as 'blocks.0'.
        teachers: bundles whose mean prediction is learnt beside the labels, and in their place for images
            without labels. Bands and labels have to be the same.
        teacher_share: weight of the teachers against the label of a labelled image.
        mixup: alpha of mixup (Zhang et al. 2018); 0 does not mix.
        loss: 'bce', 'ce', 'focal' or 'gce' (for noisy labels); None takes the default of the task.
        focal_gamma: focal gamma of 'focal'.
        gce_q: gce q of 'gce'.
        label_smoothing: share of the target that is spread over all answers.
        class_weights: 'balanced', one number a label, or None.
        learning_rate: learning rate after warm-up.
        weight_decay: weight decay of matrices and kernels.
        decay_norms: whether biases and norms decay too.
        warmup: share of all steps in which the learning rate rises; then it falls as a cosine.
        warmup_steps: warmup steps that many steps instead, at most all but one.
        warmup_start: the learning rate of the first step, as a share of `learning_rate`.
        rate_end: the learning rate of the last step, likewise.
        augment: augmentations of training batches, in their order.
        mean: per band, in the images' units; None takes the datamodule's.
        std: per band, in the images' units; None takes the datamodule's.

    Raises:
        UsageError: if the architecture, the loss or the weights do not fit.
    """

    def __init__(
        self,
        labels: Sequence[str],
        bands: Sequence[str],
        task: Task,
        architecture: str = 'resnet18',
        architecture_kwargs: Mapping[str, Any] | None = None,
        start: str | None = None,
        freeze: Sequence[str] = (),
        teachers: Sequence[str] = (),
        teacher_share: float = 0.5,
        mixup: float = 0.0,
        loss: LossName | None = None,
        focal_gamma: float = 2.0,
        gce_q: float = 0.7,
        label_smoothing: float = 0.0,
        class_weights: Literal['balanced'] | list[float] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        decay_norms: bool = False,
        warmup: float = 0.1,
        warmup_steps: int | None = None,
        warmup_start: float = 0.01,
        rate_end: float = 0.0,
        augment: list[Augmentation] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        check_schedule(warmup, warmup_steps, warmup_start, rate_end)
        check_options(loss, focal_gamma, gce_q, mixup)
        for augmentation in augment or ():
            if augmentation.moves == 'blended' and not teachers:
                raise UsageError(
                    f'augment: {type(augmentation).__name__} needs teachers to answer for what it makes'
                )
        self.save_hyperparameters(ignore=['augment'])
        self.labels, self.bands, self.task = tuple(labels), tuple(bands), task
        self.architecture = architecture
        self.architecture_kwargs = {
            **(architecture_kwargs or {}),
            'in_chans': len(self.bands),
            'num_classes': len(self.labels),
        }
        self.network = models.create(architecture, **self.architecture_kwargs)
        if start is not None:
            start_from(self.network, start, self.bands)
        self.frozen = freeze_parts(self.network, freeze)
        self.teachers = Teachers(teachers, self.labels, self.bands)
        self.loss = make_loss(task, loss, label_smoothing, focal_gamma, gce_q)
        self.augment = nn.ModuleList(augment or [])
        self.report = SceneReport(task)
        # Lightning's own mean over processes rounds their numbers of samples.
        self.val_loss = MeanMetric()
        self._register(mean, std, class_weights)

    def _balanced(self, data: Any) -> Tensor:  # noqa: ANN401 - a datamodule
        if not hasattr(data, 'train_targets'):
            raise UsageError('balanced class_weights need data with train_targets')
        return balanced_weights(data.train_targets, len(self.labels))

    def on_fit_start(self) -> None:
        """As of `ImageTask`, and bring the teachers to the device."""
        super().on_fit_start()
        self.teachers.to(self.device)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images: (N, C, H, W), float32, in the data's units.

        Returns:
            (N, K).
        """
        images = (images - self.mean) / self.std
        logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities of logits.

        Args:
            logits: (N, K).

        Returns:
            (N, K), float32.
        """
        logits = logits.float()
        return logits.sigmoid() if self.task == 'multi-label' else logits.softmax(1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of an augmented batch of `image` and `label`."""
        images, target = batch['image'], batch['label']
        with torch.autocast(self.device.type, enabled=False):
            for augmentation in self.augment:
                images = augmentation(images, self.bands)
        if not self.teachers.models and not known(target).any():
            nothing: Tensor = self(images).sum() * 0.0  # other processes wait for gradients
            if process_count() > 1:  # and for its share of the mean
                self.log('train/loss', nothing, on_step=False, on_epoch=True, batch_size=0, sync_dist=True)
            return nothing
        if self._soft:
            images, target = self._soften(images, target)
        loss = self.loss(self(images).float(), target, self.weight)
        self.log('train/loss', loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    @property
    def _soft(self) -> bool:
        return self.task == 'multi-label' or bool(self.teachers.models or self.hparams['mixup'])

    def _soften(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        labelled, target = known(target), shares(target, len(self.labels))
        if self.teachers.models:
            share = torch.where(labelled, self.hparams['teacher_share'], 1.0)
            target = torch.lerp(target, self.teachers(images), share[:, None])
        else:
            images, target = images[labelled], target[labelled]
        return mix(images, target, self.hparams['mixup']) if self.hparams['mixup'] else (images, target)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keep scores of a batch of `image` and `label`."""
        logits = self(batch['image']).float()
        loss = self.loss(logits, batch['label'], self.weight)
        self.val_loss.update(loss, len(logits))
        self.report.update(self.scores(logits), batch['label'])

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all batches."""
        figures: dict[str, Tensor | float] = {'loss': self.val_loss.compute(), **self.report.compute()}
        self.log_dict({f'val/{name}': value for name, value in figures.items()})
        self.val_loss.reset()
        self.report.reset()

"""Semantic segmentation: one label per pixel."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from geores import models
from geores.errors import UsageError
from geores.metrics.confusion import IGNORED, MEANS, PixelReport
from geores.tasks.augment import Augmentation
from geores.tasks.levels import Views, ViewsOf
from geores.tasks.losses import check_options, make_loss
from geores.tasks.schedule import ImageTask, check_schedule, freeze_parts
from geores.tasks.start import OnnxTeacher, start_from

__all__ = ['SemanticSegmentation']


class SemanticSegmentation(ImageTask):
    """Trains a network of `geores.models` that labels every pixel.

    Mean, standard deviation and balanced weights come from the datamodule's training part when
    fitting starts (its `statistics` and `class_counts`). Pixels of class 255 do not count.

    A teacher answers for the batch as it was augmented, so that the network learns its function and not
    its answers for some images (Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and
    consistent"): on pixels without a label alone, on others beside the label.

    Args:
        labels: labels in the order of classes. `geores train` takes labels, bands and task from the data.
        bands: bands in the order of the images.
        task: 'segmentation'.
        architecture: name in `geores.models`; it has to take `in_chans` and `num_classes` and give logits
            of the input's height and width.
        architecture_kwargs: other arguments of the architecture.
        start: weights to start from, as in `geores.tasks.start`: a bundle or a file of weights.
        freeze: parts of the network that keep their weights and statistics.
        teacher: network whose answers are learnt; its labels have to be the same.
        teacher_share: weight of the teacher against the label of a labelled pixel.
        views: makes what the student and the teacher see, where that differs.
        loss: 'ce', 'focal' (without a teacher) or 'gce' (for noisy labels).
        focal_gamma: focal gamma of 'focal'.
        gce_q: gce q of 'gce'.
        label_smoothing: share of the target that is spread over all classes.
        class_weights: 'balanced', one number a label, or None.
        learning_rate: learning rate after warm-up.
        weight_decay: weight decay of matrices and kernels.
        decay_norms: whether biases and norms decay too.
        warmup: share of all steps in which the learning rate rises; then it falls as a cosine.
        warmup_steps: warmup steps that many steps instead, at most all but one.
        warmup_start: the learning rate of the first step, as a share of `learning_rate`.
        rate_end: the learning rate of the last step, likewise.
        augment: augmentations of training batches, in their order; masks move with their images.
        log_scale: where set, values v become ln(1 + log_scale * v) before mean and std apply.
        mean: per band, in the images' units, or of the logarithm; None takes the datamodule's.
        std: per band, likewise.

    Raises:
        UsageError: if the architecture, the loss, the weights or the teacher do not fit.
    """

    def __init__(
        self,
        labels: Sequence[str],
        bands: Sequence[str],
        task: Literal['segmentation'] = 'segmentation',
        architecture: str = 'dynamic_world',
        architecture_kwargs: Mapping[str, Any] | None = None,
        start: str | None = None,
        freeze: Sequence[str] = (),
        teacher: OnnxTeacher | None = None,
        teacher_share: float = 0.5,
        views: ViewsOf | None = None,
        loss: Literal['ce', 'focal', 'gce'] = 'ce',
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
        log_scale: float | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        check_schedule(warmup, warmup_steps, warmup_start, rate_end)
        check_options(loss, focal_gamma, gce_q)
        self.save_hyperparameters(ignore=['augment', 'teacher', 'views'])
        self.labels, self.bands, self.task = tuple(labels), tuple(bands), task
        _check(self.labels, teacher, loss, log_scale, mean, std, augment or [])
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
        self.teacher = teacher
        self.views = views
        self.loss = make_loss('single-label', loss, label_smoothing, focal_gamma, gce_q)
        self.augment = nn.ModuleList(augment or [])
        self.reports: dict[str, PixelReport] = {}
        self.val_loss = MeanMetric()
        self._register(mean, std, class_weights)

    @property
    def alignment(self) -> int:
        """Height and width of images have to be multiples of it."""
        return int(getattr(self.network, 'alignment', 1))

    def _balanced(self, data: Any) -> Tensor:  # noqa: ANN401 - a datamodule
        if not hasattr(data, 'class_counts'):
            raise UsageError('balanced class_weights need data with class_counts')
        counts: Tensor = data.class_counts.clamp_min(1)
        return (counts.sum() / (len(counts) * counts)).clamp(max=10.0).float()

    def on_fit_start(self) -> None:
        """As of `ImageTask`, and bring the teacher to the device."""
        super().on_fit_start()
        if self.teacher is not None:
            self.teacher.to(self.device)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images: (N, C, H, W), float32, in the data's units.

        Returns:
            (N, K, H, W).
        """
        if self.hparams['log_scale'] is not None:
            images = (images * self.hparams['log_scale']).clamp_min(0).log1p()
        images = (images - self.mean) / self.std
        logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of an augmented batch."""
        images, mask = batch['image'], batch['mask']
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for augmentation in self.augment:
                images, mask = _augmented(augmentation, images, mask, self.bands)
            views = Views(images, images) if self.views is None else self.views(images, self.bands)
        taught = None if self.teacher is None else self.teacher(views.teacher, self.bands)
        loss = self._loss(self(views.student).float(), mask, taught)
        self.log('train/loss', loss, on_step=True, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def _loss(self, logits: Tensor, mask: Tensor, taught: Tensor | None) -> Tensor:
        """Mean loss of the pixels that count: those with a label, or all if there is a teacher."""
        labels = mask.flatten()
        labelled = labels != IGNORED
        flat = logits.movedim(1, -1).flatten(0, 2)
        if taught is None:
            if not labelled.any():
                return logits.sum() * 0.0  # other processes wait for gradients
            return self.loss(flat[labelled], labels[labelled], self.weight)
        target = taught.movedim(1, -1).flatten(0, 2)
        if labelled.any():
            share = torch.where(labelled, self.hparams['teacher_share'], 1.0)
            known = functional.one_hot(labels * labelled, len(self.labels)).float()
            target = torch.lerp(known, target, share[:, None])
        return self.loss(flat, target, self.weight)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count a batch against its labels, and against the teacher in each of its views."""
        images, mask = batch['image'], batch['mask']
        views: Mapping[str, Views] = {'': Views(images, images)}
        if self.views is not None:
            views = self.views.fixed(images, self.bands)
        labelled = bool((mask != IGNORED).any())
        answers: dict[int, Tensor] = {}  # several views may show the student or the teacher the same
        taught: dict[int, Tensor] = {}
        for name, (seen, shown) in views.items():
            if id(seen) not in answers:
                answers[id(seen)] = self(seen).float()
            answer, target = answers[id(seen)], None
            if self.teacher is not None:
                if id(shown) not in taught:
                    taught[id(shown)] = self.teacher(shown, self.bands)
                target = taught[id(shown)]
                self._report(f'teacher, {name}' if name else 'teacher').update(
                    answer.argmax(1), target.argmax(1)
                )
            if labelled:
                self._report(name or 'labels').update(answer.argmax(1), mask)
            self.val_loss.update(self._loss(answer, mask, target), len(images))

    def _report(self, name: str) -> PixelReport:
        if name not in self.reports:
            self.reports[name] = PixelReport(self.labels).to(self.device)
        return self.reports[name]

    def figures(self) -> dict[str, dict[str, float]]:
        """Figures of the batches that were counted since they were last forgotten, by what they compare with.

        Returns:
            'labels' (or the name of a view) and 'teacher', with the name of the view behind: figures of
            `geores.metrics.confusion`.
        """
        found = {name: report.compute() for name, report in self.reports.items()}
        return {name: values for name, values in found.items() if values}

    def forget(self) -> None:
        """Begin to count anew."""
        self.val_loss.reset()
        for report in self.reports.values():
            report.reset()

    def on_validation_epoch_start(self) -> None:
        """Begin to count anew."""
        self.forget()

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all batches; those of single classes under `val/each/`."""
        logged: dict[str, float | Tensor] = {'val/loss': self.val_loss.compute()}
        for source, figures in self.figures().items():
            path = '' if source == 'labels' else f'{source}/'
            for name, value in figures.items():
                each = '' if name in MEANS else 'each/'
                logged[f'val/{each}{path}{name}'] = value
        self.log_dict(logged)


def _augmented(
    augmentation: nn.Module, images: Tensor, mask: Tensor, bands: Sequence[str]
) -> tuple[Tensor, Tensor]:
    if augmentation.moves == 'blended':
        blended = augmentation(images, bands)
        changed = (blended != images).flatten(1).any(1)
        return blended, torch.where(changed[:, None, None], IGNORED, mask)
    if not augmentation.moves:
        return augmentation(images, bands), mask
    both = torch.cat([images, mask[:, None].to(images.dtype)], dim=1)
    both = augmentation(both, [*bands, 'mask'])
    return both[:, :-1], both[:, -1].to(mask.dtype)


def _check(
    labels: Sequence[str],
    teacher: OnnxTeacher | None,
    loss: str,
    log_scale: float | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    augment: Sequence[Augmentation],
) -> None:
    if teacher is not None and teacher.labels != tuple(labels):
        raise UsageError(f'the teacher has other labels: {", ".join(teacher.labels)}')
    if teacher is not None and loss == 'focal':
        raise UsageError("loss 'focal' knows no soft targets: take 'ce' or 'gce' with a teacher")
    if log_scale is not None and (mean is None or std is None):
        raise UsageError('log_scale needs mean and std, which are those of the logarithm then')
    for augmentation in augment:
        if augmentation.moves == 'resampled':
            raise UsageError(f'augment: {type(augmentation).__name__} resamples, which a mask cannot follow')
        if augmentation.moves == 'blended' and teacher is None:
            raise UsageError(
                f'augment: {type(augmentation).__name__} needs a teacher to answer for what it makes'
            )

"""The contract of a bundle and of a task: complete, loads without pickles, sound answers, learns."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from geores.bundle import find_bundle, load_model
from geores.errors import GeoresError
from geores.model import Model
from geores.vqa.model import VQAModel

__all__ = [
    'KINDS',
    'OneBatch',
    'check_bundle',
    'check_label',
    'check_mask',
    'check_question',
    'require',
    'sequence_of_names',
]

PICKLES = frozenset({'.pt', '.pth', '.ckpt', '.pkl', '.pickle', '.bin', '.joblib'})
TOLERANCE = 1e-4
"""Most by which a score may change with the size of the batch, relative to the largest score."""

QUESTION = 'Is there a water area?'
"""Question that is put to bundles that answer questions."""


def check_bundle(path: str | Path, max_mb: float = 100.0) -> None:
    """Check that a bundle can be handed on.

    It loads from card and safetensors alone, is no larger than packages may be, and gives made-up images
    finite scores in the range that its card states, whatever other images are in the batch.

    Args:
        path: folder of the bundle, or name of one that is installed.
        max_mb: most megabytes of all files in its folder; PyPI accepts 100.

    Raises:
        AssertionError: if a rule is broken; the message says which and what to do.
    """
    try:
        folder = find_bundle(path)
        _check_files(folder, max_mb)
        model = load_model(folder)
    except GeoresError as error:
        raise AssertionError(f'{path} cannot be loaded: {error}: write it with geores.save_bundle') from error
    images = _images(model)
    scores = _scores(model, images)
    _check_scores(model, scores)
    _check_batches(model, images, scores)


def _check_files(folder: Path, max_mb: float) -> None:
    files = [file for file in folder.rglob('*') if file.is_file()]
    for file in sorted(files):
        with file.open('rb') as stream:
            pickled = file.suffix.lower() in PICKLES or stream.read(4) == b'PK\x03\x04'
        require(not pickled, f'{file} is or may be a pickle', 'keep weights in model.safetensors alone')
    size = sum(file.stat().st_size for file in files) / 1e6
    remedy = 'save it as float16, or take a smaller network'
    require(size <= max_mb, f'{folder} holds {size:.1f} MB, more than {max_mb:g} MB', remedy)


def _images(model: Model) -> NDArray[np.float32]:
    """16 images: noise with the card's statistics, uniform ones, very dark and very bright ones."""
    card = model.card
    shape = (len(card.bands), card.input_size, card.input_size)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (card.mean, card.std))
    noise = np.random.default_rng(0).normal(size=(11, *shape)) * np.linspace(0.2, 2, 11)[:, None, None, None]
    uniform = [np.full(shape, level) for level in (-10, -3, 0, 3, 10)]
    images = np.asarray([mean + std * image for image in (*noise, *uniform)], np.float32)
    return images.clip(0, 255) if isinstance(model, VQAModel) else images


def _scores(model: Model, images: NDArray[np.float32], batch_size: int = 64) -> NDArray[np.float32]:
    """Scores of images; a model that answers questions is asked the same question about each."""
    if not isinstance(model, VQAModel):
        return model.predict(images, batch_size)
    features = model.encode(images, batch_size)
    return np.asarray(model.probabilities(features, [QUESTION])[:, 0].numpy())


def _check_scores(model: Model, scores: NDArray[np.float32]) -> None:
    card = model.card
    require(
        np.isfinite(scores).all(),
        'it answers some images with NaN or infinite scores',
        'look for a division or logarithm in the network, or save it as float32 (dtype=torch.float32)',
    )
    require(
        len(np.unique(scores, axis=0)) > 1,
        'it gives different images the same scores to the last bit',
        "compare the card's mean and std with the images' units, and train the network",
    )
    if card.activation == 'identity':
        return
    remedy = 'return logits from the network: the activation of the card is applied to them'
    inside = ((scores >= 0) & (scores <= 1)).all()
    require(inside, f'scores with {card.activation} lie outside 0 to 1', remedy)
    if card.activation == 'softmax':
        require(np.allclose(scores.sum(axis=1), 1, atol=1e-3), 'scores do not add up to 1', remedy)


def _check_batches(model: Model, images: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    alone = _scores(model, images, batch_size=1)
    moved = float(np.abs(alone - scores).max())
    require(
        moved <= TOLERANCE * max(1.0, float(np.abs(scores).max())),
        f'scores move by {moved:.2g} with the images that share the batch',
        'let no layer mix images when it predicts: statistics of a batch belong to training alone',
    )


KINDS = ('multi-label', 'single-label', 'regression', 'segmentation')
"""Tasks of datasets with labels or masks."""
IGNORED = 255
"""Class index of pixels that are ignored."""
FALL = 0.1
"""Share of its first value by which the loss has to fall, at least."""


def require(holds: object, broken: str, remedy: str) -> None:
    """Raise `AssertionError` with both sentences where a condition does not hold.

    Args:
        holds: the condition, true or false.
        broken: what is wrong.
        remedy: what to do about it.
    """
    if not holds:
        raise AssertionError(f'{broken}: {remedy}')


def sequence_of_names(owner: object, name: str, meaning: str) -> tuple[str, ...]:
    """An attribute that has to hold one or more names, each once.

    Args:
        owner: of the attribute.
        name: of the attribute.
        meaning: what the names are, for the message.
    """
    kind = type(owner).__name__
    values: Any = getattr(owner, name, None)
    remedy = f'give it the {meaning} as a tuple of different names, in order'
    require(values is not None, f'{kind} has no attribute {name!r}', remedy)
    listed = isinstance(values, (tuple, list)) and len(values) > 0
    require(
        listed and all(isinstance(value, str) and value for value in values),
        f'{kind}.{name} is {values!r}',
        remedy,
    )
    require(len(set(values)) == len(values), f'{kind}.{name} holds a name twice ({values!r})', remedy)
    return tuple(values)


def check_label(label: Any, task: str, labels: tuple[str, ...], where: str) -> None:  # noqa: ANN401
    """Check the label of a sample.

    Args:
        label: by task: a class index, int64, -1 where unknown ('single-label'); 0 or 1 per label, float32
            (K,) ('multi-label'); finite values, float32 (K,) ('regression').
        task: of the dataset.
        labels: of the dataset, K names.
        where: the sample, for the message.
    """
    single = task == 'single-label'
    count, dtype = len(labels), torch.int64 if single else torch.float32
    shape = () if single else (count,)
    remedy = f'{task} labels are {dtype} of shape {shape}'
    require(
        isinstance(label, Tensor), f"{where}: 'label' is {type(label).__name__}, not a torch.Tensor", remedy
    )
    found = f"{where}: 'label' is {label.dtype} of shape {tuple(label.shape)}"
    require(label.dtype == dtype and tuple(label.shape) == shape, found, remedy)
    found = f"{where}: 'label' is {label.tolist()}"
    if single:
        require(
            -1 <= int(label) < count, found, f'give a position in the {count} labels, or -1 where unknown'
        )
    elif task == 'regression':
        require(torch.isfinite(label).all(), found, 'leave samples without a value out')
    else:
        require(((label == 0) | (label == 1)).all(), found, 'give 1 for each label that applies, else 0')


def check_mask(mask: Any, image: Tensor, count: int, where: str) -> None:  # noqa: ANN401
    """Check the mask of a sample.

    Args:
        mask: class indices, int64 (H, W), 255 where unknown.
        image: of the sample, (C, H, W).
        count: number of labels.
        where: the sample, for the message.
    """
    shape = tuple(image.shape[1:])
    remedy = f'make it torch.int64 of the shape of the image, {shape}'
    require(isinstance(mask, Tensor), f"{where}: 'mask' is {type(mask).__name__}", remedy)
    found = f"{where}: 'mask' is {mask.dtype} of shape {tuple(mask.shape)}"
    require(mask.dtype == torch.int64 and tuple(mask.shape) == shape, found, remedy)
    odd = mask[(mask != IGNORED) & ((mask < 0) | (mask >= count))]
    shown = odd[:1].tolist()
    require(not len(odd), f"{where}: 'mask' holds {shown}", f'use 0 to {count - 1}, and 255 for no class')


def check_question(sample: dict[str, Any], where: str) -> None:
    """Check the question and the answer of a sample.

    Args:
        sample: with `question`.
        where: the sample, for the message.
    """
    for key in ('question', 'answer'):
        text = sample.get(key)
        good = isinstance(text, str) and text.strip()
        require(good, f'{where}: {key!r} is {text!r}', 'give text that is not empty')


class OneBatch(Callback):
    """Trains a task on its first batch again and again, and records the losses.

    Args:
        steps: how often the batch will be shown.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []
        self.idle: list[str] = []
        self._batch: dict[str, Any] | None = None
        self._before: dict[str, Tensor] = {}
        self._changed = False

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Replace each batch by the first one."""
        require(
            isinstance(batch, dict) and isinstance(batch.get('image'), Tensor),
            f'a batch of the data is {type(batch).__name__}',
            "let the dataset return dicts with 'image' (geores.testing.check_dataset)",
        )
        if self._batch is None:
            self._batch = {key: _copied(value) for key, value in batch.items()}
            self._before = {name: part.detach().clone() for name, part in _trained(pl_module).items()}
            require(self._before, 'the task has no weights to train', 'leave some with requires_grad')
        batch.clear()
        batch.update({key: _copied(value) for key, value in self._batch.items()})

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which weights the loss does not depend on."""
        if not self.losses:
            self.idle = [name for name, part in _trained(pl_module).items() if part.grad is None]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Record the loss, and whether the first step has changed any weights."""
        loss = outputs.get('loss') if isinstance(outputs, Mapping) else outputs
        require(
            isinstance(loss, Tensor),
            f'training_step gives {type(loss).__name__}',
            'return the loss of the batch from it',
        )
        value = float(loss) if isinstance(loss, Tensor) else math.nan
        step = len(self.losses) + 1
        require(
            math.isfinite(value),
            f'the loss is {value} in step {step}',
            'look for a division or logarithm of 0, unscaled images, or too high a learning rate',
        )
        self.losses.append(value)
        if step == 1:
            parts = _trained(pl_module)
            self._changed = any(not torch.equal(old, parts[name]) for name, old in self._before.items())

    def check(self, task: LightningModule) -> None:
        """Raise `AssertionError` where the task has not learnt.

        Args:
            task: that was trained.
        """
        require(
            len(self.losses) == self.steps,
            f'training ended after {len(self.losses)} of {self.steps} steps',
            'let the data have at least one batch of training samples',
        )
        require(
            self._changed,
            'a training step changes no weights',
            'give configure_optimizers the parameters of the network, and a learning rate above 0',
        )
        require(
            not self.idle,
            f'the loss does not depend on {", ".join(self.idle[:3])}',
            'use them in training_step, or set requires_grad to False',
        )
        few = max(len(self.losses) // 5, 1)
        first, last = sum(self.losses[:few]) / few, sum(self.losses[-few:]) / few
        require(
            last <= first - FALL * abs(first) or abs(last) < 1e-6,
            f'the loss does not fall on one batch shown {self.steps} times ({first:.4g} to {last:.4g})',
            'compare the loss with the targets, and try another learning rate or more steps',
        )


def _trained(task: LightningModule) -> dict[str, torch.nn.Parameter]:
    """Weights of a task that are trained, by name."""
    return {name: part for name, part in task.named_parameters() if part.requires_grad}


def _copied(value: Any) -> Any:  # noqa: ANN401
    return value.clone() if isinstance(value, Tensor) else value

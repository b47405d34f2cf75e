"""The contracts that a training rests on: what a dataset gives, and that a task learns and exports."""

import logging
import pickle
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from geores.bundle import load_model, save_bundle
from geores.card import ModelCard
from geores.card_fields import ACTIVATIONS
from geores.card_values import DataSource, Units
from geores.errors import GeoresError
from geores.scenes.bands import SENTINEL2_BANDS
from geores.testing.checks import (
    KINDS,
    OneBatch,
    check_bundle,
    check_label,
    check_mask,
    check_question,
    require,
    sequence_of_names,
)

__all__ = ['check_dataset', 'check_task']

_STATED = frozenset({'red', 'green', 'blue', *SENTINEL2_BANDS})
"""Bands whose units are known: 8-bit numbers, or digital numbers of Sentinel-2."""


def check_dataset(dataset: Any, samples: int = 16) -> None:  # noqa: ANN401 - of any class
    """Check that a dataset keeps to the contract of geores.

    A sample is a dict with `image`, float32 (C, H, W), in the data's own units and finite; with `label`
    (or `mask`, or `question` and `answer`) as the dataset's `task` says; `bands` and `id` repeat what
    the dataset has under `bands` and `ids`. The same index gives the same sample, the dataset can go to
    a worker process, and its samples can be stacked to a batch.

    Args:
        dataset: with `__len__`, `__getitem__`, `bands`, `ids` and, for labels and masks, `task`
            ('multi-label', 'single-label', 'regression', 'segmentation') and `labels`.
        samples: number of samples to check, evenly spread.

    Raises:
        AssertionError: if a rule is broken; the message says which, where and what to do.
    """
    count = _length(dataset)
    bands = sequence_of_names(dataset, 'bands', 'bands')
    ids = _ids(dataset, count)
    looked = sorted({round(step * (count - 1) / max(samples - 1, 1)) for step in range(samples)})
    shown = {index: _sample(dataset, index, bands, ids[index]) for index in looked}
    _check_units(bands, [sample['image'] for sample in shown.values()])
    _check_repeatable(dataset, shown)
    _check_pickles(dataset, shown)
    _check_batches(dataset, looked[:2])


def _length(dataset: Any) -> int:  # noqa: ANN401
    for method in ('__len__', '__getitem__'):
        require(hasattr(dataset, method), f'{type(dataset).__name__} has no {method}', 'write that method')
    count = len(dataset)
    require(count > 0, 'the dataset is empty', 'raise a DatasetError that says which folder or table is')
    return count


def _ids(dataset: Any, count: int) -> list[str]:  # noqa: ANN401
    ids = getattr(dataset, 'ids', None)
    remedy = 'give it a list with one name a sample, such as the file name; splits are made of them'
    require(ids is not None, f"{type(dataset).__name__} has no attribute 'ids'", remedy)
    ids = list(ids or ())
    require(len(ids) == count, f'there are {len(ids)} ids for {count} samples', remedy)
    require(all(isinstance(name, str) for name in ids), 'ids are not all text', remedy)
    most, times = Counter(ids).most_common(1)[0]
    require(times == 1, f'id {most!r} stands for {times} samples', remedy)
    return ids


def _sample(dataset: Any, index: int, bands: tuple[str, ...], name: str) -> dict[str, Any]:  # noqa: ANN401
    sample: dict[str, Any] = dataset[index]
    where, kind = f'sample {index} ({name})', type(sample).__name__
    require(isinstance(sample, dict), f'{where} is a {kind}', "return a dict with 'image' and 'label'")
    _check_image(sample.get('image'), bands, where)
    for key, wanted in (('bands', bands), ('id', name)):
        if key in sample:
            found = tuple(sample[key]) if key == 'bands' else sample[key]
            remedy = f"return the dataset's own {'bands' if key == 'bands' else 'ids[index]'}"
            require(found == wanted, f'{where}: {key!r} is {found!r}, and the dataset has {wanted!r}', remedy)
    answers = [key for key in ('label', 'mask', 'question') if key in sample]
    require(answers, f'{where} has nothing to learn', "add 'label', 'mask', or 'question' and 'answer'")
    if 'question' in answers:
        check_question(sample, where)
    if {'label', 'mask'} & set(answers):
        task, labels = _task(dataset), sequence_of_names(dataset, 'labels', 'labels or names of values')
        if 'label' in answers:
            check_label(sample['label'], task, labels, where)
        if 'mask' in answers:
            check_mask(sample['mask'], sample['image'], len(labels), where)
    return sample


def _task(dataset: Any) -> str:  # noqa: ANN401
    task = getattr(dataset, 'task', None)
    kinds = ', '.join(map(repr, KINDS))
    require(task in KINDS, f'{type(dataset).__name__}.task is {task!r}', f'set it to one of {kinds}')
    return str(task)


def _check_image(image: Any, bands: tuple[str, ...], where: str) -> None:  # noqa: ANN401
    require(
        isinstance(image, Tensor), f"{where}: 'image' is {type(image).__name__}", 'make it a torch.Tensor'
    )
    require(
        image.dtype == torch.float32,
        f"{where}: 'image' is {image.dtype}",
        'turn it into torch.float32, with .float(), and leave its values as they are',
    )
    shape = tuple(image.shape)
    require(image.ndim == 3, f"{where}: 'image' has shape {shape}", 'make it (bands, height, width)')
    require(
        shape[0] == len(bands),
        f"{where}: 'image' has shape {shape}, and there are {len(bands)} bands",
        'put the bands first, and name in `bands` those that are in the image',
    )
    require(
        torch.isfinite(image).all(),
        f"{where}: 'image' holds NaN or infinite values",
        'leave such samples out, or fill them with a value of the data, and say so',
    )


def _check_units(bands: tuple[str, ...], images: list[Tensor]) -> None:
    """Check that images are not normalised: the task does so by the statistics that the card states."""
    remedy = "leave images in the data's own units: the task normalises them, and the card says how"
    pixels = torch.cat([image.flatten(1) for image in images], dim=1)
    spread = pixels.std(dim=1) if pixels.shape[1] > 1 else torch.zeros(len(pixels))
    mean = pixels.mean(dim=1)
    standard = (mean.abs() < 0.5) & (spread > 0.5) & (spread < 2) & (pixels.amin(dim=1) < 0)
    require(not standard.all(), 'images have mean 0 and standard deviation 1 in every band', remedy)
    scaled = set(bands) <= _STATED and pixels.max() > 0 and pixels.max() <= 1 and pixels.min() >= 0
    require(not scaled, f'images of {", ".join(bands)} lie between 0 and 1', remedy)


def _check_repeatable(dataset: Any, shown: Mapping[int, dict[str, Any]]) -> None:  # noqa: ANN401
    for index, sample in shown.items():
        again = dataset[index]
        require(
            _same(sample, again),
            f'sample {index} is another one when it is asked for again',
            'draw nothing at random in a dataset: augmentation belongs to the task',
        )
        before = again['image'].clone()
        again['image'].add_(1)
        require(
            torch.equal(dataset[index]['image'], before),
            f"sample {index} has changed after its 'image' was changed in place",
            'return a copy of pixels that are held in memory, such as with .clone()',
        )


def _check_pickles(dataset: Any, shown: Mapping[int, dict[str, Any]]) -> None:  # noqa: ANN401
    remedy = 'keep no lambdas, open files or database handles on it: open them when first read'
    try:
        other = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - made here
    except Exception as error:
        raise AssertionError(f'the dataset cannot go to a worker process ({error}): {remedy}') from error
    index = next(iter(shown))
    same = _same(shown[index], other[index])
    require(same, f'sample {index} is another one in a worker process', 'draw nothing at random in a dataset')


def _check_batches(dataset: Any, indices: list[int]) -> None:  # noqa: ANN401
    try:
        batch = next(iter(DataLoader(Subset(dataset, indices), batch_size=len(indices))))
    except Exception as error:
        raise AssertionError(
            f'samples {indices} cannot be stacked to a batch ({error}): bring images to one size, and keep '
            'the same keys with tensors, numbers or text in every sample'
        ) from error
    shape = tuple(batch['image'].shape)
    require(len(shape) == 4, f"'image' of a batch has shape {shape}", 'return single images')


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(type(one) is type(other) and one == other)


TOLERANCE = 0.02
"""Most by which scores of bundle and task may differ, which float16 weights explain."""

_EXPORTED = ('network', 'architecture', 'architecture_kwargs', 'bands', 'labels', 'task', 'mean', 'std')


def check_task(task: LightningModule, datamodule: LightningDataModule, steps: int = 40) -> None:
    """Check that a Lightning task keeps to the contract of geores; this trains it.

    One training step changes the weights; the loss is finite, and falls when one batch is shown again
    and again; validation logs figures; and the bundle that it exports loads and predicts as the task
    does. A task exports itself by a method `export_bundle(folder)`, or has what a card is made of:
    `network`, `architecture`, `architecture_kwargs`, `bands`, `labels`, `task`, `mean` and `std`. Called
    on images in the data's units it gives logits; `scores(logits)` gives what a bundle predicts.

    Args:
        task: a task that has not been trained.
        datamodule: with data for it; a few samples are enough.
        steps: how often the batch is shown.

    Raises:
        AssertionError: if a rule is broken; the message says which and what to do.
    """
    watch = OneBatch(steps)
    with _quiet():
        trainer = _trainer(callbacks=[watch], max_steps=steps, limit_val_batches=0)
        trainer.fit(task, datamodule=datamodule)
        watch.check(task)
        figures = _validated(task, datamodule)
    images = next(iter(datamodule.val_dataloader()))['image']
    require(len(figures) > 0, 'validation logs nothing', "log at least 'val/loss' in validation_step")
    for name, value in figures.items():
        finite = 'loss' not in name or np.isfinite(value)
        require(finite, f'validation logs {name} = {value}', 'look at the loss of a batch that it gives')
    _check_export(task, images)


@contextmanager
def _quiet() -> Iterator[None]:
    """Mute Lightning's notes about few workers, short epochs and other products."""
    loggers = [logging.getLogger(name) for name in ('lightning.pytorch', 'lightning.fabric')]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _trainer(**options: Any) -> Trainer:  # noqa: ANN401
    return Trainer(
        accelerator='cpu',
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def _validated(task: LightningModule, datamodule: LightningDataModule) -> Mapping[str, float]:
    try:
        return _trainer().validate(task, datamodule=datamodule, verbose=False)[0]
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise AssertionError(f'validation fails ({reason}): mend validation_step') from error


def _check_export(task: Any, images: Tensor) -> None:  # noqa: ANN401 - a task with methods of its own
    with tempfile.TemporaryDirectory() as folder:
        path = _export(task, Path(folder) / 'bundle', images.shape[-1])
        check_bundle(path)
        model = load_model(path)
    size, wanted = model.card.input_size, tuple(images.shape[-2:])
    require(
        wanted == (size, size),
        f"the card's input_size is {size}, and images of the data are {wanted[0]} x {wanted[1]}",
        'export the size that the data has, square',
    )
    with torch.inference_mode():
        task.eval()
        logits = task(images.to(task.device))
        expected = (task.scores(logits) if hasattr(task, 'scores') else logits).float().cpu().numpy()
    found = model.predict(images)
    require(
        found.shape == expected.shape,
        f'the bundle answers with shape {found.shape}, and the task with {expected.shape}',
        'give one column for each label, from task and network alike',
    )
    off = float(np.abs(found - expected).max())
    require(
        off <= TOLERANCE * max(1.0, float(np.abs(expected).max())),
        f"the bundle's scores differ from the task's by {off:.2g}",
        'let the card say how the task normalises (mean, std) and which activation its `scores` have, '
        "and take images in the data's units in forward",
    )


def _export(task: Any, folder: Path, size: int) -> Path:  # noqa: ANN401
    try:
        if hasattr(task, 'export_bundle'):
            task.export_bundle(folder)
            return folder
        missing = [name for name in _EXPORTED if not hasattr(task, name)]
        require(
            not missing,
            f'{type(task).__name__} cannot be exported, for it has no {", ".join(missing)}',
            'give it a method export_bundle(folder) that calls geores.save_bundle',
        )
        return save_bundle(folder, task.network, _card(task, size), torch.float32)
    except GeoresError as error:
        raise AssertionError(f'the task cannot be exported: {error}') from error


def _card(task: Any, size: int) -> ModelCard:  # noqa: ANN401 - whose attributes were looked for
    kwargs = {key: value for key, value in task.architecture_kwargs.items() if key != 'pretrained'}
    activation: Any = ACTIVATIONS[task.task][0]
    return ModelCard(
        name='checked',
        description='Written by check_task.',
        architecture=task.architecture,
        architecture_kwargs=kwargs,
        activation=activation,
        task=task.task,
        sensor='any',
        processing_level='any',
        bands=tuple(task.bands),
        units=Units.OTHER,
        gsd=(1.0, 1.0),
        input_size=size,
        resampling='bilinear',
        mean=tuple(task.mean.flatten().tolist()),
        std=tuple(task.std.flatten().tolist()),
        labels=tuple(task.labels),
        thresholds=(0.5,) * len(task.labels) if task.task == 'multi-label' else None,
        split_id='none',
        training_data=(DataSource(name='none', licence='none'),),
        licence='none',
        metrics={},
    )

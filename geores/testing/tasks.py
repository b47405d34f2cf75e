"""The contract of a task: it learns, it validates, and the bundle that it exports predicts as it does."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor

from geores.bundle import load_model, save_bundle
from geores.card import ModelCard
from geores.card_fields import ACTIVATIONS
from geores.card_values import DataSource, Units
from geores.errors import GeoresError
from geores.testing.checks import OneBatch, check_bundle, require

__all__ = ['check_task']

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

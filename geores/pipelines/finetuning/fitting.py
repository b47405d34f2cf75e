"""Training of a network on a part of a dataset, from a bundle's weights."""

import logging
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geores.card import ModelCard
from geores.datasets._module import ImageDataModule, LabelledImages
from geores.errors import UsageError
from geores.pipelines.finetuning.few import RATE, KeepStatistics, are_few, fit_head
from geores.splits import Split
from geores.tasks import SceneClassification
from geores.tasks.augment import Augmentation, Colour, Dihedral, Gain, RandomResizedCrop

__all__ = ['GivenSplit', 'epochs_for', 'fit', 'quiet_trainer']

# Enough steps for a trained start to settle; a small set sees its tiles more often.
STEPS = 600
EPOCHS = (10, 40)
LEARNING_RATE = 5e-4

_EXPECTED_WARNINGS = (
    'The .*dataloader.* does not have many workers',  # tiles are held in memory
    'The number of training batches',  # of a small set
    r'`isinstance\(treespec, LeafSpec\)` is deprecated',  # Lightning's own use of torch
)


class GivenSplit(ImageDataModule):
    """Serves a dataset by a split that is given.

    Args:
        dataset: Of labelled images.
        split: Of its samples.
        batch_size: Images a batch.
    """

    def __init__(self, dataset: LabelledImages, split: Split, batch_size: int) -> None:
        super().__init__(batch_size)
        self._dataset = dataset
        self._split = split

    def make_dataset(self) -> LabelledImages:
        """The dataset."""
        return self._dataset

    @cached_property
    def split(self) -> Split:
        """The split."""
        return self._split


def epochs_for(images: int, batch_size: int) -> int:
    """Epochs that suit a training part: about 600 steps, from 10 to 40 epochs.

    Args:
        images: Of the training part.
        batch_size: Images in one step.
    """
    return min(max(math.ceil(STEPS / max(images // batch_size, 1)), EPOCHS[0]), EPOCHS[1])


def fit(
    data: GivenSplit,
    card: ModelCard,
    start: str,
    *,
    epochs: int,
    learning_rate: float | None,
    seed: int,
    device: str,
    progress: Callable[[int], None],
) -> SceneClassification:
    """Train the network of a card, from a bundle's weights and with a new head.

    Pixels are normalised as the card says. With few images the head is fitted to the features first, and all
    of the network is then changed gently (`few`). The weights of the last epoch are kept: the validation part
    is not looked at.

    Args:
        data: Tiles in the card's units and bands.
        card: Of the model to be: architecture, labels, bands, mean and std, input size.
        start: Name or path of the bundle whose weights fit.
        epochs: Passes over the training part.
        learning_rate: After warm-up; None takes one that suits the number of images.
        seed: Of the head, the order and the augmentations.
        device: 'cpu', 'cuda' or 'cuda:N'.
        progress: Called with the number of tiles that were just trained on.

    Raises:
        UsageError: The weights do not fit, the network does not take tiles of that size, or training
            diverged.
        KeyboardInterrupt: Stopped by the user.
    """
    index = torch.device(device).index
    few = are_few(len(data.split.train), len(card.labels))
    learning_rate = learning_rate or (RATE if few else LEARNING_RATE)
    with torch.random.fork_rng(), quiet_trainer():
        torch.manual_seed(seed)
        task = SceneClassification(
            labels=card.labels,
            bands=card.bands,
            task='single-label',
            architecture=card.architecture,
            architecture_kwargs=card.architecture_kwargs,
            start=start,
            label_smoothing=0.1,
            class_weights='balanced',
            learning_rate=learning_rate,
            augment=_augmentations(card),
            mean=list(card.mean),
            std=list(card.std),
        )
        _try_size(task, card)
        if few:
            fit_head(task, data, device, balanced=True)
        trainer = Trainer(
            max_epochs=epochs,
            accelerator='cpu' if device == 'cpu' else 'cuda',
            devices=1 if index is None else [index],
            logger=False,
            callbacks=[_Report(progress), *([KeepStatistics()] if few else [])],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        trainer.fit(task, datamodule=data)
    if not all(torch.isfinite(weights).all() for weights in task.parameters()):
        raise UsageError(f'training diverged: choose a learning rate below {learning_rate:g}')
    return task


def _augmentations(card: ModelCard) -> list[Augmentation]:
    """Turns and scale for all; brightness where values are light. Mild, for the ground stays the same."""
    shared: list[Augmentation] = [Dihedral(), RandomResizedCrop((0.75, 1.0))]
    if card.units == '8-bit' and len(card.bands) == 3:
        return [*shared, Colour()]
    return shared if card.units == 'dB' else [*shared, Gain((0.85, 1.18), 0.05)]


def _try_size(task: SceneClassification, card: ModelCard) -> None:
    try:
        with torch.inference_mode():
            task.eval()(torch.zeros(1, len(card.bands), card.input_size, card.input_size))
    except (RuntimeError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise UsageError(
            f'{card.architecture} takes no tiles of {card.input_size} pixels: {reason}'
        ) from error
    task.train()


class _Report(Callback):
    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress = progress

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        self._progress(len(batch['image']))


@contextmanager
def quiet_trainer(expected: Sequence[str] = _EXPECTED_WARNINGS) -> Iterator[None]:
    """Keep Lightning from talking, and from turning Ctrl-C into an exit with code 1.

    Args:
        expected: Patterns of warnings that say nothing to a user.
    """
    loggers = [logging.getLogger(name) for name in ('lightning.pytorch', 'lightning.fabric')]
    levels = [logger.level for logger in loggers]
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in expected:
                warnings.filterwarnings('ignore', message)
            yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

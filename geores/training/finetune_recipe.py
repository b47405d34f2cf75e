"""Train a network on a part of a dataset, starting from a bundle's weights.

Choose between the linear start and fine-tuning by a trial on held-in training tiles.

A network that is fine-tuned on few tiles of one scene can end below the linear head that it started from
(Kumar et al. 2022, Fine-tuning can distort pretrained features and underperform out-of-distribution). More
often it ends above, and a hundred tiles are weak evidence: the linear start is kept only if clearly better.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from geores.card import ModelCard
from geores.card_values import Units
from geores.datasets import SceneTiles
from geores.datasets._module import ImageDataModule, LabelledImages
from geores.datasets.scene_tiles import BLOCK_TILES
from geores.errors import DatasetError, UsageError
from geores.splits import Split, block_split
from geores.tasks import SceneClassification
from geores.tasks.augment import Augmentation, Colour, Dihedral, RandomResizedCrop
from geores.tasks.losses import balanced_weights
from geores.training.batches import Order, serve_in_order
from geores.training.finetune_result import Choice, KeptModel, StageWork
from geores.training.linear_probe import RATE, KeepStatistics, adapt_statistics, fit_head
from geores.training.trainer import make_trainer, quiet_trainer

__all__ = [
    'GivenSplit',
    'Recipe',
    'Report',
    'begin',
    'choose',
    'clearly_better',
    'epochs_for',
    'hold_in',
    'tune',
]

Report = Callable[[int], None]

# Enough steps for a trained start to settle; a small set sees its tiles more often.
STEPS = 600
EPOCHS = (10, 40)
LEARNING_RATE = 5e-4


class GivenSplit(ImageDataModule):
    """Datamodule of a dataset with a given split.

    Args:
        dataset: dataset of labelled images.
        split: split of its samples.
        batch_size: images per batch.
    """

    def __init__(self, dataset: LabelledImages, split: Split, batch_size: int) -> None:
        super().__init__(batch_size)
        self._dataset = dataset
        self._split = split

    def make_dataset(self) -> LabelledImages:
        """The dataset."""
        return self._dataset

    def setup(self, stage: str | None = None) -> None:
        """Decode the images if they fit in memory; `plan_finetune` has checked the classes."""
        self.dataset.images.load()

    @cached_property
    def split(self) -> Split:
        """The split."""
        return self._split


def epochs_for(images: int, batch_size: int) -> int:
    """Epochs that suit a training part: about 600 steps, from 10 to 40 epochs.

    Args:
        images: images of the training part.
        batch_size: images in one step.
    """
    return min(max(math.ceil(STEPS / max(images // batch_size, 1)), EPOCHS[0]), EPOCHS[1])


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        card: card of the model to be: architecture, labels, bands, mean and std, input size.
        start: name or path of the bundle whose weights fit.
        epochs: passes over a training part.
        learning_rate: after warm-up; None takes one that suits the number of images.
        seed: seed of the head, the order and the augmentations.
        device: 'cpu', 'cuda' or 'cuda:N'.
        few: whether images are few, and statistics of batches stay as they are (`linear_probe`).
    """

    card: ModelCard
    start: str
    epochs: int
    learning_rate: float | None
    seed: int
    device: str
    few: bool

    @property
    def rate(self) -> float:
        """The learning rate after warm-up."""
        return self.learning_rate or (RATE if self.few else LEARNING_RATE)


def begin(recipe: Recipe, data: GivenSplit) -> tuple[SceneClassification, bool]:
    """Prepare a bundle's network: adapt its batch norm statistics and fit a linear head to its features.

    Args:
        recipe: network and training. Pixels are normalised as its card says.
        data: tiles in the card's units and bands; the validation part is not looked at.

    Returns:
        The task, and whether its head could be fitted (`linear_probe.fit_head`).

    Raises:
        UsageError: if the weights do not fit, or the network does not take tiles of that size.
    """
    card = recipe.card
    weights = _class_weights(data, len(card.labels))
    torch.manual_seed(recipe.seed)
    task = SceneClassification(
        labels=card.labels,
        bands=card.bands,
        task='single-label',
        architecture=card.architecture,
        architecture_kwargs=card.architecture_kwargs,
        start=recipe.start,
        label_smoothing=0.1,
        class_weights=weights,
        learning_rate=recipe.rate,
        augment=_augmentations(card),
        mean=list(card.mean),
        std=list(card.std),
    )
    _try_size(task, card)
    adapt_statistics(task, data, recipe.device)
    return task, fit_head(task, data, recipe.device, weights=weights)


def tune(
    recipe: Recipe,
    task: SceneClassification,
    data: GivenSplit,
    report: Report,
    stage: StageWork | None = None,
) -> None:
    """Train all of a network; the weights of the last epoch are kept.

    Args:
        recipe: how to train.
        task: as `begin` returns it.
        data: dataset and split; the validation part is not used.
        report: called with the number of tiles that were just trained on.
        stage: where checkpoints are kept, and taken up.

    Raises:
        UsageError: if training diverged.
        KeyboardInterrupt: if stopped by the user.
    """
    callbacks = [_Reporter(report), *([KeepStatistics()] if recipe.few else [])]
    trainer, order = make_trainer(recipe.epochs, recipe.device, callbacks), Order(recipe.seed)
    data.seed = recipe.seed
    serve_in_order(data, order)
    kept = (stage or StageWork()).keep_checkpoints(trainer, order)
    if kept is None:
        trainer.fit(task, datamodule=data)
    else:
        report(kept.step * data.batch_size)
        trainer.fit(task, datamodule=data, ckpt_path=kept.path, weights_only=True)
    if not all(torch.isfinite(weights).all() for weights in task.parameters()):
        raise UsageError(f'training diverged: choose a learning rate below {recipe.rate:g}')


def _class_weights(data: GivenSplit, labels: int) -> list[float]:
    """Square root of inverse-frequency class weights: between counting tiles and counting classes alike."""
    targets = torch.as_tensor(data.dataset.targets[data.split.train])
    return [float(weight) for weight in balanced_weights(targets, labels).sqrt()]


def _augmentations(card: ModelCard) -> list[Augmentation]:
    """Flips, turns and crops; colour jitter only for 8-bit RGB, whose radiometry is not calibrated."""
    shared: list[Augmentation] = [Dihedral(), RandomResizedCrop((0.75, 1.0))]
    return [*shared, Colour()] if card.units == Units.EIGHT_BIT and len(card.bands) == 3 else shared


def _try_size(task: SceneClassification, card: ModelCard) -> None:
    try:
        with torch.inference_mode():
            task.eval()(torch.zeros(1, len(card.bands), card.input_size, card.input_size))
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f'{card.architecture} takes no tiles of {card.input_size} pixels: {error}'
        ) from error
    task.train()


class _Reporter(Callback):
    def __init__(self, report: Report) -> None:
        self._report = report

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        self._report(len(batch['image']))


LEAST = 20
"""Fewest tiles held in that can tell."""
SHARE = 0.2


def hold_in(
    tiles: SceneTiles, split: Split, *, block_size: float | None = None, buffer: float = 0.0, seed: int = 0
) -> Split | None:
    """Split the training part geographically, to hold some of its tiles in for a trial.

    Args:
        tiles: tiles of the split.
        split: split of the tiles; its validation part is not used.
        block_size: metres of a block's side; four tiles where not given.
        buffer: metres from tiles held in within which no tile trains.
        seed: seed of the split.

    Returns:
        Positions among all tiles, those held in as `val`; None where too few could be held in, or a class
        would have no tile to train on.
    """
    places, strata = split.train, [tiles.strata[place] for place in split.train]
    bounds = tiles.bounds[places] * tiles.unit_metres
    size = BLOCK_TILES * tiles.side if block_size is None else block_size
    try:
        inner = block_split(
            [tiles.ids[place] for place in places], strata, bounds, size, SHARE, seed, buffer=buffer
        )
    except DatasetError:
        return None
    train, val = ([places[one] for one in part] for part in (inner.train, inner.val))
    seen = {tiles.strata[place] for place in train}
    return (
        None if len(val) < LEAST or seen != set(strata) else Split(train, val, inner.id, method=inner.method)
    )


def choose(
    recipe: Recipe, data: GivenSplit, inner: Split | None, report: Report, stage: StageWork | None = None
) -> tuple[SceneClassification, Choice]:
    """Fine-tune a network, or keep its linear start where that is clearly better on tiles held in.

    What is kept is then fitted anew on all of the training part. Where no tiles could be held in, or the
    network has no linear head, it is fine-tuned.

    Args:
        recipe: how to train.
        data: dataset and split; the validation part is not used.
        inner: inner of `hold_in`.
        report: called with the number of tiles that were just trained on or skipped.
        stage: where unfinished work is kept.

    Raises:
        UsageError: if the weights do not fit, the network does not take tiles of that size, or training
            diverged.
        KeyboardInterrupt: if stopped by the user.
    """
    stage = stage or StageWork()
    with torch.random.fork_rng(), quiet_trainer():
        choice = Choice() if inner is None else _try(recipe, data, inner, report, stage.part('trial'))
        task, _ = begin(recipe, data)
        if choice.kept == 'fine-tuned':
            tune(recipe, task, data, report, stage.part('whole'))
        else:
            report(recipe.epochs * len(data.split.train))
    return task, choice


def _try(recipe: Recipe, data: GivenSplit, inner: Split, report: Report, stage: StageWork) -> Choice:
    kept = stage.result('choice')
    if kept is None:
        choice = _compare(recipe, data, inner, report, stage)
        stage.keep('choice', asdict(choice))
        return choice
    report(recipe.epochs * len(inner.train))
    return Choice(**kept)


def _compare(recipe: Recipe, data: GivenSplit, inner: Split, report: Report, stage: StageWork) -> Choice:
    part = GivenSplit(data.dataset, inner, data.batch_size)
    task, fitted = begin(recipe, part)
    if not fitted:  # without a linear start there is nothing to choose
        report(recipe.epochs * len(inner.train))
        return Choice()
    linear = _right(task, part, recipe.device)
    tune(recipe, task, part, report, stage)
    tuned = _right(task, part, recipe.device)
    kept: KeptModel = 'linear start' if clearly_better(linear, tuned) else 'fine-tuned'
    return Choice(kept, len(inner.val), float(linear.mean()), float(tuned.mean()))


def clearly_better(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether one classifier beats another by more than one standard error.

    That of the difference of two shares of the same samples (McNemar 1947): only samples that one of them
    alone has right count.

    Args:
        one: (N,), whether each sample is right.
        other: (N,), likewise.
    """
    won, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return won - lost > math.sqrt(won + lost)


@torch.inference_mode()
def _right(task: SceneClassification, data: GivenSplit, device: str) -> NDArray[np.bool_]:
    """Whether each tile of the validation part is classified as labelled."""
    task.to(device).eval()
    right = [
        task(batch['image'].to(device)).argmax(1).cpu() == batch['label'] for batch in data.val_dataloader()
    ]
    task.train()
    return np.asarray(torch.cat(right).numpy())

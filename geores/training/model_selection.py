"""Choose between the linear start and fine-tuning by a trial on held-in training tiles.

A network that is fine-tuned on few tiles of one scene can end below the linear head that it started from
(Kumar et al. 2022, Fine-tuning can distort pretrained features and underperform out-of-distribution). More
often it ends above, and a hundred tiles are weak evidence: the linear start is kept only if clearly better.
"""

import math
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray

from geores.datasets import SceneTiles
from geores.datasets.scene_tiles import BLOCK_TILES
from geores.errors import DatasetError
from geores.splits import Split, block_split
from geores.tasks import SceneClassification
from geores.training.finetune_options import StageWork
from geores.training.finetune_recipe import GivenSplit, Recipe, Report, begin, tune
from geores.training.finetune_result import Choice, KeptModel
from geores.training.trainer import quiet_trainer

__all__ = ['choose', 'clearly_better', 'hold_in']

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
    return None if len(val) < LEAST or seen != set(strata) else Split(train, val, inner.id)


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

"""Baselines of scene classification on any folder with one subfolder per class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geores.errors import DatasetError, UsageError
from geores.options import takes
from geores.protocol.encoder import (
    choose_encoder,
    choose_further,
    known_dataset,
    seen_in_training,
)
from geores.protocol.experiment import FROZEN, Experiment, Progress
from geores.protocol.last_stages import split_network
from geores.protocol.options import BaselineOptions
from geores.protocol.table import BaselineTable
from geores.runtime.base import pick_device
from geores.splits import Split
from geores.splits.stratified import check_ratio, ratio_split

__all__ = ['baselines', 'draw_splits', 'plan_baselines']


@takes(BaselineOptions)
def baselines(
    folder: str | Path,
    *,
    dataset: str = 'folder',
    encoder: str = 'tf_efficientnet_lite0',
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - as below
) -> BaselineTable:
    """Measure the accuracy of simple methods on a labelled set, by the protocol of NWPU-RESISC45.

    Args:
        folder: folder with one subfolder per class, or with an `images/` that holds them.
        dataset: 'folder', or 'resisc45' for NWPU-RESISC45: its 45 classes have to be complete, ten repeats
            are the default as in the paper, and the table says what the paper reports.
        encoder: architecture of `geores.models`, or name or folder of a bundle, of deep features and
            of fine-tuning.
        weights: file of weights of an architecture, such as ImageNet's. Without weights 'deep' is
            left out and 'finetune' trains from scratch.
        mean: mean of red, green and blue, 0 to 1, that the weights were trained with; None is ImageNet's.
        std: as `mean`.
        out: folder for the results; finished runs are kept there, so that a killed command goes on.
        resume: continue unfinished work in `out`.
        overwrite: replace results in `out`.
        progress: called with each finished run, the number of finished runs and of all runs.
        **options: options of `BaselineOptions`.

    Returns:
        The table; with `out`, its files are written too.

    Raises:
        UsageError: if an option, the data or the weights are not usable as given.
        WriteError: if results cannot be written.
    """
    wanted = BaselineOptions.from_options(options)
    plan = plan_baselines(
        folder, wanted, dataset=dataset, encoder=encoder, weights=weights, mean=mean, std=std
    )
    return plan.run(out, resume=resume, overwrite=overwrite, progress=progress)


def plan_baselines(
    folder: str | Path,
    options: BaselineOptions,
    *,
    dataset: str = 'folder',
    encoder: str = 'tf_efficientnet_lite0',
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Experiment:
    """Check all of what `baselines` is given, before any work.

    Args:
        folder: as in `baselines`.
        options: methods, ratios and repeats to run.
        dataset: as in `baselines`.
        encoder: as in `baselines`.
        weights: as in `baselines`.
        mean: as in `baselines`.
        std: as in `baselines`.

    Raises:
        UsageError: if an option, the data or the weights are not usable as given.
    """
    known = known_dataset(dataset)
    repeats = options.repeats or known.repeats
    options = replace(options, repeats=repeats)
    device = pick_device(options.device)
    chosen = choose_encoder(encoder, weights, options.size, mean, std)
    further = [choose_further(one, chosen.size, mean, std) for one in options.more]
    images = known.open(folder, size=chosen.size)
    if len(images.labels) < 2:
        raise DatasetError(f'{folder}: has one class only, {images.labels[0]!r}, and two are needed')
    ids = [f'{item.scene}/{item.path.name}' for item in images.items]
    scenes = [item.scene for item in images.items]
    splits = draw_splits(ids, scenes, options.ratios, repeats, options.seed)
    known_weights = chosen.source is not None
    methods = tuple(one for one in options.methods if known_weights or one not in FROZEN)
    if not methods:
        raise UsageError(
            f'{options.methods[0]!r} needs weights of {chosen.name}: give --weights FILE, or a bundle as '
            '--encoder'
        )
    if set(methods) != {'colour'}:
        for one in (chosen, *further):
            one.network()
    if 'last' in methods:
        split_network(chosen.network())
    return Experiment(
        images,
        splits,
        chosen,
        options,
        methods,
        device,
        seen=seen_in_training(chosen.trained_on, Path(known.title or folder)),
        reported=known.reported(options.ratios),
        further=tuple(further),
    )


def draw_splits(
    ids: Sequence[str], classes: Sequence[str], ratios: Sequence[float], repeats: int, seed: int
) -> dict[tuple[float, int], Split]:
    """Draw random training and test parts by the protocol of NWPU-RESISC45 (Cheng, Han and Lu 2017).

    Each is a `ratio_split`: the training part of a small ratio is contained in that of a larger one.

    Args:
        ids: unique ids of the images.
        classes: classes of the images.
        ratios: training ratios, above 0 and below 1.
        repeats: random draws per ratio.
        seed: seed of the draws.

    Returns:
        (ratio, repeat from 0) -> the split, whose `val` is the test part.

    Raises:
        DatasetError: if a class has too few images to train on or to test on.
    """
    for ratio in ratios:
        check_ratio(classes, ratio)
    return {
        (ratio, repeat): ratio_split(ids, classes, ratio, repeat, seed)
        for ratio in ratios
        for repeat in range(repeats)
    }

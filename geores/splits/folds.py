"""Folds of cross-validation that keep groups whole and strata even."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from geores.errors import DatasetError
from geores.splits.stratified import Split, check_ids, digest, name


def group_folds(
    ids: Sequence[str], strata: Sequence[str], groups: Sequence[int], folds: int, seed: int
) -> list[Split]:
    """Splits in which each sample is kept for validation once.

    The same on every machine, whatever the order of the samples, for samples are put in the order of a
    hash of seed and id first.

    Args:
        ids: Of the samples, each another.
        strata: Such as each sample's class; folds hold about as many of each.
        groups: Samples of one group, such as near duplicates, stay in one fold.
        folds: How many, from 2 on.
        seed: Gives other folds.

    Returns:
        One split a fold; its id names folds, seed and the samples kept for validation.

    Raises:
        DatasetError: Ids are not unique, or groups are too few for so many folds.
    """
    check_ids(ids)
    if folds < 2:
        raise DatasetError(f'folds have to be 2 or more, not {folds}')
    if len(set(groups)) < folds:
        raise DatasetError(f'{len(set(groups))} groups of samples are too few for {folds} folds')
    order = np.array(sorted(range(len(ids)), key=lambda index: digest(f'{seed}:{ids[index]}')))
    _, kinds, counts = np.unique(np.asarray(strata)[order], return_inverse=True, return_counts=True)
    # What is too rare for a sample in each fold goes with the most frequent.
    kinds = np.where(counts[kinds] < folds, counts.argmax(), kinds)
    # Numbered as they come in that order, for their own numbers may depend on the samples' order.
    _, firsts, inverse = np.unique(np.asarray(groups)[order], return_index=True, return_inverse=True)
    members = firsts[inverse]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    splits = []
    for number, (train, val) in enumerate(splitter.split(order, kinds, members), 1):
        kept = sorted(order[val].tolist())
        title = f'fold{number}of{folds}-seed{seed}'
        splits.append(Split(sorted(order[train].tolist()), kept, name(title, ids, kept)))
    return splits

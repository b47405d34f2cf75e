"""Options of the baselines, and the random splits that they are trained and tested on."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from geores.errors import UsageError
from geores.options import NamedOptions
from geores.splits import Split
from geores.splits.stratified import MOST_REPEATS, check_ratio, ratio_split, split_seed

__all__ = ['METHODS', 'USUAL', 'BaselineOptions', 'Method', 'draw_splits', 'split_seed']

Method = Literal['colour', 'deep', 'finetune', 'kernel', 'last']
METHODS: tuple[Method, ...] = get_args(Method)
USUAL: tuple[Method, ...] = ('colour', 'deep', 'finetune')
"""Methods that run where none are named."""

_SIZES = (16, 1024)


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(NamedOptions):
    """Options of the baselines; `geores.baselines` explains each."""

    ratios: Sequence[float] = (0.1, 0.2)
    repeats: int = 5
    finetune_repeats: int | None = None
    methods: Sequence[str] = USUAL
    more: Sequence[str] = ()
    size: int | None = None
    epochs: int | None = None
    batch_size: int = 16
    svm_c: float | None = None
    seed: int = 0
    device: str = 'auto'
    precision: Literal['fp32', 'bf16'] = 'fp32'
    mirrored: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range before anything is opened."""
        object.__setattr__(self, 'ratios', tuple(sorted({float(ratio) for ratio in self.ratios})))
        object.__setattr__(self, 'methods', tuple(dict.fromkeys(self.methods)))
        object.__setattr__(self, 'more', tuple(self.more))
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise UsageError(f'a training ratio has to be above 0 and below 1, not {ratio:g}')
        if not self.ratios or not self.methods:
            raise UsageError('at least one training ratio and one method are needed')
        for method in self.methods:
            _check_method(method)
        if self.more and 'kernel' not in self.methods:
            raise UsageError("further encoders are for the method 'kernel': add it to the methods")
        if self.precision not in ('fp32', 'bf16'):
            raise UsageError(f'precision has to be fp32 or bf16, not {self.precision!r}')
        for name, low, high in (
            ('repeats', 1, MOST_REPEATS),
            ('finetune_repeats', 1, MOST_REPEATS),
            ('size', *_SIZES),
            ('epochs', 1, math.inf),
            ('batch_size', 2, math.inf),
            ('seed', 0, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                limit = f'{low} or more' if high == math.inf else f'from {low} to {high}'
                raise UsageError(f'{name.replace("_", " ")} has to be {limit}, not {value}')
        if self.svm_c is not None and not 0 < self.svm_c < math.inf:
            raise UsageError(f'C of the SVM has to be above 0, not {self.svm_c}')

    def repeats_of(self, method: str) -> int:
        """Number of repeats of a method per ratio."""
        fewer = self.finetune_repeats if method == 'finetune' else None
        return self.repeats if fewer is None else fewer


def _check_method(method: str) -> None:
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, n=1)
        hint = f'did you mean {near[0]!r}?' if near else f'methods are {", ".join(METHODS)}'
        raise UsageError(f'no method is named {method!r}: {hint}')


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

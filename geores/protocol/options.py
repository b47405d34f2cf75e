"""Options of `geores baselines`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from geores.errors import UsageError, did_you_mean
from geores.options import NamedOptions, option

__all__ = ['METHODS', 'REPEATS', 'USUAL', 'BaselineOptions', 'Method']

Method = Literal['colour', 'deep', 'finetune', 'kernel', 'last']
METHODS: tuple[Method, ...] = get_args(Method)
USUAL: tuple[Method, ...] = ('colour', 'deep', 'finetune')
"""Methods that run where none are named."""

REPEATS = 5
"""Random draws per ratio of a data set that states none."""
_SIZES = (16, 1024)


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(NamedOptions):
    """Options of `geores baselines` and `geores.baselines`."""

    ratios: Sequence[float] = option(
        (0.1, 0.2), 'Shares of each class to train on, by commas.', written='decimals'
    )
    repeats: int | None = option(None, "Random draws at each ratio [5, or the data set's].")
    finetune_repeats: int | None = option(None, 'Of fine-tuning, which takes longest [--repeats].')
    methods: Sequence[str] = option(
        USUAL, 'Out of colour, deep, finetune, kernel and last, by commas.', written='names'
    )
    more: Sequence[str] = option(
        (),
        'Further encoder for kernel: a bundle, or ARCHITECTURE=FILE.',
        written='again',
        metavar='NAME[=FILE]',
    )
    size: int | None = option(None, "Pixels of an image for the encoder [128, or the bundle's].")
    epochs: int | None = option(None, 'Of fine-tuning [about 600 steps, from 10 to 40 epochs].')
    batch_size: int = option(16, 'Images in a step of fine-tuning.')
    svm_c: float | None = option(None, 'C of the SVM [by cross-validation in the training part].')
    seed: int = option(0, 'Of the draws and of training.')
    device: str = option('auto', 'auto, cpu, cuda or cuda:N.')
    precision: Literal['fp32', 'bf16'] = option('fp32', 'Of features and maps: fp32, or bf16 for speed.')
    mirrored: bool = option(False, 'Features: mean over an image and its mirror image.')

    def __post_init__(self) -> None:
        """Refuse what is out of range before anything is opened."""
        from geores.splits.stratified import MOST_REPEATS  # which takes numpy

        object.__setattr__(self, 'ratios', tuple(sorted({float(ratio) for ratio in self.ratios})))
        object.__setattr__(self, 'methods', tuple(dict.fromkeys(self.methods)))
        object.__setattr__(self, 'more', tuple(self.more or ()))
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
        return fewer or self.repeats or REPEATS


def _check_method(method: str) -> None:
    if method not in METHODS:
        hint = did_you_mean(method, METHODS) or f'methods are {", ".join(METHODS)}'
        raise UsageError(f'no method is named {method!r}: {hint}')

"""What a sample has to hold to be learnt from, by the dataset's task."""

from typing import Any

import torch
from torch import Tensor

from geores.testing.require import require

__all__ = ['KINDS', 'check_label', 'check_mask', 'check_question']

KINDS = ('multi-label', 'single-label', 'regression', 'segmentation')
IGNORED = 255


def check_label(label: Any, task: str, labels: tuple[str, ...], where: str) -> None:  # noqa: ANN401
    """Check the label of a sample.

    Args:
        label: A class index, int64, -1 where unknown ('single-label'); 0 or 1 a label, float32 (K,)
            ('multi-label'); or a value each, float32 (K,), finite ('regression').
        task: Of the dataset.
        labels: Of the dataset, K.
        where: The sample, for the message.
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
        mask: Class indices, int64 (H, W), 255 where unknown.
        image: Of the sample, (C, H, W).
        count: Number of labels.
        where: The sample, for the message.
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
    """Check question and answer of a sample.

    Args:
        sample: With `question`.
        where: The sample, for the message.
    """
    for key in ('question', 'answer'):
        text = sample.get(key)
        good = isinstance(text, str) and text.strip()
        require(good, f'{where}: {key!r} is {text!r}', 'give text that is not empty')

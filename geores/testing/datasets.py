"""The contract of a dataset: what its samples hold, and how it behaves."""

import pickle
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from geores.scenes.bands import SENTINEL2_BANDS
from geores.testing.checks import KINDS, check_label, check_mask, check_question, require, sequence_of_names

__all__ = ['check_dataset']

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
        reason = ' '.join(str(error).split())
        raise AssertionError(
            f'samples {indices} cannot be stacked to a batch ({reason}): bring images to one size, and keep '
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

"""Images, read and held decoded in memory if they fit, and the base class of their datamodules.

This is the only module that imports torchgeo, whose module names move between releases.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Subset, default_collate
from torchgeo.datasets import RESISC45 as TorchgeoRESISC45  # noqa: N811
from torchgeo.datasets import NonGeoDataset

from geores.card_values import SplitParameters
from geores.datasets._checks import check_classes, say_copies
from geores.datasets._sampling import ProcessSampler, process_count
from geores.errors import DatasetError
from geores.splits import Split, group_folds, near_duplicates, read_split, stratified_split

__all__ = [
    'ImageDataModule',
    'ImageStore',
    'Images',
    'Kind',
    'LabelledImages',
    'NonGeoDataset',
    'Pixels',
    'Sample',
    'TorchgeoRESISC45',
    'collate',
    'read_rgb',
]

_BITS_PER_SAMPLE = 258
"""Tag of TIFF 6.0."""

Pixels = NDArray[Any]
"""An image as an array (C, H, W)."""


class ImageStore:
    """Images of one shape, decoded once if all of them fit in a memory budget.

    Args:
        paths: paths of the image files.
        read: function that reads a file as pixels (C, H, W).
        budget: maximum number of bytes to hold in memory.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], Pixels], budget: int = 2**31) -> None:
        self.paths = list(paths)
        self._read = read
        self._budget = budget
        self._pixels: Pixels | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        return self._read(self.paths[index]) if self._pixels is None else self._pixels[index]

    def valid(self, index: int) -> NDArray[np.bool_] | None:
        """Which pixels (H, W) of an image are valid; None where all are."""
        return None

    def load(self) -> None:
        """Decode all images if they fit in the budget.

        Raises:
            DatasetError: if an image cannot be read, or is of another shape than the first.
        """
        if self._pixels is not None or not self.paths:
            return
        first = self._read(self.paths[0])
        if first.nbytes * len(self) > self._budget:
            return
        pixels = np.empty((len(self), *first.shape), dtype=first.dtype)
        for index, path in enumerate(self.paths):
            image = self._read(path)
            if image.shape != first.shape or image.dtype != first.dtype:
                raise DatasetError(
                    f'{path}: {image.dtype} of shape {image.shape}, and {self.paths[0].name} has '
                    f'{first.dtype} of shape {first.shape}'
                )
            pixels[index] = image
        self._pixels = pixels


def read_rgb(path: Path, size: int | None = None) -> Pixels:
    """Read an 8-bit colour image.

    Args:
        path: JPEG, PNG or TIFF.
        size: height and width of the result, by area average for shrinking and bilinear otherwise.

    Returns:
        (3, H, W), uint8, red, green, blue.

    Raises:
        DatasetError: if it cannot be read, or is not 8-bit.
    """
    try:
        with Image.open(path, formats=('JPEG', 'PNG', 'TIFF')) as image:
            if image.mode not in {'RGB', 'RGBA', 'L', 'P'}:
                raise DatasetError(f'{path}: mode {image.mode}, and 8-bit colour is needed')
            if (bits := _bits(image)) > 8:  # Pillow would keep the high byte alone
                raise DatasetError(
                    f'{path}: {bits} bits a colour, and 8 are needed: stretch it first, as with '
                    '`gdal_translate -ot Byte -scale`, or take it as GeoTIFF patches'
                )
            picture = image.convert('RGB')
    except DatasetError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f'{path}: the image cannot be read: {error}') from error
    if size is not None and picture.size != (size, size):
        shrinks = min(picture.size) >= size
        method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        picture = picture.resize((size, size), method)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _bits(image: Image.Image) -> int:
    """Bits of a colour in the file of an open image, which Pillow's mode does not tell."""
    tags = getattr(image, 'tag_v2', None)
    if tags is not None:
        stated = tags.get(_BITS_PER_SAMPLE, 8)
        return int(max(stated) if isinstance(stated, tuple) else stated)
    raw = [part for tile in getattr(image, 'tile', ()) for part in np.ravel(np.array(tile[3], object))]
    return 16 if any(';16' in str(part) for part in raw) else 8


Sample = dict[str, Any]
Kind = Literal['multi-label', 'single-label', 'segmentation']


class Images(Protocol):
    """Pixels (C, H, W) by the index of their sample."""

    @property
    def paths(self) -> list[Path]:
        """Path of each sample, for messages."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int) -> Pixels:
        """Pixels of one sample."""

    def load(self) -> None:
        """Decode all of them if they fit in memory."""


class LabelledImages(Protocol):
    """A dataset that a datamodule can split."""

    bands: tuple[str, ...]
    labels: tuple[str, ...]
    ids: list[str]
    targets: NDArray[Any]

    @property
    def task(self) -> Kind:
        """Kind of labels: single-label, multi-label, or segmentation."""

    @property
    def strata(self) -> list[str]:
        """Stratum of each sample, by which splits are balanced."""

    @property
    def images(self) -> Images:
        """The pixels."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """One sample."""


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack the numbers and tensors of samples into a batch; names stay lists."""
    return {
        key: default_collate([sample[key] for sample in samples])
        if isinstance(samples[0][key], (torch.Tensor, int, float))
        else [sample[key] for sample in samples]
        for key in samples[0]
    }


class ImageDataModule(LightningDataModule):
    """Splits a dataset by strata and loads batches; in distributed training each process gets its share.

    Attributes:
        fixed_labels: whether labels are a nomenclature's, of which some may have no images.
        parts_by_image: whether parts are of single images, so that near duplicates may come into different
            parts; not so where parts are of ground.
        card_text: defaults for the card of a model that is trained on the data: `sensor`,
            `processing_level`, `units`, `gsd`, `training_data`, `licence`, `resampling`, `display_stretch`.

    Args:
        batch_size: images per batch.
        val_share: share kept for validation, in which near duplicates stay on one side; 0 trains on
            everything.
        seed: random seed of the split and of the training order, which depends on seed and epoch alone.
        num_workers: number of reader processes; 0 is best for images held in memory.
        folds: cross-validation by this many folds, in which near duplicates stay together; it takes the place
            of `val_share`.
        fold: number of the validation fold, from 1.
        split: table of ids and parts, such as `geores split` writes, that says what trains, validates and
            tests; it takes the place of `val_share` and `folds`.
    """

    fixed_labels: ClassVar[bool] = False
    parts_by_image: ClassVar[bool] = True

    @property
    def card_text(self) -> Mapping[str, Any]:
        """Empty; subclasses say what they know."""
        return {}

    def __init__(
        self,
        batch_size: int = 64,
        val_share: float = 0.2,
        seed: int = 0,
        num_workers: int = 0,
        folds: int | None = None,
        fold: int = 1,
        split: str | None = None,
    ) -> None:
        super().__init__()
        if split is not None and folds is not None:
            raise DatasetError(
                f'folds and split ({split}) do not go together: the parts would be the same in every '
                'fold; leave one of them out'
            )
        self.batch_size = batch_size
        self.val_share = val_share
        self.seed = seed
        self.num_workers = num_workers
        self.folds = folds
        self.fold = fold
        self.split_file = split

    def make_dataset(self) -> LabelledImages:
        """Index the files; no image is decoded yet."""
        raise NotImplementedError

    @cached_property
    def dataset(self) -> LabelledImages:
        """The whole dataset."""
        return self.make_dataset()

    @cached_property
    def split(self) -> Split:
        """Indices of training, validation and test samples."""
        data = self.dataset
        known = [index for index, target in enumerate(data.targets) if np.all(target >= 0)]
        if self.split_file is not None:
            given, labelled = read_split(self.split_file).for_ids(data.ids), set(known)
            val, test = ([index for index in part if index in labelled] for part in (given.val, given.test))
            return Split(given.train, val, given.id, tuple(test), given.method)
        split = self._divide(known)
        unlabelled = set(range(len(data))) - set(known)
        if unlabelled and split.val and self.parts_by_image:  # a teacher would answer for copies
            kept = {self.groups[known[index]] for index in split.val}
            unlabelled = {index for index in unlabelled if self.groups[index] not in kept}
        train = sorted({known[index] for index in split.train} | unlabelled)
        val = [known[index] for index in split.val]
        return Split(train, val, split.id, method=split.method)

    @cached_property
    def groups(self) -> list[int]:
        """Group of each sample: near duplicates share one."""
        images = self.dataset.images
        images.load()
        found: list[int] = near_duplicates(images[index] for index in range(len(images))).tolist()
        return found

    def _divide(self, known: list[int]) -> Split:
        """Split the labelled samples; indices count among them."""
        data = self.dataset
        ids, strata = ([values[index] for index in known] for values in (data.ids, data.strata))
        if self.folds is None:
            if self.val_share == 0:
                everything = SplitParameters(method='everything')
                return Split(list(range(len(ids))), [], 'everything', method=everything)
            groups = [self.groups[index] for index in known] if self.parts_by_image else None
            return stratified_split(ids, strata, self.val_share, self.seed, groups)
        if not 1 <= self.fold <= self.folds:
            raise DatasetError(f'fold has to be from 1 to {self.folds}, not {self.fold}')
        groups = [self.groups[index] for index in known]
        return group_folds(ids, strata, groups, self.folds, self.seed)[self.fold - 1]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of targets."""
        return self.dataset.labels

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands in the order of images."""
        return self.dataset.bands

    @property
    def task(self) -> Kind:
        """Kind of labels: single-label, multi-label, or segmentation."""
        return self.dataset.task

    def setup(self, stage: str | None = None) -> None:
        """Split, decode the images if they fit in memory, and check what is trained on.

        Args:
            stage: stage of Lightning; before 'fit' and None the classes are checked.

        Raises:
            DatasetError: if there is one class alone, or one without training images.
        """
        data = self.dataset
        data.images.load()
        split = self.split
        if stage not in {None, 'fit'}:
            return
        self.check_labels()
        if self.parts_by_image and split.val:
            say_copies(data.ids, self.groups, split)

    def check_labels(self) -> None:
        """Check that there is something to tell apart, and that every label can be learnt.

        Raises:
            DatasetError: if there is one class alone, or one without training images.
        """
        if self.task in {'single-label', 'multi-label'}:
            check_classes(self.labels, self.dataset.targets, self.split, fixed=self.fixed_labels)
        elif self.task == 'segmentation' and len(self.labels) < 2:
            raise DatasetError(
                f'all pixels are of one class ({", ".join(self.labels)}): label another one too'
            )

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each band over the training images' valid pixels, in their units."""
        total = np.zeros((2, len(self.bands)))
        known = getattr(self.dataset.images, 'valid', None)  # stores of other packages may have none
        for index in self.split.train:
            pixels = self.dataset.images[index].astype(np.float64)
            valid = known(index) if known is not None else None
            if valid is not None:
                pixels = pixels[:, valid][:, None]
            total += pixels.mean((1, 2)), (pixels**2).mean((1, 2))
        mean, square = total / len(self.split.train)
        return mean.tolist(), np.sqrt(np.maximum(square - mean**2, 1e-12)).tolist()

    @property
    def train_targets(self) -> torch.Tensor:
        """Targets of the labelled training images: (N, K) float32 or (N,) int64."""
        targets = torch.from_numpy(self.dataset.targets[self.split.train])
        return targets[(targets >= 0) if targets.ndim == 1 else (targets >= 0).all(1)]

    def train_dataloader(self) -> DataLoader[Sample]:
        """Training batches, in another order each epoch."""
        batch = min(self.batch_size, max(len(self.split.train) // process_count(), 1))
        return self._loader(self.split.train, batch, shuffle=True)

    def val_dataloader(self) -> DataLoader[Sample] | list[Sample]:
        """Validation batches; none where everything is trained on."""
        if not self.split.val:
            return []
        return self._loader(self.split.val, self.batch_size, shuffle=False)

    def test_dataloader(self) -> DataLoader[Sample] | list[Sample]:
        """Test batches; none where the split has no test part."""
        if not self.split.test:
            return []
        return self._loader(list(self.split.test), self.batch_size, shuffle=False)

    def _loader(self, indices: list[int], batch_size: int, *, shuffle: bool) -> DataLoader[Sample]:
        several = shuffle or process_count() > 1
        sampler = ProcessSampler(len(indices), shuffle=shuffle, seed=self.seed) if several else None
        return DataLoader(
            Subset(self.dataset, indices),  # type: ignore[arg-type]
            batch_size,
            sampler=sampler,
            drop_last=shuffle,
            num_workers=self.num_workers,
            collate_fn=collate,
        )

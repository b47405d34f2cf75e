"""Lightning datamodule of RSVQA."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from geores.card_values import SplitParameters
from geores.datasets._rsvqa_loading import QuestionBatches, QuestionSampler, Turning, load
from geores.datasets._rsvqa_split import (
    near_any,
    official_split,
    split_by_image,
    split_by_location,
)
from geores.datasets.rsvqa import RSVQA
from geores.errors import DatasetError
from geores.splits import Split
from geores.vqa.answers import AnswerVocabulary, Style, Variant

__all__ = ['RSVQADataModule']

Sample = dict[str, Any]
TESTS = ('test', 'test_phili')


class RSVQADataModule(LightningDataModule):
    """Training, validation and test parts of `RSVQA`, split by image.

    A batch is one of `RSVQA.batch` with `label` (Q,), the class of each answer in `vocabulary`: 0 for an
    answer that the training part never gives. Such questions stay in, and `unknown` counts them. Training
    batches have `number` (Q,) too: 449 where `label` is that of its bin, NaN where the answer is none.

    Args:
        root: as in `RSVQA`.
        variant: 'lr', 'hr' or 'xben'.
        answers: names of the bins, 'official' or 'paper'.
        split: 'official' takes the files' own; 'location' keeps places for validation, so that images that
            adjoin or overlap are never on two sides; 'image' keeps images, wherever they lie.
        generated: more folders in the same layout to train on; of official splits the training part alone.
            Images that overlap or adjoin one of validation or test, or lie within the buffer, are left out
            (`left_out` of them).
        batch_size: images per batch with their questions; without `by_image`, questions per batch.
        by_image: batches of whole images; else of questions of any images.
        questions_per_image: most questions of a training image in an epoch, others each time.
        classes: most classes of answers, the most frequent; None keeps all.
        turning: training images turned at random: 'none', 'guard' (not where a question names a side) or
            'words' (questions turn along).
        with_images: decode images; off where features were computed before (`image_number` says which).
        val_share: share of the places, or of the images, kept for validation; 0 trains on everything.
        buffer: minimum gap between training and validation images, in metres on the ground.
        seed: random seed of the split.
        questions_only: those of the folders whose images are not those of their questions, or are to teach
            nothing: their questions alone are learnt (`unseen` of a batch says so of each image).
        folds: cross-validation in this many folds, of places or of images, instead of `val_share`.
        fold: number of the validation fold, from 1.
        size: height and width to bring images to.
        num_workers: number of reader processes; 0 is best for images held in memory.
        budget: maximum number of bytes of images to hold in memory.

    Raises:
        DatasetError: if an argument is none of its choices, or a folder of `questions_only` is not read.
    """

    def __init__(
        self,
        root: str | list[str],
        variant: Variant = 'lr',
        answers: Style = 'official',
        split: Literal['official', 'location', 'image'] = 'official',
        generated: list[str] | None = None,
        batch_size: int = 8,
        by_image: bool = True,
        questions_per_image: int | None = None,
        classes: int | None = None,
        turning: Turning = 'none',
        with_images: bool = True,
        val_share: float = 0.2,
        buffer: float = 0.0,
        seed: int = 0,
        questions_only: list[str] | None = None,
        folds: int | None = None,
        fold: int = 1,
        size: int | None = None,
        num_workers: int = 0,
        budget: int = 2**31,
    ) -> None:
        super().__init__()
        _check_choice('split', split, ('official', 'location', 'image'))
        _check_choice('turning', turning, get_args(Turning))
        _check_counts(batch_size=batch_size, questions_per_image=questions_per_image, classes=classes)
        self.roots = [root] if isinstance(root, str) else list(root)
        self.generated = list(generated or ())
        self.questions_only = list(questions_only or ())
        _check_among('questions_only', self.questions_only, [*self.roots, *self.generated])
        self.variant, self.answers, self.size, self.budget = variant, answers, size, budget
        self.split_by, self.val_share, self.buffer, self.seed = split, val_share, buffer, seed
        self.folds, self.fold = folds, fold
        self.batch_size, self.by_image, self.questions_per_image = batch_size, by_image, questions_per_image
        self.classes, self.turning, self.with_images = classes, turning, with_images
        self.num_workers = num_workers
        self.left_out = 0

    @property
    def card_text(self) -> Mapping[str, Any]:
        """Defaults for 8-bit images of the variant."""
        aerial = self.variant == 'hr'
        return {
            'sensor': 'Aerial imagery, true colour' if aerial else 'Sentinel-2 MSI, true colour',
            'processing_level': '8-bit true colour',
            'units': '8-bit',
            'gsd': (0.1, 0.3) if aerial else (8, 12),
            'display_stretch': (2, 98),
        }

    @cached_property
    def dataset(self) -> RSVQA:
        """All questions, those of `generated` last."""
        roots = [*self.roots, *self.generated]
        return RSVQA(roots, self.variant, answers=self.answers, size=self.size, budget=self.budget)

    @cached_property
    def split(self) -> Split:
        """Indices of training and validation images in the dataset.

        Raises:
            DatasetError: if the files have no official split, or places are unknown or too few.
        """
        data = self.dataset
        tests = {image for part in TESTS for image in self.images_of(part)}
        added = self._generated
        own = [one for one in range(len(data.entries)) if one not in tests and one not in added]
        generated = {one for one in added if data.image_splits[one] in {'train', ''}}
        split = self._divide(own)
        train, val = ([own[place] for place in part] for part in split[:2])
        moved = sorted(generated) + (train if self.split_by == 'location' else [])
        near = self._near(moved, [*val, *sorted(tests)])
        self.left_out = len(near)
        kept = [one for one in [*train, *sorted(generated)] if one not in near]
        more = f'-generated{len(generated - near)}' if added else ''
        return Split(kept, val, f'{split.id}{more}', method=split.method)

    def images_of(self, part: str) -> list[int]:
        """Indices of the images of an official part, without those of `generated`."""
        splits, added = self.dataset.image_splits, self._generated
        return [number for number, name in enumerate(splits) if name == part and number not in added]

    @cached_property
    def vocabulary(self) -> AnswerVocabulary:
        """Classes of the training part's answers."""
        answers = self.dataset.answers
        return AnswerVocabulary.from_training(
            (answers[index] for index in self.questions(self.split.train)), self.classes
        )

    @property
    def unknown(self) -> Counter[str]:
        """Count the validation answers that have no class."""
        return self.vocabulary.unknown(
            self.dataset.answers[index] for index in self.questions(self.split.val)
        )

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands in the order of images."""
        return self.dataset.bands

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each band over the training images that are seen, 0 to 255."""
        total = np.zeros((2, len(self.bands)))
        seen = [number for number in self.split.train if number not in self.unseen] or self.split.train
        for number in seen:
            pixels = self.dataset.image(number).double()
            total += pixels.mean((1, 2)).numpy(), (pixels**2).mean((1, 2)).numpy()
        mean, square = total / len(seen)
        return mean.tolist(), np.sqrt(np.maximum(square - mean**2, 1e-12)).tolist()

    def questions(self, images: Sequence[int]) -> list[int]:
        """Indices of the questions on some images."""
        return [index for number in images for index in self.dataset.questions_of[number]]

    def setup(self, stage: str | None = None) -> None:
        """Split, and decode the images if they are wanted and fit in memory."""
        self.split  # noqa: B018
        if self.with_images:
            self.dataset.images.load()

    def train_dataloader(self) -> DataLoader[Sample]:
        """Training batches, in another order each epoch."""
        return self._loader(self.split.train, train=True)

    def val_dataloader(self) -> DataLoader[Sample] | list[Sample]:
        """All questions of the validation images; none where everything is trained on."""
        return self._loader(self.split.val) if self.split.val else []

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """All questions of each official test part that is there: 'test', then 'test_phili'."""
        parts = [self.images_of(part) for part in TESTS]
        return [self._loader(part) for part in parts if part]

    def _loader(self, images: Sequence[int], *, train: bool = False) -> DataLoader[Sample]:
        turning: Turning = self.turning if train else 'none'
        sampler = QuestionSampler(
            [self.dataset.questions_of[number] for number in images],
            self.batch_size,
            by_image=self.by_image,
            per_image=self.questions_per_image if train else None,
            shuffle=train,
        )
        batches = QuestionBatches(
            self.dataset,
            self.vocabulary,
            turning,
            with_images=self.with_images,
            unseen=self.unseen,
            with_numbers=train,
        )
        return load(batches, sampler, self.num_workers)

    @cached_property
    def unseen(self) -> set[int]:
        """Images that are not shown: only their questions are learnt."""
        return self._of(self.questions_only)

    @cached_property
    def _generated(self) -> set[int]:
        return self._of(self.generated)

    def _of(self, folders: Sequence[str]) -> set[int]:
        names = _names(folders)
        return {number for number, name in enumerate(self.dataset.image_sources) if name in names}

    def _divide(self, own: list[int]) -> Split:
        """Split the images of `root`; indices count among them."""
        data = self.dataset
        if self.split_by == 'official':
            tested = any(self.images_of(part) for part in TESTS)
            return official_split([data.image_splits[number] for number in own], tested=tested)
        if self.folds is None and self.val_share == 0:
            return Split(list(range(len(own))), [], 'everything', method=SplitParameters(method='everything'))
        ids = [data.image_ids[number] for number in own]
        strata = [self._stratum(number) for number in own]
        if self.split_by == 'image':
            return split_by_image(ids, strata, self.val_share, self.seed, folds=self.folds, fold=self.fold)
        return split_by_location(
            ids,
            strata,
            data.bounds[own],
            self.val_share,
            self.seed,
            buffer=self.buffer,
            folds=self.folds,
            fold=self.fold,
        )

    def _stratum(self, number: int) -> str:
        """Answer to the rural/urban question on an image, '' if it is not asked."""
        data = self.dataset
        asked = (index for index in data.questions_of[number] if data.question_types[index] == 'rural_urban')
        return next((data.answers[index] for index in asked), '')

    def _near(self, images: list[int], held: list[int]) -> set[int]:
        if not images or not held:
            return set()
        bounds = self.dataset.bounds
        close = near_any(bounds[images], bounds[held], self.buffer)
        return {number for number, near in zip(images, close, strict=True) if near}


def _names(folders: Sequence[str]) -> set[str]:
    return {Path(folder).resolve().name for folder in folders}


def _check_among(argument: str, folders: Sequence[str], known: Sequence[str]) -> None:
    for folder in folders:
        if not _names([folder]) <= _names(known):
            raise DatasetError(f'{argument}: {folder} is none of the folders of root and generated')


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise DatasetError(f'{name} has to be one of {", ".join(choices)}, not {value!r}')


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise DatasetError(f'{name} has to be 1 or more, not {count}')

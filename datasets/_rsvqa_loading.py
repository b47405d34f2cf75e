"""Batches of questions in which each image comes once, whatever number of questions it has."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from geores.datasets._rsvqa_turns import TURNS, Turning, names_side, turn_image, turn_question
from geores.vqa.answers import AnswerVocabulary

if TYPE_CHECKING:
    from geores.datasets.rsvqa import RSVQA

__all__ = ['QuestionBatches', 'QuestionSampler', 'load']

Sample = dict[str, Any]
Item = TypeVar('Item')


class QuestionSampler(Sampler[list[int]]):
    """Draws the questions of each batch.

    Args:
        questions_of: Positions of the questions, a list an image.
        batch_size: Images a batch, or questions where `by_image` is off.
        by_image: Batches of images with their questions; else of questions of any images, as Lobry et al.
            2020 train.
        per_image: Most questions of an image in an epoch, others each time; None takes all.
        shuffle: Another order each epoch, by torch's generator.
    """

    def __init__(
        self,
        questions_of: Sequence[Sequence[int]],
        batch_size: int,
        *,
        by_image: bool = True,
        per_image: int | None = None,
        shuffle: bool = False,
    ) -> None:
        self.questions_of = [list(some) for some in questions_of if some]
        self.batch_size = batch_size
        self.by_image = by_image
        self.per_image = per_image
        self.shuffle = shuffle

    def __len__(self) -> int:
        counts = [len(some[: self.per_image]) for some in self.questions_of]
        return -(-(len(counts) if self.by_image else sum(counts)) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        drawn = [self._draw(some) for some in self._ordered(self.questions_of)]
        if self.by_image:
            for start in range(0, len(drawn), self.batch_size):
                yield [index for some in drawn[start : start + self.batch_size] for index in some]
            return
        indices = self._ordered([index for some in drawn for index in some])
        for start in range(0, len(indices), self.batch_size):
            yield indices[start : start + self.batch_size]

    def _draw(self, some: list[int]) -> list[int]:
        return some if self.per_image is None else self._ordered(some)[: self.per_image]

    def _ordered(self, items: Sequence[Item]) -> list[Item]:
        order = torch.randperm(len(items)).tolist() if self.shuffle else range(len(items))
        return [items[place] for place in order]


class QuestionBatches(Dataset[Sample]):
    """A dataset of whole batches, for a sampler that gives lists of positions.

    Args:
        questions: Where the questions come from.
        vocabulary: Classes of answers: `label` (Q,) int64, 0 for an answer that training never gave.
        turning: How images and questions are turned at random; `turn` (N,) then says by which turn.
        with_images: Decode the images.
        unseen: Positions of images that are not to be looked at; where there are any, `unseen` (N,) says so.
    """

    def __init__(
        self,
        questions: 'RSVQA',
        vocabulary: AnswerVocabulary,
        turning: Turning = 'none',
        *,
        with_images: bool = True,
        unseen: Collection[int] = (),
    ) -> None:
        self.questions = questions
        self.unseen = unseen
        self.vocabulary = vocabulary
        self.turning: Turning = turning
        self.with_images = with_images

    def __getitem__(self, indices: Sequence[int]) -> Sample:
        batch = self.questions.batch(indices, with_images=self.with_images)
        batch['label'] = torch.tensor(self.vocabulary.indices(batch['answer']))
        if self.unseen:
            numbers = batch['image_number'].tolist()
            batch['unseen'] = torch.tensor([number in self.unseen for number in numbers])
        return batch if self.turning == 'none' else self._turned(batch)

    def _turned(self, batch: Sample) -> Sample:
        """Each image by a turn drawn at random, or left where a question of it cannot follow."""
        height, width = self.questions.image_shape[1:]
        step = 1 if height == width else 2  # a quarter turn of an oblong image has another shape
        mine: dict[int, list[int]] = defaultdict(list)
        for place, image in enumerate(batch['image_index'].tolist()):
            mine[image].append(place)
        batch['turn'] = torch.zeros(len(mine), dtype=torch.int64)
        for image, places in mine.items():
            turn = step * int(torch.randint(TURNS // step, ()))
            turned = [self._follow(batch['question'][place], turn) for place in places]
            if any(text is None for text in turned):
                continue
            batch['turn'][image] = turn
            for place, text in zip(places, turned, strict=True):
                batch['question'][place] = text
            if self.with_images:
                batch['image'][image] = turn_image(batch['image'][image], turn)
        return batch

    def _follow(self, question: str, turn: int) -> str | None:
        if self.turning == 'guard':
            return None if names_side(question) else question
        return turn_question(question, turn)


def load(batches: QuestionBatches, sampler: QuestionSampler, workers: int) -> DataLoader[Sample]:
    """A loader of whole batches.

    Args:
        batches: Made of positions.
        sampler: Gives the positions of each batch.
        workers: Processes that read.
    """
    return DataLoader(batches, batch_size=None, sampler=sampler, num_workers=workers)

"""Load batches of RSVQA: images in 8-bit colour, random turns, and questions grouped by image.

A turned image changes the answer of 'How many roads are at the top of a river?'. Lobry et al. 2020 do not
turn images with such questions. The alternative here turns the words along: after a quarter turn to the left,
what was at the top is on the left. The answer stays true, and no question is lost to augmentation.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from geores.datasets._sampling import process_count
from geores.datasets.rsvqa import RSVQA
from geores.errors import DatasetError
from geores.vqa.answers import AnswerVocabulary

__all__ = [
    'TURNS',
    'QuestionBatches',
    'QuestionSampler',
    'Turning',
    'load',
    'names_side',
    'turn_image',
    'turn_question',
]

Turning = Literal['none', 'guard', 'words']
"""No turns; no turn if a question names a side; words turned along."""
TURNS = 8
"""0 to 3 quarter turns to the left, and the same after mirroring left to right."""
_CIRCLE = ('top', 'left', 'bottom', 'right')  # a quarter turn to the left brings each to the next
_PLACED = {'top': 'at the top', 'left': 'on the left', 'bottom': 'at the bottom', 'right': 'on the right'}
_PHRASE = re.compile(r'\b(?:at|on) the (top|left|bottom|right)(?= of\b)')
_SIDES = re.compile(
    r'\b(top|bottom|left|right|above|below|beneath|under|over|upper|lower|uppermost|lowermost|leftmost|'
    r'rightmost|(?:north|south)(?:east|west)?(?:ern)?|(?:east|west)(?:ern)?)\b'
)
Sample = dict[str, Any]
Item = TypeVar('Item')


def names_side(question: str) -> bool:
    """Whether a question names a side or direction, so that turns change its answer."""
    return _SIDES.search(question.lower()) is not None


def turn_image(image: Tensor, turn: int) -> Tensor:
    """Mirror and turn an image or a feature map, (..., H, W).

    Args:
        image: square, if it is to keep its shape.
        turn: 0 to 7: quarter turns to the left, from 4 on of the image mirrored left to right first.

    Raises:
        DatasetError: if there is no such turn.
    """
    _check(turn)
    mirrored = image.flip(-1) if turn >= 4 else image
    return torch.rot90(mirrored, turn % 4, (-2, -1))


def turn_question(question: str, turn: int) -> str | None:
    """Reword a question so that its answer stays true on the turned image.

    Returns:
        The question; None where it names a side in words that cannot be turned.

    Raises:
        DatasetError: if there is no such turn.
    """
    _check(turn)
    if turn == 0 or not names_side(question):
        return question
    if names_side(_PHRASE.sub('', question)):
        return None
    return _PHRASE.sub(lambda match: _PLACED[_turned(match[1], turn)], question)


def _turned(side: str, turn: int) -> str:
    mirrored = {'left': 'right', 'right': 'left'}.get(side, side) if turn >= 4 else side
    return _CIRCLE[(_CIRCLE.index(mirrored) + turn) % 4]


def _check(turn: int) -> None:
    if turn not in range(TURNS):
        raise DatasetError(f'turn has to be from 0 to {TURNS - 1}, not {turn!r}')


class QuestionSampler(DistributedSampler[list[int]]):
    """Sampler of the questions in each batch; in distributed training, in each batch of this process.

    All processes then draw the same batches, by seed and epoch, and take turns. Evaluation takes every
    question once; training drops batches that would leave a process without one.

    Args:
        questions_of: positions of the questions, a list an image.
        batch_size: images per batch; without `by_image`, questions per batch.
        by_image: batches of images with their questions; else of questions of any images, as Lobry et al.
            2020 train.
        per_image: most questions of an image in an epoch, others each time; None takes all.
        shuffle: another order each epoch, by torch's generator; with several processes by one of their own.
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
        processes = process_count()
        rank = distributed.get_rank() if processes > 1 else 0
        super().__init__([], processes, rank, shuffle)  # type: ignore[arg-type]
        self.questions_of = [list(some) for some in questions_of if some]
        self.batch_size, self.by_image, self.per_image = batch_size, by_image, per_image
        if processes > 1 and not shuffle:  # no process may be left without a batch
            items = len(self.questions_of) if by_image else sum(map(len, self.questions_of))
            self.batch_size = max(1, min(batch_size, items // processes))

    def __len__(self) -> int:
        counts = [len(some[: self.per_image]) for some in self.questions_of]
        count = -(-(len(counts) if self.by_image else sum(counts)) // self.batch_size)
        return len(range(self.rank, self._shared(count), self.num_replicas))

    def __iter__(self) -> Iterator[list[int]]:
        apart = torch.Generator().manual_seed(self.seed + self.epoch) if self.num_replicas > 1 else None
        batches = list(self._batches(apart))
        return iter(batches[self.rank : self._shared(len(batches)) : self.num_replicas])

    def _shared(self, count: int) -> int:
        """Number of batches that the processes share."""
        return count - count % self.num_replicas if self.shuffle else count

    def _batches(self, generator: torch.Generator | None) -> Iterator[list[int]]:
        drawn = [self._draw(some, generator) for some in self._ordered(self.questions_of, generator)]
        if not self.by_image:
            drawn = [[index] for index in self._ordered(list(chain.from_iterable(drawn)), generator)]
        for start in range(0, len(drawn), self.batch_size):
            yield list(chain.from_iterable(drawn[start : start + self.batch_size]))

    def _draw(self, some: list[int], generator: torch.Generator | None) -> list[int]:
        return some if self.per_image is None else self._ordered(some, generator)[: self.per_image]

    def _ordered(self, items: Sequence[Item], generator: torch.Generator | None) -> list[Item]:
        if not self.shuffle:
            return list(items)
        return [items[place] for place in torch.randperm(len(items), generator=generator).tolist()]


class QuestionBatches(Dataset[Sample]):
    """A dataset of whole batches, for a sampler that gives lists of positions.

    Args:
        questions: dataset of the questions.
        vocabulary: classes of answers: `label` (Q,) int64, 0 for an answer that training never gave.
        turning: random turns of images and questions; `turn` (N,) then holds the turn of each image.
        with_images: decode the images.
        unseen: positions of images that are not to be looked at; where there are any, `unseen` (N,) says so.
        with_numbers: give `number` (Q,), exact answers to learn from, NaN where there is none: in training.
    """

    def __init__(
        self,
        questions: RSVQA,
        vocabulary: AnswerVocabulary,
        turning: Turning = 'none',
        *,
        with_images: bool = True,
        unseen: Collection[int] = (),
        with_numbers: bool = False,
    ) -> None:
        self.questions, self.vocabulary, self.unseen = questions, vocabulary, unseen
        self.turning: Turning = turning
        self.with_images, self.with_numbers = with_images, with_numbers

    def __getitem__(self, indices: Sequence[int]) -> Sample:
        batch = self.questions.batch(indices, with_images=self.with_images)
        batch['label'] = torch.tensor(self.vocabulary.indices(batch['answer']))
        if self.with_numbers:
            batch['number'] = self.questions.numbers[list(indices)]
        if self.unseen:
            numbers = batch['image_number'].tolist()
            batch['unseen'] = torch.tensor([number in self.unseen for number in numbers])
        return batch if self.turning == 'none' else self._turned(batch)

    def _turned(self, batch: Sample) -> Sample:
        """Turn each image at random, unless one of its questions cannot be reworded."""
        height, width = self.questions.image_shape[1:]
        step = 1 if height == width else 2  # a quarter turn changes the shape of an oblong image
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
    """Make a data loader of whole batches."""
    return DataLoader(batches, batch_size=None, sampler=sampler, num_workers=workers)

"""Flips and quarter turns of images that keep answers true.

A turned image changes the answer of 'How many roads are at the top of a river?'. Lobry et al. 2020 leave
images of such questions as they are. The other way is to turn the words along: what lay at the top of
something lies on its left after a quarter turn to the left. That changes neither the objects counted nor the
answer, and no question is lost to augmentation.
"""

import re
from typing import Literal

import torch
from torch import Tensor

from geores.errors import DatasetError

__all__ = ['TURNS', 'Turning', 'names_side', 'turn_image', 'turn_question']

Turning = Literal['none', 'guard', 'words']
"""No turns; none where a question names a side; words turned along."""

TURNS = 8
"""Quarter turns 0 to 3 to the left, and the same of the image mirrored left to right."""

_CIRCLE = ('top', 'left', 'bottom', 'right')  # a quarter turn to the left brings each to the next
_PLACED = {'top': 'at the top', 'left': 'on the left', 'bottom': 'at the bottom', 'right': 'on the right'}
_PHRASE = re.compile(r'\b(?:at|on) the (top|left|bottom|right)(?= of\b)')
_SIDES = re.compile(
    r'\b(top|bottom|left|right|above|below|beneath|under|over|upper|lower|uppermost|lowermost|leftmost|'
    r'rightmost|(?:north|south)(?:east|west)?(?:ern)?|(?:east|west)(?:ern)?)\b'
)


def names_side(question: str) -> bool:
    """Whether a question speaks of a side or a direction, so that turns change its answer."""
    return _SIDES.search(question.lower()) is not None


def turn_image(image: Tensor, turn: int) -> Tensor:
    """Mirror and turn an image or a feature map.

    Args:
        image: (..., H, W); square, if it is to keep its shape.
        turn: 0 to 7: quarter turns to the left, from 4 on of the image mirrored left to right first.

    Raises:
        DatasetError: There is no such turn.
    """
    _check(turn)
    mirrored = image.flip(-1) if turn >= 4 else image
    return torch.rot90(mirrored, turn % 4, (-2, -1))


def turn_question(question: str, turn: int) -> str | None:
    """The question on the turned image that has the same answer.

    Args:
        question: In words of RSVQA.
        turn: As in `turn_image`.

    Returns:
        The question; None where it names a side in words that cannot be turned.

    Raises:
        DatasetError: There is no such turn.
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

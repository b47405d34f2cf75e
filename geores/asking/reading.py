"""Answers of every tile to any number of questions, from features that were kept."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.asking.combine import Ownership
from geores.asking.readings import AnswerTable, Readings
from geores.inference.store import Arrays

if TYPE_CHECKING:
    from geores.classification.scored import Scored

__all__ = ['TileModel', 'ownership', 'pixel_area', 'read_tiles']

TILES = 256
"""Most tiles that are answered about at once."""
QUESTIONS = 256
"""Most questions that are asked of them at once."""
FEATURE_BYTES = 128 * 2**20


class TileModel(Protocol):
    """What answers about tiles; `geores.vqa.model.VQAModel` does."""

    def probabilities(self, features: Tensor, questions: Sequence[str]) -> Tensor:
        """(N, Q, K) of features (N, D, h, w) and Q questions."""


def read_tiles(
    result: 'Scored', model: TileModel, table: AnswerTable, asked: Sequence[tuple[str, str]]
) -> list[Readings]:
    """Ask every seen tile.

    Args:
        result: Whose store holds features.
        model: Of the features.
        table: Of its answers.
        asked: Wording and type of each question.

    Returns:
        A `Readings` each, over all tiles of the plan in row-major order.
    """
    readings = [table.empty(result.plan.tiling.count, kind) for _, kind in asked]
    for tiles, features in _batches(result):
        for start in range(0, len(asked), QUESTIONS):
            part = asked[start : start + QUESTIONS]
            scores = model.probabilities(features, [text for text, _ in part]).numpy()
            for place, (_, kind) in enumerate(part):
                readings[start + place].put(tiles, table.read(scores[:, place], kind))
    return readings


def _batches(result: 'Scored') -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Seen tiles of neighbouring chunks together: numbers in row-major order, and features."""
    held: list[tuple[NDArray[np.int64], NDArray[np.float16]]] = []
    numbers = np.arange(result.plan.tiling.count).reshape(result.plan.tiling.shape)
    for chunk in result.plan:
        arrays = result.store.get(chunk.index)
        tiles = numbers[chunk.rows, chunk.cols][arrays['scores'][..., 0] > 0]
        most = max(1, min(TILES, FEATURE_BYTES // max(arrays['features'][:1].nbytes, 1)))
        for start in range(0, len(tiles), most):
            held.append((tiles[start : start + most], arrays['features'][start : start + most]))
            if sum(len(part) for part, _ in held) >= most:
                yield _joined(held)
                held = []
    if held:
        yield _joined(held)


def _joined(
    held: list[tuple[NDArray[np.int64], NDArray[np.float16]]],
) -> tuple[NDArray[np.int64], Tensor]:
    features = np.concatenate([part for _, part in held])
    return np.concatenate([tiles for tiles, _ in held]), torch.from_numpy(features).float()


def ownership(result: 'Scored') -> Ownership:
    """What each tile sees and owns, in square metres."""
    pixel = pixel_area(result)
    shape = result.plan.tiling.shape
    seen, owned = np.zeros(shape), np.zeros(shape)
    for chunk in result.plan:
        arrays: Arrays = result.store.get(chunk.index)
        seen[chunk.rows, chunk.cols] = arrays['valid']
        owned[chunk.rows, chunk.cols] = arrays['owned']
    return Ownership(shape, seen.ravel() * pixel, owned.ravel() * pixel)


def pixel_area(result: 'Scored') -> float:
    """Square metres of a pixel; where the scene has no CRS, of one that the model was made for."""
    low, high = result.card.gsd
    return result.pixel_area if result.gsd is not None else low * high

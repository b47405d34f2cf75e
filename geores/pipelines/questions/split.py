"""Which part of a dataset each tile is in: by ground, with a gap between parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError, UsageError
from geores.splits import geographic_split

__all__ = ['NAMES', 'SplitOptions', 'split_tiles']

NAMES = {'train': 'train', 'validation': 'val', 'test': 'test', 'dropped': 'dropped'}
"""Parts, and what RSVQA's files call them."""

BLOCK, GAP = 4.0, 0.5
"""Sides of a block and of the gap between parts, in tiles."""


@dataclass(frozen=True)
class SplitOptions:
    """How tiles are shared out.

    Attributes:
        fractions: of training, validation and test; (1,) for training alone.
        side: of a tile, metres.
        block_size: side of a block, metres; four tiles where not given.
        buffer: metres between the edges of tiles of different parts; half a tile where not given.
        seed: gives another split.
    """

    fractions: Sequence[float]
    side: float
    block_size: float | None
    buffer: float | None
    seed: int


def split_tiles(
    ids: Sequence[str], centres: NDArray[np.float64], options: SplitOptions
) -> tuple[list[str], str]:
    """Parts of tiles.

    Args:
        ids: of the tiles.
        centres: (N, 2), longitude and latitude.
        options: how.

    Returns:
        'train', 'val', 'test' or 'dropped' (too near to another part) for each, and the split's id.

    Raises:
        UsageError: the tiles cannot be split so.
    """
    if tuple(options.fractions) == (1.0,):
        return ['train'] * len(ids), 'none'
    block = options.block_size or BLOCK * options.side
    buffer = options.side * GAP if options.buffer is None else options.buffer
    try:
        parts = geographic_split(
            centres,
            'blocks',
            options.fractions,
            # Middles of tiles that touch are a side apart.
            buffer=options.side + buffer if buffer else 0.0,
            seed=options.seed,
            ids=ids,
            block_size=block,
        )
    except DatasetError as error:
        raise UsageError(
            f'{len(ids)} tiles cannot be split into blocks of {block:g} m with a gap of {buffer:g} m '
            f'({error}): choose a smaller --tile, --block-size or --buffer, or --fractions 1 for no split'
        ) from error
    return [NAMES[name] for name in parts.names], parts.id

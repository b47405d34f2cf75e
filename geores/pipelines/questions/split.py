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

USUAL = (0.7, 0.15, 0.15)
BLOCK, GAP = 4.0, 0.5
"""Sides of a block and of the gap between parts, in tiles."""


@dataclass(frozen=True)
class SplitOptions:
    """How tiles are shared out.

    Attributes:
        fractions: of training, validation and test; (1,) for training alone; `USUAL` where not given, or
            training alone where there is too little ground for three parts.
        side: of a tile, metres.
        block_size: side of a block, metres; four tiles where not given.
        buffer: metres between the edges of tiles of different parts; half a tile where not given.
        seed: gives another split.
    """

    fractions: Sequence[float] | None
    side: float
    block_size: float | None
    buffer: float | None
    seed: int


def split_tiles(
    ids: Sequence[str], centres: NDArray[np.float64], options: SplitOptions
) -> tuple[list[str], str, tuple[str, ...]]:
    """Parts of tiles.

    Args:
        ids: of the tiles.
        centres: (N, 2), longitude and latitude.
        options: how.

    Returns:
        'train', 'val', 'test' or 'dropped' (too near to another part) for each, the split's id, and notes.

    Raises:
        UsageError: the tiles cannot be split as was asked for.
    """
    if options.fractions is not None and tuple(options.fractions) == (1.0,):
        return ['train'] * len(ids), 'none', ()
    block = options.block_size or BLOCK * options.side
    buffer = options.side * GAP if options.buffer is None else options.buffer
    try:
        parts = geographic_split(
            centres,
            'blocks',
            options.fractions or USUAL,
            # Middles of tiles that touch are a side apart.
            buffer=options.side + buffer if buffer else 0.0,
            seed=options.seed,
            ids=ids,
            block_size=block,
        )
    except DatasetError as error:
        wanted = f'blocks of {block:g} m with a gap of {buffer:g} m'
        why = f'{len(ids)} tiles cannot be split into {wanted} ({error})'
        smaller = 'choose a smaller --tile, --block-size or --buffer'
        asked_for = (options.fractions, options.block_size, options.buffer)
        if any(one is not None for one in asked_for):
            raise UsageError(f'{why}: {smaller}, or --fractions 1 for no split') from error
        return ['train'] * len(ids), 'none', (f'no split, all is training data: {why}: {smaller} for one',)
    return [NAMES[name] for name in parts.names], parts.id, ()

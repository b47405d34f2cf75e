"""Options of making questions, and the split of the tiles into training, validation and test parts."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError, UsageError
from geores.questions.facts import QuestionBalance, parse_balance
from geores.splits import geographic_split

__all__ = ['MODES', 'MakeOptions', 'TileSplit', 'assign_parts']

MODES = ('corrected', 'faithful')
SMALLEST, LARGEST = 16, 4096


@dataclass(frozen=True)
class MakeOptions:
    """Options of `make_questions`; the command `geores questions make` explains each."""

    tile: int = 256
    questions: int = 100
    seed: int = 0
    mode: str = 'corrected'
    balance: str = 'questions'
    mapping: str | None = None
    min_share: float = 0.5
    next_to: float | None = None
    sizes: Sequence[float] | None = None
    bands: Sequence[str] | None = None
    sensor: str | None = None
    stretch: Sequence[float] | None = None
    resolution: float | None = None
    bbox: Sequence[float] | None = None
    bbox_crs: str | None = None
    mask: str | None = None
    mask_values: Sequence[int] | None = None
    min_valid: float = 1.0
    fractions: Sequence[float] | None = None
    block_size: float | None = None
    buffer: float | None = None
    allow_vrt: bool = False

    def __post_init__(self) -> None:
        """Validate all options before any file is opened, and convert numbers to floats."""
        for name in ('next_to', 'block_size', 'buffer', 'resolution', 'min_share', 'min_valid'):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        for name in ('sizes', 'stretch', 'bbox', 'fractions'):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(map(float, value)))
        if self.mode not in MODES:
            raise UsageError(f'mode has to be {" or ".join(MODES)}, not {self.mode!r}')
        if not SMALLEST <= self.tile <= LARGEST:
            raise UsageError(f'tile has to lie between {SMALLEST} and {LARGEST} pixels, not {self.tile}')
        if self.questions < 1:
            raise UsageError(f'questions has to be at least 1 a tile, not {self.questions}')
        for name in ('min_share', 'min_valid'):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(
                    f'{name.replace("_", "-")} has to be above 0 and at most 1, not {getattr(self, name)}'
                )
        self._check_metres()
        _ = self.balanced
        if self.mode == 'faithful' and self.balance != MakeOptions.balance:
            raise UsageError('the faithful mode draws as published: balance is not its')

    def _check_metres(self) -> None:
        for name in ('next_to', 'block_size', 'buffer', 'resolution'):
            value = getattr(self, name)
            least = 'or more' if name == 'buffer' else 'excluded'
            fits = value is None or (
                math.isfinite(value) and (value > 0 or (value == 0 and name == 'buffer'))
            )
            if not fits:
                raise UsageError(f'{name.replace("_", "-")} has to be metres, 0 {least}, not {value}')
        for name in ('sizes', 'stretch'):
            pair = getattr(self, name)
            if pair is not None and not (len(pair) == 2 and -math.inf < pair[0] < pair[1] < math.inf):
                raise UsageError(f'{name} has to be two rising numbers, not {pair}')

    @property
    def balanced(self) -> QuestionBalance:
        """The balance of types and answers."""
        return parse_balance(self.balance)

    def deciding(self) -> dict[str, Any]:
        """The options that decide the questions of a tile, as plain JSON: all but those of the split."""
        options = asdict(self)
        for name in ('fractions', 'block_size', 'buffer', 'mapping', 'mask', 'allow_vrt'):
            del options[name]
        if self.sensor is None:
            del options['sensor']
        return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


USUAL = (0.7, 0.15, 0.15)
BLOCK, GAP = 4.0, 0.5
"""Sides of a block and of the gap between parts, in tiles."""


@dataclass(frozen=True)
class TileSplit:
    """How tiles are split into parts.

    Attributes:
        fractions: shares of training, validation and test; (1,) for training alone; None for `USUAL`, or
            training alone if there is too little ground for three parts.
        side: side of a tile in metres.
        block_size: side of a block in metres; None for four tiles.
        buffer: distance in metres between tiles of different parts; None for half a tile.
        seed: seed of the split.
    """

    fractions: Sequence[float] | None
    side: float
    block_size: float | None
    buffer: float | None
    seed: int


def assign_parts(
    ids: Sequence[str], centres: NDArray[np.float64], options: TileSplit
) -> tuple[list[str], str, tuple[str, ...]]:
    """Assign tiles to parts by blocks of ground, with a gap between the parts.

    Args:
        ids: ids of the tiles.
        centres: longitude and latitude of their centres, (N, 2).
        options: how to split.

    Returns:
        'train', 'val', 'test' or 'dropped' (too near to another part) per tile, the id of the split, and
        notes.

    Raises:
        UsageError: if the tiles cannot be split as requested.
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
            # Centres of adjoining tiles are one side apart.
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
    return parts.names.tolist(), parts.id, ()

"""What a user can ask for when making questions."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geores.errors import UsageError
from geores.questions.balance import Balance, parse_balance

__all__ = ['MODES', 'MakeOptions']

MODES = ('corrected', 'faithful')
SMALLEST, LARGEST = 16, 4096


@dataclass(frozen=True)
class MakeOptions:
    """What a user can ask for; `make_questions` says what each means."""

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
        """Refuse what is out of range before anything is opened; numbers are written out as floats."""
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
    def balanced(self) -> Balance:
        """Of types and answers."""
        return parse_balance(self.balance)

    def deciding(self) -> dict[str, Any]:
        """What decides the questions of a tile, as plain JSON: not how tiles are shared out."""
        told = asdict(self)
        for name in ('fractions', 'block_size', 'buffer', 'mapping', 'mask', 'allow_vrt'):
            del told[name]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

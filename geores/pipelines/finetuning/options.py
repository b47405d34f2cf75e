"""What a user can ask of fine-tuning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from geores.errors import UsageError
from geores.pipelines.named_options import NamedOptions
from geores.pipelines.options import MIN_TILE

if TYPE_CHECKING:
    from geores.datasets.scene_tiles import Masks

__all__ = ['FinetuneOptions']

Splits = Literal['blocks', 'random', 'both']
LEAST = {'tile': MIN_TILE, 'stride': 1, 'min_tiles': 2, 'epochs': 1, 'batch_size': 2, 'seed': 0}


@dataclass(frozen=True)
class FinetuneOptions(NamedOptions):
    """What a user can ask for; `geores.finetune` says what each means."""

    tile: int | None = None
    resolution: float | None = None
    stride: int | None = None
    placement: Literal['auto', 'grid', 'centred'] = 'auto'
    min_share: float = 0.5
    min_valid: float = 0.5
    min_tiles: int = 10
    layer: str | None = None
    split: Splits = 'blocks'
    block_size: float | None = None
    buffer: float = 0.0
    val_share: float = 0.2
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 32
    seed: int = 0
    device: str = 'auto'
    licence: str | None = None
    mask: 'Masks | None' = None
    mask_values: Sequence[int] | None = None
    linear_s1: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range before anything is opened."""
        if self.split not in get_args(Splits):
            raise UsageError(f'split must be one of {", ".join(get_args(Splits))}, not {self.split!r}')
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f'{_said(name)} must be at least {least}, not {value}')
        for name in ('resolution', 'block_size', 'learning_rate'):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f'{_said(name)} must be above 0, not {value}')
        if not 0 < self.val_share < 1:
            raise UsageError(f'val-share must be above 0 and below 1, not {self.val_share}')

    @property
    def kinds(self) -> tuple[Literal['blocks', 'random'], ...]:
        """The splits to train under; the bundle is that of the first."""
        return ('blocks', 'random') if self.split == 'both' else (self.split,)


def _said(name: str) -> str:
    return name.replace('_', '-')

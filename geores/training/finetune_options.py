"""Options of fine-tuning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal, get_args

from geores.errors import UsageError
from geores.options import MIN_TILE, NamedOptions, option

__all__ = ['FinetuneOptions']

Splits = Literal['blocks', 'random', 'both']
LEAST = {'tile': MIN_TILE, 'stride': 1, 'min_tiles': 2, 'epochs': 1, 'batch_size': 2, 'seed': 0}


@dataclass(frozen=True)
class FinetuneOptions(NamedOptions):
    """Options of `geores finetune` and `geores.finetune`."""

    layer: str | None = option(None, 'Layer of a file that has several.')
    tile: int | None = option(None, "Pixels of a tile [the base's input size].")
    stride: int | None = option(None, 'Pixels from tile to tile [half a tile].')
    placement: Literal['auto', 'grid', 'centred'] = option(
        'auto', 'grid, centred (a tile about each feature), or auto: centred for points.'
    )
    min_share: float = option(0.5, 'A tile has the class that covers most of it, if that is this part of it.')
    min_valid: float = option(0.5, 'Tiles with a smaller share of valid pixels are left out.')
    min_tiles: int = option(10, 'Classes with fewer tiles are dropped.')
    resolution: float | None = option(None, 'Metres per pixel [what the base takes].')
    mask: str | PathLike[str] | Sequence[str | PathLike[str]] | None = option(
        None, 'Raster of what to leave out: SCL, or any but 0; one, or one for each scene.', written='again'
    )
    mask_values: Sequence[int] | None = option(None, 'Its values that mask, by commas.', written='numbers')
    linear_s1: bool = option(False, 'Backscatter is calibrated on a linear scale, not in dB.')
    split: Splits = option(
        'blocks', 'blocks (geographic), random, or both: scored by both, the bundle of blocks.'
    )
    block_size: float | None = option(None, "Metres of a block's side [four tiles].")
    buffer: float = option(0.0, 'Metres between training and validation tiles.')
    val_share: float = option(0.2, 'Part kept for validation.')
    epochs: int | None = option(None, 'Passes over the tiles [about 600 steps, 10 to 40].')
    learning_rate: float | None = option(
        None, 'After warm-up [5e-4; 2e-4 with fewer than 100 tiles per class].'
    )
    batch_size: int = option(32, 'Tiles in a step.')
    seed: int = option(0, 'Of split and training.')
    device: str = option('auto', 'auto, cpu, cuda or cuda:N.')
    licence: str | None = option(
        None, "Of the weights, for the card [the base's, as far as your data allow]."
    )

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
        """Splits to train under; the bundle is that of the first."""
        return ('blocks', 'random') if self.split == 'both' else (self.split,)


def _said(name: str) -> str:
    return name.replace('_', '-')

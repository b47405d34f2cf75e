"""Options of fine-tuning, and its unfinished work, which is kept until its bundle is written.

It lies in a folder beside the future bundle, so that the same command resumes after it was stopped.
"""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from geores.errors import UsageError
from geores.io.journal import Journal
from geores.io.whole_files import write_whole
from geores.options import MIN_TILE, NamedOptions, option
from geores.training.batches import Generators
from geores.training.checkpoints import Checkpoints
from geores.training.run_folders import SavedCheckpoint, describe_position, fingerprints, latest_checkpoint

__all__ = ['FinetuneOptions', 'FinetuneWork', 'StageWork']

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


_logger = logging.getLogger(__name__)

MINUTES = 1.0
"""Between checkpoints within an epoch."""


class StageWork:
    """Unfinished work of one training among several, in a folder of its own.

    Args:
        folder: where work is kept; None keeps nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def part(self, name: str) -> 'StageWork':
        """Work of a training that is a part of this one."""
        return StageWork(None if self.folder is None else self.folder / name)

    def result(self, name: str) -> dict[str, Any] | None:
        """Load the values kept under a name, if any."""
        path = None if self.folder is None else self.folder / f'{name}.json'
        if path is None or not path.is_file():
            return None
        values: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return values

    def keep(self, name: str, values: dict[str, Any]) -> None:
        """Keep plain values under a name."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / f'{name}.json', json.dumps(values))

    def keep_checkpoints(self, trainer: Any, order: Any) -> SavedCheckpoint | None:  # noqa: ANN401 - Trainer and Order
        """Have a trainer write checkpoints; the one to go on from.

        Args:
            trainer: Lightning's trainer.
            order: order of the training batches.
        """
        if self.folder is None:
            return None
        folder = self.folder / 'checkpoints'
        trainer.callbacks[:] = [Generators(), *trainer.callbacks, Checkpoints(folder, order, MINUTES)]
        kept = latest_checkpoint(folder)
        if kept is not None:
            _logger.info(f'goes on from {describe_position(kept)}; --no-resume begins anew')
        return kept


class FinetuneWork(StageWork):
    """Unfinished work in a folder beside the future bundle, locked by this process.

    Args:
        out: the bundle's folder.
        about: everything that the result depends on, as plain values.
        resume: continue the work that an earlier run of the same command kept.
        overwrite: drop the work of another training instead of refusing it.

    Raises:
        JournalError: if the work is of another training; says what differs.
        OutputError: if another process uses the folder.
        WriteError: if it cannot be written.
    """

    def __init__(
        self, out: Path, about: dict[str, Any], *, resume: bool = True, overwrite: bool = False
    ) -> None:
        folder = out.absolute().parent / f'.{out.name}.training'
        super().__init__(folder)
        self._journal = Journal(folder, fingerprints(about), resume=resume, overwrite=overwrite)

    def release(self) -> None:
        """Unlock the folder, and remove it if nothing has been kept yet."""
        self._journal.close()

    @property
    def keeps(self) -> bool:
        """Whether there is work to resume from."""
        return self.folder is not None and self.folder.is_dir()

    def remove(self) -> None:
        """Remove all work, once the bundle is written."""
        self._journal.remove()

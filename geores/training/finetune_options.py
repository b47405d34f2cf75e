"""Options of fine-tuning, and the unfinished work that it keeps until its bundle is written.

The work lies in a folder beside the future bundle, so that the same command resumes after it was stopped.
"""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from filelock import FileLock, Timeout

from geores.classification.options import MIN_TILE
from geores.errors import OutputError, UsageError
from geores.io.named_options import NamedOptions
from geores.training.batches import Generators
from geores.training.checkpoints import Checkpoints
from geores.training.run_folders import SavedCheckpoint, describe_position, fingerprints, latest_checkpoint

if TYPE_CHECKING:
    from geores.datasets.scene_tiles import Masks

__all__ = ['FinetuneOptions', 'FinetuneWork', 'StageWork']

_logger = logging.getLogger(__name__)

Splits = Literal['blocks', 'random', 'both']
LEAST = {'tile': MIN_TILE, 'stride': 1, 'min_tiles': 2, 'epochs': 1, 'batch_size': 2, 'seed': 0}

MINUTES = 1.0
"""Between checkpoints within an epoch."""


@dataclass(frozen=True)
class FinetuneOptions(NamedOptions):
    """Options of fine-tuning; `geores.finetune` explains each."""

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
        """Splits to train under; the bundle is that of the first."""
        return ('blocks', 'random') if self.split == 'both' else (self.split,)


def _said(name: str) -> str:
    return name.replace('_', '-')


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
            part = self.folder / f'.{name}.part'
            part.write_text(json.dumps(values), encoding='utf-8')
            part.replace(self.folder / f'{name}.json')

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

    Raises:
        OutputError: if another process uses the folder, or it cannot be written.
    """

    def __init__(self, out: Path, about: dict[str, Any], *, resume: bool = True) -> None:
        folder = out.absolute().parent / f'.{out.name}.training'
        super().__init__(folder)
        key = hashlib.sha256(json.dumps(fingerprints(about), sort_keys=True).encode()).hexdigest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / '.lock', timeout=0)
            self._lock.acquire()
            found = self.result('key')
            if found is not None and (not resume or found['key'] != key):
                _logger.info(
                    f'an unfinished training of {out} is dropped'
                    + (', for it was another one' if resume else '')
                )
                for path in folder.iterdir():
                    if path.name != '.lock':
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.keep('key', {'key': key})
        except Timeout:
            raise OutputError(
                f'{out}: another process trains it: wait for it, or choose another --out'
            ) from None
        except OSError as error:
            raise OutputError(f'{folder}: cannot be written: {error.strerror or error}') from error

    def release(self) -> None:
        """Unlock the folder, and remove it if nothing has been kept yet."""
        if self.folder is not None and {path.name for path in self.folder.glob('*')} <= {'key.json', '.lock'}:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release(force=True)

    @property
    def keeps(self) -> bool:
        """Whether there is work to resume from."""
        return self.folder is not None and self.folder.is_dir()

    def remove(self) -> None:
        """Remove all work, once the bundle is written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

"""What a user can ask of fine-tuning.

What a fine-tuning keeps beside its bundle until that is written, so that the same command goes on.
"""

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from filelock import FileLock, Timeout

from geores.classification.options import MIN_TILE
from geores.errors import OutputError, UsageError
from geores.io.named_options import NamedOptions
from geores.training.checkpoints import Checkpoints
from geores.training.generators import Generators
from geores.training.run_folders import Kept, fingerprints, latest, said

if TYPE_CHECKING:
    from geores.datasets.scene_tiles import Masks

__all__ = ['FinetuneOptions', 'Stage', 'Work', 'say']

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


MINUTES = 1.0
"""Between checkpoints within an epoch."""


def say(text: str) -> None:
    """Say a sentence to the user."""
    print(text, file=sys.stderr, flush=True)


class Stage:
    """One training of several, in a folder of its own.

    Args:
        folder: Of it; None keeps nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def part(self, name: str) -> 'Stage':
        """A training within it."""
        return Stage(None if self.folder is None else self.folder / name)

    def result(self, name: str) -> dict[str, Any] | None:
        """What was kept under a name, if anything."""
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

    def survive(self, trainer: Any, order: Any) -> Kept | None:  # noqa: ANN401 - Trainer and Order
        """Have a trainer write checkpoints; the one to go on from.

        Args:
            trainer: Of Lightning.
            order: That its batches follow.
        """
        if self.folder is None:
            return None
        folder = self.folder / 'checkpoints'
        trainer.callbacks[:] = [Generators(), *trainer.callbacks, Checkpoints(folder, order, MINUTES)]
        kept = latest(folder, say)
        if kept is not None:
            say(f'goes on from {said(kept)}; --no-resume begins anew')
        return kept


class Work(Stage):
    """The folder beside a bundle to be, which is this process's alone.

    Args:
        out: The bundle's folder.
        about: What the result depends on, as plain values.
        resume: Take up what an earlier run of the same has kept.

    Raises:
        OutputError: Another process is at it, or the folder cannot be written.
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
                say(
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
        """Let others have the folder, which is removed where nothing has been kept yet."""
        if self.folder is not None and {path.name for path in self.folder.glob('*')} <= {'key.json', '.lock'}:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release(force=True)

    @property
    def keeps(self) -> bool:
        """Whether there is something to go on from."""
        return self.folder is not None and self.folder.is_dir()

    def remove(self) -> None:
        """Remove everything: the bundle is written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

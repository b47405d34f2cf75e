"""Files of checkpoints: whole or not at all, and read without running what is in them."""

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import TorchCheckpointIO

__all__ = ['Kept', 'WholeFiles', 'latest', 'said']

_NAME = re.compile(r'epoch(\d+)-step(\d+)\.ckpt')
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)


class Kept(NamedTuple):
    """A checkpoint that can be read.

    Attributes:
        path: The file.
        epoch: Epochs that were finished.
        batch: Batches of the next one that were trained on.
        step: Steps of the optimizer that were taken.
    """

    path: Path
    epoch: int
    batch: int
    step: int


def latest(folder: Path, say: Callable[[str], None]) -> Kept | None:
    """The last checkpoint of a folder that can be read; damaged ones after it are removed.

    Args:
        folder: Of the checkpoints.
        say: Called with a sentence on each damaged one.
    """
    for path in sorted((one for one in folder.glob('*.ckpt') if _NAME.fullmatch(one.name)), reverse=True):
        try:
            return _read(path)
        except _UNREADABLE as error:
            reason = ' '.join(str(error).split()).split('. ')[0]
            say(f'{path} is damaged and left out: {reason or type(error).__name__}')
            path.unlink()
    return None


def _read(path: Path) -> Kept:
    with zipfile.ZipFile(path) as file:  # knows of a lost end and, by checksums, of changed bytes
        damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f'{damaged} in it has changed')
    # A checkpoint in a run's own folder is the user's own, but a folder may come from elsewhere: nothing in
    # it is run. Packages whose callbacks keep other objects can allow these (`add_safe_globals` of torch).
    kept = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    return Kept(path, int(kept['run']['epoch']), int(kept['run']['batch']), int(kept['global_step']))


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place first, so that a file of its name is whole."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401
    ) -> None:
        """Write one.

        Args:
            checkpoint: Of Lightning.
            path: The file.
            storage_options: None.
        """
        place = Path(path)
        part = place.with_name(f'.{place.name}.part')
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open('wb') as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


def said(kept: Kept) -> str:
    """Where a checkpoint stands, in words."""
    return f'epoch {kept.epoch + 1}, step {kept.step}'

"""Run folders: find the one to resume, lock it, and read and write its checkpoints safely.

A checkpoint is written complete or not at all, and reading one never runs code that is in it.
"""

import hashlib
import json
import logging
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from geores.errors import OutputError
from geores.io.journal import differing
from geores.io.whole_files import PathLock, whole_files, write_whole

__all__ = [
    'RECORD',
    'SavedCheckpoint',
    'TrainingRun',
    'WholeFiles',
    'claim',
    'describe_position',
    'fingerprints',
    'latest_checkpoint',
]

_logger = logging.getLogger(__name__)

RECORD = 'run.json'
CHECKPOINTS = 'checkpoints'
_LOCK = '.lock'
_PREFIX = 'version_'
_SHOWN = 3
# What changes neither the weights nor the bundle.
_IDLE = (
    'config',
    'resume',
    'checkpoint_minutes',
    'checkpoint_steps',
    'data.init_args.num_workers',
    'data.init_args.budget',
    'about.options.device',
    'trainer.logger',
    'trainer.enable_',
    'trainer.log_every_n_steps',
    'trainer.profiler',
    'trainer.default_root_dir',
)

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


def fingerprints(config: Mapping[str, Any]) -> dict[str, str]:
    """Hash each setting, and each package version, that results depend on.

    Args:
        config: resolved, as plain values.
    """
    settings = {name: value for name, value in _flat(config, '') if not name.startswith(_IDLE)}
    for package in ('geores', 'lightning', 'torch'):
        settings[f'the version of {package}'] = version(package)
    return {name: _hash(value) for name, value in settings.items()}


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    if not isinstance(value, Mapping) or not value:
        yield name, value
        return
    for key, inner in value.items():
        yield from _flat(inner, f'{name}.{key}' if name else str(key))


def _hash(value: Any) -> str:  # noqa: ANN401
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


class TrainingRun:
    """The folder of a run, locked by this process.

    Args:
        folder: folder of the run.
        lock: lock of the folder, which is held.
        settings: settings of `fingerprints`.
        state: 'running', or 'exporting' where training was over when it was stopped.

    Attributes:
        resumed: whether the folder is of an earlier run that was stopped.
        exporting: whether that one was stopped after training.
    """

    def __init__(self, folder: Path, lock: PathLock, settings: Mapping[str, str], state: str | None) -> None:
        self.folder = folder
        self.resumed = state is not None
        self.exporting = state == 'exporting'
        self._lock = lock
        self._settings = dict(settings)
        if not self.exporting:
            self.mark('running')

    @property
    def number(self) -> int:
        """Number of the version."""
        return int(self.folder.name.removeprefix(_PREFIX))

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / CHECKPOINTS

    def mark(self, state: str) -> None:
        """Record the state of the run: 'running', 'exporting' or 'finished'."""
        record = {'state': state, 'settings': self._settings}
        write_whole(self.folder / RECORD, json.dumps(record, indent=1) + '\n')

    def finish(self, *, remove: bool) -> None:
        """Mark the run as finished, and unlock its folder.

        Args:
            remove: whether to remove its checkpoints too.
        """
        self.mark('finished')
        if remove:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        self.release()

    def fail(self) -> None:
        """Unlock a run that ended with an error; without a checkpoint it cannot be resumed and is removed."""
        if not any(self.checkpoints.glob('*.ckpt')):
            (self.folder / RECORD).unlink(missing_ok=True)
            self.release()
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
        self.release()

    def release(self) -> None:
        """Unlock the folder."""
        self._lock.release()


def claim(root: Path, settings: Mapping[str, str], *, resume: bool = True) -> TrainingRun:
    """Take the unfinished run of the same settings that no process uses, or start a new one.

    Args:
        root: folder of the runs, `version_0` and so on.
        settings: settings of `fingerprints`.
        resume: look for an unfinished one.

    Raises:
        OutputError: if the folder cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        versions = _versions(root)
        for folder in versions if resume else ():
            found = _continued(folder, settings, newest=folder == versions[0])
            if found is not None:
                return found
        number = int(versions[0].name.removeprefix(_PREFIX)) + 1 if versions else 0
        while True:
            folder = root / f'{_PREFIX}{number}'
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
        lock = PathLock(folder / _LOCK)
        lock.acquire()
        return TrainingRun(folder, lock, settings, None)
    except OSError as error:
        raise OutputError(f'{root}: cannot be written: {error.strerror or error}') from error


def _versions(root: Path) -> list[Path]:
    """Version folders, newest first."""
    found = [one for one in root.glob(f'{_PREFIX}*') if one.name.removeprefix(_PREFIX).isdigit()]
    return sorted(found, key=lambda one: int(one.name.removeprefix(_PREFIX)), reverse=True)


def _continued(folder: Path, settings: Mapping[str, str], *, newest: bool) -> TrainingRun | None:
    record = _record(folder)
    if record is None or record['state'] == 'finished':
        return None
    other = differing(record['settings'], settings)
    if other and not newest:
        return None
    lock = PathLock(folder / _LOCK)
    if not lock.acquire():
        if not other:
            _logger.info(f'{folder} is being trained by another process: this run gets a folder of its own')
        return None
    record = _record(folder)  # its process may have finished it in between
    if record is None or record['state'] == 'finished' or other:
        lock.release()
        if other and record is not None and record['state'] != 'finished':
            more = f' and {len(other) - _SHOWN} more' if len(other) > _SHOWN else ''
            names = ', '.join(other[:_SHOWN])
            _logger.info(f'{folder} is unfinished, but of other settings ({names}{more}): a new run')
        return None
    return TrainingRun(folder, lock, settings, record['state'])


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and isinstance(record.get('settings'), dict)
    return record if known and isinstance(record.get('state'), str) else None


class SavedCheckpoint(NamedTuple):
    """A checkpoint that can be read.

    Attributes:
        path: the file.
        epoch: epochs that were finished.
        batch: batches of the next one that were trained on.
        step: steps of the optimizer that were taken.
    """

    path: Path
    epoch: int
    batch: int
    step: int


def latest_checkpoint(folder: Path) -> SavedCheckpoint | None:
    """The last checkpoint of a folder that can be read; damaged ones after it are removed, and logged.

    Args:
        folder: folder of the checkpoints.
    """
    for path in sorted((one for one in folder.glob('*.ckpt') if _NAME.fullmatch(one.name)), reverse=True):
        try:
            return _read(path)
        except _UNREADABLE as error:
            reason = ' '.join(str(error).split()).split('. ')[0]
            _logger.info(f'{path} is damaged and left out: {reason or type(error).__name__}')
            path.unlink()
    return None


def _read(path: Path) -> SavedCheckpoint:
    with zipfile.ZipFile(path) as file:  # knows of a lost end and, by checksums, of changed bytes
        damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f'{damaged} in it has changed')
    # A checkpoint in a run's own folder is the user's own, but a folder may come from elsewhere: nothing in
    # it is run. Packages whose callbacks keep other objects can allow these (`add_safe_globals` of torch).
    kept = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    return SavedCheckpoint(
        path, int(kept['run']['epoch']), int(kept['run']['batch']), int(kept['global_step'])
    )


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints to a temporary file first, so that a file under the final name is complete."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: checkpoint of Lightning.
            path: the file.
            storage_options: None.
        """
        place = Path(path)
        with whole_files([place]) as (part,), part.open('wb') as file:
            torch.save(checkpoint, file)


def describe_position(kept: SavedCheckpoint) -> str:
    """Position of a checkpoint, in words."""
    return f'epoch {kept.epoch + 1}, step {kept.step}'

"""Folders of runs: which one a command goes on with, and that no other process is in it."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from geores.errors import OutputError

__all__ = ['RECORD', 'Run', 'claim', 'fingerprints']

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


def fingerprints(config: Mapping[str, Any]) -> dict[str, str]:
    """A hash of each setting that counts, and the versions that results depend on.

    Args:
        config: Resolved, as plain values.
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


class Run:
    """A run's folder, which is this process's alone.

    Args:
        folder: Of the run.
        lock: Held.
        settings: Of `fingerprints`.
        state: 'running', or 'exporting' where training was over when it was stopped.

    Attributes:
        resumed: Whether the folder is of an earlier run that was stopped.
        exporting: Whether that one was stopped after training.
    """

    def __init__(self, folder: Path, lock: FileLock, settings: Mapping[str, str], state: str | None) -> None:
        self.folder = folder
        self.resumed = state is not None
        self.exporting = state == 'exporting'
        self._lock = lock
        self._settings = dict(settings)
        if not self.exporting:
            self.mark('running')

    @property
    def number(self) -> int:
        """Of the version."""
        return int(self.folder.name.removeprefix(_PREFIX))

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / CHECKPOINTS

    def mark(self, state: str) -> None:
        """Say how far the run is: 'running', 'exporting' or 'finished'."""
        record = {'state': state, 'settings': self._settings}
        part = self.folder / f'.{RECORD}.part'
        part.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
        part.replace(self.folder / RECORD)

    def finish(self, *, remove: bool) -> None:
        """The run is done.

        Args:
            remove: Its checkpoints too.
        """
        self.mark('finished')
        if remove:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        self.release(remove=True)

    def fail(self) -> None:
        """The run ended by an error: where no checkpoint was kept, it is none to go on with."""
        if not any(self.checkpoints.glob('*.ckpt')):
            (self.folder / RECORD).unlink(missing_ok=True)
            self.release(remove=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
        self.release()

    def release(self, *, remove: bool = False) -> None:
        """Let others have the folder.

        Args:
            remove: The file by which it was held.
        """
        if remove and self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release(force=True)


def claim(root: Path, settings: Mapping[str, str], *, resume: bool = True) -> Run:
    """The unfinished run of the same settings that nobody is in, or a new one.

    Args:
        root: Folder of the runs, `version_0` and so on.
        settings: Of `fingerprints`.
        resume: Look for an unfinished one.

    Raises:
        OutputError: The folder cannot be written.
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
        lock = FileLock(folder / _LOCK, timeout=0)
        lock.acquire()
        return Run(folder, lock, settings, None)
    except OSError as error:
        raise OutputError(f'{root}: cannot be written: {error.strerror or error}') from error


def _versions(root: Path) -> list[Path]:
    """Folders of versions, newest first."""
    found = [one for one in root.glob(f'{_PREFIX}*') if one.name.removeprefix(_PREFIX).isdigit()]
    return sorted(found, key=lambda one: int(one.name.removeprefix(_PREFIX)), reverse=True)


def _continued(folder: Path, settings: Mapping[str, str], *, newest: bool) -> Run | None:
    record = _record(folder)
    if record is None or record['state'] == 'finished':
        return None
    other = _differing(record['settings'], settings)
    if other and not newest:
        return None
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        if not other:
            _say(f'{folder} is being trained by another process: this run gets a folder of its own')
        return None
    record = _record(folder)  # its process may have finished it in between
    if record is None or record['state'] == 'finished' or other:
        lock.release()
        if other and record is not None and record['state'] != 'finished':
            more = f' and {len(other) - _SHOWN} more' if len(other) > _SHOWN else ''
            names = ', '.join(other[:_SHOWN])
            _say(f'{folder} is unfinished, but of other settings ({names}{more}): a new run')
        return None
    return Run(folder, lock, settings, record['state'])


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    known = isinstance(record, dict) and isinstance(record.get('settings'), dict)
    return record if known and isinstance(record.get('state'), str) else None


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

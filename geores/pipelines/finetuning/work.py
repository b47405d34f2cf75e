"""What a fine-tuning keeps beside its bundle until that is written, so that the same command goes on."""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from geores.errors import OutputError
from geores.pipelines.surviving.checkpoints import Checkpoints
from geores.pipelines.surviving.files import Kept, latest, said
from geores.pipelines.surviving.generators import Generators
from geores.pipelines.surviving.runs import fingerprints

__all__ = ['Stage', 'Work', 'say']

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

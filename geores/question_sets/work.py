"""A folder that appears when everything in it is done, and whose making a later run can continue."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from geores.errors import GeoresError, JournalError, OutputError, WriteError
from geores.io.whole_files import check_writable, failing

__all__ = ['WorkFolder', 'check_dataset_folder']


def check_dataset_folder(out: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if a dataset could not be written, before any work is done."""
    check_writable(out, out.absolute().parent)
    if out.exists() and not out.is_dir():
        raise OutputError(f'{out} is a file: name a folder')
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            raise OutputError(f'{out} exists: give --overwrite to replace it, or another --out')
        if not (out / 'manifest.json').exists():
            raise OutputError(f'{out} is no dataset of questions: it is not replaced, name another --out')


class WorkFolder:
    """Folder for work in progress, beside the folder that it will become.

    Args:
        out: the finished folder.
        key: everything that decides the tiles; unfinished work with another key is refused.
        overwrite: whether to replace ``out``, and to drop work with another key.

    Raises:
        JournalError: if there is unfinished work with other inputs or options, or another run is active.
        WriteError: if the folder cannot be made.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, overwrite: bool) -> None:
        self.out = out.absolute()
        self.folder = self.out.with_name(f'.{self.out.name}.partial')
        self.tiles, self.final = self.folder / 'tiles', self.folder / 'dataset'
        self._key = json.loads(json.dumps(key))
        self._overwrite = overwrite
        self._lock = FileLock(self.out.with_name(f'.{self.out.name}.lock'), timeout=0)

    def __enter__(self) -> Self:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._open()
        except Timeout as error:
            raise JournalError(
                f'{self.out} is being made by another run: wait, or name another --out'
            ) from error
        except OSError as error:
            raise WriteError(f'cannot write to {self.folder}: {error}') from error
        return self

    def _open(self) -> None:
        journal = self.folder / 'journal.json'
        if journal.exists():
            found = json.loads(journal.read_text())
            differ = sorted(name for name in self._key if found.get(name) != self._key[name])
            if differ and not self._overwrite:
                raise JournalError(
                    f'{self.folder} holds unfinished work with other {", ".join(differ)}: '
                    'repeat that command, or give --overwrite to begin anew'
                )
            if differ:
                shutil.rmtree(self.folder)
        elif self.folder.exists():  # killed before the journal was written
            shutil.rmtree(self.folder)
        shutil.rmtree(self.final, ignore_errors=True)
        self.tiles.mkdir(parents=True, exist_ok=True)
        partial = journal.with_suffix('.partial')
        partial.write_text(json.dumps(self._key, indent=1))
        partial.replace(journal)
        self.final.mkdir()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the work of an interrupted run; remove it if the run failed before any tile was made."""
        if isinstance(error, GeoresError) and not any(self.tiles.glob('*.tif')):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def finish(self) -> None:
        """Move the finished dataset to its place."""
        with failing(self.out):
            old = self.folder / 'replaced'
            if self.out.exists():
                os.replace(self.out, old)
            os.replace(self.final, self.out)
            shutil.rmtree(self.folder)

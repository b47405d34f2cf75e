"""The folder in which a dataset is made: it appears when done, and a later run continues it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from geores.errors import GeoresError
from geores.io.journal import Journal
from geores.io.whole_files import failing, put_folder, remove_tree

__all__ = ['WorkFolder']


class WorkFolder:
    """Folder for work in progress, beside the folder that it will become; a later run continues it.

    Args:
        out: the finished folder.
        key: everything that decides the tiles.
        resume: whether to continue unfinished work.
        overwrite: whether to replace ``out``, and to drop work with another key.

    Raises:
        JournalError: if there is unfinished work with other inputs or options.
        OutputError: if another run is at work there.
        WriteError: if the folder cannot be made.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, resume: bool = True, overwrite: bool) -> None:
        self.out = out.absolute()
        self.folder = self.out.with_name(f'.{self.out.name}.partial')
        self.tiles, self.final = self.folder / 'tiles', self.folder / 'dataset'
        self._open = partial(Journal, self.folder, key, resume=resume, overwrite=overwrite)

    def __enter__(self) -> Self:
        self._journal = self._open()
        with failing(self.folder):
            remove_tree(self.final)  # of a run that was stopped while it wrote the dataset
            self.tiles.mkdir(exist_ok=True)
            self.final.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the work of an interrupted run; remove it if the run failed before any tile was made."""
        if isinstance(error, GeoresError) and not any(self.tiles.glob('*.tif')):
            self._journal.remove()
        self._journal.__exit__(kind, error, trace)

    def finish(self) -> None:
        """Move the finished dataset to its place."""
        with failing(self.out):
            put_folder(self.final, self.out)
        self._journal.remove()

"""The unfinished work of fine-tuning, which is kept until its bundle is written.

It lies in a folder beside the future bundle, so that the same command resumes after it was stopped.
"""

import json
import logging
from pathlib import Path
from typing import Any

from geores.io.journal import Journal
from geores.io.whole_files import write_whole
from geores.training.batches import Generators
from geores.training.checkpoints import Checkpoints
from geores.training.run_folders import SavedCheckpoint, describe_position, fingerprints, latest_checkpoint

__all__ = ['FinetuneWork', 'StageWork']

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

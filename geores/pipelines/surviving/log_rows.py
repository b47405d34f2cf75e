"""The log of a run that is continued."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

__all__ = ['LogRows']


class LogRows(Callback):
    """Keeps the rows of `metrics.csv` up to the checkpoint, which Lightning's logger would remove.

    Args:
        path: The file; read at once, before the logger is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline='', encoding='utf-8') as file:
                self._rows = list(csv.DictReader(file))

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the rows again.

        Args:
            trainer: That fits.
            pl_module: The task.
            checkpoint: Says how far the run has come.
        """
        kept = [row for row in self._rows if int(row.get('step') or 0) < checkpoint['global_step']]
        writers = [
            one.experiment
            for one in trainer.loggers
            if isinstance(one, CSVLogger) and Path(one.log_dir) == self.path.parent
        ]
        if not kept or not writers or not trainer.is_global_zero:
            return
        keys = sorted(kept[0])
        with self.path.open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, fieldnames=keys)
            writer.writeheader()
            writer.writerows(kept)
        writers[0].metrics_keys = keys

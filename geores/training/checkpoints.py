"""Checkpoints of a run: when they are written, and what they hold in addition to Lightning's own state."""

import logging
import pickle
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torchmetrics import Metric

from geores.errors import UsageError
from geores.training.batches import Order
from geores.training.run_folders import WholeFiles

__all__ = ['Checkpoints', 'Ending']

_logger = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints that are kept: the last one, and the one before for where it is damaged."""

SHARE = 0.05
"""Most of the time that goes into checkpoints at the ends of short epochs."""


class Ending(Callback):
    """Reports the end of training; it has to precede the callback that writes the bundle.

    Args:
        over: called at the end of training, in the first process.

    Attributes:
        ended: whether training has ended in this process.
    """

    def __init__(self, over: Callable[[], None]) -> None:
        self.ended = False
        self._over = over

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the end."""
        self.ended = True
        if trainer.is_global_zero:
            self._over()


class Checkpoints(Checkpoint):
    """Writes all that a run needs to resume: at ends of epochs, and every few minutes within them.

    Within an epoch that is done by one process with one loader, between steps of the optimizer and not where
    a validation is due. SIGTERM and Ctrl-C end the run behind the batch, with a checkpoint; a second Ctrl-C
    ends it at once.

    Args:
        folder: folder to write to.
        order: order that the training batches follow.
        minutes: time between checkpoints within an epoch; 0 writes none there.
        steps: optimizer steps between checkpoints, in addition to the time.
    """

    def __init__(
        self,
        folder: Path,
        order: Order,
        minutes: float = 5.0,
        steps: int | None = None,
    ) -> None:
        self.folder = folder
        self.order = order
        self.minutes = minutes
        self.steps = steps
        self._loaded: Mapping[str, Any] | None = None
        self._batch = 0  # of an epoch, behind which the checkpoint stands
        self._epoch = 0
        self._saved_at = time.monotonic()
        self._seconds = 0.0  # that the last one took
        self._deferred = False  # from the end of an epoch to the first batch of the next
        self._within = False  # an epoch that was continued
        self._tried = False
        self._asked = False
        self._handler: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write checkpoints atomically, unless the user chose another way."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeFiles()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not keep, and drop hyperparameters, which cannot be read safely."""
        for name in [name for name in checkpoint if 'hyper_parameters' in name or name.startswith('hparams')]:
            del checkpoint[name]
        checkpoint['run'] = {
            'epoch': self._epoch,
            'batch': self._batch,
            'seed': self.order.seed,
            'batches': float(trainer.num_training_batches),
            'stopped': trainer.should_stop,
            'figures': {name: float(one) for name, one in trainer.callback_metrics.items()},
            'metrics': {name: _metric_state(one) for name, one in _metrics(pl_module)} if self._batch else {},
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the position in the order of batches."""
        self._loaded = checkpoint['run']
        self.order.seed, self.order.skip = self._loaded['seed'], self._loaded['batch']
        self._within = self._loaded['batch'] > 0
        self.order.epoch = self._loaded['epoch']  # loaders without a length are read before Lightning says it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state of the run.

        Raises:
            UsageError: if the data have changed since.
        """
        self._saved_at = time.monotonic()
        self._listen(trainer)
        if self._loaded is None:
            return
        before, now = self._loaded['batches'], float(trainer.num_training_batches)
        if before != now:
            raise UsageError(
                f'{self.folder.parent} has trained on {before:g} batches an epoch, now there are {now:g}: '
                'the data have changed since; --no-resume starts anew'
            )
        self.restore_figures(trainer)
        trainer.should_stop = self._loaded['stopped']
        for name, metric in _metrics(pl_module):
            if name in self._loaded['metrics']:
                _set_metric(metric, self._loaded['metrics'][name])
        if not self._loaded['batch']:
            _step_plateaus(trainer, trainer.current_epoch)

    def restore_figures(self, trainer: Trainer) -> None:
        """Restore the last logged metrics, which an export may need."""
        if self._loaded is not None:
            for name, value in self._loaded['figures'].items():
                trainer.callback_metrics[name] = torch.tensor(value)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save a checkpoint if one is due, or if the run is to stop.

        Raises:
            KeyboardInterrupt: if the user pressed Ctrl-C.
        """
        can = self._can_save(trainer, pl_module, batch_idx)
        if can and (self._due(trainer) or self._asked or trainer.received_sigterm):
            self._save(trainer, trainer.current_epoch, batch_idx + 1)
        if self._asked and (can or not self.order.single):
            raise KeyboardInterrupt

    def _can_save(self, trainer: Trainer, pl_module: LightningModule, batch_idx: int) -> bool:
        """Whether a run could resume exactly behind this batch.

        Not while gradients accumulate, for checkpoints hold no gradients; not where a validation is due
        before the next batch; and not after the last batch, for the end of the epoch saves.
        """
        done = batch_idx + 1
        check = trainer.val_check_batch
        counted = (
            done if trainer.check_val_every_n_epoch is not None else trainer.fit_loop.total_batch_idx + 1
        )
        return (
            self.order.single
            and trainer.world_size == 1
            and pl_module.automatic_optimization
            and done < trainer.num_training_batches
            and done % trainer.accumulate_grad_batches == 0
            and (check is None or check == float('inf') or counted % int(check) != 0)
            and not (0 <= trainer.max_steps <= trainer.global_step)
        )

    def _due(self, trainer: Trainer) -> bool:
        waited = time.monotonic() - self._saved_at
        by_time = self.minutes > 0 and waited >= 60 * self.minutes
        return by_time or self._deferred or (self.steps is not None and trainer.global_step % self.steps == 0)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Flush the metrics of the last epoch, which are logged after its checkpoint."""
        for logger in trainer.loggers:
            logger.save()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a checkpoint, unless epochs are too short for one each.

        Raises:
            KeyboardInterrupt: if the user pressed Ctrl-C.
        """
        done = trainer.current_epoch + 1
        last = (
            trainer.should_stop or done == trainer.max_epochs or 0 <= trainer.max_steps <= trainer.global_step
        )
        asked = self._asked or trainer.received_sigterm
        worth = self.steps is not None or self._seconds <= SHARE * (time.monotonic() - self._saved_at)
        # Where steps are counted, not epochs, Lightning has an epoch that ended end again.
        self._deferred = not last and trainer.max_steps >= 0 and self.order.single and trainer.world_size == 1
        if self._deferred:
            return
        # What is decided by the clock is decided for all processes by the first.
        if trainer.strategy.broadcast(last or asked or worth):
            self._save(trainer, done, 0)
        if self._asked:
            raise KeyboardInterrupt
        if self._within:  # Lightning leaves the step out in an epoch that was continued
            _step_plateaus(trainer, done)
            self._within = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the previous handler of Ctrl-C."""
        self._deafen()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the previous handler of Ctrl-C."""
        self._deafen()

    def _save(self, trainer: Trainer, epoch: int, batch: int) -> None:
        self._epoch, self._batch, self._deferred = epoch, batch, False
        began = time.monotonic()
        for logger in trainer.loggers:
            logger.save()
        path = self.folder / f'epoch{epoch:05}-step{trainer.global_step:09}.ckpt'
        try:
            trainer.save_checkpoint(path)
            if trainer.is_global_zero:
                self._check(path)
                for old in sorted(self.folder.glob('*.ckpt'))[:-KEPT]:
                    old.unlink()
        except (OSError, RuntimeError) as error:  # such as a full disk; training can go on
            _logger.warning(f'no checkpoint was written: {" ".join(str(error).split())}')
        self._saved_at = time.monotonic()
        self._seconds = self._saved_at - began

    def _check(self, path: Path) -> None:
        """Warn at the first checkpoint, and not on resuming, if it holds what cannot be read safely."""
        if self._tried:
            return
        self._tried = True
        try:
            torch.load(path, map_location='cpu', weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            found = re.search(r'GLOBAL ([\w.]+)', str(error))
            _logger.warning(
                'this run cannot be continued: a callback, the task or the optimizer keeps '
                f'{found[1] if found else "an object"} in checkpoints, which is not read from files '
                '(torch.serialization.add_safe_globals allows it)'
            )

    def _listen(self, trainer: Trainer) -> None:
        alone = trainer.world_size == 1 and threading.current_thread() is threading.main_thread()
        if alone and self._handler is None:
            self._handler = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        _logger.info('geores: stops behind this batch; Ctrl-C again stops at once')
        self._deafen()

    def _deafen(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None


def _metrics(module: LightningModule) -> list[tuple[str, Metric]]:
    return [(name, one) for name, one in module.named_modules() if isinstance(one, Metric)]


def _metric_state(metric: Metric) -> dict[str, Any]:
    return {'count': metric.update_count, 'state': {**metric.metric_state}}


def _set_metric(metric: Metric, kept: Mapping[str, Any]) -> None:
    metric._update_count = kept['count']
    for name, value in kept['state'].items():
        place = metric.device
        setattr(
            metric, name, [one.to(place) for one in value] if isinstance(value, list) else value.to(place)
        )


def _step_plateaus(trainer: Trainer, epochs: int) -> None:
    """Step the schedules that wait for a metric: Lightning steps them after the checkpoint of the epoch."""
    for config in trainer.lr_scheduler_configs:
        due = config.interval == 'epoch' and epochs % config.frequency == 0
        figure = trainer.callback_metrics.get(config.monitor or '')
        if config.reduce_on_plateau and due and figure is not None:
            config.scheduler.step(figure)  # type: ignore[arg-type]

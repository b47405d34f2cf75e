"""Fit a configuration in a run folder, from its last checkpoint to its bundle.

Lightning's Trainer as geores uses it is silent and writes nothing; the log of metrics of a resumed run
keeps the rows that were written before its checkpoint; a run without `export` gets one.
"""

import csv
import logging
import os
import re
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from geores.card_values import Units
from geores.errors import UsageError
from geores.io.whole_files import whole_files
from geores.scenes.bands import SENTINEL1_BANDS, SENTINEL2_BANDS
from geores.tasks._exports import export_type
from geores.training.batches import Generators, Order, serve_in_order
from geores.training.checkpoints import Checkpoints, Ending
from geores.training.run_folders import TrainingRun, describe_position, latest_checkpoint

__all__ = [
    'EXPECTED_WARNINGS',
    'TERMINATED',
    'Fitting',
    'LogRows',
    'default_export',
    'make_trainer',
    'quiet_trainer',
]

_logger = logging.getLogger(__name__)

BUNDLE = 'bundle'
_ENVIRONMENT = 'GEORES_CHECKPOINT'
"""Tells the other processes of a training which checkpoint the first goes on from."""


class Fitting:
    """Fits the task of a parsed command line in a run folder, and exports it.

    Args:
        cli: the parsed command line, with task, data and trainer.
        configure: called with the export before fitting.
    """

    def __init__(
        self,
        cli: Any,  # noqa: ANN401 - of `geores.training.train`
        configure: Callable[[Any], None] | None,
    ) -> None:
        self.cli = cli
        self.trainer: Any = cli.trainer
        self.held: TrainingRun | None = cli.claimed
        self.configure = configure
        self.checkpoints: Checkpoints | None = None
        self.ending = Ending(self._exports)

    def run(self) -> Path:
        """Fit and export, and return the folder of the run."""
        handler = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        try:
            folder = self._run()
        except SIGTERMException:
            self._release()
            _logger.info('geores: stopped; the same command goes on')
            sys.exit(TERMINATED)
        except SystemExit as error:
            self._release()
            if error.code == 1 and self.trainer.world_size == 1:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from error
            raise
        except KeyboardInterrupt:
            self._release()
            raise
        except BaseException:
            if self.held is not None:
                self.held.fail()
            raise
        finally:
            if main:
                signal.signal(signal.SIGINT, handler)
            if self.held is not None:  # the next training of this process goes on from nothing of this one
                os.environ.pop(_ENVIRONMENT, None)
        return folder

    def _release(self) -> None:
        if self.held is not None:
            self.held.release()

    def _run(self) -> Path:
        cli, trainer, held = self.cli, self.trainer, self.held
        if self.configure is not None and trainer.world_size > 1:
            raise UsageError(
                f'--folds takes one process, and the trainer asks for {trainer.world_size}: drop '
                'trainer.devices, num_nodes and strategy'
            )
        export = self._export()
        path = self._keep_checkpoints() if cli.keeps else None
        if export is not None:
            trainer.callbacks.append(export)
        # Checkpoints of the run folder are read without running code that is in them.
        weights_only = None if path is None else True
        trainer.fit(cli.model, cli.datamodule, ckpt_path=path, weights_only=weights_only)
        if path is not None and self.checkpoints is not None and not self.ending.ended:
            self._end()
        folder = Path(trainer.log_dir or '.') if held is None else held.folder
        if not trainer.is_global_zero:
            return folder
        own = export is None and hasattr(cli.model, 'export_bundle')
        if own:
            if held is not None and held.exporting:
                shutil.rmtree(folder / BUNDLE, ignore_errors=True)
            cli.model.export_bundle(folder / BUNDLE)
            written = f'bundle written to {folder / BUNDLE}'
            _logger.info(written, extra={'result': written})
        if held is not None:
            held.finish(remove=own or export is not None)
            if not own and export is None:
                last = max(held.checkpoints.glob('*.ckpt'), default=None)
                kept = 'there are no checkpoints' if last is None else f'the weights are in {last}'
                _logger.info(
                    f'{type(cli.model).__name__} says not how it is exported (docs/add-a-task.md); {kept}'
                )
        return folder

    def _export(self) -> Any:  # noqa: ANN401 - a callback, or None
        """The callback that writes the bundle, if there is one."""
        cli, held = self.cli, self.held
        export: Any = cli.config_init.get('export')
        if not export and not hasattr(cli.model, 'export_bundle'):
            made = default_export(cli.model, cli.datamodule, cli.name)
            if made is not None:
                export, note = made
                if held is not None:
                    export.path = str(held.folder / export.text['name'])
                if note and self.trainer.is_global_zero:
                    _logger.info(note)
        if not export:
            return None
        if self.configure is not None:
            self.configure(export)
        if held is not None and held.exporting:  # what stands there was written by this run
            export.overwrite = True
        return export

    def _keep_checkpoints(self) -> str | None:
        """Attach the writing of checkpoints to a trainer, and return the checkpoint to resume from."""
        cli, trainer, held = self.cli, self.trainer, self.held
        path = os.environ.get(_ENVIRONMENT) or None
        folder = Path(path).parent if path else Path(trainer.default_root_dir) / 'checkpoints'
        rows: list[Callback] = []
        if held is not None:
            folder = held.checkpoints
            path = self._found(held)
            rows = [LogRows(held.folder / 'metrics.csv')]
            os.environ[_ENVIRONMENT] = path or ''
        seed = cli.config.seed_everything
        order = Order(seed if isinstance(seed, int) and not isinstance(seed, bool) else torch.initial_seed())
        source = cli.model if cli.datamodule is None else cli.datamodule
        if trainer.world_size == 1 and not trainer.overfit_batches:
            serve_in_order(source, order)
        minutes, steps = cli.config.checkpoint_minutes, cli.config.checkpoint_steps
        self.checkpoints = Checkpoints(folder, order, minutes, steps)
        trainer.callbacks[:] = [self.ending, Generators(), *trainer.callbacks, *rows, self.checkpoints]
        return path

    def _exports(self) -> None:
        if self.held is not None:
            self.held.mark('exporting')

    def _found(self, held: TrainingRun) -> str | None:
        if not held.resumed:
            return None
        kept = latest_checkpoint(held.checkpoints)
        if kept is None:
            _logger.info(f'begins {held.folder} again, which was stopped before its first checkpoint')
            return None
        over = 'its export, for training was over' if held.exporting else describe_position(kept)
        _logger.info(f'continues {held.folder} from {over}; --no-resume begins anew')
        return str(kept.path)

    def _end(self) -> None:
        """Run the end-of-training hooks, which Lightning skips for a run stopped after its last epoch."""
        trainer, model = self.trainer, self.cli.model
        model.to(trainer.strategy.root_device)
        if self.checkpoints is None:
            raise UsageError('a run without checkpoints cannot be ended a second time')
        self.checkpoints.restore_figures(trainer)
        for callback in trainer.callbacks:
            callback.on_train_end(trainer, model)
        model.on_train_end()


class LogRows(Callback):
    """Restores the rows of `metrics.csv` up to the checkpoint, which Lightning's logger would remove.

    Args:
        path: `metrics.csv`, which is read at once, before the logger is made.
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
        """Write the rows again."""
        kept = [row for row in self._rows if int(row.get('step') or 0) < checkpoint['global_step']]
        writers = [
            one.experiment
            for one in trainer.loggers
            if isinstance(one, CSVLogger) and Path(one.log_dir) == self.path.parent
        ]
        if not kept or not writers or not trainer.is_global_zero:
            return
        keys = sorted(kept[0])
        with whole_files([self.path]) as (part,), part.open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, fieldnames=keys)
            writer.writeheader()
            writer.writerows(kept)
        writers[0].metrics_keys = keys


TERMINATED = 128 + signal.SIGTERM
"""Exit code of what SIGTERM has ended."""

EXPECTED_WARNINGS = (
    'The .*dataloader.* does not have many workers',  # images are held in memory
    'The number of training batches',  # of a small set
    'Found .* in eval mode at the start of training',  # an encoder that stays as it is
    r'`isinstance\(treespec, LeafSpec\)` is deprecated',  # Lightning's own use of torch
)
"""Patterns of warnings that say nothing to a user."""

UNKNOWN = 'unknown: say it in export'

ANY_SIZE = (1e-3, 1e6)
"""Metres of a pixel where nobody says: every scene is taken as it is."""

_PICTURE = {'red', 'green', 'blue'}


def make_trainer(epochs: int, device: str, callbacks: Sequence[Callback] = ()) -> Trainer:
    """A trainer that trains for some epochs and does nothing else.

    Args:
        epochs: passes over the training part.
        device: 'cpu', 'cuda' or 'cuda:N'.
        callbacks: callbacks to call.
    """
    index = torch.device(device).index
    return Trainer(
        max_epochs=epochs,
        accelerator='cpu' if device == 'cpu' else 'cuda',
        devices=1 if index is None else [index],
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )


@contextmanager
def quiet_trainer() -> Iterator[None]:
    """Silence Lightning, and keep it from turning Ctrl-C into an exit with code 1."""
    loggers = [logging.getLogger(name) for name in ('lightning.pytorch', 'lightning.fabric')]
    levels = [logger.level for logger in loggers]
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in EXPECTED_WARNINGS:
                warnings.filterwarnings('ignore', message)
            yield
    except SIGTERMException as error:
        raise SystemExit(TERMINATED) from error
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def default_export(task: Any, data: Any, name: str) -> tuple[Callback, str] | None:  # noqa: ANN401
    """Make the callback that writes the bundle of a task whose configuration names none.

    A task that is not of geores says which by a method `export_type()`: a class like
    `geores.tasks.ExportBundle`. A datamodule says in `card_text`, a mapping, what it knows of the card.

    Args:
        task: the Lightning module.
        data: datamodule of the task, or None.
        name: name of the configuration, and the model's.

    Returns:
        The callback, and a sentence on what on the card was guessed or is unknown; None where the task or the
        data do not say how to export.
    """
    kind: Any = task.export_type() if hasattr(task, 'export_type') else export_type(task)
    if kind is None or not all(hasattr(data, one) for one in ('split', 'bands', 'dataset')):
        return None
    bands = tuple(data.bands)
    known = dict(getattr(data, 'card_text', {}))
    guessed = {key: value for key, value in _guesses(bands).items() if key not in known}
    sources = ', '.join(_sources(data))
    text: dict[str, Any] = {
        'description': f'{type(task).__name__} trained on {sources}.',
        'sensor': UNKNOWN,
        'processing_level': UNKNOWN,
        'units': Units.OTHER.value,
        'gsd': ANY_SIZE,
        'training_data': [{'name': name, 'licence': UNKNOWN} for name in _sources(data)],
        'licence': UNKNOWN,
    }
    unknown = [key for key in text if key not in {**known, **guessed, 'description': ''}]
    export: Any = kind(name=_name(name), **{**text, **guessed, **known})
    export.needs_figures = False
    parts = [
        f'guessed from the bands: {", ".join(f"{key} {value}" for key, value in guessed.items())}'
        if guessed
        else '',
        f'unknown: {", ".join(unknown)}' if unknown else '',
    ]
    said = '; '.join(part for part in parts if part)
    return export, f'no export is configured; of the card, {said} (say it in export)' if said else ''


def _guesses(bands: tuple[str, ...]) -> dict[str, Any]:
    if set(bands) <= set(SENTINEL2_BANDS):
        return {'sensor': 'Sentinel-2 MSI', 'units': 'reflectance*10000', 'gsd': (10.0, 10.0)}
    if set(bands) <= set(SENTINEL1_BANDS):
        return {'sensor': 'Sentinel-1 C-SAR', 'units': 'dB', 'gsd': (10.0, 10.0)}
    if set(bands) == _PICTURE:
        return {'units': '8-bit'}
    return {}


def _sources(data: Any) -> list[str]:  # noqa: ANN401 - a datamodule
    """Names of the data sets."""
    roots = getattr(data, 'roots', None) or getattr(data, 'root', None) or []
    folders = [roots] if isinstance(roots, str | Path) else list(roots)
    names = sorted({Path(one).resolve().name for one in folders})
    return names or sorted({str(one) for one in getattr(data.dataset, 'sources', ())}) or ['data of its own']


def _name(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('._-') or 'model'
